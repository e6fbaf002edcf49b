//! `isomer:sql`: connections and transactions as resources. Every function is `async`.
//!
//! The functions of `types` need a handle, so they grant no access by themselves, and are linked once for all
//! components. Handles are created by `store`, which is linked separately for each component.

use std::sync::Arc;

use isomer_runtime::{Guest, InterfaceOwner, Provider};
use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, ComponentType, Lift, LinkerInstance, Lower, Resource, ResourceType};

use super::{GrantTable, split};
use crate::sql::{self, SqlError, SqlStore};

/// Provides `isomer:sql/{types,store}@0.1.0`.
#[derive(Clone, Default)]
pub struct SqlProvider {
    grants: GrantTable<SqlStore>,
}

/// The host's value behind a guest's `connection` handle.
struct Connection {
    store: SqlStore,
}

/// The host's value behind a guest's `transaction` handle. Dropping it rolls the transaction back.
struct Transaction {
    transaction: sql::Transaction,
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
    /// Creates the provider from each component's stores.
    pub fn new(grants: GrantTable<SqlStore>) -> Self {
        Self { grants }
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
    /// Converts the rows just before they are copied into the guest's memory, and releases the tenant's charge for the
    /// rows.
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
        let grants = Arc::new(self.grants.of(owner)?);
        instance.func_wrap_concurrent("open", move |accessor: &Accessor<Guest>, (name,): (String,)| {
            let grants = grants.clone();
            Box::pin(async move {
                let granted =
                    accessor.with(|mut access| grants.get(access.data_mut(), "sql", "SQL store", &name).cloned());
                Ok((match granted {
                    Ok(store) => Ok(push(accessor, Connection { store })?),
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
                let store = get(accessor, &handle, |connection| connection.store.clone())?;
                Ok((store.execute(statement, own(parameters)).await.map_err(Error::from),))
            })
        },
    )?;
    instance.func_wrap_concurrent(
        "[method]connection.query",
        |accessor: &Accessor<Guest>, (handle, statement, parameters): Statement<Connection>| {
            Box::pin(async move {
                let store = get(accessor, &handle, |connection| connection.store.clone())?;
                let rows = store.query(statement, own(parameters)).await;
                Ok((rows.map(Rows::from).map_err(Error::from),))
            })
        },
    )?;
    instance.func_wrap_concurrent(
        "[method]connection.begin",
        |accessor: &Accessor<Guest>, (handle,): (Resource<Connection>,)| {
            Box::pin(async move {
                let store = get(accessor, &handle, |connection| connection.store.clone())?;
                Ok((match store.begin().await {
                    Ok(transaction) => Ok(push(accessor, Transaction { transaction })?),
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
                let transaction = get(accessor, &handle, |handle| handle.transaction.clone())?;
                Ok((transaction.execute(statement, own(parameters)).await.map_err(Error::from),))
            })
        },
    )?;
    instance.func_wrap_concurrent(
        "[method]transaction.query",
        |accessor: &Accessor<Guest>, (handle, statement, parameters): Statement<Transaction>| {
            Box::pin(async move {
                let transaction = get(accessor, &handle, |handle| handle.transaction.clone())?;
                let rows = transaction.query(statement, own(parameters)).await;
                Ok((rows.map(Rows::from).map_err(Error::from),))
            })
        },
    )?;
    for (name, commit) in [("[static]transaction.commit", true), ("[static]transaction.rollback", false)] {
        instance.func_wrap_concurrent(
            name,
            move |accessor: &Accessor<Guest>, (handle,): (Resource<Transaction>,)| {
                Box::pin(async move {
                    let handle = accessor.with(|mut store| store.data_mut().table().delete(handle))?;
                    let transaction = handle.transaction;
                    let ended = if commit { transaction.commit().await } else { transaction.rollback().await };
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

fn get<T: Send + 'static, U>(
    accessor: &Accessor<Guest>,
    handle: &Resource<T>,
    read: impl FnOnce(&T) -> U,
) -> wasmtime::Result<U> {
    accessor.with(|mut store| Ok(read(store.data_mut().table().get(handle)?)))
}

fn push<T: Send + 'static>(accessor: &Accessor<Guest>, value: T) -> wasmtime::Result<Resource<T>> {
    accessor.with(|mut store| Ok(store.data_mut().table().push(value)?))
}

fn own(parameters: Vec<Value>) -> Vec<sql::Value> {
    parameters.into_iter().map(sql::Value::from).collect()
}
