//! Converts between orders and rows of the SQL store.

use boutique_types::{
    Address, CardBrand, CardSummary, Money, Order, OrderError, OrderLine, OrderStatus, OrderSummary, Receipt,
};

use crate::bindings::isomer::sql::types::Value;

/// The names under which card brands are stored.
const BRANDS: [(CardBrand, &str); 9] = [
    (CardBrand::Visa, "visa"),
    (CardBrand::Mastercard, "mastercard"),
    (CardBrand::AmericanExpress, "american-express"),
    (CardBrand::Discover, "discover"),
    (CardBrand::Jcb, "jcb"),
    (CardBrand::DinersClub, "diners-club"),
    (CardBrand::Maestro, "maestro"),
    (CardBrand::UnionPay, "union-pay"),
    (CardBrand::Unknown, "unknown"),
];

/// Returns the parameters of `INSERT_ORDER`.
pub(crate) fn order_values(session_id: String, order: &Order) -> Vec<Value> {
    let address = &order.address;
    vec![
        text(&order.id),
        Value::Text(session_id),
        integer(order.placed_at),
        text(&order.email),
        text(&address.street),
        text(&address.city),
        address.state.as_deref().map_or(Value::Null, text),
        text(&address.zip_code),
        text(&address.country),
        text(&order.total.currency_code),
        Value::Integer(order.shipping_cost.units),
        Value::Integer(order.shipping_cost.nanos.into()),
        Value::Integer(order.total.units),
        Value::Integer(order.total.nanos.into()),
    ]
}

/// Returns the parameters of `INSERT_LINE`.
pub(crate) fn line_values(order_id: &str, position: usize, line: &OrderLine) -> Vec<Value> {
    vec![
        text(order_id),
        integer(position as u64),
        text(&line.product_id),
        text(&line.name),
        Value::Integer(line.quantity.into()),
        Value::Integer(line.unit_price.units),
        Value::Integer(line.unit_price.nanos.into()),
    ]
}

/// Returns the parameters of `COMPLETE_ORDER`.
pub(crate) fn receipt_values(id: String, receipt: &Receipt, tracking_id: String) -> Vec<Value> {
    let brand = BRANDS.iter().find(|(brand, _)| *brand == receipt.card.brand).map_or("unknown", |(_, name)| name);
    vec![
        Value::Text(id),
        text(&receipt.transaction_id),
        text(brand),
        text(&receipt.card.last_four),
        Value::Text(tracking_id),
    ]
}

/// Creates an order from a row of `SELECT_ORDER` and the rows of `SELECT_LINES`.
pub(crate) fn order(row: Vec<Value>, lines: Vec<Vec<Value>>) -> Result<Order, OrderError> {
    let mut row = Row::new(row);
    let (id, placed_at, status, email) = (row.text()?, row.unsigned()?, row.status()?, row.text()?);
    let address = Address {
        street: row.text()?,
        city: row.text()?,
        state: row.optional_text()?,
        zip_code: row.text()?,
        country: row.text()?,
    };
    let currency_code = row.text()?;
    let (shipping_cost, total) = (row.money(&currency_code)?, row.money(&currency_code)?);
    let (transaction_id, brand, last_four) = (row.optional_text()?, row.optional_text()?, row.optional_text()?);
    let receipt = match (transaction_id, brand, last_four) {
        (Some(transaction_id), Some(brand), Some(last_four)) => {
            let brand = BRANDS.iter().find(|(_, name)| *name == brand).map_or(CardBrand::Unknown, |(brand, _)| *brand);
            Some(Receipt { transaction_id, card: CardSummary { brand, last_four } })
        }
        _ => None,
    };
    let tracking_id = row.optional_text()?;
    let lines = lines.into_iter().map(|values| line(values, &currency_code)).collect::<Result<_, _>>()?;
    Ok(Order { id, placed_at, status, email, address, lines, shipping_cost, total, receipt, tracking_id })
}

/// Creates the summary of an order from a row of `LIST_ORDERS`.
pub(crate) fn summary(row: Vec<Value>) -> Result<OrderSummary, OrderError> {
    let mut row = Row::new(row);
    let (id, placed_at, status) = (row.text()?, row.unsigned()?, row.status()?);
    let currency_code = row.text()?;
    let total = row.money(&currency_code)?;
    Ok(OrderSummary { id, placed_at, status, pieces: row.small()?, total })
}

fn line(values: Vec<Value>, currency_code: &str) -> Result<OrderLine, OrderError> {
    let mut row = Row::new(values);
    Ok(OrderLine {
        product_id: row.text()?,
        name: row.text()?,
        quantity: row.small()?,
        unit_price: row.money(currency_code)?,
    })
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// The conversion never overflows, because seconds and positions are far below 2⁶³.
fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Reads a row's values one after another.
struct Row(std::vec::IntoIter<Value>);

impl Row {
    fn new(values: Vec<Value>) -> Self {
        Self(values.into_iter())
    }

    fn text(&mut self) -> Result<String, OrderError> {
        self.optional_text()?.ok_or_else(unreadable)
    }

    fn optional_text(&mut self) -> Result<Option<String>, OrderError> {
        match self.0.next() {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            _ => Err(unreadable()),
        }
    }

    fn integer(&mut self) -> Result<i64, OrderError> {
        match self.0.next() {
            Some(Value::Integer(number)) => Ok(number),
            _ => Err(unreadable()),
        }
    }

    fn unsigned(&mut self) -> Result<u64, OrderError> {
        self.integer()?.try_into().map_err(|_| unreadable())
    }

    fn small(&mut self) -> Result<u32, OrderError> {
        self.integer()?.try_into().map_err(|_| unreadable())
    }

    fn money(&mut self, currency_code: &str) -> Result<Money, OrderError> {
        let (units, nanos) = (self.integer()?, self.integer()?);
        Ok(Money::new(currency_code, units, nanos.try_into().map_err(|_| unreadable())?))
    }

    fn status(&mut self) -> Result<OrderStatus, OrderError> {
        match self.text()?.as_str() {
            "pending" => Ok(OrderStatus::Pending),
            "paid" => Ok(OrderStatus::Paid),
            "cancelled" => Ok(OrderStatus::Cancelled),
            _ => Err(unreadable()),
        }
    }
}

fn unreadable() -> OrderError {
    OrderError::Unavailable("a stored order cannot be read".into())
}
