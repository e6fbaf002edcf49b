//! Currencies, their rates, and exact conversion between them.
//!
//! The rates are fixed samples, so that the prices of this example shop never change.

use boutique_types::{ConversionError, CurrencyInfo, Money};

/// A currency: how many millionths of a unit one euro is worth, and how amounts are displayed.
struct Entry {
    code: &'static str,
    name: &'static str,
    symbol: &'static str,
    digits: u8,
    per_euro_millionths: i64,
}

const fn entry(
    code: &'static str,
    name: &'static str,
    symbol: &'static str,
    digits: u8,
    per_euro_millionths: i64,
) -> Entry {
    Entry { code, name, symbol, digits, per_euro_millionths }
}

const ENTRIES: [Entry; 22] = [
    entry("USD", "US dollar", "$", 2, 1_085_000),
    entry("EUR", "Euro", "€", 2, 1_000_000),
    entry("GBP", "Pound sterling", "£", 2, 842_000),
    entry("JPY", "Japanese yen", "¥", 0, 163_200_000),
    entry("CAD", "Canadian dollar", "CA$", 2, 1_488_000),
    entry("TRY", "Turkish lira", "₺", 2, 36_900_000),
    entry("AUD", "Australian dollar", "A$", 2, 1_642_000),
    entry("BRL", "Brazilian real", "R$", 2, 6_050_000),
    entry("CHF", "Swiss franc", "CHF", 2, 941_000),
    entry("CNY", "Chinese yuan", "CN¥", 2, 7_810_000),
    entry("CZK", "Czech koruna", "Kč", 2, 25_200_000),
    entry("DKK", "Danish krone", "DKK", 2, 7_460_000),
    entry("HUF", "Hungarian forint", "Ft", 2, 401_000_000),
    entry("INR", "Indian rupee", "₹", 2, 91_400_000),
    entry("KRW", "South Korean won", "₩", 0, 1_480_000_000),
    entry("MXN", "Mexican peso", "MX$", 2, 20_100_000),
    entry("NOK", "Norwegian krone", "NOK", 2, 11_700_000),
    entry("NZD", "New Zealand dollar", "NZ$", 2, 1_790_000),
    entry("PLN", "Polish złoty", "zł", 2, 4_270_000),
    entry("SEK", "Swedish krona", "SEK", 2, 11_300_000),
    entry("SGD", "Singapore dollar", "S$", 2, 1_450_000),
    entry("ZAR", "South African rand", "R", 2, 19_900_000),
];

/// Returns the supported currencies, most common first.
pub fn supported() -> Vec<CurrencyInfo> {
    ENTRIES
        .iter()
        .map(|entry| CurrencyInfo {
            code: entry.code.into(),
            name: entry.name.into(),
            symbol: entry.symbol.into(),
            digits: entry.digits,
        })
        .collect()
}

/// Converts an amount to another currency. The result is rounded once, to the smallest unit of the other currency.
///
/// # Errors
/// If a currency has no rate, or the amount is invalid or too large.
pub fn convert(amount: &Money, to_code: &str) -> Result<Money, ConversionError> {
    let (from, to) = (find(&amount.currency_code)?, find(to_code)?);
    amount
        .converted(to.code, to.per_euro_millionths, from.per_euro_millionths, to.digits)
        .map_err(|_| ConversionError::OutOfRange)
}

fn find(code: &str) -> Result<&'static Entry, ConversionError> {
    ENTRIES.iter().find(|entry| entry.code == code).ok_or_else(|| ConversionError::UnsupportedCurrency(code.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn money(code: &str, units: i64, cents: i32) -> Money {
        Money::new(code, units, cents * 10_000_000)
    }

    #[test]
    fn conversions_are_exact_and_rounded_once() {
        assert_eq!(convert(&money("USD", 10, 85), "EUR"), Ok(money("EUR", 10, 0)));
        assert_eq!(convert(&money("USD", 16, 99), "JPY"), Ok(money("JPY", 2_556, 0)));
        assert_eq!(convert(&money("EUR", 1, 0), "KRW"), Ok(money("KRW", 1_480, 0)));
        assert_eq!(convert(&money("USD", -10, -85), "EUR"), Ok(money("EUR", -10, 0)));
    }

    #[test]
    fn the_same_currency_changes_nothing_but_fractions_of_the_smaller_unit() {
        assert_eq!(convert(&money("USD", 49, 50), "USD"), Ok(money("USD", 49, 50)));
        assert_eq!(convert(&Money::new("USD", 0, 14_999_999), "USD"), Ok(money("USD", 0, 1)));
    }

    #[test]
    fn unknown_currencies_are_named() {
        for (from, to) in [("USD", "XXX"), ("XXX", "USD")] {
            assert_eq!(convert(&money(from, 1, 0), to), Err(ConversionError::UnsupportedCurrency("XXX".into())));
        }
        assert_eq!(convert(&money("USD", 1, 0), "usd"), Err(ConversionError::UnsupportedCurrency("usd".into())));
    }

    #[test]
    fn invalid_and_too_large_amounts_are_refused() {
        assert_eq!(convert(&Money::new("USD", 1, -1), "EUR"), Err(ConversionError::OutOfRange));
        assert_eq!(convert(&Money::new("EUR", i64::MAX, 0), "KRW"), Err(ConversionError::OutOfRange));
    }

    #[test]
    fn the_currencies_of_load_generators_are_supported_and_listed_once() {
        let codes: BTreeSet<String> = supported().into_iter().map(|currency| currency.code).collect();
        assert_eq!(codes.len(), ENTRIES.len());
        for code in ["EUR", "USD", "JPY", "CAD", "GBP", "TRY"] {
            assert!(codes.contains(code), "{code}");
        }
    }
}
