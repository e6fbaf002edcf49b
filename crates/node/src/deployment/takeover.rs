//! Taking over together with the app's data: a revision that has migrations which the stores have not seen, or one that is to have its
//! stores as they were.
//!
//! ```text
//! requests held, those in flight finished ─► noted ─► new files made beside the stores ─► recorded ─► files switched ─► requests go on
//! ```
//!
//! What was said in [`super::steps`] holds for stores too: before *recorded* their files are only read, and what lies beside them is
//! referred to by nothing. The state says which [`replacement`](isomer_state::Deployment::replacement) counts; whoever finds a
//! [note](crate::notes) goes on or clears up by that: a start, whoever changes the app next ([`finish_first`]), and the node every minute. The note
//! is there so that nobody need look through the data of all apps.
//!
//! What the state will refer to is synced before that, with the folders that it lies in; and a note is forgotten, and that is synced, before what it
//! is about is removed. So where a start finds a note of a recorded replacement and no folder of it, the replacement was finished.
//!
//! An app is not removed, unless with its data, before what is noted of it is finished. Of one that is gone all the same, a switch that was begun
//! is finished, as it was recorded: its data is what was to be kept.
//!
//! Where recording fails and it cannot be read whether it was made ([`StateError::Unsettled`](isomer_state::StateError::Unsettled)), neither is assumed: requests go on waiting,
//! nothing is removed, and [`Host::settle_later`] finishes or clears up as soon as the state can be read; or the next start does.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_api::{AppName, Problem, ProblemKind, Quota, RevisionId, StoreChange, StoreSnapshot, TenantName};
use isomer_capabilities::sql::{Replacing, SqlOpenError, roll_forward, snapshot_name};
use isomer_capabilities::{CapabilityError, NodeDir, StorageAccount, StorageLoan, schemas};
use isomer_state::{App, State, Taking};

