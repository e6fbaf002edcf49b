//! The ads component: implements `boutique:shop/ads`. It chooses randomly among the ads that match.

use boutique_types::Ad;
use wasip3::random::random::get_random_u64;

// Generated bindings are not documented, and not linted.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "ads-component",
        with: { "boutique:shop/types@0.1.0": boutique_types },
    });
}

struct Ads;

impl bindings::exports::boutique::shop::ads::Guest for Ads {
    fn pick_ads(categories: Vec<String>, count: u32) -> Vec<Ad> {
        boutique_catalog::pick_ads(&categories, usize::try_from(count).unwrap_or(usize::MAX), get_random_u64())
    }
}

bindings::export!(Ads with_types_in bindings);
