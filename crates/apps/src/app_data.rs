//! The stores of an app as the admin API shows them: what exists, keys and values, and statements that only read.
//!
//! Reading is charged to the app's tenant, and uses the open store if the app is in memory. A store that does not exist
//! is never created.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use isomer_api::data::{CELL_BYTES_MAX, KEYS_DEFAULT, KEYS_MAX, VALUE_BYTES_MAX};
use isomer_api::{
    ApiProblem, KvKey, KvKeyPage, KvKeysQuery, KvSetRequest, KvValue, ProblemKind, Quota, ResponseCharge, SqlCell,
    SqlChanges, SqlColumn, SqlObject, SqlRows, SqlSchema, SqlStatement, StoreInfo, StoreKind,
};
use isomer_capabilities::kv::{KvError, KvStore};
use isomer_capabilities::sql::{InspectedValue, Inspection, InspectionLimits, SqlError, SqlOpenError, SqlStore};
use isomer_capabilities::{AppGrants, AppResources, Engines};
use isomer_ids::StoreName;

/// The maximum number of rows of a result.
const ROWS_MAX: usize = 1000;

/// The maximum size of a result in bytes, as JSON.
const RESULT_BYTES_MAX: usize = 1 << 20;

/// The time limit of a statement.
const STATEMENT_TIME: Duration = Duration::from_secs(2);

/// The maximum number of tables, views, indexes and triggers that are shown.
const OBJECTS_MAX: usize = 500;

/// The maximum number of columns of all tables and views together that are shown.
const COLUMNS_MAX: usize = 5000;

/// The maximum number of bytes of a statement that creates a table.
const OBJECT_SQL_BYTES_MAX: usize = 8 << 10;

/// The largest integer that every JavaScript number represents exactly.
const EXACT_INTEGER_MAX: i64 = (1 << 53) - 1;

/// The stores of one app. Cheap to clone.
#[derive(Clone)]
pub struct AppData {
    engines: Engines,
    resources: AppResources,
    grants: AppGrants,
    /// Whether stores may be changed through the admin API.
    is_writable: bool,
}

impl AppData {
    /// Returns the stores of the app with these resources and grants.
    #[must_use]
    pub fn new(engines: Engines, resources: AppResources, grants: AppGrants) -> Self {
        Self { engines, resources, grants, is_writable: false }
    }

    /// Permits changing the stores.
    #[must_use]
    pub fn writable(self, is_writable: bool) -> Self {
        Self { is_writable, ..self }
    }

    /// Returns the stores, sorted by kind and name. Opens no store. Blocks.
    ///
    /// # Errors
    /// If the app's folders cannot be read.
    pub fn stores(&self) -> Result<Vec<StoreInfo>, ApiProblem> {
        let failed = |_| ApiProblem::new(ProblemKind::Failed, "the folders of the app's stores cannot be read");
        let files = self.resources.stored_files().map_err(failed)?;
        let mut stores = BTreeMap::new();
        let granted = self.grants.components.iter().flat_map(|(component, grants)| {
            let kv = grants.kv.iter().map(|name| (StoreKind::Kv, name.to_string()));
            let sql = grants.sql.iter().map(|name| (StoreKind::Sql, name.to_string()));
            kv.chain(sql).map(|store| (store, component.to_string()))
        });
        for (store, component) in granted {
            stores.entry(store).or_insert_with(|| (0, Vec::new())).1.push(component);
        }
        let kv = files.kv.into_iter().map(|(name, bytes)| ((StoreKind::Kv, name), bytes));
        let sql = files.sql.into_iter().map(|(name, bytes)| ((StoreKind::Sql, name), bytes));
        for (store, bytes) in kv.chain(sql) {
            stores.entry(store).or_insert_with(|| (0, Vec::new())).0 = bytes;
        }
        let writable = self.is_writable;
        let info =
            |((kind, name), (bytes, components))| StoreInfo { kind, name, bytes, components, group: None, writable };
        Ok(stores.into_iter().map(info).collect())
    }

    /// Returns keys of the key-value store `store`.
    ///
    /// # Errors
    /// If the store does not exist or cannot be read.
    pub async fn kv_keys(&self, store: &str, query: KvKeysQuery) -> Result<KvKeyPage, ApiProblem> {
        let limit = query.limit.unwrap_or(KEYS_DEFAULT).clamp(1, KEYS_MAX) as usize;
        let Some(found) = self.kv(store).await? else { return Ok(KvKeyPage::default()) };
        let page = found.browse(query.prefix.unwrap_or_default(), query.after, limit).await.map_err(kv_problem)?;
        let keys = page.keys.into_iter().map(|(key, bytes)| KvKey { key, bytes }).collect();
        Ok(KvKeyPage { keys, next: page.next })
    }

