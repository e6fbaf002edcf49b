//! The tables of the state database.
//!
//! Values are JSON, except for packages, which are stored unchanged. [`FORMAT`] is incremented when the content changes
//! in such a way that an earlier version of Isomer cannot read it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use isomer_api::StoredToken;
use isomer_disk::{Database, Storage};
use isomer_ids::{AppName, Digest, ReleaseDigest, TenantName, TokenId};
use redb::{ReadableDatabase as _, ReadableTable, TableDefinition, TableHandle as _, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::error::StateError;
use crate::model::{App, Tenant};

/// The format number that this version of Isomer writes.
pub(crate) const FORMAT: u32 = 1;

/// Metadata of the file: the value of `kind` is [`KIND`], the value of `format` is a number.
pub(crate) const ABOUT: TableDefinition<'_, &str, &str> = TableDefinition::new("about");
const KIND: &str = "isomer-node-state";

/// The key in [`ABOUT`] under which the number of the last change is stored. Files of earlier Isomer versions do not
/// have this key.
const CHANGE: &str = "change";

pub(crate) const TENANTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tenants");
pub(crate) const SECRETS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("secrets");
pub(crate) const APPS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("apps");
pub(crate) const PACKAGES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("packages");
/// The tenants' tokens, by identifier. Files of earlier Isomer versions do not have this table.
pub(crate) const TOKENS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tokens");
pub(crate) const PARTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("parts");
/// For each release, the number of bytes that are charged for it. Files of earlier Isomer versions do not have this
/// table, and nothing is charged for their releases.
pub(crate) const CHARGES: TableDefinition<'_, &str, u64> = TableDefinition::new("charges");

/// The blobs and the compiled code to which a release refers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Parts {
    pub(crate) blobs: BTreeSet<Digest>,
    pub(crate) code: BTreeSet<String>,
}

/// The data that is read when the state is opened, and kept in memory.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) tenants: BTreeMap<TenantName, Tenant>,
    pub(crate) apps: BTreeMap<(TenantName, AppName), App>,
    pub(crate) tokens: HashMap<TokenId, StoredToken>,
    /// For each release, the number of apps that have the release in their history.
    pub(crate) revisions: HashMap<ReleaseDigest, usize>,
    /// For each release, the number of bytes that are charged for it.
    pub(crate) charges: HashMap<ReleaseDigest, u64>,
}

/// The maximum size of the database's page cache. The cache can be small, because the data that is read often is also
/// kept in memory ([`Read`]).
const CACHE_BYTES: usize = 8 << 20;

/// Opens the database, and creates it if it does not exist. Reads everything except packages and the values of secrets.
pub(crate) fn open(path: &Path, storage: impl Storage) -> Result<(Database, Read), StateError> {
    let damaged = |source: Box<dyn std::error::Error + Send + Sync>| StateError::Damaged { path: path.into(), source };
    make_private(path)?;
    let database = Database::open(storage, CACHE_BYTES).map_err(|error| match error {
        redb::Error::DatabaseAlreadyOpen => StateError::InUse { path: path.to_owned() },
        error => damaged(error.into()),
    })?;
    database.write(|database| check_format(path, database))?;
    let read = database.read(read).map_err(|error| match error {
        StateError::Storage { source } => damaged(source),
        error => error,
    })?;
    Ok((database, read))
}

/// Creates the file, if it does not exist, with a mode that lets no other user read it, because the file contains
/// secrets.
fn make_private(path: &Path) -> Result<(), StateError> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(redb::Error::from)?;
    Ok(())
}

fn check_format(path: &Path, database: &redb::Database) -> Result<(), StateError> {
    let damaged = |error: redb::Error| StateError::Damaged { path: path.to_owned(), source: error.into() };
    let tables = database.begin_read().map_err(|error| damaged(error.into()))?;
    let mut names = tables.list_tables().map_err(|error| damaged(error.into()))?;
    let foreign = || StateError::Foreign { path: path.to_owned() };
    if !names.any(|table| table.name() == ABOUT.name()) {
        let is_empty = tables.list_tables().map_err(|error| damaged(error.into()))?.next().is_none();
        return if is_empty { make(database) } else { Err(foreign()) };
    }
    let about = tables.open_table(ABOUT).map_err(|_| foreign())?;
    let said = |key| about.get(key).map_err(|error| damaged(error.into()));
    if said("kind")?.is_none_or(|kind| kind.value() != KIND) {
        return Err(foreign());
    }
    let format = said("format")?.and_then(|format| format.value().parse::<u32>().ok()).ok_or_else(foreign)?;
    if format > FORMAT {
        return Err(StateError::Newer { path: path.to_owned(), found: format, known: FORMAT });
    }
    Ok(())
}

