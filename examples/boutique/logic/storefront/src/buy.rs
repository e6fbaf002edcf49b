//! The handlers for buying: cart, checkout, orders.

use boutique_types::{CartError, CartItem, CheckoutError, ConversionError, Date, Money, Refusal, ShippingError};
use futures::join;

use crate::browse::{Priced, badge, cart_items, priced};
use crate::failure::{Failure, FieldError};
use crate::forms::{Filled, Form};
use crate::http::Response;
use crate::pages::{self, CartPage, Frame};
use crate::services::Services;
use crate::visitor::Visitor;

/// The maximum number of orders on the page of orders.
const ORDERS_MAX: u32 = 50;

/// A line of the cart page.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) priced: Priced,
    pub(crate) quantity: u32,
    pub(crate) cost: Money,
}

pub(crate) async fn cart(services: &impl Services, visitor: &Visitor) -> Result<Response, Failure> {
    cart_page(services, visitor, 200, Filled::Sample, &[]).await
}

pub(crate) async fn add_to_cart(services: &impl Services, visitor: &Visitor, form: &Form) -> Result<Response, Failure> {
    let item = form.cart_item()?;
    if services.product(&item.product_id).is_none() {
        return Err(Failure::UnknownProduct);
    }
    services.add_to_cart(&visitor.session, item).await.map_err(cart_failure)?;
    Ok(Response::redirect("/cart"))
}

pub(crate) async fn empty_cart(services: &impl Services, visitor: &Visitor) -> Result<Response, Failure> {
    if !visitor.is_new {
        services.empty_cart(&visitor.session).await.map_err(cart_failure)?;
    }
    Ok(Response::redirect("/"))
}

pub(crate) async fn checkout(services: &impl Services, visitor: &Visitor, form: &Form) -> Result<Response, Failure> {
    let request = match form.checkout_request(&visitor.currency.code) {
        Ok(request) => request,
        Err(errors) => return cart_page(services, visitor, 422, Filled::Form(form), &errors).await,
    };
    let placed = match services.place_order(&visitor.session, request).await {
        Ok(placed) => placed,
        Err(error) => {
            let error = checkout_failure(error)?;
            return cart_page(services, visitor, 422, Filled::Form(form), &[error]).await;
        }
    };
    let frame = Frame::of(visitor, Some(0));
    Ok(Response::page(200, pages::placed(&frame, &placed)))
}

pub(crate) async fn orders(services: &impl Services, visitor: &Visitor) -> Result<Response, Failure> {
    if visitor.is_new {
        return Ok(Response::page(200, pages::orders(&Frame::of(visitor, None), &[])));
    }
    let (items, orders) = join!(services.cart(&visitor.session), services.orders(&visitor.session, ORDERS_MAX));
    let orders = orders.map_err(|error| Failure::Unavailable(error.0))?;
    Ok(Response::page(200, pages::orders(&Frame::of(visitor, badge(&items)), &orders)))
}

pub(crate) async fn order(services: &impl Services, visitor: &Visitor, id: &str) -> Result<Response, Failure> {
    if visitor.is_new {
        return Err(Failure::UnknownOrder);
    }
    let (items, order) = join!(services.cart(&visitor.session), services.order(&visitor.session, id));
    let order = order.map_err(|error| Failure::Unavailable(error.0))?.ok_or(Failure::UnknownOrder)?;
    Ok(Response::page(200, pages::order(&Frame::of(visitor, badge(&items)), &order)))
}

