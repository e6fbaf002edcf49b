//! `isomer:sql`: connections and transactions as resources. Every function is `async`.
//!
//! The functions of `types` need a handle, so they grant no access by themselves, and are linked once for all
//! components. Handles are created by `store`, which is linked separately for each component.

use std::sync::Arc;

use isomer_runtime::{Guest, InterfaceOwner, Provider};
use isomer_telemetry::metrics::SeriesGroup;
use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, ComponentType, Lift, LinkerInstance, Lower, Resource, ResourceType};

use super::spans::{Operation, OperationSpan, StoreSubject};
use super::{GrantTable, StoreGrant, StoreGrants, split};
use crate::sql::{self, SqlError, SqlStore};

static EXECUTE: OperationSpan = OperationSpan::new("sql execute", "sqlite", "execute");
static QUERY: OperationSpan = OperationSpan::new("sql query", "sqlite", "query");
static BEGIN: OperationSpan = OperationSpan::new("sql begin", "sqlite", "begin");
static COMMIT: OperationSpan = OperationSpan::new("sql commit", "sqlite", "commit");
static ROLLBACK: OperationSpan = OperationSpan::new("sql rollback", "sqlite", "rollback");

static OPERATIONS: [&OperationSpan; 5] = [&EXECUTE, &QUERY, &BEGIN, &COMMIT, &ROLLBACK];

/// Provides `isomer:sql/{types,store}@0.1.0`.
#[derive(Clone, Default)]
pub struct SqlProvider {
    grants: GrantTable<SqlStore>,
    series: Arc<SeriesGroup>,
}

/// The host's value behind a guest's `connection` handle.
#[derive(Clone)]
struct Connection {
    store: SqlStore,
    /// Describes the store in spans and metrics.
    subject: Arc<StoreSubject>,
}

/// The host's value behind a guest's `transaction` handle. Dropping it rolls the transaction back.
#[derive(Clone)]
struct Transaction {
    transaction: sql::Transaction,
    /// Describes the store in spans and metrics.
    subject: Arc<StoreSubject>,
}

/// The WIT type `isomer:sql/types.value`.
#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum Value {
    #[component(name = "null")]
    Null,
    #[component(name = "integer")]
    Integer(i64),
    #[component(name = "real")]
    Real(f64),
    #[component(name = "text")]
    Text(String),
    #[component(name = "blob")]
    Blob(Vec<u8>),
}

/// The WIT type `isomer:sql/types.rows`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Rows {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

/// The WIT type `isomer:sql/types.error`.
#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "access-denied")]
    AccessDenied(String),
    #[component(name = "statement")]
    Statement(String),
    #[component(name = "parameters")]
    Parameters(String),
    #[component(name = "constraint")]
    Constraint(String),
    #[component(name = "timeout")]
    Timeout,
    #[component(name = "too-large")]
    TooLarge(String),
    #[component(name = "overloaded")]
    Overloaded,
    #[component(name = "store")]
    Store(String),
}

impl SqlProvider {
    /// Creates the provider from each component's stores. Operations are measured in `series`.
    pub fn new(grants: GrantTable<SqlStore>, series: Arc<SeriesGroup>) -> Self {
        Self { grants, series }
    }
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Statement(text) => Self::Statement(text),
            SqlError::Parameters(text) => Self::Parameters(text),
            SqlError::Constraint(text) => Self::Constraint(text),
            SqlError::Timeout => Self::Timeout,
            SqlError::TooLarge(text) => Self::TooLarge(text),
            SqlError::Overloaded => Self::Overloaded,
            SqlError::Quota { .. } | SqlError::DiskFull | SqlError::Memory { .. } | SqlError::Cpu => {
                Self::Store(error.to_string())
            }
            SqlError::Store(text) => Self::Store(text),
        }
    }
}

impl From<Value> for sql::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Integer(integer) => Self::Integer(integer),
            Value::Real(real) => Self::Real(real),
            Value::Text(text) => Self::Text(text),
            Value::Blob(bytes) => Self::Blob(bytes),
        }
    }
}

impl From<sql::Value> for Value {
    fn from(value: sql::Value) -> Self {
        match value {
            sql::Value::Null => Self::Null,
            sql::Value::Integer(integer) => Self::Integer(integer),
            sql::Value::Real(real) => Self::Real(real),
            sql::Value::Text(text) => Self::Text(text),
            sql::Value::Blob(bytes) => Self::Blob(bytes),
        }
    }
}

impl From<sql::Rows> for Rows {
    /// Converts the rows just before they are copied into the guest's memory. Then releases the memory that was charged
    /// to the tenant for the rows.
    fn from(rows: sql::Rows) -> Self {
        let sql::Rows { columns, rows, charge: _released_at_the_end } = rows;
        let values = rows.into_iter().map(|row| row.into_iter().map(Value::from).collect());
        Self { columns, rows: values.collect() }
    }
}

impl Provider for SqlProvider {
    fn provides(&self, interface: &str) -> bool {
        matches!(split(interface), ("isomer:sql/types" | "isomer:sql/store", "0.1.0"))
    }

    fn link(
        &self,
        instance: &mut LinkerInstance<'_, Guest>,
        interface: &str,
        owner: &InterfaceOwner,
    ) -> wasmtime::Result<()> {
        if split(interface).0 == "isomer:sql/types" {
            link_connection(instance)?;
            return link_transaction(instance);
        }
        let grants = Arc::new(StoreGrants::new(self.grants.of(owner)?, &self.series, &OPERATIONS));
        instance.func_wrap_concurrent("open", move |accessor: &Accessor<Guest>, (name,): (String,)| {
            let grants = grants.clone();
            Box::pin(async move {
                let granted = accessor.with(|mut access| grants.get(access.data_mut(), "sql", "SQL store", &name));
                Ok((match granted {
                    Ok(StoreGrant { store, subject }) => Ok(push(accessor, Connection { store, subject })?),
                    Err(why) => Err(Error::AccessDenied(why)),
                },))
            })
        })
    }
}