fn make(database: &redb::Database) -> Result<(), StateError> {
    let change = database.begin_write()?;
    {
        let mut about = change.open_table(ABOUT)?;
        about.insert("kind", KIND)?;
        about.insert("format", FORMAT.to_string().as_str())?;
        change.open_table(TENANTS)?;
        change.open_table(SECRETS)?;
        change.open_table(APPS)?;
        change.open_table(PACKAGES)?;
        change.open_table(TOKENS)?;
        change.open_table(PARTS)?;
        change.open_table(CHARGES)?;
    }
    Ok(change.commit()?)
}

/// Increments the number of the last change, within the transaction of the change. Returns the new number.
pub(crate) fn count_change(tables: &WriteTransaction) -> Result<u64, StateError> {
    let mut about = tables.open_table(ABOUT)?;
    let number = number_in(&about)? + 1;
    about.insert(CHANGE, number.to_string().as_str())?;
    Ok(number)
}

/// Returns the number of the last committed change.
pub(crate) fn last_change(database: &redb::Database) -> Result<u64, StateError> {
    number_in(&database.begin_read()?.open_table(ABOUT)?)
}

fn number_in(about: &impl ReadableTable<&'static str, &'static str>) -> Result<u64, StateError> {
    let Some(number) = about.get(CHANGE)? else { return Ok(0) };
    number.value().parse().map_err(malformed)
}

