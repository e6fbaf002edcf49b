//! Runs SQL through `isomer:sql`. The query's `store` (default `default`) names the store. The statement is the query's
//! `sql`, or the request's body. The query's `p` has the parameters, separated by `|` (`p=i:5|t:text`). Values are
//! written `n:`, `i:5`, `r:1.5`, `t:text`, `b:0aff`.
//!
//! | path of the request | operation | response |
//! | --- | --- | --- |
//! | `/execute` | executes the statement | `changed=N` |
//! | `/query` | runs the query | the column names, then a line for each row, with values separated by tabs |
//! | `/transaction?end=E` | runs each line of the body as a statement, or as a query if the line begins with `?`; then ends the transaction by E: `commit` (the default), `rollback`, `drop` (of the handle) or `trap` | the responses of the lines, then E |
//! | `/check/insert/TABLE/COLUMN` | inserts a row; a path for health checks | the number of rows |
//! | `/check/read/TABLE/COLUMN` | reads; a path for health checks | the number of rows |
//! | `/both` | begins two transactions on two connections at the same time, to see whether the second one waits or fails | `ok`, or the error |
//!
//! Errors: 403 for `access-denied`, 409 `constraint`, 503 `overloaded`, 504 `timeout`, 413 `too-large`, 400
//! `statement` and `parameters`, 500 `store`; the body is the error's name and text.

use guest_support::{HandlerResult, body_bytes, path, query, respond};
use wasip3::http::types::Request;

wit_bindgen::generate!({
    path: ["../../crates/wit/wit/isomer-sql"],
    world: "isomer:sql/imports",
    generate_all,
});

use isomer::sql::{
    store,
    types::{Connection, Error, Rows, Transaction, Value},
};

wasip3::http::service::export!(SqlProbe);

struct SqlProbe;

impl wasip3::exports::http::handler::Guest for SqlProbe {
    async fn handle(request: Request) -> HandlerResult {
        match probe(request).await {
            Ok(text) => respond(200, text),
            Err(error) => {
                let (status, name, text) = describe(error);
                respond(status, format!("{name}: {text}\n"))
            }
        }
    }
}

fn describe(error: Error) -> (u16, &'static str, String) {
    match error {
        Error::AccessDenied(text) => (403, "access-denied", text),
        Error::Statement(text) => (400, "statement", text),
        Error::Parameters(text) => (400, "parameters", text),
        Error::Constraint(text) => (409, "constraint", text),
        Error::Timeout => (504, "timeout", String::new()),
        Error::TooLarge(text) => (413, "too-large", text),
        Error::Overloaded => (503, "overloaded", String::new()),
        Error::Store(text) => (500, "store", text),
    }
}

async fn probe(request: Request) -> Result<String, Error> {
    let name = query(&request, "store").unwrap_or_else(|| "default".to_owned());
    let parameters = query(&request, "p").map(|text| text.split('|').map(parse).collect()).unwrap_or_default();
    let end = query(&request, "end").unwrap_or_else(|| "commit".to_owned());
    let path = path(&request);
    let connection = store::open(name.clone()).await?;
    let text = match query(&request, "sql") {
        Some(text) => text,
        None => String::from_utf8_lossy(&body_bytes(request).await).into_owned(),
    };
    if let Some(check) = path.strip_prefix("/check/") {
        return self::check(&connection, check).await;
    }
    match path.as_str() {
        "/execute" => Ok(format!("changed={}\n", connection.execute(text, parameters).await?)),
        "/query" => Ok(table(connection.query(text, parameters).await?)),
        "/transaction" => transaction(&connection, &text, &end).await,
        "/both" => {
            let first = connection.begin().await?;
            let other = store::open(name).await?;
            let second = other.begin().await;
            Transaction::rollback(first).await?;
            drop(second?);
            Ok("ok\n".to_owned())
        }
        _ => Ok("no such path\n".to_owned()),
    }
}

async fn check(connection: &Connection, what: &str) -> Result<String, Error> {
    let [kind, table, column] = what.split('/').collect::<Vec<_>>()[..] else {
        return Err(Error::Statement("no such check".to_owned()));
    };
    if kind == "insert" {
        connection.execute(format!("INSERT INTO {table} ({column}) VALUES ('checked')"), Vec::new()).await?;
    }
    Ok(self::table(connection.query(format!("SELECT count({column}) FROM {table}"), Vec::new()).await?))
}

async fn transaction(connection: &Connection, statements: &str, end: &str) -> Result<String, Error> {
    let transaction = connection.begin().await?;
    let mut text = String::new();
    for statement in statements.lines() {
        match statement.strip_prefix('?') {
            Some(query) => text += &table(transaction.query(query.to_owned(), Vec::new()).await?),
            None => text += &format!("changed={}\n", transaction.execute(statement.to_owned(), Vec::new()).await?),
        }
    }
    match end {
        "rollback" => Transaction::rollback(transaction).await?,
        "drop" => drop(transaction),
        "trap" => core::arch::wasm32::unreachable(),
        _ => Transaction::commit(transaction).await?,
    }
    Ok(text + end + "\n")
}

fn table(rows: Rows) -> String {
    let line = |cells: Vec<String>| cells.join("\t") + "\n";
    let body = rows.rows.into_iter().map(|row| line(row.into_iter().map(show).collect()));
    line(rows.columns) + &body.collect::<String>()
}

fn show(value: Value) -> String {
    match value {
        Value::Null => "n:".to_owned(),
        Value::Integer(number) => format!("i:{number}"),
        Value::Real(number) => format!("r:{number:?}"),
        Value::Text(text) => format!("t:{text}"),
        Value::Blob(bytes) => bytes.iter().fold("b:".to_owned(), |text, byte| text + &format!("{byte:02x}")),
    }
}

fn parse(text: &str) -> Value {
    match text.split_once(':').unwrap_or(("t", text)) {
        ("n", _) => Value::Null,
        ("i", number) => Value::Integer(number.parse().expect("an integer")),
        ("r", number) => Value::Real(number.parse().expect("a real")),
        ("b", digits) => {
            let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
            Value::Blob((0..digits.len()).step_by(2).map(byte).collect())
        }
        (_, text) => Value::Text(text.to_owned()),
    }
}
