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
//!
//! What the state will refer to is synced before that, with the folders that it lies in; and a note is forgotten, and that is synced, before what it
//! is about is removed. So where a start finds a note of a recorded replacement and no folder of it, the replacement was finished.
//!
//! Where recording fails and it cannot be read whether it was made ([`StateError::Unsettled`]), neither is assumed: requests go on waiting,
//! nothing is removed, and [`Host::settle_later`] finishes or clears up as soon as the state can be read; or the next start does.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_api::{AppName, Problem, ProblemKind, Quota, RevisionId, StoreChange, StoreSnapshot, TenantName};
use isomer_capabilities::sql::{Replacing, SqlOpenError, roll_forward};
use isomer_capabilities::{CapabilityError, NodeDir, StorageAccount, schemas};
use isomer_state::{App, State, StateError, Taking};

use super::snapshots::{self, About, SNAPSHOT_AGE_MAX, Snapshot};
use super::steps::{Changing, Step};
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
    /// Nobody else changes the app meanwhile.
    pub(super) changing: &'a Arc<Changing>,
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
    /// What an admin is to be told.
    pub(super) warnings: Vec<String>,
    /// Requests wait until this is dropped.
    pub(super) held: Option<Held>,
}

/// Stores whose new files are there: switched if they are recorded, cleared if they are not.
struct Staged {
    /// The node's directory.
    top: PathBuf,
    note: PathBuf,
    /// The app's data.
    data: PathBuf,
    /// Where the new files lie.
    folder: PathBuf,
    account: Arc<StorageAccount>,
    replacing: Vec<Replacing>,
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
        let id = snapshots::new_id(&data, self.before.and_then(|before| before.current().replacement.as_deref()));
        self.note(&id).await?;
        host.step(Step::Noted);
        let mut staged = Staged {
            top: host.dir.path().to_owned(),
            note: note_of(&host.dir, tenant, app),
            folder: snapshots::folder(&data).join(&id),
            data,
            account: self.stock.place.storage.clone(),
            replacing: Vec::new(),
        };
        // The room of older snapshots, which are given up below if it was needed.
        let kept = self.snapshot.as_ref().map(|snapshot| snapshot.folder.clone());
        let loan = {
            let (data, account) = (staged.data.clone(), staged.account.clone());
            host.blocking(move || Ok(snapshots::lend(&data, &account, kept.as_deref()))).await
        };
        let done = match loan {
            Ok(loan) => self.stage(&mut staged).await.map(|()| loan),
            Err(problem) => Err(problem),
        };
        let loan = match done {
            Ok(loan) => loan,
            // Nothing refers to it.
            Err(problem) => {
                cleared(host, staged).await;
                return Err(problem);
            }
        };
        host.step(Step::Staged);
        let changes = staged.replacing.iter().map(|store| self.change(store)).collect();
        let mut taking = self.taking.clone();
        taking.deployment.replacement = Some(id.clone());
        let recording = host.clone();
        let recorded = match host.blocking(move || Ok(recording.state.take_over(taking))).await {
            Ok(Ok(recorded)) => recorded,
            Ok(Err(StateError::Unsettled { source })) => {
                self.settle_later(id, staged, (held, loan));
                return Err(host.refused_by_state(StateError::Unsettled { source }));
            }
            Ok(Err(error)) => {
                cleared(host, staged).await;
                return Err(host.refused_by_state(error));
            }
            // It panicked: nobody knows where.
            Err(problem) => {
                self.settle_later(id, staged, (held, loan));
                return Err(problem);
            }
        };
        host.step(Step::Recorded);
        let (data, folder, account) = (staged.data.clone(), staged.folder.clone(), staged.account.clone());
        let switched = host.blocking(move || staged.switch().map_err(|error| problems::failed(&error)));
        if let Err(problem) = switched.await {
            tracing::error!(%problem, %tenant, %app, "stores are replaced later: when they are opened next, or within a minute");
        }
        host.step(Step::Switched);
        drop(loan);
        let warnings = self.sweep(data, folder, account).await;
        Ok(TakenOver { recorded, changes, warnings, held })
    }

    /// Finishes or clears up as soon as it is known which; `kept` lasts until then.
    fn settle_later(&self, id: String, staged: Staged, kept: impl Send + 'static) {
        let (tenant, app) = (self.tenant.clone(), self.app.clone());
        self.host.settle_later((tenant.clone(), app.clone()), self.changing.clone(), move |host, recorded| {
            let is_recorded = recorded.is_some_and(|recorded| recorded.current().replacement.as_ref() == Some(&id));
            let settled = if is_recorded { staged.switch() } else { staged.clear() };
            if let Err(error) = settled {
                tracing::error!(%error, %tenant, %app, "stores are replaced later: when they are opened next, or within a minute");
            }
            if is_recorded {
                // It may have been the same revision, with other data.
                let _ = host.tenancy.unload(&tenant, &app);
            }
            kept
        });
    }

    fn change(&self, store: &Replacing) -> StoreChange {
        let restored_to = self.snapshot.as_ref().map(|snapshot| &snapshot.about);
        StoreChange {
            store: store.name().to_owned(),
            migrated: store.schema.pending.clone(),
            newer: store.schema.newer.clone(),
            restored_to: restored_to
                .filter(|about| about.stores.iter().any(|saved| saved.store == store.name()))
                .map(|about| about.taken_at),
            snapshot: store.bytes > 0,
        }
    }

    async fn note(&self, id: &str) -> Result<(), Problem> {
        let (path, id) = (note_of(&self.host.dir, self.tenant, self.app), id.to_owned());
        self.host.blocking(move || note(&path, &id).map_err(|error| problems::failed(&error))).await
    }

    /// Makes the new files, in the folder of `staged`. All is synced on return.
    async fn stage(&self, staged: &mut Staged) -> Result<(), Problem> {
        let Self { host, stock, .. } = self;
        let serves = self.before.is_some_and(|before| !before.stopped);
        let deadline = Instant::now() + if serves { HELD_MAX } else { UNHELD_MAX };
        let from = self.snapshot.as_ref().map(|snapshot| snapshot.folder.as_path());
        let (app, stores) = (stock.package.app(), host.tenancy.stores());
        let replacing = schemas::replace(&app, &stock.place, stores, from, &staged.folder, deadline).await;
        staged.replacing = replacing.map_err(|error| not_replaced(&error, self.tenant, self.app))?;
        let about = About {
            taken_at: self.now_s,
            before: self.before.map(|before| before.current().revision.clone()),
            stores: staged
                .replacing
                .iter()
                .filter(|store| store.bytes > 0)
                .map(|store| StoreSnapshot { store: store.name().to_owned(), bytes: store.bytes })
                .collect(),
        };
        let (folder, top) = (staged.folder.clone(), staged.top.clone());
        host.blocking(move || {
            fs::create_dir_all(&folder)
                .and_then(|()| snapshots::describe(&folder, &about))
                .and_then(|()| sync_up(&folder, &top))
                .map_err(|error| problems::failed(&error))
        })
        .await
    }

    /// Removes snapshots that are too many, too old, or more than there is room for. Returns what an admin is to be told of that.
    async fn sweep(&self, data: PathBuf, folder: PathBuf, account: Arc<StorageAccount>) -> Vec<String> {
        let now = std::time::SystemTime::now();
        let is_pending = note_of(&self.host.dir, self.tenant, self.app);
        let from = self.snapshot.as_ref().map(|snapshot| snapshot.folder.clone());
        let swept = self.host.blocking(move || {
            // Stores that were not there before have no snapshot.
            if !snapshots::is_of_something(&folder) && !is_pending.exists() {
                let _ = snapshots::remove(&folder, &account);
            }
            let swept = snapshots::sweep(&data, &account, now, SNAPSHOT_AGE_MAX).and_then(|_| {
                let kept: Vec<_> = std::iter::once(folder.as_path()).chain(from.as_deref()).collect();
                snapshots::give_up(&data, &account, &kept)
            });
            swept.map_err(|error| problems::failed(&error))
        });
        // What fails is in the log, and done within the hour.
        match swept.await {
            Ok(given_up) if !given_up.is_empty() => {
                let count = given_up.len();
                let which = if count == 1 { "the oldest snapshot" } else { "the oldest snapshots" };
                vec![format!(
                    "warning: {which} of the app's stores ({count}) gave way to the new one: the tenant's quota `storage` has no room for all"
                )]
            }
            _ => Vec::new(),
        }
    }
}

