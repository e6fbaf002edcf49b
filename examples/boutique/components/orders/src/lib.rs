//! The orders component: keeps the orders in the SQL store `orders`, which only this component can use.

mod rows;
mod statements;

use boutique_types::{Order, OrderError, OrderSummary, Receipt};

// Generated bindings are not documented, and not linted.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "orders-component",
        with: { "boutique:shop/types@0.1.0": boutique_types },
        generate_all,
    });
}

use bindings::isomer::sql::store;
use bindings::isomer::sql::types::{Connection, Error, Transaction, Value};

/// The name of the store, which the manifest grants to this component.
const STORE: &str = "orders";

struct Orders;

impl bindings::exports::boutique::shop::orders::Guest for Orders {
    async fn open_order(session_id: String, order: Order) -> Result<(), OrderError> {
        let connection = open().await?;
        let transaction = connection.begin().await.map_err(order_error)?;
        let values = rows::order_values(session_id, &order);
        transaction.execute(statements::INSERT_ORDER.into(), values).await.map_err(order_error)?;
        for (position, line) in order.lines.iter().enumerate() {
            let values = rows::line_values(&order.id, position, line);
            transaction.execute(statements::INSERT_LINE.into(), values).await.map_err(order_error)?;
        }
        Transaction::commit(transaction).await.map_err(order_error)
    }

    async fn complete_order(id: String, receipt: Receipt, tracking_id: String) -> Result<(), OrderError> {
        change_one(statements::COMPLETE_ORDER, rows::receipt_values(id, &receipt, tracking_id)).await
    }

    async fn cancel_order(id: String) -> Result<(), OrderError> {
        change_one(statements::CANCEL_ORDER, vec![Value::Text(id)]).await
    }

    async fn get_order(session_id: String, id: String) -> Result<Option<Order>, OrderError> {
        let connection = open().await?;
        let values = vec![Value::Text(id.clone()), Value::Text(session_id)];
        let found = connection.query(statements::SELECT_ORDER.into(), values).await.map_err(order_error)?;
        let Some(row) = found.rows.into_iter().next() else { return Ok(None) };
        let lines =
            connection.query(statements::SELECT_LINES.into(), vec![Value::Text(id)]).await.map_err(order_error)?;
        rows::order(row, lines.rows).map(Some)
    }

    async fn list_orders(session_id: String, limit: u32) -> Result<Vec<OrderSummary>, OrderError> {
        let values = vec![Value::Text(session_id), Value::Integer(limit.into())];
        let found = open().await?.query(statements::LIST_ORDERS.into(), values).await.map_err(order_error)?;
        found.rows.into_iter().map(rows::summary).collect()
    }
}

async fn open() -> Result<Connection, OrderError> {
    store::open(STORE.into()).await.map_err(order_error)
}

/// Runs a statement that changes one order. Fails if the statement changes no order.
async fn change_one(statement: &str, values: Vec<Value>) -> Result<(), OrderError> {
    match open().await?.execute(statement.into(), values).await.map_err(order_error)? {
        0 => Err(OrderError::NotFound),
        _ => Ok(()),
    }
}

fn order_error(error: Error) -> OrderError {
    OrderError::Unavailable(match error {
        Error::Constraint(_) => return OrderError::Exists,
        Error::AccessDenied(reason) => format!("no access to the SQL store `{STORE}`: {reason}"),
        Error::Timeout => "a statement took too long".into(),
        Error::Overloaded => "the SQL store is overloaded".into(),
        Error::Statement(reason) | Error::Parameters(reason) | Error::TooLarge(reason) | Error::Store(reason) => reason,
    })
}

bindings::export!(Orders with_types_in bindings);
