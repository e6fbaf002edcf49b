//! Taking over together with the app's data: a revision that has migrations which the stores have not seen, or one that is to have its
//! stores as they were.
//!
//! ```text
//! requests held, those in flight finished ─► noted ─► new files made beside the stores ─► recorded ─► files switched ─► requests go on
//! ```
//!
//! What was said in [`super::steps`] holds for stores too: before *recorded* their files are only read, and what lies beside them is
//! referred to by nothing. The state says which [`replacement`](isomer_state::Deployment::replacement) counts; a start that finds a note
//! goes on or clears up by that. The note is there so that a start need not look through the data of all apps.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_api::{AppName, Problem, ProblemKind, Quota, RevisionId, StoreChange, StoreSnapshot, TenantName};
use isomer_capabilities::sql::{Replacing, SqlOpenError, roll_forward};
use isomer_capabilities::{CapabilityError, NodeDir, StorageAccount, schemas};
use isomer_state::{App, State, Taking};

use super::snapshots::{self, About, SNAPSHOT_AGE_MAX, Snapshot};
use super::steps::Step;
use crate::host::{Host, problems};
use crate::tenancy::{Held, Stock};

/// How long requests in flight are waited for. Those that take longer go on beside what follows, and meet the new schema.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How long requests may be held while new files of the stores are made.
const HELD_MAX: Duration = Duration::from_secs(30);

/// How long that may take where nothing serves that could be asked.
const UNHELD_MAX: Duration = Duration::from_secs(1800);

/// A revision that takes over with its stores.
pub(super) struct Takeover<'a> {
    pub(super) host: &'a Arc<Host>,
    pub(super) tenant: &'a TenantName,
    pub(super) app: &'a AppName,
    pub(super) before: Option<&'a App>,
    pub(super) stock: &'a Stock,
    /// What its stores are to be like.
    pub(super) snapshot: Option<Snapshot>,
    pub(super) taking: Taking,
    pub(super) now_s: u64,
}

/// It is recorded, and so are its stores.
pub(super) struct TakenOver {
    pub(super) recorded: Arc<App>,
    pub(super) changes: Vec<StoreChange>,
    /// Requests wait until this is dropped.
    pub(super) held: Option<Held>,
}