/// Reads everything except packages and the values of secrets.
pub(crate) fn read(database: &redb::Database) -> Result<Read, StateError> {
    let mut all = Read::default();
    let tables = database.begin_read()?;
    for entry in tables.open_table(TENANTS)?.iter()? {
        let (name, tenant) = entry?;
        all.tenants.insert(decode_name(name.value())?, decode(tenant.value())?);
    }
    for entry in tables.open_table(SECRETS)?.iter()? {
        let (key, _) = entry?;
        let (tenant, name) = key.value();
        if let Some(tenant) = all.tenants.get_mut(&decode_name::<TenantName>(tenant)?) {
            tenant.secrets.insert(name.to_owned());
        }
    }
    for entry in tables.open_table(APPS)?.iter()? {
        let (key, app) = entry?;
        let (tenant, name) = key.value();
        let app: App = decode(app.value())?;
        if app.history.is_empty() {
            return Err(malformed("an app without a revision"));
        }
        for deployment in &app.history {
            *all.revisions.entry(deployment.revision.clone()).or_default() += 1;
        }
        all.apps.insert((decode_name(tenant)?, decode_name(name)?), app);
    }
    match tables.open_table(TOKENS) {
        Ok(tokens) => {
            for entry in tokens.iter()? {
                let (id, token) = entry?;
                let token: StoredToken = decode(token.value())?;
                // Ignores a token whose tenant was removed.
                if all.tenants.contains_key(&token.info.tenant) {
                    all.tokens.insert(decode_name(id.value())?, token);
                }
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    match tables.open_table(CHARGES) {
        Ok(charges) => {
            for entry in charges.iter()? {
                let (revision, bytes) = entry?;
                all.charges.insert(decode_name(revision.value())?, bytes.value());
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(all)
}

fn decode_name<T: std::str::FromStr<Err = isomer_ids::InvalidText>>(text: &str) -> Result<T, StateError> {
    text.parse().map_err(malformed)
}

pub(crate) fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(bytes).map_err(malformed)
}

pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("the stored types are plain data")
}

fn malformed(why: impl ToString) -> StateError {
    StateError::Storage { source: Box::new(redb::Error::Corrupted(why.to_string())) }
}

#[cfg(test)]
mod tests {
    use isomer_disk::FileStorage;

    use super::*;
    use crate::model::Deployment;
    use crate::node_state::NodeState;

    const APPS_MANY: usize = 10_000;

    /// Creates a state with [`APPS_MANY`] apps, in one transaction.
    fn generate(path: &Path) {
        let (database, _) = open(path, FileStorage::new(path)).unwrap();
        let database = database.into_inner().unwrap();
        let change = database.begin_write().unwrap();
        for number in 0..APPS_MANY {
            let tenant = format!("t{}", number % 100);
            let app = App {
                hosts: vec![format!("a{number}.example").parse().unwrap()],
                stopped: false,
                history: (0..3)
                    .map(|earlier| Deployment {
                        revision: ReleaseDigest::from((number as u128 * 3 + earlier).to_be_bytes()),
                        version: "1.2.3".to_owned(),
                        shape: Some("monolith".to_owned()),
                        deployed_at: 1_700_000_000,
                        origin: None,
                        replacement: None,
                    })
                    .collect(),
            };
            for deployment in &app.history {
                let id = deployment.revision.as_str();
                change.open_table(PACKAGES).unwrap().insert(id, vec![7; 4096].as_slice()).unwrap();
                let digest = Digest::from([number.to_le_bytes()[0]; 32]);
                let parts = Parts { blobs: [digest].into(), code: [format!("code-{number}")].into() };
                change.open_table(PARTS).unwrap().insert(id, encode(&parts).as_slice()).unwrap();
            }
            let name = format!("a{number}");
            change.open_table(TENANTS).unwrap().insert(tenant.as_str(), encode(&Tenant::default()).as_slice()).unwrap();
            change.open_table(APPS).unwrap().insert((tenant.as_str(), name.as_str()), encode(&app).as_slice()).unwrap();
        }
        change.commit().unwrap();
    }

    #[test]
    fn ten_thousand_apps_are_opened_without_reading_their_packages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        generate(&path);
        let state = NodeState::open(&path).unwrap();
        assert_eq!(state.counts(), (100, APPS_MANY));
        assert_eq!(state.references().unwrap().revisions.len(), 3 * APPS_MANY);
        let app = state.app(&"t42".parse().unwrap(), &"a42".parse().unwrap()).unwrap();
        assert_eq!(state.package(&app.current().revision).unwrap().unwrap().len(), 4096);
    }

    #[test]
    fn a_state_of_a_later_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let (database, _) = open(&path, FileStorage::new(&path)).unwrap();
        let database = database.into_inner().unwrap();
        let change = database.begin_write().unwrap();
        change.open_table(ABOUT).unwrap().insert("format", "2").unwrap();
        change.commit().unwrap();
        drop(database);
        let error = NodeState::open(&path).unwrap_err();
        assert!(matches!(error, StateError::Newer { found: 2, known: FORMAT, .. }), "{error}");
    }

    #[test]
    fn a_state_of_an_earlier_version_accepts_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let (database, _) = open(&path, FileStorage::new(&path)).unwrap();
        let database = database.into_inner().unwrap();
        let change = database.begin_write().unwrap();
        assert!(change.delete_table(TOKENS).unwrap());
        change.commit().unwrap();
        drop(database);
        let state = NodeState::open(&path).unwrap();
        let tenant: TenantName = "acme".parse().unwrap();
        state.set_tenant(&tenant, isomer_api::TenantChange::default()).unwrap();
        assert_eq!(state.tokens_of(&tenant).unwrap(), []);
        let info = isomer_api::TokenInfo {
            name: "ci".parse().unwrap(),
            id: [1; 8].into(),
            tenant: tenant.clone(),
            role: isomer_api::TokenRole::Read,
            data: false,
            created_at: 1,
            expires_at: None,
        };
        state.add_token(&StoredToken { info, digest: Digest::from([1; 32]) }).unwrap();
        drop(state);
        assert_eq!(NodeState::open(&path).unwrap().tokens_of(&tenant).unwrap().len(), 1);
    }

    #[test]
    fn an_unreadable_app_is_reported_as_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        for app in [&b"{"[..], br#"{"hosts":[],"stopped":false,"history":[]}"#] {
            let (database, _) = open(&path, FileStorage::new(&path)).unwrap();
            let database = database.into_inner().unwrap();
            let change = database.begin_write().unwrap();
            change.open_table(APPS).unwrap().insert(("t", "a"), app).unwrap();
            change.commit().unwrap();
            drop(database);
            let error = NodeState::open(&path).unwrap_err();
            assert!(matches!(error, StateError::Damaged { .. }), "{error}");
            std::fs::remove_file(&path).unwrap();
        }
    }
}
