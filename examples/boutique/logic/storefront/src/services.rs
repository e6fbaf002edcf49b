//! What the shop asks of the services behind it: one method for each function of `boutique:shop` that the pages need.

use boutique_types::{
    Ad, CartError, CartItem, CheckoutError, CheckoutRequest, ConversionError, CurrencyInfo, Money, Order, OrderSummary,
    PlacedOrder, Product, ShippingQuote,
};

/// A service could not answer; the text is for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(pub String);

/// The services behind the pages. The asynchronous ones do I/O.
#[expect(async_fn_in_trait, reason = "one request runs on one thread")]
pub trait Services {
    /// All products.
    fn products(&self) -> Vec<Product>;
    /// One product.
    fn product(&self, id: &str) -> Option<Product>;
    /// Products by words.
    fn search(&self, query: &str) -> Vec<Product>;
    /// The currencies to choose from.
    fn currencies(&self) -> Vec<CurrencyInfo>;
    /// Amounts in another currency, in the same order.
    ///
    /// # Errors
    /// An unknown currency, an amount that is none.
    fn convert(&self, amounts: &[Money], code: &str) -> Result<Vec<Money>, ConversionError>;
    /// At most `count` products that go with these.
    fn recommend(&self, product_ids: &[String], count: u32) -> Vec<Product>;
    /// What sending these costs, in US dollars.
    fn quote(&self, items: &[CartItem]) -> ShippingQuote;
    /// At most `count` ads.
    fn ads(&self, categories: &[String], count: u32) -> Vec<Ad>;
    /// The session's cart.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn cart(&self, session: &str) -> Result<Vec<CartItem>, CartError>;
    /// Add to the session's cart.
    ///
    /// # Errors
    /// Too many of one product; the store cannot be reached.
    async fn add_to_cart(&self, session: &str, item: CartItem) -> Result<(), CartError>;
    /// Empty the session's cart.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn empty_cart(&self, session: &str) -> Result<(), CartError>;
    /// Turn the session's cart into an order.
    ///
    /// # Errors
    /// See [`CheckoutError`].
    async fn place_order(&self, session: &str, request: CheckoutRequest) -> Result<PlacedOrder, CheckoutError>;
    /// One of the session's orders.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn order(&self, session: &str, id: &str) -> Result<Option<Order>, Unavailable>;
    /// The session's newest orders.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn orders(&self, session: &str, limit: u32) -> Result<Vec<OrderSummary>, Unavailable>;
    /// 128 bits that nobody can guess.
    fn random_u128(&self) -> u128;
    /// Seconds since 1970.
    fn now(&self) -> u64;
    /// Write a line to the log.
    fn log(&self, line: &str);
}
