//! The services that the pages use: one method for each function of `boutique:shop` that a page needs.

use boutique_types::{
    Ad, CartError, CartItem, CheckoutError, CheckoutRequest, ConversionError, CurrencyInfo, Money, Order, OrderSummary,
    PlacedOrder, Product, ShippingQuote,
};

/// The failure of a service. The text is the reason, which is only logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(pub String);

/// The services that the pages use. The asynchronous methods do I/O.
#[expect(async_fn_in_trait, reason = "one request runs on one thread")]
pub trait Services {
    /// Returns all products.
    fn products(&self) -> Vec<Product>;
    /// Returns the product with the given ID, if there is one.
    fn product(&self, id: &str) -> Option<Product>;
    /// Returns the products that contain all words of `query`.
    fn search(&self, query: &str) -> Vec<Product>;
    /// Returns the supported currencies.
    fn currencies(&self) -> Vec<CurrencyInfo>;
    /// Converts amounts to another currency. The results have the same order as `amounts`.
    ///
    /// # Errors
    /// If the currency is unknown, or an amount is invalid.
    fn convert(&self, amounts: &[Money], code: &str) -> Result<Vec<Money>, ConversionError>;
    /// Returns at most `count` products to recommend to a visitor who looks at the given products.
    fn recommend(&self, product_ids: &[String], count: u32) -> Vec<Product>;
    /// Returns the cost of shipping the items, in US dollars.
    fn quote(&self, items: &[CartItem]) -> ShippingQuote;
    /// Returns at most `count` ads; those of the given categories come first.
    fn ads(&self, categories: &[String], count: u32) -> Vec<Ad>;
    /// Returns the items in the session's cart.
    ///
    /// # Errors
    /// If the store cannot be reached.
    async fn cart(&self, session: &str) -> Result<Vec<CartItem>, CartError>;
    /// Adds an item to the session's cart.
    ///
    /// # Errors
    /// If the item is invalid, if the cart would exceed a limit, or if the store cannot be reached.
    async fn add_to_cart(&self, session: &str, item: CartItem) -> Result<(), CartError>;
    /// Empties the session's cart.
    ///
    /// # Errors
    /// If the store cannot be reached.
    async fn empty_cart(&self, session: &str) -> Result<(), CartError>;
    /// Turns the session's cart into an order.
    ///
    /// # Errors
    /// If the order cannot be placed; [`CheckoutError`] lists the reasons.
    async fn place_order(&self, session: &str, request: CheckoutRequest) -> Result<PlacedOrder, CheckoutError>;
    /// Returns the session's order with the given ID, if there is one.
    ///
    /// # Errors
    /// If the store cannot be reached.
    async fn order(&self, session: &str, id: &str) -> Result<Option<Order>, Unavailable>;
    /// Returns at most `limit` of the session's orders, newest first.
    ///
    /// # Errors
    /// If the store cannot be reached.
    async fn orders(&self, session: &str, limit: u32) -> Result<Vec<OrderSummary>, Unavailable>;
    /// Returns 128 random bits that cannot be predicted.
    fn random_u128(&self) -> u128;
    /// Returns the current time in seconds since 1970.
    fn now(&self) -> u64;
    /// Writes a line to the log.
    fn log(&self, line: &str);
}
