//! The catalog component: implements `boutique:shop/catalog` with the products in `boutique-catalog`.

use boutique_types::Product;

// Generated bindings are not documented, and not linted.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "catalog-component",
        with: { "boutique:shop/types@0.1.0": boutique_types },
    });
}

struct Catalog;

impl bindings::exports::boutique::shop::catalog::Guest for Catalog {
    fn list_products() -> Vec<Product> {
        boutique_catalog::all_products()
    }

    fn get_product(id: String) -> Option<Product> {
        boutique_catalog::product(&id)
    }

    fn search_products(query: String) -> Vec<Product> {
        boutique_catalog::search(&query)
    }
}

bindings::export!(Catalog with_types_in bindings);
