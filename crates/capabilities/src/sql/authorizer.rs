//! Decides which statements may be prepared.
//!
//! Guests share pooled connections. So statements that would change a connection's state, access another file, or load
//! code are refused here, while SQLite prepares them. If SQLite has to prepare a statement again, for example after a
//! change of the schema, it calls the authorizer again.
//!
//! Migrations are often written by programs (`sqlite3 .dump`, drizzle-kit, Prisma, Rails). These programs surround the
//! migration with their own transaction, and turn off the checks of foreign keys during that transaction. Here,
//! migrations run in a transaction anyway, and foreign keys are checked at its end, so such statements are skipped.

use rusqlite::hooks::{AuthAction, AuthContext, TransactionOperation};

use super::functions;

/// The name of the table that records the applied migrations.
pub(crate) const MIGRATIONS_TABLE: &str = "_isomer_migrations";

/// The source of a statement, which determines the rules for the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The statement comes from a component.
    Guest,
    /// The statement comes from a person who looks at the app's data. It may only read.
    Inspection,
    /// The statement comes from a file of the app's migrations.
    Migration,
    /// The statement is one of this crate's own, and its duration depends on a guest's data. So the statement has a
    /// deadline, and pauses while the tenant has no processor time left.
    BoundedInternal,
    /// The statement is one of this crate's own, and takes a short time.
    Internal,
}

/// The names of allowed pragmas. These pragmas change nothing, and their arguments can only be names of objects to
/// read.
const PRAGMAS_READ_ONLY: [&str; 11] = [
    "foreign_key_check",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// The modules of allowed virtual tables, which keep all their data in the store itself.
const VIRTUAL_TABLES: [&str; 3] = ["fts5", "fts5vocab", "rtree"];

/// The endings of the names of the tables in which the module `rtree` keeps the data of a virtual table.
const RTREE_TABLES: [&str; 3] = ["_node", "_parent", "_rowid"];

/// The functions that access something outside the store.
const FUNCTIONS_DENIED: [&str; 2] = ["load_extension", "fts3_tokenizer"];

/// The pragmas that are skipped in a migration. They configure the connection, which only the platform may do, or
/// request what the migration's transaction does anyway.
const PRAGMAS_OF_MIGRATIONS: [&str; 9] = [
    "auto_vacuum",
    "busy_timeout",
    "cache_size",
    "defer_foreign_keys",
    "encoding",
    "foreign_keys",
    "journal_mode",
    "synchronous",
    "temp_store",
];

/// The decision about one action of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    /// The action is skipped: the statement has no effect and returns no error.
    Skipped,
    /// The action is refused, with this reason.
    Refused(String),
}

impl From<Result<(), String>> for Verdict {
    fn from(checked: Result<(), String>) -> Self {
        checked.map_or_else(Self::Refused, |()| Self::Allowed)
    }
}

/// Decides whether one action of a statement is allowed, skipped or refused.
pub(crate) fn judge(mode: Mode, context: &AuthContext<'_>) -> Verdict {
    if mode != Mode::Migration {
        return check(mode, context).into();
    }
    match context.action {
        // A rollback is refused. It would undo the migration's earlier statements, but its later statements would still
        // be applied.
        AuthAction::Transaction { operation: TransactionOperation::Rollback }
        | AuthAction::Savepoint { operation: TransactionOperation::Rollback, .. } => {
            Verdict::Refused("a migration is applied completely or not at all: leave ROLLBACK out".to_owned())
        }
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => Verdict::Skipped,
        AuthAction::Pragma { pragma_name, .. }
            if PRAGMAS_OF_MIGRATIONS.iter().any(|name| name.eq_ignore_ascii_case(pragma_name)) =>
        {
            Verdict::Skipped
        }
        _ => check(mode, context).into(),
    }
}

