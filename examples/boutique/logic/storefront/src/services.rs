//! The services behind the shop: one method for each function of `boutique:shop` that the pages need.

use boutique_types::{
    Ad, CartError, CartItem, CheckoutError, CheckoutRequest, ConversionError, CurrencyInfo, Money, Order, OrderSummary,
    PlacedOrder, Product, ShippingQuote,
};

/// A service failed; the text is for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(pub String);

/// The services behind the pages. The asynchronous ones do I/O.
#[expect(async_fn_in_trait, reason = "one request runs on one thread")]
pub trait Services {
    /// Returns all products.
    fn products(&self) -> Vec<Product>;
    /// Returns one product.
    fn product(&self, id: &str) -> Option<Product>;
    /// Searches products by words.
    fn search(&self, query: &str) -> Vec<Product>;
    /// Returns the supported currencies.
    fn currencies(&self) -> Vec<CurrencyInfo>;
    /// Converts amounts to another currency, in the same order.
    ///
    /// # Errors
    /// For an unknown currency, and an invalid amount.
    fn convert(&self, amounts: &[Money], code: &str) -> Result<Vec<Money>, ConversionError>;
    /// Returns at most `count` products that are recommended with the given products.
    fn recommend(&self, product_ids: &[String], count: u32) -> Vec<Product>;
    /// Returns the cost of shipping these items, in US dollars.
    fn quote(&self, items: &[CartItem]) -> ShippingQuote;
    /// Returns at most `count` ads.
    fn ads(&self, categories: &[String], count: u32) -> Vec<Ad>;
    /// Returns the session's cart.
    ///
    /// # Errors
    /// If the store cannot be reached.
    async fn cart(&self, session: &str) -> Result<Vec<CartItem>, CartError>;
    /// Adds an item to the session's cart.
    ///
    /// # Errors
    /// If the cart would have too many pieces of one product, and when the store cannot be reached.
    async fn add_to_cart(&self, session: &str, item: CartItem) -> Result<(), CartError>;
    /// Empties the session's cart.
    ///
    /// # Errors
    /// If the store cannot be reached.
    async fn empty_cart(&self, session: &str) -> Result<(), CartError>;
    /// Turns the session's cart into an order.
    ///
    /// # Errors
    /// See [`CheckoutError`].
    async fn place_order(&self, session: &str, request: CheckoutRequest) -> Result<PlacedOrder, CheckoutError>;
    /// Returns one of the session's orders.
    ///
    /// # Errors
    /// If the store cannot be reached.
    async fn order(&self, session: &str, id: &str) -> Result<Option<Order>, Unavailable>;
    /// Returns the session's newest orders.
    ///
    /// # Errors
    /// If the store cannot be reached.
    async fn orders(&self, session: &str, limit: u32) -> Result<Vec<OrderSummary>, Unavailable>;
    /// Returns 128 random bits that cannot be guessed.
    fn random_u128(&self) -> u128;
    /// Returns the seconds since 1970.
    fn now(&self) -> u64;
    /// Writes a line to the log.
    fn log(&self, line: &str);
}
