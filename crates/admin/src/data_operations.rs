//! The table of the operations on the stores of apps and on their shapes.
//!
//! The audit log records which store was read or changed, but neither keys, values nor statements.

use http::Method;
use isomer_api::data::{SET_VALUE_BYTES_MAX, STATEMENT_BYTES_MAX};
use isomer_api::{
    ApiProblem, KvDeleteRequest, KvKeyPage, KvKeysQuery, KvSetRequest, KvValue, KvValueQuery, ProblemKind, ShapeAdvice,
    ShapeComparison, ShapeInfo, ShapeRequest, SqlChanges, SqlRows, SqlSchema, SqlStatement, StoreInfo, TokenRole,
    routes,
};
use serde_json::Value;

use crate::access_rule::AccessRule;
use crate::app_api::AppApi;
use crate::operation::{Operation, charged_json_in, json_in, json_in_only, plain};

/// The maximum size in bytes of a body that contains a statement. In JSON, a character may need six bytes.
const STATEMENT_BODY_BYTES_MAX: u64 = 6 * STATEMENT_BYTES_MAX as u64 + 1024;

/// The maximum size in bytes of a body that sets a value.
const SET_BODY_BYTES_MAX: u64 = 2 * SET_VALUE_BYTES_MAX as u64 + 8 * 1024;

/// Returns the operations of [`StoreApi`](crate::StoreApi) and [`ShapeApi`](crate::ShapeApi).
pub(crate) fn all<A: AppApi + ?Sized>() -> Vec<Operation<A>> {
    [store_operations::<A>(), change_operations::<A>(), shape_operations::<A>()].into_iter().flatten().collect()
}

fn store_operations<A: AppApi + ?Sized>() -> Vec<Operation<A>> {
    vec![
        plain::<Vec<StoreInfo>, A>(
            "stores",
            Method::GET,
            routes::STORES,
            "The key-value and SQL stores of an app, without their content",
            |api, named| Ok(api.stores(named.tenant()?, named.app()?)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Read)),
        // The key-value operations are POST requests, because proxies log paths with their queries, and keys may be private.
        json_in::<KvKeysQuery, KvKeyPage, A>(
            "kv-keys",
            Method::POST,
            routes::KV_KEYS,
            "Keys of a key-value store and the sizes of their values, ordered by the bytes of the keys",
            |api, named, query| Ok((api.kv_keys(named.tenant()?, named.app()?, named.store()?, query), Value::Null)),
        )
        .open_to(AccessRule::Data)
        .recorded(),
        json_in::<KvValueQuery, KvValue, A>(
            "kv-value",
            Method::POST,
            routes::KV_VALUE,
            "The value of a key",
            |api, named, query| {
                Ok((api.kv_value(named.tenant()?, named.app()?, named.store()?, query.key), Value::Null))
            },
        )
        .open_to(AccessRule::Data)
        .recorded(),
        plain::<SqlSchema, A>(
            "sql-schema",
            Method::GET,
            routes::SQL_SCHEMA,
            "The tables, views, indexes and triggers of an SQL store",
            |api, named| Ok(api.sql_schema(named.tenant()?, named.app()?, named.store()?)),
        )
        .open_to(AccessRule::Data)
        .recorded(),
        charged_json_in::<SqlStatement, SqlRows, A>(
            "sql-query",
            Method::POST,
            routes::SQL_QUERY,
            "Run one statement that only reads, for at most 2 seconds, without waiting for writers",
            |api, named, query| {
                check_statement(&query)?;
                Ok((api.sql_query(named.tenant()?, named.app()?, named.store()?, query), Value::Null))
            },
            |rows| rows.charge.clone(),
        )
        .open_to(AccessRule::Data)
        .at_most(STATEMENT_BODY_BYTES_MAX)
        .recorded(),
    ]
}

fn change_operations<A: AppApi + ?Sized>() -> Vec<Operation<A>> {
    vec![
        json_in_only::<KvSetRequest, A>(
            "set-kv",
            Method::POST,
            routes::KV_SET,
            "Set the value of a key; permitted only under `isomer dev`",
            |api, named, request| {
                if request.hex.len() > 2 * SET_VALUE_BYTES_MAX {
                    return Err(ApiProblem::new(ProblemKind::TooLarge, "the value has more than 64 KiB"));
                }
                Ok(api.set_kv(named.tenant()?, named.app()?, named.store()?, request))
            },
        )
        .open_to(AccessRule::Tenant(TokenRole::Admin))
        .at_most(SET_BODY_BYTES_MAX)
        .changes()
        .hides_problems(),
        json_in_only::<KvDeleteRequest, A>(
            "delete-kv",
            Method::POST,
            routes::KV_DELETE,
            "Delete a key; permitted only under `isomer dev`",
            |api, named, request| Ok(api.delete_kv(named.tenant()?, named.app()?, named.store()?, request)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Admin))
        .changes()
        .hides_problems(),
        json_in::<SqlStatement, SqlChanges, A>(
            "execute-sql",
            Method::POST,
            routes::SQL_EXECUTE,
            "Run one statement that changes the store; permitted only under `isomer dev`",
            |api, named, statement| {
                check_statement(&statement)?;
                Ok((api.execute_sql(named.tenant()?, named.app()?, named.store()?, statement), Value::Null))
            },
        )
        .open_to(AccessRule::Tenant(TokenRole::Admin))
        .at_most(STATEMENT_BODY_BYTES_MAX)
        .changes()
        .hides_problems(),
    ]
}

fn shape_operations<A: AppApi + ?Sized>() -> Vec<Operation<A>> {
    vec![
        plain::<Vec<ShapeInfo>, A>(
            "shapes",
            Method::GET,
            routes::SHAPES,
            "The shapes that the app's manifest defines, and the one in which the app runs",
            |api, named| Ok(api.shapes(named.tenant()?, named.app()?)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Read)),
        json_in::<ShapeRequest, ShapeComparison, A>(
            "compare-shape",
            Method::POST,
            routes::COMPARE_SHAPE,
            "Compare the current shape with another shape, or with groups that the manifest does not define; changes nothing",
            |api, named, shape| Ok((api.compare_shape(named.tenant()?, named.app()?, shape), Value::Null)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Read)),
        plain::<ShapeAdvice, A>(
            "advice",
            Method::GET,
            routes::ADVICE,
            "Advice about the shape of an app, from the traffic that was measured in its current shape",
            |api, named| Ok(api.advice(named.tenant()?, named.app()?)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Read)),
    ]
}

fn check_statement(statement: &SqlStatement) -> Result<(), ApiProblem> {
    if statement.statement.len() > STATEMENT_BYTES_MAX {
        return Err(ApiProblem::new(ProblemKind::TooLarge, "the statement has more than 32 KiB"));
    }
    Ok(())
}