type Statement<T> = (Resource<T>, String, Vec<Value>);

fn link_connection(instance: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    link_drop::<Connection>(instance, "connection")?;
    instance.func_wrap_concurrent(
        "[method]connection.execute",
        |accessor: &Accessor<Guest>, (handle, statement, parameters): Statement<Connection>| {
            Box::pin(async move {
                let (Connection { store, .. }, mut operation) = begin(accessor, &handle, &EXECUTE)?;
                operation.set_query(&statement);
                let executed = operation.run(store.execute(statement, own(parameters))).await;
                Ok((executed.map_err(Error::from),))
            })
        },
    )?;
    instance.func_wrap_concurrent(
        "[method]connection.query",
        |accessor: &Accessor<Guest>, (handle, statement, parameters): Statement<Connection>| {
            Box::pin(async move {
                let (Connection { store, .. }, mut operation) = begin(accessor, &handle, &QUERY)?;
                operation.set_query(&statement);
                let rows = operation.run_query(store.query(statement, own(parameters)), |rows| rows.rows.len()).await;
                Ok((rows.map(Rows::from).map_err(Error::from),))
            })
        },
    )?;
    instance.func_wrap_concurrent(
        "[method]connection.begin",
        |accessor: &Accessor<Guest>, (handle,): (Resource<Connection>,)| {
            Box::pin(async move {
                let (Connection { store, subject }, operation) = begin(accessor, &handle, &BEGIN)?;
                Ok((match operation.run(store.begin()).await {
                    Ok(transaction) => Ok(push(accessor, Transaction { transaction, subject })?),
                    Err(error) => Err(Error::from(error)),
                },))
            })
        },
    )
}

fn link_transaction(instance: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    link_drop::<Transaction>(instance, "transaction")?;
    instance.func_wrap_concurrent(
        "[method]transaction.execute",
        |accessor: &Accessor<Guest>, (handle, statement, parameters): Statement<Transaction>| {
            Box::pin(async move {
                let (Transaction { transaction, .. }, mut operation) = begin(accessor, &handle, &EXECUTE)?;
                operation.set_query(&statement);
                let executed = operation.run(transaction.execute(statement, own(parameters))).await;
                Ok((executed.map_err(Error::from),))
            })
        },
    )?;
    instance.func_wrap_concurrent(
        "[method]transaction.query",
        |accessor: &Accessor<Guest>, (handle, statement, parameters): Statement<Transaction>| {
            Box::pin(async move {
                let (Transaction { transaction, .. }, mut operation) = begin(accessor, &handle, &QUERY)?;
                operation.set_query(&statement);
                let rows =
                    operation.run_query(transaction.query(statement, own(parameters)), |rows| rows.rows.len()).await;
                Ok((rows.map(Rows::from).map_err(Error::from),))
            })
        },
    )?;
    for (name, commit) in [("[static]transaction.commit", true), ("[static]transaction.rollback", false)] {
        instance.func_wrap_concurrent(
            name,
            move |accessor: &Accessor<Guest>, (handle,): (Resource<Transaction>,)| {
                Box::pin(async move {
                    let (_, operation) = begin(accessor, &handle, if commit { &COMMIT } else { &ROLLBACK })?;
                    let Transaction { transaction, .. } =
                        accessor.with(|mut store| store.data_mut().table().delete(handle))?;
                    let ended = match commit {
                        true => operation.run(transaction.commit()).await,
                        false => operation.run(transaction.rollback()).await,
                    };
                    Ok((ended.map_err(Error::from),))
                })
            },
        )?;
    }
    Ok(())
}

fn link_drop<T: Send + 'static>(instance: &mut LinkerInstance<'_, Guest>, name: &str) -> wasmtime::Result<()> {
    instance.resource(name, ResourceType::host::<T>(), |mut store: StoreContextMut<'_, Guest>, rep| {
        store.data_mut().table().delete(Resource::<T>::new_own(rep))?;
        Ok(())
    })
}

/// A handle of a guest to an SQL store.
trait StoreHandle: Clone + Send + 'static {
    /// Returns the description of the store for spans and metrics.
    fn subject(&self) -> &Arc<StoreSubject>;
}

impl StoreHandle for Connection {
    fn subject(&self) -> &Arc<StoreSubject> {
        &self.subject
    }
}

impl StoreHandle for Transaction {
    fn subject(&self) -> &Arc<StoreSubject> {
        &self.subject
    }
}

/// Starts an operation through `handle`. Clones the handle, so that the guest's state is not borrowed during the
/// operation.
fn begin<T: StoreHandle>(
    accessor: &Accessor<Guest>,
    handle: &Resource<T>,
    span: &OperationSpan,
) -> wasmtime::Result<(T, Operation)> {
    accessor.with(|mut store| {
        let handle = store.data_mut().table().get(handle)?.clone();
        let operation = Operation::begin(&mut store, span, handle.subject());
        Ok((handle, operation))
    })
}

fn push<T: Send + 'static>(accessor: &Accessor<Guest>, value: T) -> wasmtime::Result<Resource<T>> {
    accessor.with(|mut store| Ok(store.data_mut().table().push(value)?))
}

fn own(parameters: Vec<Value>) -> Vec<sql::Value> {
    parameters.into_iter().map(sql::Value::from).collect()
}