/// Renders the cart with its checkout form. Each of `errors` is shown next to its field.
async fn cart_page(
    services: &impl Services,
    visitor: &Visitor,
    status: u16,
    filled: Filled<'_>,
    errors: &[FieldError],
) -> Result<Response, Failure> {
    let items = cart_items(services, visitor).await.map_err(cart_failure)?;
    let ids: Vec<String> = items.iter().map(|item| item.product_id.clone()).collect();
    // One call converts all prices of the page: those of the cart, the recommended products and the shipping.
    let mut products = Vec::with_capacity(items.len() + 4);
    let mut known = Vec::with_capacity(items.len());
    for item in &items {
        // A product that is no longer in the catalog is not shown.
        if let Some(product) = services.product(&item.product_id) {
            products.push(product);
            known.push(item.clone());
        }
    }
    products.extend(services.recommend(&ids, 4));
    let mut cart = priced(services, visitor, products)?;
    let recommended = cart.split_off(known.len());
    let quote = services.quote(&known);
    let shipping = convert_one(services, &quote.cost, &visitor.currency.code)?;
    let lines = lines(cart, &known)?;
    let total = lines.iter().try_fold(shipping.clone(), |total, line| total.plus(&line.cost)).map_err(too_large)?;
    let page = CartPage {
        lines: &lines,
        shipping: &shipping,
        days: quote.days,
        total: &total,
        recommended: &recommended,
        year: Date::from_seconds(services.now()).year,
        filled,
        errors,
    };
    let frame = Frame::of(visitor, badge(&Ok(known)));
    Ok(Response::page(status, pages::cart(&frame, &page)))
}

fn lines(cart: Vec<Priced>, items: &[CartItem]) -> Result<Vec<Line>, Failure> {
    cart.into_iter()
        .zip(items)
        .map(|(priced, item)| {
            let cost = priced.price.times(item.quantity).map_err(too_large)?;
            Ok(Line { priced, quantity: item.quantity, cost })
        })
        .collect()
}

fn convert_one(services: &impl Services, amount: &Money, code: &str) -> Result<Money, Failure> {
    let converted = services.convert(std::slice::from_ref(amount), code);
    converted
        .ok()
        .and_then(|amounts| amounts.into_iter().next())
        .ok_or_else(|| Failure::Unavailable(format!("no price of shipping in `{code}`")))
}

fn too_large(error: impl std::fmt::Display) -> Failure {
    Failure::Unavailable(error.to_string())
}

fn cart_failure(error: CartError) -> Failure {
    match error {
        CartError::TooMany(most) => Failure::field("quantity", format!("A cart holds at most {most} of one product.")),
        CartError::InvalidItem => Failure::field("product_id", "This is not one of our products."),
        CartError::Unavailable(reason) => Failure::Unavailable(reason),
    }
}

/// Converts an error of the checkout. An error that the visitor can correct becomes the error of a form field; any
/// other error becomes a failure of the request.
fn checkout_failure(error: CheckoutError) -> Result<FieldError, Failure> {
    Ok(match error {
        CheckoutError::EmptyCart => FieldError::new("cart", "Your cart is empty: put something in it first."),
        CheckoutError::UnknownProduct(id) => {
            FieldError::new("cart", format!("Product {id} is no longer sold. Empty the cart and choose again."))
        }
        CheckoutError::Conversion(ConversionError::UnsupportedCurrency(code)) => {
            FieldError::new("currency_code", format!("We cannot charge in {code}. Choose another currency."))
        }
        CheckoutError::Conversion(ConversionError::OutOfRange) => {
            FieldError::new("cart", "This order is too large for us.")
        }
        CheckoutError::Shipping(ShippingError::NothingToShip) => FieldError::new("cart", "There is nothing to send."),
        CheckoutError::Shipping(ShippingError::IncompleteAddress(part)) => {
            FieldError::new("street_address", format!("The address is not complete: {part} is missing."))
        }
        CheckoutError::Refused(refusal) => refused(&refusal),
        CheckoutError::Unavailable(reason) => return Err(Failure::Unavailable(reason)),
    })
}

fn refused(refusal: &Refusal) -> FieldError {
    const NUMBER: &str = "credit_card_number";
    match refusal {
        Refusal::InvalidNumber => FieldError::new(NUMBER, "This is not a card number: a digit is wrong or missing."),
        Refusal::UnacceptedBrand(brand) => FieldError::new(
            NUMBER,
            format!("We take Visa, Mastercard and American Express, not {}.", pages::brand_name(*brand)),
        ),
        Refusal::InvalidExpiration => FieldError::new("credit_card_expiration_month", "Choose a number from 1 to 12."),
        Refusal::Expired((year, month)) => FieldError::new(
            "credit_card_expiration_month",
            format!("The card expired at the end of {month:02}/{year}."),
        ),
        Refusal::InvalidVerificationCode => {
            FieldError::new("credit_card_cvv", "The security code does not fit the card.")
        }
        Refusal::InvalidAmount => FieldError::new("cart", "There is nothing to pay."),
    }
}
