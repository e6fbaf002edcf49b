//! Exact arithmetic with [`Money`], in units and nanos, and without floating point.

use std::fmt;

use crate::Money;

/// The number of nanos in one unit of a currency.
const NANOS: i128 = 1_000_000_000;

/// An error of an operation on amounts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The amounts have different currencies.
    #[error("amounts in `{0}` and `{1}` cannot be added")]
    CurrencyMismatch(String, String),
    /// `units` and `nanos` have different signs, or `nanos` is a billion or more.
    #[error("the amount `{0}` is invalid: its units and nanos have different signs, or it has too many nanos")]
    NotNormal(String),
    /// The result is larger than the maximum amount.
    #[error("the amount is too large")]
    TooLarge,
}

impl Money {
    /// Creates an amount of `units` and `nanos`, which must have the same sign.
    pub fn new(currency_code: impl Into<String>, units: i64, nanos: i32) -> Self {
        Self { currency_code: currency_code.into(), units, nanos }
    }

    /// Returns an amount of zero in the given currency.
    pub fn zero(currency_code: impl Into<String>) -> Self {
        Self::new(currency_code, 0, 0)
    }

    /// Creates an amount from its total in nanos.
    ///
    /// # Errors
    /// [`MoneyError::TooLarge`] if the number of units does not fit into `i64`.
    pub fn from_total_nanos(currency_code: impl Into<String>, total: i128) -> Result<Self, MoneyError> {
        let units = i64::try_from(total / NANOS).map_err(|_| MoneyError::TooLarge)?;
        let nanos = i32::try_from(total % NANOS).expect("a remainder of a billion fits");
        Ok(Self::new(currency_code, units, nanos))
    }

    /// Returns the total of the amount in nanos.
    ///
    /// # Errors
    /// [`MoneyError::NotNormal`] if `units` and `nanos` have different signs, or `nanos` is a billion or more.
    pub fn total_nanos(&self) -> Result<i128, MoneyError> {
        let (units, nanos) = (i128::from(self.units), i128::from(self.nanos));
        if nanos.abs() >= NANOS || units.signum() * nanos.signum() < 0 {
            return Err(MoneyError::NotNormal(self.to_string()));
        }
        Ok(units * NANOS + nanos)
    }

    /// Returns whether the amount is more than zero.
    pub fn is_positive(&self) -> bool {
        self.total_nanos().is_ok_and(|total| total > 0)
    }

    /// Returns the sum of two amounts of the same currency.
    ///
    /// # Errors
    /// If the currencies differ, if an amount is invalid, or if the sum is too large.
    pub fn plus(&self, other: &Self) -> Result<Self, MoneyError> {
        if self.currency_code != other.currency_code {
            return Err(MoneyError::CurrencyMismatch(self.currency_code.clone(), other.currency_code.clone()));
        }
        Self::from_total_nanos(&*self.currency_code, self.total_nanos()? + other.total_nanos()?)
    }

    /// Returns the amount multiplied by `count`.
    ///
    /// # Errors
    /// If the amount is invalid, or the product is too large.
    pub fn times(&self, count: u32) -> Result<Self, MoneyError> {
        Self::from_total_nanos(&*self.currency_code, self.total_nanos()? * i128::from(count))
    }

    /// Returns the amount rounded to `digits` decimal digits, half to even.
    ///
    /// # Errors
    /// If the amount is invalid, or the result is too large.
    pub fn rounded(&self, digits: u8) -> Result<Self, MoneyError> {
        self.converted(&self.currency_code, 1, 1, digits)
    }

    /// Returns the amount in the currency `to`: multiplied by `numerator / denominator`, and rounded once to `digits`
    /// decimal digits, half to even. The denominator must be positive.
    ///
    /// # Errors
    /// If the amount is invalid, or the result is too large.
    pub fn converted(&self, to: &str, numerator: i64, denominator: i64, digits: u8) -> Result<Self, MoneyError> {
        let step = 10_i128.pow(9_u32.saturating_sub(u32::from(digits)));
        let scaled = self.total_nanos()?.checked_mul(i128::from(numerator)).ok_or(MoneyError::TooLarge)?;
        let steps = divide_half_even(scaled, i128::from(denominator) * step);
        Self::from_total_nanos(to, steps.checked_mul(step).ok_or(MoneyError::TooLarge)?)
    }

    /// Renders the amount with a currency symbol and `digits` decimal digits: `€1,234.50`.
    pub fn display(&self, symbol: &str, digits: u8) -> String {
        let rounded = self.rounded(digits).unwrap_or_else(|_| self.clone());
        let sign = if rounded.units < 0 || rounded.nanos < 0 { "−" } else { "" };
        let fraction = match digits {
            0 => String::new(),
            digits => format!(".{}", &format!("{:09}", rounded.nanos.unsigned_abs())[..usize::from(digits.min(9))]),
        };
        let space = if symbol.chars().last().is_some_and(char::is_alphabetic) { "\u{a0}" } else { "" };
        format!("{sign}{symbol}{space}{}{fraction}", grouped(rounded.units.unsigned_abs()))
    }
}