impl Staged {
    /// Puts the new files in place of the stores' own. Each is tried: one that fails is done at the next start. Blocks.
    fn switch(mut self) -> io::Result<()> {
        let switched: Vec<_> = self.replacing.iter_mut().map(Replacing::switch).collect();
        let switched: io::Result<()> = switched.into_iter().collect();
        switched.and_then(|()| sync_up(&self.data, &self.top)).and_then(|()| forget(&self.note))
    }

    /// Removes what was made for nothing. The stores go on as they were. Blocks.
    fn clear(self) -> io::Result<()> {
        drop(self.replacing);
        snapshots::remove(&self.folder, &self.account).and_then(|()| forget(&self.note))
    }
}

/// [`Staged::clear`]: if it fails, it is in the log, and done at the next start.
async fn cleared(host: &Arc<Host>, staged: Staged) {
    let _ = host.blocking(move || staged.clear().map_err(|error| problems::failed(&error))).await;
}

/// Has the entries of `folder`, and of all folders from the node's directory to it, survive a loss of power.
fn sync_up(folder: &Path, top: &Path) -> io::Result<()> {
    let mut above = folder.ancestors().take_while(|above| above.starts_with(top)).filter(|above| above.is_dir());
    above.try_for_each(|above| File::open(above)?.sync_all())
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
/// not serve before [`finish`] has done it, or the next start. Blocks.
pub(crate) fn recover(dir: &NodeDir, state: &State) -> HashSet<(TenantName, AppName)> {
    if let Err(error) = snapshots::remove(&dir.trials(), &StorageAccount::unlimited()) {
        tracing::error!(%error, "what revisions on trial wrote cannot be removed");
    }
    let mut failed = HashSet::new();
    for (tenant, app) in unfinished(dir) {
        if let Err(error) = recover_one(dir, state, &tenant, &app) {
            tracing::error!(%error, %tenant, %app, "its stores are half replaced: it is not served before that can be finished");
            failed.insert((tenant, app));
        }
    }
    failed
}

/// The apps of which something is noted. Blocks.
pub(crate) fn unfinished(dir: &NodeDir) -> Vec<(TenantName, AppName)> {
    let names = fs::read_dir(dir.takeovers()).into_iter().flatten().flatten().map(|note| note.file_name());
    let apps = names.filter_map(|name| {
        let (tenant, app) = name.to_str()?.split_once('.')?;
        Some((tenant.parse().ok()?, app.parse().ok()?))
    });
    apps.collect()
}

/// Tries to finish or clear up what is noted of an app, while the node serves; nobody else changes the app meanwhile. What is in the way is
/// in the log.
pub(crate) async fn finish(host: &Arc<Host>, tenant: &TenantName, app: &AppName) {
    let (reading, key) = (host.clone(), (tenant.clone(), app.clone()));
    let found = host.blocking(move || {
        let is_noted = note_of(&reading.dir, &key.0, &key.1).exists();
        Ok(is_noted.then(|| noted(&reading.dir, &reading.state, &key.0, &key.1)))
    });
    let found = match found.await {
        Ok(None) => return,
        Ok(Some(found)) => found,
        Err(problem) => Err(io::Error::other(problem.to_string())),
    };
    let finished = match found {
        Ok(found) => finish_noted(host, found, tenant, app).await,
        Err(error) => Err(error),
    };
    match finished {
        Ok(()) => {
            tracing::info!(%tenant, %app, "an earlier change of its stores is finished");
            if host.state.app(tenant, app).is_ok_and(|app| !app.stopped) {
                // A start that could not finish it has left the app stopped.
                let _ = host.tenancy.resume(tenant, app);
            }
        }
        Err(error) => tracing::error!(%error, %tenant, %app, "an earlier change of its stores cannot be finished yet"),
    }
}

async fn finish_noted(host: &Arc<Host>, found: Noted, tenant: &TenantName, app: &AppName) -> io::Result<()> {
    let storage = host.storage(tenant).unwrap_or_else(|| Arc::new(StorageAccount::unlimited()));
    if let Noted::Recorded { sql, folder } = &found {
        host.tenancy.stores().finish_replacements(sql, &storage, folder).await?;
    }
    let (dir, note) = (host.dir.clone(), note_of(&host.dir, tenant, app));
    let rest = host.blocking(move || {
        Ok(match &found {
            Noted::Recorded { sql, .. } => sync_up(sql, dir.path()),
            Noted::ForNothing { folder } => snapshots::remove(folder, &storage),
            Noted::Done => Ok(()),
        }
        .and_then(|()| forget(&note)))
    });
    rest.await.map_err(|problem| io::Error::other(problem.to_string()))?
}

fn recover_one(dir: &NodeDir, state: &State, tenant: &TenantName, app: &AppName) -> io::Result<()> {
    match noted(dir, state, tenant, app)? {
        Noted::Recorded { sql, folder } => {
            roll_forward(&sql, &folder)?;
            sync_up(&sql, dir.path())?;
        }
        Noted::ForNothing { folder } => snapshots::remove(&folder, &StorageAccount::unlimited())?,
        Noted::Done => {}
    }
    forget(&note_of(dir, tenant, app))
}

/// What a note means.
enum Noted {
    /// The stores in `sql` are to be replaced by what lies in `folder`.
    Recorded { sql: PathBuf, folder: PathBuf },
    /// What lies in `folder` was made for nothing.
    ForNothing { folder: PathBuf },
    /// Only the note is left, or nothing was made yet.
    Done,
}

fn noted(dir: &NodeDir, state: &State, tenant: &TenantName, app: &AppName) -> io::Result<Noted> {
    let id = fs::read_to_string(note_of(dir, tenant, app))?;
    // One that was not written whole: nothing was made.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Noted::Done);
    }
    let data = dir.app(tenant.as_str(), app.as_str());
    let folder = snapshots::folder(&data).join(&id);
    Ok(match state.app(tenant, app) {
        // Without its folder it was finished before, and only the note was left: see above.
        Ok(app) if app.current().replacement.as_deref() == Some(&id) => {
            if folder.try_exists()? {
                Noted::Recorded { sql: data.join("sql"), folder }
            } else {
                Noted::Done
            }
        }
        _ => Noted::ForNothing { folder },
    })
}

