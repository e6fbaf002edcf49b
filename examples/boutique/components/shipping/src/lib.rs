//! The shipping component: returns quotes, and tracking IDs that it makes from random numbers.

use boutique_types::{Address, CartItem, ShippingError, ShippingQuote};
use wasip3::random::random::get_random_u64;

// Generated bindings are not documented, and not linted.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "shipping-component",
        with: { "boutique:shop/types@0.1.0": boutique_types },
    });
}

struct Shipping;

impl bindings::exports::boutique::shop::shipping::Guest for Shipping {
    fn quote(items: Vec<CartItem>) -> ShippingQuote {
        boutique_shipping::quote(&items)
    }

    async fn book(address: Address, items: Vec<CartItem>) -> Result<String, ShippingError> {
        boutique_shipping::check(&address, &items)?;
        Ok(boutique_shipping::tracking_id(get_random_u64()))
    }
}

bindings::export!(Shipping with_types_in bindings);
