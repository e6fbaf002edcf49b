//! The recommendation component: recommends products of the catalog.

use boutique_types::Product;

// Generated bindings are not documented, and not linted.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "recommendation-component",
        with: { "boutique:shop/types@0.1.0": boutique_types },
    });
}

use bindings::boutique::shop::catalog;

struct Recommendation;

impl bindings::exports::boutique::shop::recommendation::Guest for Recommendation {
    fn recommend(product_ids: Vec<String>, count: u32) -> Vec<Product> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        boutique_catalog::recommend(catalog::list_products(), &product_ids, count)
    }
}

bindings::export!(Recommendation with_types_in bindings);
