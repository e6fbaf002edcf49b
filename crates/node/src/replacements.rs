//! Interrupted replacements of an app's stores, and the files that they have left on disk.
//!
//! The module [`crate::deployment::takeover`] describes how stores are replaced.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use isomer_capabilities::sql::{roll_forward, snapshot_name};
use isomer_capabilities::{NodeDir, StorageAccount};
use isomer_ids::{AppName, TenantName};
use isomer_state::NodeState;

use crate::intents::{ChangeTarget, IntentLog};
use crate::revisions::snapshots;

/// Finishes or undoes the replacements that an earlier process has left unfinished. Must be called before any store is
/// opened. Returns the apps that must not serve, because their replacement could be neither finished nor undone. If the
/// intents cannot be read, returns all apps. Blocks.
pub(crate) fn recover(dir: &NodeDir, state: &NodeState) -> HashSet<(TenantName, AppName)> {
    if let Err(error) = snapshots::remove(&dir.trials(), &StorageAccount::unlimited()) {
        tracing::error!(%error, "the files of earlier candidates cannot be removed");
    }
    let pending = match unfinished(dir) {
        Ok(pending) => pending,
        Err(error) => {
            tracing::error!(%error, "cannot read which replacements of stores are unfinished; no app is served until this is known");
            return state.apps().into_iter().map(|(tenant, app, _)| (tenant, app)).collect();
        }
    };
    let mut failed = HashSet::new();
    for (tenant, app) in pending {
        if let Err(error) = recover_one(dir, state, &tenant, &app) {
            tracing::error!(%error, %tenant, %app, "cannot finish replacing the app's stores; the app is not served until the replacement is finished");
            failed.insert((tenant, app));
        }
    }
    failed
}

/// Returns the intents to replace stores. The text of such an intent is the number that names the replacement.
pub(crate) fn intents(dir: &NodeDir) -> IntentLog {
    IntentLog::new(dir.takeovers())
}

/// Returns the apps with interrupted replacements. Blocks.
///
/// # Errors
/// If the intents cannot be read.
pub(crate) fn unfinished(dir: &NodeDir) -> io::Result<Vec<(TenantName, AppName)>> {
    Ok(intents(dir).all()?.into_iter().filter_map(|ChangeTarget { tenant, app }| Some((tenant, app?))).collect())
}

/// Removes the intents to replace stores of the app that `subject` names. If `subject` names only a tenant, removes
/// those of all its apps. The caller has already removed the apps' data. Blocks.
pub(crate) fn forget_all(dir: &NodeDir, subject: &ChangeTarget) -> io::Result<()> {
    let intents = intents(dir);
    let is_of = |pending: &ChangeTarget| {
        pending.tenant == subject.tenant && (subject.app.is_none() || pending.app == subject.app)
    };
    intents.all()?.iter().filter(|pending| is_of(pending)).try_for_each(|pending| intents.forget(pending))
}

/// Returns `true` if a replacement of the app's stores was recorded and has not finished, or if the node cannot
/// determine this. In both cases, the app must not serve. Blocks.
pub(crate) fn is_pending(dir: &NodeDir, state: &NodeState, tenant: &TenantName, app: &AppName) -> bool {
    let pending = pending(dir, state, &ChangeTarget::app(tenant, app));
    matches!(pending, Ok(Some(PendingReplacement::Recorded { .. })) | Err(_))
}

/// Syncs `folder` and all its parents up to `top`, so that the directory entries in these folders survive a power
/// failure.
pub(crate) fn sync_up_to(folder: &Path, top: &Path) -> io::Result<()> {
    let mut above = folder.ancestors().take_while(|above| above.starts_with(top)).filter(|above| above.is_dir());
    above.try_for_each(|above| File::open(above)?.sync_all())
}

fn recover_one(dir: &NodeDir, state: &NodeState, tenant: &TenantName, app: &AppName) -> io::Result<()> {
    let subject = ChangeTarget::app(tenant, app);
    match pending(dir, state, &subject)? {
        Some(PendingReplacement::Recorded { sql, folder }) => {
            roll_forward(&sql, &folder)?;
            sync_up_to(&sql, dir.path())?;
        }
        Some(PendingReplacement::ForNothing { folder }) => snapshots::remove(&folder, &StorageAccount::unlimited())?,
        Some(PendingReplacement::Done) | None => {}
    }
    intents(dir).forget(&subject)
}

/// The remaining work for an interrupted replacement.
pub(crate) enum PendingReplacement {
    /// The replacement was recorded and must be finished: the files in `folder` replace the stores in the folder `sql`.
    Recorded { sql: PathBuf, folder: PathBuf },
    /// The replacement was not recorded, so the files in `folder` are not needed and must be removed.
    ForNothing { folder: PathBuf },
    /// The replacement was finished, or its files were never made, so only the intent must be removed.
    Done,
}

/// Returns the remaining work for an app's interrupted replacement; `None` if the app has no intent.
pub(crate) fn pending(
    dir: &NodeDir,
    state: &NodeState,
    subject: &ChangeTarget,
) -> io::Result<Option<PendingReplacement>> {
    let Some(id) = intents(dir).read(subject)? else { return Ok(None) };
    // Earlier versions of the program could leave an incomplete intent. They made no files before the intent was
    // complete.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Some(PendingReplacement::Done));
    }
    let data = subject.data(dir);
    let folder = snapshots::folder(&data).join(&id);
    let recorded = subject.app.as_ref().and_then(|app| state.app(&subject.tenant, app).ok());
    Ok(Some(match recorded {
        // The folder of a recorded replacement is removed only after all stores are replaced. So if the folder does not
        // exist, the replacement is finished, and only the intent still has to be removed.
        Some(app) if app.current().replacement.as_deref() == Some(&id) => {
            if folder.try_exists()? {
                PendingReplacement::Recorded { sql: data.join("sql"), folder }
            } else {
                PendingReplacement::Done
            }
        }
        // The app is not recorded, but its stores were being switched. The only copy of a store may now be the snapshot
        // in the folder, so finish the replacement.
        None if is_started(&folder)? => PendingReplacement::Recorded { sql: data.join("sql"), folder },
        _ => PendingReplacement::ForNothing { folder },
    }))
}

/// Returns whether the switch to the new files in `folder` has started, that is, whether it has moved an old file of a
/// store to this folder.
fn is_started(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        // The name of each moved file contains the store's snapshot name. That also holds for the write-ahead log,
        // which is moved first.
        if entry?.file_name().to_str().is_some_and(|name| name.contains(&snapshot_name(""))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes the intent to replace the stores of `subject`, before the replacement starts. `id` identifies the
/// replacement.
///
/// # Errors
/// If the intent of an earlier replacement of these stores exists, which must be finished first, or if the disk fails.
pub(crate) fn write_intent(dir: &NodeDir, subject: &ChangeTarget, id: &str) -> io::Result<()> {
    let intents = intents(dir);
    if intents.has(subject)? {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "an earlier replacement of the app's stores is not finished",
        ));
    }
    intents.write(subject, id)
}
