//! The interface between the admin API and any process that serves apps: the stores of an app, and its shapes.

use std::sync::Arc;

use isomer_api::{
    ApiProblem, KvDeleteRequest, KvKeyPage, KvKeysQuery, KvSetRequest, KvValue, ProblemKind, ShapeAdvice,
    ShapeComparison, ShapeInfo, ShapeRequest, SqlChanges, SqlRows, SqlSchema, SqlStatement, StoreInfo,
};
use isomer_ids::{AppName, StoreName, TenantName};

use crate::reply::AdminReply;

/// The operations on the stores of apps. Operations that change a store are refused by default: only `isomer dev`
/// permits them.
pub trait StoreApi: Send + Sync + 'static {
    /// Returns the stores of an app, sorted by kind and name.
    fn stores(self: Arc<Self>, _: TenantName, _: AppName) -> AdminReply<Vec<StoreInfo>> {
        not_provided("shows no stores")
    }
    /// Returns keys of a key-value store.
    fn kv_keys(self: Arc<Self>, _: TenantName, _: AppName, _: StoreName, _: KvKeysQuery) -> AdminReply<KvKeyPage> {
        not_provided("shows no stores")
    }
    /// Returns the value of a key.
    fn kv_value(self: Arc<Self>, _: TenantName, _: AppName, _: StoreName, _: String) -> AdminReply<KvValue> {
        not_provided("shows no stores")
    }
    /// Returns the schema of an SQL store.
    fn sql_schema(self: Arc<Self>, _: TenantName, _: AppName, _: StoreName) -> AdminReply<SqlSchema> {
        not_provided("shows no stores")
    }
    /// Runs one statement that changes nothing.
    fn sql_query(self: Arc<Self>, _: TenantName, _: AppName, _: StoreName, _: SqlStatement) -> AdminReply<SqlRows> {
        not_provided("shows no stores")
    }
    /// Sets the value of a key.
    fn set_kv(self: Arc<Self>, _: TenantName, _: AppName, _: StoreName, _: KvSetRequest) -> AdminReply<()> {
        read_only()
    }
    /// Deletes a key.
    fn delete_kv(self: Arc<Self>, _: TenantName, _: AppName, _: StoreName, _: KvDeleteRequest) -> AdminReply<()> {
        read_only()
    }
    /// Runs one statement that changes the store.
    fn execute_sql(
        self: Arc<Self>,
        _: TenantName,
        _: AppName,
        _: StoreName,
        _: SqlStatement,
    ) -> AdminReply<SqlChanges> {
        read_only()
    }
}

/// The operations that show the shapes of apps.
pub trait ShapeApi: Send + Sync + 'static {
    /// Returns the shapes that the app's manifest defines, sorted by name.
    fn shapes(self: Arc<Self>, _: TenantName, _: AppName) -> AdminReply<Vec<ShapeInfo>> {
        not_provided("shows no shapes")
    }
    /// Compares the current shape with another one.
    fn compare_shape(self: Arc<Self>, _: TenantName, _: AppName, _: ShapeRequest) -> AdminReply<ShapeComparison> {
        not_provided("shows no shapes")
    }
    /// Returns advice about the shape, from measured traffic.
    fn advice(self: Arc<Self>, _: TenantName, _: AppName) -> AdminReply<ShapeAdvice> {
        not_provided("gives no advice")
    }
}

fn not_provided<T: Send + 'static>(what: &str) -> AdminReply<T> {
    let problem = ApiProblem::new(ProblemKind::NotFound, format!("this process {what}"));
    Box::pin(std::future::ready(Err(problem)))
}

fn read_only<T: Send + 'static>() -> AdminReply<T> {
    let problem = ApiProblem::new(ProblemKind::Forbidden, "stores can be changed here only under `isomer dev`");
    Box::pin(std::future::ready(Err(problem)))
}