/// Refuses to go on with an app whose stores are half replaced: see [`finish`].
pub(crate) fn check_finished(dir: &NodeDir, tenant: &TenantName, app: &AppName) -> Result<(), Problem> {
    if !note_of(dir, tenant, app).exists() {
        return Ok(());
    }
    let title = format!("an earlier change of the stores of `{app}` is not finished");
    let hint =
        "the node's log says what is in the way; when that is gone, try again, or wait a minute: the node finishes it";
    Err(Problem::new(ProblemKind::Conflict, title).hint(hint))
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
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    let synced = synced.and_then(|()| File::open(folder.parent().unwrap_or(Path::new(".")))?.sync_all());
    // Nothing was made yet. A note that stays would keep the app from being changed.
    synced.inspect_err(|_| drop(forget(path)))
}

fn forget(note: &Path) -> io::Result<()> {
    fs::remove_file(note)?;
    File::open(note.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Why stores were not replaced, for an admin.
fn not_replaced(error: &CapabilityError, tenant: &TenantName, app: &AppName) -> Problem {
    match error {
        CapabilityError::Sql(SqlOpenError::NoRoom { .. }) => Problem::quota(Quota::Storage, error.to_string()),
        CapabilityError::Sql(SqlOpenError::Busy { .. }) => Problem::new(ProblemKind::Conflict, error.to_string())
            .hint(format!("`isomer stop {app} --tenant {tenant}` first, then deploy: nothing waits then, and it may take half an hour")),
        error => {
            let problem = Problem::new(ProblemKind::Refused, error.to_string());
            match std::error::Error::source(error) {
                Some(source) => problem.detail(source.to_string()),
                None => problem,
            }
        }
    }
}
