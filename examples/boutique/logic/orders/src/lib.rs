//! Turns a cart into an order: the order's ID, prices and confirmation mail.

mod id;
mod mail;

use boutique_types::{Address, Money, MoneyError, Order, OrderLine, OrderStatus};

pub use id::order_id;
pub use mail::confirmation;

/// Creates an unpaid order. All amounts must have the same currency.
///
/// # Errors
/// If the amounts have different currencies, or the total is too large.
pub fn pending(
    id: String,
    placed_at: u64,
    email: String,
    address: Address,
    lines: Vec<OrderLine>,
    shipping_cost: Money,
) -> Result<Order, MoneyError> {
    let total = total(&lines, &shipping_cost)?;
    Ok(Order {
        id,
        placed_at,
        status: OrderStatus::Pending,
        email,
        address,
        lines,
        shipping_cost,
        total,
        receipt: None,
        tracking_id: None,
    })
}

/// Returns the sum of all lines and the shipping cost.
///
/// # Errors
/// If the amounts have different currencies, or the total is too large.
pub fn total(lines: &[OrderLine], shipping_cost: &Money) -> Result<Money, MoneyError> {
    lines.iter().try_fold(shipping_cost.clone(), |total, line| total.plus(&line.unit_price.times(line.quantity)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(units: i64, nanos: i32, quantity: u32) -> OrderLine {
        OrderLine {
            product_id: "A".into(),
            name: "A thing".into(),
            quantity,
            unit_price: Money::new("USD", units, nanos),
        }
    }

    #[test]
    fn the_total_includes_the_lines_and_the_shipping_cost() {
        let lines = [line(16, 990_000_000, 3), line(24, 0, 1)];
        assert_eq!(total(&lines, &Money::new("USD", 4, 900_000_000)), Ok(Money::new("USD", 79, 870_000_000)));
        assert_eq!(total(&[], &Money::zero("USD")), Ok(Money::zero("USD")));
    }

    #[test]
    fn different_currencies_and_too_large_totals_are_errors() {
        assert!(matches!(total(&[line(1, 0, 1)], &Money::zero("EUR")), Err(MoneyError::CurrencyMismatch(..))));
        assert_eq!(total(&[line(i64::MAX, 0, 1), line(1, 0, 1)], &Money::zero("USD")), Err(MoneyError::TooLarge));
    }
}