    /// Returns the value of a key.
    ///
    /// # Errors
    /// If the store or the key does not exist, or the store cannot be read.
    pub async fn kv_value(&self, store: &str, key: String) -> Result<KvValue, ApiProblem> {
        let no_key = || ApiProblem::new(ProblemKind::NotFound, format!("the store `{store}` does not have this key"));
        let found = self.kv(store).await?.ok_or_else(no_key)?;
        let peeked = found.peek(key.clone(), VALUE_BYTES_MAX).await.map_err(kv_problem)?;
        let (shown, bytes) = peeked.ok_or_else(no_key)?;
        Ok(KvValue { key, bytes, hex: hex(&shown), truncated: (shown.len() as u64) < bytes })
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// If changes are not permitted, or the value cannot be stored.
    pub async fn set_kv(&self, store: &str, request: KvSetRequest) -> Result<(), ApiProblem> {
        self.check_writable()?;
        let not_hex = || ApiProblem::new(ProblemKind::BadRequest, "`hex` must be an even number of hexadecimal digits");
        let value = bytes(&request.hex).ok_or_else(not_hex)?;
        self.writable_kv(store).await?.set(request.key, value).await.map_err(kv_problem)
    }

    /// Deletes a key if it exists.
    ///
    /// # Errors
    /// If changes are not permitted, or the store cannot be written.
    pub async fn delete_kv(&self, store: &str, key: String) -> Result<(), ApiProblem> {
        self.check_writable()?;
        self.writable_kv(store).await?.delete(key).await.map_err(kv_problem)
    }

    /// Returns the schema of the SQL store `store`.
    ///
    /// # Errors
    /// If the store does not exist or cannot be read.
    pub async fn sql_schema(&self, store: &str) -> Result<SqlSchema, ApiProblem> {
        let Some(found) = self.sql(store).await? else { return Ok(SqlSchema::default()) };
        let objects = format!(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' \
             ORDER BY type = 'trigger', type = 'index', type = 'view', name LIMIT {OBJECTS_MAX}"
        );
        let limits =
            InspectionLimits { rows_max: OBJECTS_MAX, cell_bytes_max: OBJECT_SQL_BYTES_MAX, ..inspection_limits() };
        let objects = found.inspect(objects, limits).await.map_err(sql_problem)?;
        let columns = columns_of(&found, &objects).await.map_err(sql_problem)?;
        Ok(SqlSchema { objects: described(objects, columns) })
    }

    /// Runs one statement that only reads.
    ///
    /// # Errors
    /// If the store does not exist, or the statement fails, changes something or exceeds a limit.
    pub async fn sql_query(&self, store: &str, statement: SqlStatement) -> Result<SqlRows, ApiProblem> {
        let not_written =
            || ApiProblem::new(ProblemKind::NotFound, format!("the SQL store `{store}` was never opened"));
        let found = self.sql(store).await?.ok_or_else(not_written)?;
        let began = Instant::now();
        let result = found.inspect(statement.statement, inspection_limits()).await.map_err(sql_problem)?;
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let rows = result.rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
        let charge = ResponseCharge::of(result.charge);
        Ok(SqlRows { columns: result.columns, rows, truncated: result.truncated, took_us, charge })
    }

    /// Runs one statement that changes the SQL store `store`.
    ///
    /// # Errors
    /// If changes are not permitted, the store does not exist, or the statement fails.
    pub async fn execute_sql(&self, store: &str, statement: SqlStatement) -> Result<SqlChanges, ApiProblem> {
        self.check_writable()?;
        let not_written =
            || ApiProblem::new(ProblemKind::NotFound, format!("the SQL store `{store}` was never opened"));
        let found = self.sql(store).await?.ok_or_else(not_written)?;
        let changed = found.execute(statement.statement, Vec::new()).await.map_err(sql_problem)?;
        Ok(SqlChanges { changed })
    }

    fn check_writable(&self) -> Result<(), ApiProblem> {
        if self.is_writable {
            return Ok(());
        }
        Err(ApiProblem::new(ProblemKind::Forbidden, "stores can be changed here only under `isomer dev`"))
    }

    /// Returns a key-value store; `None` if it is granted but does not exist yet.
    async fn kv(&self, store: &str) -> Result<Option<KvStore>, ApiProblem> {
        match self.engines.kv(&self.resources).existing(store).await {
            Ok(Some(found)) => Ok(Some(found)),
            // The error for a name that is not granted also applies to invalid names.
            Ok(None) | Err(KvError::Name(_)) => self.check_granted(StoreKind::Kv, store).map(|()| None),
            Err(error) => Err(kv_problem(error)),
        }
    }

    /// Returns a key-value store that is granted to a component, and creates it if it does not exist.
    async fn writable_kv(&self, store: &str) -> Result<KvStore, ApiProblem> {
        self.check_granted(StoreKind::Kv, store)?;
        self.engines.kv(&self.resources).store(store).await.map_err(kv_problem)
    }

    /// Returns an SQL store; `None` if it is granted but does not exist yet.
    async fn sql(&self, store: &str) -> Result<Option<SqlStore>, ApiProblem> {
        // The settings must be those of the app, which uses the store as it was opened here.
        let name = StoreName::new(store).ok();
        let statement_time = name.and_then(|name| self.grants.statement_time(&name, self.resources.statement_time_max));
        match self.engines.sql(&self.resources).existing(store, statement_time).await {
            Ok(Some(found)) => Ok(Some(found)),
            Ok(None) | Err(SqlOpenError::Name(_)) => self.check_granted(StoreKind::Sql, store).map(|()| None),
            Err(error) => Err(open_problem(error)),
        }
    }

    fn check_granted(&self, kind: StoreKind, store: &str) -> Result<(), ApiProblem> {
        let is_granted = self.grants.components.values().any(|grants| {
            let names = if kind == StoreKind::Kv { &grants.kv } else { &grants.sql };
            names.iter().any(|name| name.as_str() == store)
        });
        let what = if kind == StoreKind::Kv { "key-value store" } else { "SQL store" };
        if is_granted { Ok(()) } else { Err(ApiProblem::not_found(what, store)) }
    }
}

fn inspection_limits() -> InspectionLimits {
    InspectionLimits {
        rows_max: ROWS_MAX,
        bytes_max: RESULT_BYTES_MAX,
        cell_bytes_max: CELL_BYTES_MAX,
        time: STATEMENT_TIME,
    }
}

/// Returns the columns of the tables and views among `objects`, by the name of the table. Reads all tables with one
/// statement. If it fails, for example because of a view whose table is missing, reads each table with its own statement,
/// and leaves out the columns of those that fail.
async fn columns_of(store: &SqlStore, objects: &Inspection) -> Result<BTreeMap<String, Vec<SqlColumn>>, SqlError> {
    const COLUMNS: &str = "SELECT m.name, c.name, c.type, c.\"notnull\", c.pk \
                           FROM sqlite_schema m, pragma_table_xinfo(m.name) c WHERE m.type IN ('table', 'view')";
    let deadline = Instant::now() + STATEMENT_TIME;
    let mut of_table = BTreeMap::new();
    match store.inspect(format!("{COLUMNS} LIMIT {COLUMNS_MAX}"), column_limits(COLUMNS_MAX, deadline)).await {
        Ok(found) => add_columns(&mut of_table, &found),
        Err(SqlError::Statement(_)) => {
            let mut left = COLUMNS_MAX;
            for row in &objects.rows {
                let [InspectedValue::Text(kind, _), InspectedValue::Text(name, _), ..] = row.as_slice() else {
                    continue;
                };
                if kind != "table" && kind != "view" {
                    continue;
                }
                let statement = format!("{COLUMNS} AND m.name = '{}' LIMIT {left}", name.replace('\'', "''"));
                match store.inspect(statement, column_limits(left, deadline)).await {
                    Ok(found) => {
                        left = left.saturating_sub(found.rows.len());
                        add_columns(&mut of_table, &found);
                    }
                    Err(SqlError::Statement(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Err(error) => return Err(error),
    }
    Ok(of_table)
}

fn column_limits(rows_max: usize, deadline: Instant) -> InspectionLimits {
    let time = deadline.saturating_duration_since(Instant::now());
    InspectionLimits { rows_max, cell_bytes_max: OBJECT_SQL_BYTES_MAX, time, ..inspection_limits() }
}

/// Adds the columns in `found` to `of_table`. Each row of `found` has the table, name and type of a column, whether it is
/// `NOT NULL`, and its place in the primary key.
fn add_columns(of_table: &mut BTreeMap<String, Vec<SqlColumn>>, found: &Inspection) {
    for row in &found.rows {
        let [table, name, r#type, not_null, key] = row.as_slice() else { continue };
        let is_set = |value: &InspectedValue| matches!(value, InspectedValue::Integer(number) if *number != 0);
        let column = SqlColumn {
            name: text(name).unwrap_or_default(),
            r#type: text(r#type).unwrap_or_default(),
            not_null: is_set(not_null),
            primary_key: is_set(key),
        };
        of_table.entry(text(table).unwrap_or_default()).or_default().push(column);
    }
}

/// Returns the objects of a schema, with the columns in `of_table`.
fn described(objects: Inspection, mut of_table: BTreeMap<String, Vec<SqlColumn>>) -> Vec<SqlObject> {
    let object = |row: Vec<InspectedValue>| {
        let mut values = row.iter().map(text);
        let mut next = || values.next().flatten();
        let (kind, name) = (next().unwrap_or_default(), next().unwrap_or_default());
        let (table, sql) = (next().unwrap_or_default(), next());
        let columns = if kind == "table" || kind == "view" { of_table.remove(&name) } else { None };
        SqlObject { kind, name, table, sql, columns: columns.unwrap_or_default() }
    };
    objects.rows.into_iter().map(object).collect()
}

fn text(value: &InspectedValue) -> Option<String> {
    match value {
        InspectedValue::Text(text, _) => Some(text.clone()),
        _ => None,
    }
}

fn cell(value: InspectedValue) -> SqlCell {
    let number = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    match value {
        InspectedValue::Null => SqlCell::Null,
        InspectedValue::Integer(integer) if integer.unsigned_abs() <= EXACT_INTEGER_MAX.unsigned_abs() => {
            SqlCell::Integer(integer)
        }
        InspectedValue::Integer(integer) => SqlCell::LargeInteger { integer: integer.to_string() },
        // JSON has no infinity.
        InspectedValue::Real(real) if real.is_finite() => SqlCell::Real(real),
        InspectedValue::Real(real) => SqlCell::Text(real.to_string()),
        InspectedValue::Text(text, bytes) if bytes <= CELL_BYTES_MAX => SqlCell::Text(text),
        InspectedValue::Text(text, bytes) => SqlCell::CutText { text, bytes: number(bytes) },
        InspectedValue::Blob(blob, bytes) => SqlCell::Blob { hex: hex(&blob), bytes: number(bytes) },
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Returns the bytes of hexadecimal digits; `None` if the text is something else.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<_>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}

fn kv_problem(error: KvError) -> ApiProblem {
    let kind = match &error {
        KvError::Quota { .. } => return ApiProblem::quota(Quota::Storage, error.to_string()),
        KvError::Memory { .. } => return ApiProblem::quota(Quota::Memory, error.to_string()),
        KvError::Overloaded | KvError::DiskFull => ProblemKind::Unavailable,
        KvError::Storage { .. } => ProblemKind::Failed,
        _ => ProblemKind::BadRequest,
    };
    ApiProblem::new(kind, error.to_string())
}

fn sql_problem(error: SqlError) -> ApiProblem {
    let kind = match &error {
        SqlError::Quota { .. } => return ApiProblem::quota(Quota::Storage, error.to_string()),
        SqlError::Memory { .. } => return ApiProblem::quota(Quota::Memory, error.to_string()),
        SqlError::Cpu => return ApiProblem::quota(Quota::Cpu, error.to_string()),
        SqlError::Overloaded => {
            let problem =
                ApiProblem::new(ProblemKind::Unavailable, "the store is busy, or another statement is running");
            return problem.hint("try again");
        }
        SqlError::DiskFull => ProblemKind::Unavailable,
        SqlError::Store(_) => ProblemKind::Failed,
        SqlError::Timeout => {
            let problem = ApiProblem::new(ProblemKind::BadRequest, "the statement was stopped after 2 seconds");
            return problem.hint("read fewer rows, or use an index");
        }
        _ => ProblemKind::BadRequest,
    };
    ApiProblem::new(kind, error.to_string())
}

fn open_problem(error: SqlOpenError) -> ApiProblem {
    match error {
        SqlOpenError::Name(error) => ApiProblem::new(ProblemKind::BadRequest, error.to_string()),
        error => ApiProblem::new(ProblemKind::Failed, error.to_string()),
    }
}

#[cfg(test)]
mod tests;
