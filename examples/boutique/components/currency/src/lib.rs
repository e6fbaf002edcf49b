//! The currency component: implements `boutique:shop/currency` with the rates in `boutique-currency`.

use boutique_types::{ConversionError, CurrencyInfo, Money};

// Generated bindings are not documented, and not linted.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "currency-component",
        with: { "boutique:shop/types@0.1.0": boutique_types },
    });
}

struct Currency;

impl bindings::exports::boutique::shop::currency::Guest for Currency {
    fn supported_currencies() -> Vec<CurrencyInfo> {
        boutique_currency::supported()
    }

    fn convert(amounts: Vec<Money>, to_code: String) -> Result<Vec<Money>, ConversionError> {
        amounts.iter().map(|amount| boutique_currency::convert(amount, &to_code)).collect()
    }
}

bindings::export!(Currency with_types_in bindings);
