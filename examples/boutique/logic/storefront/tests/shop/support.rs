//! The whole shop in one process: the storefront with the other logic crates as its services, and a browser that keeps
//! cookies. All state is in memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use boutique_storefront::{Head, Response, Services, Unavailable, handle};
use boutique_types::{
    Ad, CartError, CartItem, CheckoutError, CheckoutRequest, ConversionError, CurrencyInfo, Date, Money, Order,
    OrderLine, OrderStatus, OrderSummary, PlacedOrder, Product, ShippingQuote,
};

/// The time of the tests in seconds since 1970: 15 June 2026.
pub(crate) const NOW: u64 = 1_781_481_600;

/// The storefront's services, with their state in memory.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) carts: RefCell<BTreeMap<String, Vec<CartItem>>>,
    pub(crate) orders: RefCell<Vec<(String, Order)>>,
    pub(crate) log: RefCell<Vec<String>>,
    /// Whether the stores of carts and orders fail.
    pub(crate) stores_are_down: Cell<bool>,
    random: Cell<u128>,
}

impl Memory {
    fn store(&self) -> Result<(), String> {
        if self.stores_are_down.get() { Err("the store is down".into()) } else { Ok(()) }
    }

    fn next(&self) -> u64 {
        self.random.set(self.random.get() + 1);
        u64::try_from(self.random.get()).expect("a test draws few numbers")
    }
}

impl Services for Memory {
    fn products(&self) -> Vec<Product> {
        boutique_catalog::all_products()
    }

    fn product(&self, id: &str) -> Option<Product> {
        boutique_catalog::product(id)
    }

    fn search(&self, query: &str) -> Vec<Product> {
        boutique_catalog::search(query)
    }

    fn currencies(&self) -> Vec<CurrencyInfo> {
        boutique_currency::supported()
    }

    fn convert(&self, amounts: &[Money], code: &str) -> Result<Vec<Money>, ConversionError> {
        amounts.iter().map(|amount| boutique_currency::convert(amount, code)).collect()
    }

    fn recommend(&self, product_ids: &[String], count: u32) -> Vec<Product> {
        boutique_catalog::recommend(self.products(), product_ids, count as usize)
    }

    fn quote(&self, items: &[CartItem]) -> ShippingQuote {
        boutique_shipping::quote(items)
    }

    fn ads(&self, categories: &[String], count: u32) -> Vec<Ad> {
        boutique_catalog::pick_ads(categories, count as usize, 0)
    }

    async fn cart(&self, session: &str) -> Result<Vec<CartItem>, CartError> {
        self.store().map_err(CartError::Unavailable)?;
        Ok(self.carts.borrow().get(session).cloned().unwrap_or_default())
    }

    async fn add_to_cart(&self, session: &str, item: CartItem) -> Result<(), CartError> {
        self.store().map_err(CartError::Unavailable)?;
        boutique_cart::add(self.carts.borrow_mut().entry(session.into()).or_default(), item)
    }

    async fn empty_cart(&self, session: &str) -> Result<(), CartError> {
        self.store().map_err(CartError::Unavailable)?;
        self.carts.borrow_mut().remove(session);
        Ok(())
    }

    async fn place_order(&self, session: &str, request: CheckoutRequest) -> Result<PlacedOrder, CheckoutError> {
        self.store().map_err(CheckoutError::Unavailable)?;
        let items = self.carts.borrow().get(session).cloned().unwrap_or_default();
        if items.is_empty() {
            return Err(CheckoutError::EmptyCart);
        }
        let convert = |amount: &Money| boutique_currency::convert(amount, &request.currency_code);
        let mut lines = Vec::new();
        for item in &items {
            let product =
                self.product(&item.product_id).ok_or(CheckoutError::UnknownProduct(item.product_id.clone()))?;
            let unit_price = convert(&product.price).map_err(CheckoutError::Conversion)?;
            let (product_id, name) = (product.id, product.name);
            lines.push(OrderLine { product_id, name, quantity: item.quantity, unit_price });
        }
        let shipping = convert(&self.quote(&items).cost).map_err(CheckoutError::Conversion)?;
        let id = boutique_orders::order_id(self.next());
        let mut order = boutique_orders::pending(id, NOW, request.email, request.address, lines, shipping)
            .map_err(|error| CheckoutError::Unavailable(error.to_string()))?;
        let today = Date::from_seconds(NOW);
        let card = boutique_cards::check(&request.card, &order.total, (today.year, today.month))
            .map_err(CheckoutError::Refused)?;
        let transaction_id = boutique_cards::transaction_id(self.next());
        order.status = OrderStatus::Paid;
        order.receipt = Some(boutique_types::Receipt { transaction_id, card });
        order.tracking_id = Some(boutique_shipping::tracking_id(self.next()));
        self.orders.borrow_mut().push((session.into(), order.clone()));
        self.carts.borrow_mut().remove(session);
        let confirmation = boutique_orders::confirmation(&order).ok();
        Ok(PlacedOrder { order, confirmation })
    }

