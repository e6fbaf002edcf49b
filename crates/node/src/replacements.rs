//! Pending replacements of an app's stores: the files that a take-over with stores leaves on disk until it is finished.
//!
//! See [`crate::deployment::takeover`] for how stores are replaced.

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

/// Finishes or undoes the pending replacements of an earlier process. No store must be open. Returns the apps for which
/// this failed: they must not serve before their replacement is finished. If the intents cannot be read, returns all
/// apps. Blocks.
pub(crate) fn recover(dir: &NodeDir, state: &NodeState) -> HashSet<(TenantName, AppName)> {
    if let Err(error) = snapshots::remove(&dir.trials(), &StorageAccount::unlimited()) {
        tracing::error!(%error, "the files of earlier candidates cannot be removed");
    }
    let pending = match unfinished(dir) {
        Ok(pending) => pending,
        Err(error) => {
            tracing::error!(%error, "pending replacements of stores cannot be read: no app is served until they can");
            return state.apps().into_iter().map(|(tenant, app, _)| (tenant, app)).collect();
        }
    };
    let mut failed = HashSet::new();
    for (tenant, app) in pending {
        if let Err(error) = recover_one(dir, state, &tenant, &app) {
            tracing::error!(%error, %tenant, %app, "the app's stores are half replaced: it is not served until the replacement is finished");
            failed.insert((tenant, app));
        }
    }
    failed
}

/// Returns the intents to replace stores. The text of each intent is the name of a replacement.
pub(crate) fn intents(dir: &NodeDir) -> IntentLog {
    IntentLog::new(dir.takeovers())
}

/// Returns the apps with pending replacements. Blocks.
///
/// # Errors
/// When the intents cannot be read.
pub(crate) fn unfinished(dir: &NodeDir) -> io::Result<Vec<(TenantName, AppName)>> {
    Ok(intents(dir).all()?.into_iter().filter_map(|ChangeTarget { tenant, app }| Some((tenant, app?))).collect())
}

/// Removes the intents of an app, or of all apps of a tenant, whose data was removed. Blocks.
pub(crate) fn forget_all(dir: &NodeDir, subject: &ChangeTarget) -> io::Result<()> {
    let intents = intents(dir);
    let is_of = |pending: &ChangeTarget| {
        pending.tenant == subject.tenant && (subject.app.is_none() || pending.app == subject.app)
    };
    intents.all()?.iter().filter(|pending| is_of(pending)).try_for_each(|pending| intents.forget(pending))
}

/// Returns whether stores of the app may be half replaced. Such an app must not serve. Blocks.
pub(crate) fn is_pending(dir: &NodeDir, state: &NodeState, tenant: &TenantName, app: &AppName) -> bool {
    let pending = pending(dir, state, &ChangeTarget::app(tenant, app));
    matches!(pending, Ok(Some(PendingReplacement::Recorded { .. })) | Err(_))
}

/// Syncs `folder` and all its parents up to `top`, so that their entries survive a power failure.
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

/// What remains to be done for a pending replacement, depending on whether it was recorded.
pub(crate) enum PendingReplacement {
    /// The replacement was recorded: the stores in `sql` are to be replaced by the files in `folder`.
    Recorded { sql: PathBuf, folder: PathBuf },
    /// The replacement was not recorded: the files in `folder` are to be removed.
    ForNothing { folder: PathBuf },
    /// Only the intent is left: the replacement was finished, or its files were never made.
    Done,
}

/// Returns what remains to be done for the intent of an app; `None` if there is no intent.
pub(crate) fn pending(
    dir: &NodeDir,
    state: &NodeState,
    subject: &ChangeTarget,
) -> io::Result<Option<PendingReplacement>> {
    let Some(id) = intents(dir).read(subject)? else { return Ok(None) };
    // An earlier version of the program did not write the intent completely. In that case, no files were made.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Some(PendingReplacement::Done));
    }
    let data = subject.data(dir);
    let folder = snapshots::folder(&data).join(&id);
    let recorded = subject.app.as_ref().and_then(|app| state.app(&subject.tenant, app).ok());
    Ok(Some(match recorded {
        // If the folder does not exist, the replacement was finished, and only the intent was left: see the module
        // `takeover`.
        Some(app) if app.current().replacement.as_deref() == Some(&id) => {
            if folder.try_exists()? {
                PendingReplacement::Recorded { sql: data.join("sql"), folder }
            } else {
                PendingReplacement::Done
            }
        }
        // The switch was started, so the only copy of a store may be in the folder, under its snapshot's name.
        None if is_started(&folder)? => PendingReplacement::Recorded { sql: data.join("sql"), folder },
        _ => PendingReplacement::ForNothing { folder },
    }))
}

/// Returns whether old files of stores are in the folder of a replacement. The switch moves them there.
fn is_started(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        // The name may also be that of a write-ahead log, which is moved first.
        if entry?.file_name().to_str().is_some_and(|name| name.contains(&snapshot_name(""))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes the intent. Fails if an earlier intent exists, which has to be finished first.
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