impl Takeover<'_> {
    /// All of it but for starting the revision.
    pub(super) async fn carry_out(self) -> Result<TakenOver, Problem> {
        let Self { host, tenant, app, .. } = self;
        let held = host.tenancy.hold(tenant, app);
        if let Some(held) = &held {
            held.drained(DRAIN_MAX).await;
        }
        host.step(Step::Held);
        let data = host.dir.app(tenant.as_str(), app.as_str());
        let id = snapshots::new_id(&data);
        let folder = snapshots::folder(&data).join(&id);
        self.note(&id).await?;
        host.step(Step::Noted);
        let done = match self.stage(&data, &folder).await {
            Ok(replacing) => {
                host.step(Step::Staged);
                self.record(&id, replacing).await
            }
            Err(problem) => Err(problem),
        };
        let (recorded, changes) = match done {
            Ok(done) => done,
            Err(problem) => {
                self.clear(folder.clone()).await;
                return Err(problem);
            }
        };
        self.sweep(data, folder).await;
        Ok(TakenOver { recorded, changes, held })
    }

    async fn note(&self, id: &str) -> Result<(), Problem> {
        let (path, id) = (note_of(&self.host.dir, self.tenant, self.app), id.to_owned());
        self.host.blocking(move || note(&path, &id).map_err(|error| problems::failed(&error))).await
    }

    /// Makes the new files. Older snapshots go where there is no room for them.
    async fn stage(&self, data: &Path, folder: &Path) -> Result<Vec<Replacing>, Problem> {
        let Self { host, stock, .. } = self;
        let serves = self.before.is_some_and(|before| !before.stopped);
        let deadline = Instant::now() + if serves { HELD_MAX } else { UNHELD_MAX };
        let from = self.snapshot.as_ref().map(|snapshot| snapshot.folder.as_path());
        let (app, stores) = (stock.package.app(), host.tenancy.stores());
        let replacing = loop {
            let error = match schemas::replace(&app, &stock.place, stores, from, folder, deadline).await {
                Ok(replacing) => break replacing,
                Err(error) => error,
            };
            let (account, data, folder) = (stock.place.storage.clone(), data.to_owned(), folder.to_owned());
            let kept = from.map(Path::to_owned);
            let no_room = matches!(&error, CapabilityError::Sql(SqlOpenError::NoRoom { .. }));
            let more_room = host.blocking(move || {
                let removed = snapshots::remove(&folder, &account).and_then(|()| {
                    if no_room { snapshots::remove_oldest(&data, &account, kept.as_deref()) } else { Ok(false) }
                });
                removed.map_err(|error| problems::failed(&error))
            });
            if !more_room.await? {
                return Err(not_replaced(&error));
            }
        };
        let about = About {
            taken_at: self.now_s,
            before: self.before.map(|before| before.current().revision.clone()),
            stores: replacing
                .iter()
                .filter(|store| store.bytes > 0)
                .map(|store| StoreSnapshot { store: store.name().to_owned(), bytes: store.bytes })
                .collect(),
        };
        let folder = folder.to_owned();
        host.blocking(move || {
            fs::create_dir_all(&folder)
                .and_then(|()| snapshots::describe(&folder, &about))
                .map_err(|error| problems::failed(&error))
        })
        .await?;
        Ok(replacing)
    }

    async fn record(&self, id: &str, mut replacing: Vec<Replacing>) -> Result<(Arc<App>, Vec<StoreChange>), Problem> {
        let host = self.host;
        let mut taking = self.taking.clone();
        taking.deployment.replacement = Some(id.to_owned());
        let (recording, note) = (host.clone(), note_of(&host.dir, self.tenant, self.app));
        let recorded =
            host.blocking(move || recording.state.take_over(taking).map_err(|error| recording.refused_by_state(error)));
        let recorded = recorded.await?;
        host.step(Step::Recorded);
        let restored_to = self.snapshot.as_ref().map(|snapshot| &snapshot.about);
        let change = |store: &Replacing| StoreChange {
            store: store.name().to_owned(),
            migrated: store.schema.pending.clone(),
            newer: store.schema.newer.clone(),
            restored_to: restored_to
                .filter(|about| about.stores.iter().any(|saved| saved.store == store.name()))
                .map(|about| about.taken_at),
            snapshot: store.bytes > 0,
        };
        let changes = replacing.iter().map(change).collect();
        let switched = host.blocking(move || {
            // Each is tried: one that fails is done at the next start.
            let switched: Vec<_> = replacing.iter_mut().map(Replacing::switch).collect();
            let switched: io::Result<()> = switched.into_iter().collect();
            switched.and_then(|()| forget(&note)).map_err(|error| problems::failed(&error))
        });
        if let Err(problem) = switched.await {
            tracing::error!(%problem, tenant = %self.tenant, app = %self.app, "stores are replaced at the next start only");
        }
        host.step(Step::Switched);
        Ok((recorded, changes))
    }

    /// Removes what was made for nothing.
    async fn clear(&self, folder: PathBuf) {
        let (account, note) = (self.stock.place.storage.clone(), note_of(&self.host.dir, self.tenant, self.app));
        let cleared = self.host.blocking(move || {
            snapshots::remove(&folder, &account).and_then(|()| forget(&note)).map_err(|error| problems::failed(&error))
        });
        // It is in the log, and done at the next start.
        let _ = cleared.await;
    }

    async fn sweep(&self, data: PathBuf, folder: PathBuf) {
        let (account, now) = (self.stock.place.storage.clone(), std::time::SystemTime::now());
        let is_pending = note_of(&self.host.dir, self.tenant, self.app);
        let swept = self.host.blocking(move || {
            // Stores that were not there before have no snapshot.
            if !snapshots::is_of_something(&folder) && !is_pending.exists() {
                let _ = snapshots::remove(&folder, &account);
            }
            snapshots::sweep(&data, &account, now, SNAPSHOT_AGE_MAX).map_err(|error| problems::failed(&error))
        });
        // It is in the log, and done within the hour.
        let _ = swept.await;
    }
}

