//! The checkout component: turns a cart into an order by calling the other components.

use boutique_types::{
    CartError, CartItem, CheckoutError, CheckoutRequest, MoneyError, Order, OrderError, OrderLine, OrderStatus,
    PlacedOrder, Product, ShippingError,
};
use futures::join;
use wasip3::clocks::system_clock;
use wasip3::random::random::get_random_u64;

// Generated bindings are not documented, and not linted.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "checkout-component",
        with: { "boutique:shop/types@0.1.0": boutique_types },
    });
}

use bindings::boutique::shop::{cart, catalog, currency, email, orders, payment, shipping};

/// The maximum number of attempts to find an unused ID. An ID has sixty random bits and is hardly ever in use, so more
/// failed attempts indicate a defect.
const ID_ATTEMPTS_MAX: usize = 3;

struct Checkout;

impl bindings::exports::boutique::shop::checkout::Guest for Checkout {
    async fn place_order(session_id: String, request: CheckoutRequest) -> Result<PlacedOrder, CheckoutError> {
        let items = cart::get_cart(session_id.clone()).await.map_err(cart_unavailable)?;
        if items.is_empty() {
            return Err(CheckoutError::EmptyCart);
        }
        let order = price(&items, &request)?;
        // The order is stored before the card is charged. So if any step fails, there is no payment without an order.
        let (opened, booked) = join!(open(&session_id, order), shipping::book(request.address.clone(), items.clone()));
        let mut order = opened?;
        let tracking_id = match booked {
            Ok(tracking_id) => tracking_id,
            Err(error) => return Err(cancelled(&order, CheckoutError::Shipping(error)).await),
        };
        let receipt = match payment::charge(order.id.clone(), order.total.clone(), request.card).await {
            Ok(receipt) => receipt,
            Err(refusal) => return Err(cancelled(&order, CheckoutError::Refused(refusal)).await),
        };
        // The card has been charged, so the order stays valid if one of the following steps fails. The failure is
        // logged.
        order.receipt = Some(receipt.clone());
        order.tracking_id = Some(tracking_id.clone());
        match orders::complete_order(order.id.clone(), receipt, tracking_id).await {
            Ok(()) => order.status = OrderStatus::Paid,
            Err(error) => eprintln!("order {}: charged, but not marked as paid: {error:?}", order.id),
        }
        let (emptied, sent) = join!(cart::empty_cart(session_id), email::send_confirmation(order.clone()));
        if let Err(error) = emptied {
            eprintln!("order {}: its cart was not emptied: {error:?}", order.id);
        }
        let confirmation = sent.inspect_err(|error| eprintln!("order {}: no mail was sent: {error:?}", order.id)).ok();
        Ok(PlacedOrder { order, confirmation })
    }
}

/// Creates the order, with all amounts in the requested currency.
fn price(items: &[CartItem], request: &CheckoutRequest) -> Result<Order, CheckoutError> {
    let products: Vec<Product> = items
        .iter()
        .map(|item| {
            catalog::get_product(&item.product_id).ok_or_else(|| CheckoutError::UnknownProduct(item.product_id.clone()))
        })
        .collect::<Result<_, _>>()?;
    let mut amounts: Vec<_> = products.iter().map(|product| product.price.clone()).collect();
    amounts.push(shipping::quote(items).cost);
    let mut amounts = currency::convert(&amounts, &request.currency_code).map_err(CheckoutError::Conversion)?;
    let shipping_cost = amounts.pop().ok_or(CheckoutError::Shipping(ShippingError::NothingToShip))?;
    let lines = products
        .into_iter()
        .zip(items)
        .zip(amounts)
        .map(|((product, item), unit_price)| OrderLine {
            product_id: product.id,
            name: product.name,
            quantity: item.quantity,
            unit_price,
        })
        .collect();
    let now = u64::try_from(system_clock::now().seconds).unwrap_or(0);
    let id = boutique_orders::order_id(get_random_u64());
    boutique_orders::pending(id, now, request.email.clone(), request.address.clone(), lines, shipping_cost)
        .map_err(|error: MoneyError| CheckoutError::Unavailable(error.to_string()))
}

/// Stores the order. If its ID is already in use, the order gets a new ID.
async fn open(session_id: &str, mut order: Order) -> Result<Order, CheckoutError> {
    for _ in 0..ID_ATTEMPTS_MAX {
        match orders::open_order(session_id.into(), order.clone()).await {
            Ok(()) => return Ok(order),
            Err(OrderError::Exists) => order.id = boutique_orders::order_id(get_random_u64()),
            Err(OrderError::NotFound) => break,
            Err(OrderError::Unavailable(reason)) => return Err(CheckoutError::Unavailable(reason)),
        }
    }
    Err(CheckoutError::Unavailable("no unused ID found for the order".into()))
}

/// Cancels an order whose card was not charged. `reason` is the reason for the cancellation, which is returned.
async fn cancelled(order: &Order, reason: CheckoutError) -> CheckoutError {
    if let Err(error) = orders::cancel_order(order.id.clone()).await {
        eprintln!("order {}: the card was not charged, but the order cannot be cancelled: {error:?}", order.id);
    }
    reason
}

fn cart_unavailable(error: CartError) -> CheckoutError {
    CheckoutError::Unavailable(match error {
        CartError::Unavailable(reason) => reason,
        other => format!("unexpected error of the cart: {other:?}"),
    })
}

bindings::export!(Checkout with_types_in bindings);