/// Checks whether the action is allowed. Returns the reason if it is refused.
fn check(mode: Mode, context: &AuthContext<'_>) -> Result<(), String> {
    if matches!(mode, Mode::Internal | Mode::BoundedInternal) {
        return Ok(());
    }
    let denied = |what: &str| Err(what.to_owned());
    if mode == Mode::Inspection && !reads(&context.action) && !connects_rtree(&context.action) {
        return denied("only one statement that reads is allowed here");
    }
    match context.action {
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => match mode {
            Mode::Migration => denied("a store is one file: leave ATTACH, DETACH and VACUUM out"),
            _ => denied("ATTACH, DETACH and VACUUM are not allowed: a store is one file"),
        },
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
            denied("use `begin`, `commit` and `rollback` of the interface for transactions, not statements")
        }
        AuthAction::Pragma { pragma_name, pragma_value } => check_pragma(mode, pragma_name, pragma_value),
        AuthAction::Function { function_name } => {
            if FUNCTIONS_DENIED.iter().any(|name| name.eq_ignore_ascii_case(function_name)) {
                return Err(format!("the function `{function_name}` is not allowed"));
            }
            if functions::QUADRATIC.iter().any(|name| name.eq_ignore_ascii_case(function_name)) {
                return Err(format!(
                    "the function `{function_name}` is not allowed: large arguments make it run for hours; use json_set and json_remove"
                ));
            }
            Ok(())
        }
        AuthAction::CreateVtable { module_name, .. } | AuthAction::DropVtable { module_name, .. } => {
            if VIRTUAL_TABLES.iter().any(|name| name.eq_ignore_ascii_case(module_name)) {
                return Ok(());
            }
            Err(format!(
                "virtual tables of the module `{module_name}` are not allowed; the allowed modules are {}",
                VIRTUAL_TABLES.join(", ")
            ))
        }
        AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::DropTempIndex { .. }
        | AuthAction::DropTempTable { .. }
        | AuthAction::DropTempTrigger { .. }
        | AuthAction::DropTempView { .. } => {
            denied("temporary tables, views and triggers are not allowed: connections are shared")
        }
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::CreateTable { table_name }
        | AuthAction::DropTable { table_name }
        | AuthAction::AlterTable { table_name, .. }
        | AuthAction::CreateIndex { table_name, .. }
        | AuthAction::CreateTrigger { table_name, .. } => {
            if table_name.eq_ignore_ascii_case(MIGRATIONS_TABLE) {
                return Err(format!("the table `{MIGRATIONS_TABLE}` is managed by Isomer"));
            }
            Ok(())
        }
        AuthAction::Read { .. }
        | AuthAction::Select
        | AuthAction::Recursive
        | AuthAction::CreateView { .. }
        | AuthAction::DropIndex { .. }
        | AuthAction::DropTrigger { .. }
        | AuthAction::DropView { .. }
        | AuthAction::Reindex { .. }
        | AuthAction::Analyze { .. } => Ok(()),
        _ => denied("this kind of statement is not allowed"),
    }
}

/// Returns whether the action may be a part of a statement that only reads.
fn reads(action: &AuthAction<'_>) -> bool {
    matches!(
        action,
        AuthAction::Read { .. }
            | AuthAction::Select
            | AuthAction::Recursive
            | AuthAction::Function { .. }
            | AuthAction::Pragma { .. }
    )
}

/// Returns whether the action writes to a table in which the module `rtree` keeps the data of a virtual table. When a
/// connection first uses such a virtual table, the module prepares statements that write, even if the statement that uses
/// the table only reads. Allowing these statements to be prepared changes nothing: an inspection runs its own statement
/// only if SQLite reports that the statement reads, and its connection is opened read-only.
fn connects_rtree(action: &AuthAction<'_>) -> bool {
    match action {
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. } => {
            let name = table_name.to_ascii_lowercase();
            RTREE_TABLES.iter().any(|suffix| name.ends_with(suffix))
        }
        _ => false,
    }
}

fn check_pragma(mode: Mode, name: &str, value: Option<&str>) -> Result<(), String> {
    let is = |other: &&str| other.eq_ignore_ascii_case(name);
    let is_read_only = PRAGMAS_READ_ONLY.iter().any(is);
    let reads_version = is(&"user_version") && (value.is_none() || mode == Mode::Migration);
    // FTS5 reads `data_version` when its table is opened, and `rtree` reads `page_size` when its table is created.
    let is_of_module = (is(&"data_version") || is(&"page_size")) && value.is_none();
    if is_read_only || reads_version || is_of_module {
        return Ok(());
    }
    if mode == Mode::Migration {
        return Err(format!("a migration cannot set PRAGMA {name}: remove the statement"));
    }
    Err(format!("PRAGMA {name} is not allowed; allowed are {}", PRAGMAS_READ_ONLY.join(", ")))
}