/// Renders the amount for logs, with its currency code: `12.345 EUR`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.units < 0 || self.nanos < 0 { "-" } else { "" };
        let fraction = format!("{:09}", self.nanos.unsigned_abs());
        let fraction = fraction.trim_end_matches('0');
        let fraction = if fraction.len() < 2 { &format!("{fraction:0<2}") } else { fraction };
        write!(f, "{sign}{}.{fraction} {}", self.units.unsigned_abs(), self.currency_code)
    }
}

/// Returns `value / step` rounded to the nearest integer, half to even. `step` must be positive.
fn divide_half_even(value: i128, step: i128) -> i128 {
    let (quotient, remainder) = (value.div_euclid(step), value.rem_euclid(step));
    match (remainder * 2).cmp(&step) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient.rem_euclid(2),
    }
}

/// Renders a number with its digits separated into groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(units: i64, nanos: i32) -> Money {
        Money::new("USD", units, nanos)
    }

    #[test]
    fn sums_carry_nanos_into_units() {
        assert_eq!(usd(1, 600_000_000).plus(&usd(2, 500_000_000)), Ok(usd(4, 100_000_000)));
        assert_eq!(usd(1, 0).plus(&usd(-1, -1)), Ok(usd(0, -1)));
    }

    #[test]
    fn amounts_in_different_currencies_cannot_be_added() {
        assert_eq!(
            usd(1, 0).plus(&Money::new("EUR", 1, 0)),
            Err(MoneyError::CurrencyMismatch("USD".into(), "EUR".into()))
        );
    }

    #[test]
    fn products_are_exact_and_bounded() {
        assert_eq!(usd(0, 333_333_333).times(3), Ok(usd(0, 999_999_999)));
        assert_eq!(usd(19, 990_000_000).times(10), Ok(usd(199, 900_000_000)));
        assert_eq!(usd(i64::MAX, 0).times(2), Err(MoneyError::TooLarge));
        assert_eq!(usd(i64::MAX, 0).plus(&usd(1, 0)), Err(MoneyError::TooLarge));
    }

    #[test]
    fn invalid_amounts_are_refused() {
        for bad in [usd(1, -1), usd(-1, 1), usd(0, 1_000_000_000), usd(0, i32::MIN)] {
            assert!(matches!(bad.total_nanos(), Err(MoneyError::NotNormal(_))), "{bad:?}");
            assert!(!bad.is_positive());
        }
        assert!(usd(0, 1).is_positive());
        assert!(!usd(0, 0).is_positive());
    }

    #[test]
    fn halves_round_to_the_even_neighbour() {
        assert_eq!(usd(0, 125_000_000).rounded(2), Ok(usd(0, 120_000_000)));
        assert_eq!(usd(0, 135_000_000).rounded(2), Ok(usd(0, 140_000_000)));
        assert_eq!(usd(0, 125_000_001).rounded(2), Ok(usd(0, 130_000_000)));
        assert_eq!(usd(0, -125_000_000).rounded(2), Ok(usd(0, -120_000_000)));
        assert_eq!(usd(2, 500_000_000).rounded(0), Ok(usd(2, 0)));
        assert_eq!(usd(3, 500_000_000).rounded(0), Ok(usd(4, 0)));
        assert_eq!(usd(1, 123_456_789).rounded(9), Ok(usd(1, 123_456_789)));
        assert_eq!(usd(1, 123_456_789).rounded(200), Ok(usd(1, 123_456_789)));
    }

    #[test]
    fn displayed_amounts_have_a_symbol_and_groups_of_digits() {
        assert_eq!(usd(1_234_567, 500_000_000).display("$", 2), "$1,234,567.50");
        assert_eq!(Money::new("JPY", 999, 500_000_000).display("¥", 0), "¥1,000");
        assert_eq!(Money::new("CHF", 12, 0).display("CHF", 2), "CHF\u{a0}12.00");
        assert_eq!(usd(0, -50_000_000).display("$", 2), "−$0.05");
    }

    #[test]
    fn amounts_in_logs_have_the_currency_code() {
        assert_eq!(usd(12, 345_000_000).to_string(), "12.345 USD");
        assert_eq!(usd(12, 0).to_string(), "12.00 USD");
        assert_eq!(usd(0, -500_000_000).to_string(), "-0.50 USD");
        assert_eq!(usd(i64::MIN, 0).to_string(), "-9223372036854775808.00 USD");
    }
}
