//! Implements the storefront's services by calling the other components.

use boutique_storefront::{Services, Unavailable};
use boutique_types::{
    Ad, CartError, CartItem, CheckoutError, CheckoutRequest, ConversionError, CurrencyInfo, Money, Order, OrderError,
    OrderSummary, PlacedOrder, Product, ShippingQuote,
};

use crate::bindings::boutique::shop::{ads, cart, catalog, checkout, currency, orders, recommendation, shipping};

/// The implementation of the storefront's services, which calls the imported components.
pub(crate) struct Components;

impl Services for Components {
    fn products(&self) -> Vec<Product> {
        catalog::list_products()
    }

    fn product(&self, id: &str) -> Option<Product> {
        catalog::get_product(id)
    }

    fn search(&self, query: &str) -> Vec<Product> {
        catalog::search_products(query)
    }

    fn currencies(&self) -> Vec<CurrencyInfo> {
        currency::supported_currencies()
    }

    fn convert(&self, amounts: &[Money], code: &str) -> Result<Vec<Money>, ConversionError> {
        currency::convert(amounts, code)
    }

    fn recommend(&self, product_ids: &[String], count: u32) -> Vec<Product> {
        recommendation::recommend(product_ids, count)
    }

    fn quote(&self, items: &[CartItem]) -> ShippingQuote {
        shipping::quote(items)
    }

    fn ads(&self, categories: &[String], count: u32) -> Vec<Ad> {
        ads::pick_ads(categories, count)
    }

    async fn cart(&self, session: &str) -> Result<Vec<CartItem>, CartError> {
        cart::get_cart(session.into()).await
    }

    async fn add_to_cart(&self, session: &str, item: CartItem) -> Result<(), CartError> {
        cart::add_item(session.into(), item).await
    }

    async fn empty_cart(&self, session: &str) -> Result<(), CartError> {
        cart::empty_cart(session.into()).await
    }

    async fn place_order(&self, session: &str, request: CheckoutRequest) -> Result<PlacedOrder, CheckoutError> {
        checkout::place_order(session.into(), request).await
    }

    async fn order(&self, session: &str, id: &str) -> Result<Option<Order>, Unavailable> {
        orders::get_order(session.into(), id.into()).await.map_err(unavailable)
    }

    async fn orders(&self, session: &str, limit: u32) -> Result<Vec<OrderSummary>, Unavailable> {
        orders::list_orders(session.into(), limit).await.map_err(unavailable)
    }

    fn random_u128(&self) -> u128 {
        let [high, low] = std::array::from_fn(|_| wasip3::random::random::get_random_u64());
        u128::from(high) << 64 | u128::from(low)
    }

    fn now(&self) -> u64 {
        // If the clock shows a time before 1970, the result is 0.
        u64::try_from(wasip3::clocks::system_clock::now().seconds).unwrap_or(0)
    }

    fn log(&self, line: &str) {
        eprintln!("{line}");
    }
}

fn unavailable(error: OrderError) -> Unavailable {
    Unavailable(match error {
        OrderError::Unavailable(reason) => reason,
        OrderError::Exists => "an order with this ID already exists".into(),
        OrderError::NotFound => "there is no such order".into(),
    })
}