/// Which snapshot has the stores as `revision` left them.
pub(super) fn snapshot_of(
    dir: &NodeDir,
    tenant: &TenantName,
    app: &AppName,
    revision: &RevisionId,
) -> Result<Snapshot, Problem> {
    snapshots::of(&dir.app(tenant.as_str(), app.as_str()), revision).ok_or_else(|| {
        let title =
            format!("there is no snapshot of the stores of `{app}` as revision `{}` left them", revision.short());
        Problem::new(ProblemKind::NotFound, title)
            .hint(format!("`isomer revisions {app} --tenant {tenant}` lists those that there are"))
            .hint("without `--to-snapshot` the stores stay as they are")
    })
}

/// Finishes or clears up what an earlier process has noted. Nothing has the stores open. Gives the apps for which that failed: they must
/// not serve before it is done, as at the next start. Blocks.
pub(crate) fn recover(dir: &NodeDir, state: &State) -> HashSet<(TenantName, AppName)> {
    if let Err(error) = snapshots::remove(&dir.trials(), &StorageAccount::unlimited()) {
        tracing::error!(%error, "what revisions on trial wrote cannot be removed");
    }
    let mut failed = HashSet::new();
    for note in fs::read_dir(dir.takeovers()).into_iter().flatten().flatten() {
        let path = note.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('.'));
        let Some((tenant, app)) = name else { continue };
        let (Ok(tenant), Ok(app)) = (tenant.parse(), app.parse()) else { continue };
        if let Err(error) = recover_one(dir, state, &path, &tenant, &app) {
            tracing::error!(%error, %tenant, %app, "its stores are half replaced: it is not served before a start that finishes this");
            failed.insert((tenant, app));
        }
    }
    failed
}

fn recover_one(dir: &NodeDir, state: &State, note: &Path, tenant: &TenantName, app: &AppName) -> io::Result<()> {
    let id = fs::read_to_string(note)?;
    // One that was not written whole: nothing was made.
    if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
        let data = dir.app(tenant.as_str(), app.as_str());
        let folder = snapshots::folder(&data).join(&id);
        match state.app(tenant, app) {
            Ok(app) if app.current().replacement.as_deref() == Some(&id) => roll_forward(&data.join("sql"), &folder)?,
            _ => snapshots::remove(&folder, &StorageAccount::unlimited())?,
        }
    }
    forget(note)
}

/// Refuses to go on with an app whose stores are half replaced: the next start of the node finishes that, or clears it up.
pub(crate) fn check_finished(dir: &NodeDir, tenant: &TenantName, app: &AppName) -> Result<(), Problem> {
    if !note_of(dir, tenant, app).exists() {
        return Ok(());
    }
    let title = format!("an earlier change of the stores of `{app}` is not finished");
    Err(Problem::new(ProblemKind::Conflict, title).hint("restart the node: it finishes the change when it starts"))
}

/// Names have no dots.
fn note_of(dir: &NodeDir, tenant: &TenantName, app: &AppName) -> PathBuf {
    dir.takeovers().join(format!("{tenant}.{app}"))
}

/// Fails where an earlier note is left: what it is about has to be finished first.
fn note(path: &Path, id: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    if path.exists() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "an earlier change of its stores is not finished"));
    }
    // Whole or not there. The name does not look like a note's while it is written.
    let written = path.with_added_extension("new");
    fs::write(&written, id)?;
    File::open(&written)?.sync_all()?;
    fs::rename(&written, path)?;
    File::open(folder)?.sync_all()?;
    File::open(folder.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn forget(note: &Path) -> io::Result<()> {
    fs::remove_file(note)
}

/// Why stores were not replaced, for an admin.
fn not_replaced(error: &CapabilityError) -> Problem {
    match error {
        CapabilityError::Sql(SqlOpenError::NoRoom { .. }) => Problem::quota(Quota::Storage, error.to_string()),
        CapabilityError::Sql(SqlOpenError::Busy { .. }) => Problem::new(ProblemKind::Conflict, error.to_string())
            .hint("`isomer stop APP` first, then deploy: nothing waits then, and it may take half an hour"),
        error => {
            let problem = Problem::new(ProblemKind::Refused, error.to_string());
            match std::error::Error::source(error) {
                Some(source) => problem.detail(source.to_string()),
                None => problem,
            }
        }
    }
}