    async fn order(&self, session: &str, id: &str) -> Result<Option<Order>, Unavailable> {
        self.store().map_err(Unavailable)?;
        let orders = self.orders.borrow();
        Ok(orders.iter().find(|(owner, order)| owner == session && order.id == id).map(|(_, order)| order.clone()))
    }

    async fn orders(&self, session: &str, limit: u32) -> Result<Vec<OrderSummary>, Unavailable> {
        self.store().map_err(Unavailable)?;
        let orders = self.orders.borrow();
        let own = orders.iter().rev().filter(|(owner, _)| owner == session).take(limit as usize);
        Ok(own
            .map(|(_, order)| OrderSummary {
                id: order.id.clone(),
                placed_at: order.placed_at,
                status: order.status,
                pieces: order.lines.iter().map(|line| line.quantity).sum(),
                total: order.total.clone(),
            })
            .collect())
    }

    fn random_u128(&self) -> u128 {
        self.next().into()
    }

    fn now(&self) -> u64 {
        NOW
    }

    fn log(&self, line: &str) {
        self.log.borrow_mut().push(line.into());
    }
}

/// A browser that keeps cookies.
#[derive(Default)]
pub(crate) struct Browser {
    pub(crate) cookies: BTreeMap<String, String>,
}

impl Browser {
    pub(crate) fn get(&mut self, shop: &Memory, path: &str) -> Response {
        self.send(shop, "GET", path, &[], b"")
    }

    pub(crate) fn post(&mut self, shop: &Memory, path: &str, form: &str) -> Response {
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("referer", "http://shop.example/cart")];
        self.send(shop, "POST", path, &headers, form.as_bytes())
    }

    pub(crate) fn send(
        &mut self,
        shop: &Memory,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        if !self.cookies.is_empty() {
            let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            headers.push(("cookie".into(), cookies.join("; ")));
        }
        let head = Head { method: method.into(), path_and_query: path.into(), secure: false, headers };
        let body = body.to_vec();
        let response = finish(handle(shop, &head, async |limit| {
            if body.len() > limit { Err(boutique_storefront::BodyError::TooLarge) } else { Ok(body) }
        }));
        for (_, cookie) in response.headers.iter().filter(|(name, _)| *name == "set-cookie") {
            let (name, rest) = cookie.split_once('=').expect("a cookie has a value");
            let value = rest.split(';').next().unwrap_or_default();
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.into(), value.into());
            }
        }
        response
    }
}

/// Returns the response's body as text.
pub(crate) fn text(response: &Response) -> &str {
    std::str::from_utf8(&response.body).expect("the body is text")
}

/// Returns the output of a future that is ready when it is first polled.
fn finish<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the services in memory never wait"),
    }
}

/// Returns a valid checkout form, with the given fields replaced.
pub(crate) fn checkout_form(changes: &[(&str, &str)]) -> String {
    let fields = [
        ("email", "a@example.com"),
        ("street_address", "1 Road"),
        ("zip_code", "94043"),
        ("city", "Town"),
        ("state", "CA"),
        ("country", "Land"),
        ("credit_card_number", "4432-8015-6152-0454"),
        ("credit_card_expiration_month", "1"),
        ("credit_card_expiration_year", "2039"),
        ("credit_card_cvv", "672"),
    ];
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        let value = changes.iter().find(|(other, _)| *other == name).map_or(value, |(_, value)| value);
        form.append_pair(name, value);
    }
    form.finish()
}