use super::snapshots::{self, About, SNAPSHOT_AGE_MAX, Snapshot};
use super::steps::{Changing, Step};
use crate::host::settling::Unrecorded;
use crate::host::{Host, problems};
use crate::notes::{Notes, Subject};
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
    notes: Notes,
    subject: Subject,
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
        let (staged, loan) = self.prepare(&id, data).await?;
        let changes = staged.replacing.iter().map(|store| self.change(store)).collect();
        let mut taking = self.taking.clone();
        taking.deployment.replacement = Some(id.clone());
        let recorded = match host.try_record(move |host| host.state.take_over(taking)).await {
            Ok(recorded) => recorded,
            Err(Unrecorded::Refused(error)) => {
                cleared(host, staged).await;
                return Err(host.refused_by_state(error));
            }
            Err(Unrecorded::Unknown(problem)) => {
                self.settle_later(id, staged, (held, loan));
                return Err(problem);
            }
        };
        host.charge(tenant);
        host.step(Step::Recorded);
        let (data, folder, account) = (staged.data.clone(), staged.folder.clone(), staged.account.clone());
        let switched = host.blocking(move || staged.switch().map_err(|error| problems::failed(&error))).await;
        host.step(Step::Switched);
        drop(loan);
        let mut warnings = self.sweep(data, folder, account).await;
        if let Err(problem) = switched {
            tracing::error!(%problem, %tenant, %app, "stores are replaced later: when they are opened next, or within a minute");
            let problem = problems::without_folder(problem, host.dir.path());
            warnings.push(format!(
                "warning: the revision took over, but stores of `{app}` could not be replaced yet ({problem}): requests that need them fail until \
                 that is done, which the node tries again when they are opened, and every minute"
            ));
        }
        Ok(TakenOver { recorded, changes, warnings, held })
    }

    /// Notes the replacement and makes the new files. The room of older snapshots is lent for that: they are given up later, if it was needed.
    async fn prepare(&self, id: &str, data: PathBuf) -> Result<(Staged, StorageLoan), Problem> {
        let Self { host, tenant, app, .. } = self;
        let subject = Subject::app(tenant, app);
        let (reading, of, text) = (Arc::clone(host), subject.clone(), id.to_owned());
        host.blocking(move || note(&reading.dir, &of, &text).map_err(|error| problems::failed(&error))).await?;
        host.step(Step::Noted);
        let mut staged = Staged {
            top: host.dir.path().to_owned(),
            notes: notes(&host.dir),
            subject,
            folder: snapshots::folder(&data).join(id),
            data,
            account: self.stock.place.storage.clone(),
            replacing: Vec::new(),
        };
        let kept = self.snapshot.as_ref().map(|snapshot| snapshot.folder.clone());
        let (data, account) = (staged.data.clone(), staged.account.clone());
        let lent = host.blocking(move || Ok(snapshots::lend(&data, &account, kept.as_deref()))).await;
        let done = match lent {
            Ok(loan) => self.stage(&mut staged).await.map(|()| loan),
            Err(problem) => Err(problem),
        };
        match done {
            Ok(loan) => {
                host.step(Step::Staged);
                Ok((staged, loan))
            }
            // Nothing refers to it.
            Err(problem) => {
                cleared(host, staged).await;
                Err(problem)
            }
        }
    }

    /// Finishes or clears up as soon as it is known which; `kept` lasts until then.
    fn settle_later(&self, id: String, staged: Staged, kept: impl Send + 'static) {
        let (tenant, app) = (self.tenant.clone(), self.app.clone());
        self.host.settle_later(staged.subject.clone(), self.changing.clone(), move |host| {
            let recorded = host.state.app(&tenant, &app).ok();
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

    /// Makes the new files, in the folder of `staged`. All is synced on return.
    async fn stage(&self, staged: &mut Staged) -> Result<(), Problem> {
        let Self { host, stock, .. } = self;
        let serves = self.before.is_some_and(|before| !before.stopped);
        let deadline = Instant::now() + if serves { HELD_MAX } else { UNHELD_MAX };
        let from = self.snapshot.as_ref().map(|snapshot| snapshot.folder.as_path());
        let (grants, stores) = (stock.package.grants(), host.tenancy.stores());
        let replacing = schemas::replace(grants, &stock.place, stores, from, &staged.folder, deadline).await;
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
        let (notes, subject) = (notes(&self.host.dir), Subject::app(self.tenant, self.app));
        let from = self.snapshot.as_ref().map(|snapshot| snapshot.folder.clone());
        let swept = self.host.blocking(move || {
            // Stores that were not there before have no snapshot.
            if !snapshots::is_of_something(&folder) && notes.has(&subject).is_ok_and(|is_pending| !is_pending) {
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
        switched.and_then(|()| sync_up(&self.data, &self.top)).and_then(|()| self.notes.forget(&self.subject))
    }

    /// Removes what was made for nothing. The stores go on as they were. Blocks.
    fn clear(self) -> io::Result<()> {
        drop(self.replacing);
        snapshots::remove(&self.folder, &self.account).and_then(|()| self.notes.forget(&self.subject))
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

/// Finishes or clears up what an earlier process has noted. Nothing has the stores open. Gives the apps for which that failed, which are all where
/// the notes cannot be read: they must not serve before [`finish`] has done it, or the next start. Blocks.
pub(crate) fn recover(dir: &NodeDir, state: &State) -> HashSet<(TenantName, AppName)> {
    if let Err(error) = snapshots::remove(&dir.trials(), &StorageAccount::unlimited()) {
        tracing::error!(%error, "what revisions on trial wrote cannot be removed");
    }
    let noted = match unfinished(dir) {
        Ok(noted) => noted,
        Err(error) => {
            tracing::error!(%error, "it cannot be read whose stores are half replaced: no app is served before that");
            return state.apps().into_iter().map(|(tenant, app, _)| (tenant, app)).collect();
        }
    };
    let mut failed = HashSet::new();
    for (tenant, app) in noted {
        if let Err(error) = recover_one(dir, state, &tenant, &app) {
            tracing::error!(%error, %tenant, %app, "its stores are half replaced: it is not served before that can be finished");
            failed.insert((tenant, app));
        }
    }
    failed
}

/// The notes of take-overs: each says which replacement.
fn notes(dir: &NodeDir) -> Notes {
    Notes::new(dir.takeovers())
}

/// The apps of which something is noted. Blocks.
///
/// # Errors
/// When that cannot be read.
pub(crate) fn unfinished(dir: &NodeDir) -> io::Result<Vec<(TenantName, AppName)>> {
    Ok(notes(dir).all()?.into_iter().filter_map(|Subject { tenant, app }| Some((tenant, app?))).collect())
}

/// Forgets what is noted of an app, or of all apps of a tenant, whose data is gone. Blocks.
pub(crate) fn forget_all(dir: &NodeDir, subject: &Subject) -> io::Result<()> {
    let notes = notes(dir);
    let is_of = |noted: &Subject| noted.tenant == subject.tenant && (subject.app.is_none() || noted.app == subject.app);
    notes.all()?.iter().filter(|noted| is_of(noted)).try_for_each(|noted| notes.forget(noted))
}

/// Returns whether stores of the app may be half replaced: then it must not serve. Blocks.
pub(crate) fn is_pending(dir: &NodeDir, state: &State, tenant: &TenantName, app: &AppName) -> bool {
    let noted = noted(dir, state, &Subject::app(tenant, app));
    matches!(noted, Ok(Some(Noted::Recorded { .. })) | Err(_))
}

/// Finishes or clears up what is noted of an app, before it is changed.
///
/// # Errors
/// When that is not done: with what the admin can do.
pub(crate) async fn finish_first(host: &Arc<Host>, tenant: &TenantName, app: &AppName) -> Result<(), Problem> {
    finish(host, tenant, app).await;
    let (reading, subject) = (host.clone(), Subject::app(tenant, app));
    let is_noted = host.blocking(move || Ok(notes(&reading.dir).has(&subject).unwrap_or(true)));
    if !is_noted.await? {
        return Ok(());
    }
    let title = format!("an earlier change of the stores of `{app}` is not finished");
    let hint =
        "the node's log says what is in the way; when that is gone, try again, or wait a minute: the node finishes it";
    Err(Problem::new(ProblemKind::Conflict, title).hint(hint))
}

/// Tries to finish or clear up what is noted of an app, while the node serves; nobody else changes the app meanwhile. What is in the way is
/// in the log.
pub(crate) async fn finish(host: &Arc<Host>, tenant: &TenantName, app: &AppName) {
    let (reading, subject) = (host.clone(), Subject::app(tenant, app));
    let of = subject.clone();
    let found = host.blocking(move || Ok(noted(&reading.dir, &reading.state, &of))).await;
    let finished = match found {
        Ok(Ok(None)) => {
            host.serve_withheld(tenant, app);
            return;
        }
        Ok(Ok(Some(found))) => finish_noted(host, found, subject).await,
        Ok(Err(error)) => Err(error),
        Err(problem) => Err(io::Error::other(problem.to_string())),
    };
    match finished {
        Ok(()) => {
            tracing::info!(%tenant, %app, "an earlier change of its stores is finished");
            host.serve_withheld(tenant, app);
        }
        Err(error) => tracing::error!(%error, %tenant, %app, "an earlier change of its stores cannot be finished yet"),
    }
}

async fn finish_noted(host: &Arc<Host>, found: Noted, subject: Subject) -> io::Result<()> {
    let storage = host.storage(&subject.tenant).unwrap_or_else(|| Arc::new(StorageAccount::unlimited()));
    if let Noted::Recorded { sql, folder } = &found {
        host.tenancy.stores().finish_replacements(sql, &storage, folder).await?;
    }
    let dir = host.dir.clone();
    let rest = host.blocking(move || {
        Ok(match &found {
            Noted::Recorded { sql, .. } => sync_up(sql, dir.path()),
            Noted::ForNothing { folder } => snapshots::remove(folder, &storage),
            Noted::Done => Ok(()),
        }
        .and_then(|()| notes(&dir).forget(&subject)))
    });
    rest.await.map_err(|problem| io::Error::other(problem.to_string()))?
}

fn recover_one(dir: &NodeDir, state: &State, tenant: &TenantName, app: &AppName) -> io::Result<()> {
    let subject = Subject::app(tenant, app);
    match noted(dir, state, &subject)? {
        Some(Noted::Recorded { sql, folder }) => {
            roll_forward(&sql, &folder)?;
            sync_up(&sql, dir.path())?;
        }
        Some(Noted::ForNothing { folder }) => snapshots::remove(&folder, &StorageAccount::unlimited())?,
        Some(Noted::Done) | None => {}
    }
    notes(dir).forget(&subject)
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

/// What is noted of an app.
fn noted(dir: &NodeDir, state: &State, subject: &Subject) -> io::Result<Option<Noted>> {
    let Some(id) = notes(dir).read(subject)? else { return Ok(None) };
    // One that was not written whole, by an earlier version: nothing was made.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Some(Noted::Done));
    }
    let data = subject.data(dir);
    let folder = snapshots::folder(&data).join(&id);
    let recorded = subject.app.as_ref().and_then(|app| state.app(&subject.tenant, app).ok());
    Ok(Some(match recorded {
        // Without its folder it was finished before, and only the note was left: see above.
        Some(app) if app.current().replacement.as_deref() == Some(&id) => {
            if folder.try_exists()? {
                Noted::Recorded { sql: data.join("sql"), folder }
            } else {
                Noted::Done
            }
        }
        // The store itself may lie here, under its snapshot's name.
        None if is_begun(&folder)? => Noted::Recorded { sql: data.join("sql"), folder },
        _ => Noted::ForNothing { folder },
    }))
}

/// Returns whether stores' old files lie in a folder of replacements: they do since the switch.
fn is_begun(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        // Or their logs, which go first.
        if entry?.file_name().to_str().is_some_and(|name| name.contains(&snapshot_name(""))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Fails where an earlier note is left: what it is about has to be finished first.
fn note(dir: &NodeDir, subject: &Subject, id: &str) -> io::Result<()> {
    let notes = notes(dir);
    if notes.has(subject)? {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "an earlier change of its stores is not finished"));
    }
    notes.write(subject, id)
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
