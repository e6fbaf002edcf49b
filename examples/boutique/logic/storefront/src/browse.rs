//! The handlers of pages that change nothing: home, product, search.

use boutique_types::{CartError, CartItem, Money, Product};
use futures::join;

use crate::failure::Failure;
use crate::http::Response;
use crate::pages::{self, Frame};
use crate::services::Services;
use crate::visitor::Visitor;

/// A product with its price in the visitor's currency.
#[derive(Debug, Clone)]
pub(crate) struct Priced {
    pub(crate) product: Product,
    pub(crate) price: Money,
}

/// The maximum length of a search text, in characters. All further characters are ignored.
const QUERY_CHARACTERS_MAX: usize = 100;

pub(crate) async fn home(services: &impl Services, visitor: &Visitor) -> Result<Response, Failure> {
    let (items, shown) = join!(cart_items(services, visitor), async {
        let products = priced(services, visitor, services.products())?;
        Ok::<_, Failure>((products, services.ads(&[], 1)))
    });
    let (products, ads) = shown?;
    let frame = Frame::of(visitor, badge(&items));
    Ok(Response::page(200, pages::home(&frame, &products, &ads)))
}

pub(crate) async fn product(services: &impl Services, visitor: &Visitor, id: &str) -> Result<Response, Failure> {
    let (items, shown) = join!(cart_items(services, visitor), async {
        let product = services.product(id).ok_or(Failure::UnknownProduct)?;
        let ads = services.ads(&product.categories, 1);
        let mut all = vec![product];
        all.extend(services.recommend(&[id.to_owned()], 4));
        Ok((priced(services, visitor, all)?, ads))
    });
    let (all, ads) = shown?;
    let (product, others) = all.split_first().expect("the product comes first");
    let frame = Frame::of(visitor, badge(&items));
    Ok(Response::page(200, pages::product(&frame, product, others, &ads)))
}

pub(crate) async fn search(services: &impl Services, visitor: &Visitor, query: &str) -> Result<Response, Failure> {
    let query = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "q")
        .map_or_else(Default::default, |(_, words)| words);
    let query: String = query.trim().chars().take(QUERY_CHARACTERS_MAX).collect();
    let (items, found) =
        join!(cart_items(services, visitor), async { priced(services, visitor, services.search(&query)) });
    let frame = Frame::of(visitor, badge(&items));
    Ok(Response::page(200, pages::search(&frame, &query, &found?)))
}

/// Returns the items in the visitor's cart. For a new visitor, who has no cart, the store is not read.
pub(crate) async fn cart_items(services: &impl Services, visitor: &Visitor) -> Result<Vec<CartItem>, CartError> {
    if visitor.is_new { Ok(Vec::new()) } else { services.cart(&visitor.session).await }
}

/// Returns the number of pieces in the cart, which the page header shows. If the cart cannot be read, the page is shown
/// without the number.
pub(crate) fn badge(items: &Result<Vec<CartItem>, CartError>) -> Option<u32> {
    items.as_ref().ok().map(|items| items.iter().map(|item| item.quantity).sum())
}

/// Converts the prices of products to the visitor's currency.
pub(crate) fn priced(
    services: &impl Services,
    visitor: &Visitor,
    products: Vec<Product>,
) -> Result<Vec<Priced>, Failure> {
    let prices: Vec<Money> = products.iter().map(|product| product.price.clone()).collect();
    let prices = services
        .convert(&prices, &visitor.currency.code)
        .map_err(|error| Failure::Unavailable(format!("no prices in `{}`: {error:?}", visitor.currency.code)))?;
    Ok(products.into_iter().zip(prices).map(|(product, price)| Priced { product, price }).collect())
}
