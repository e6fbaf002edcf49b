//! Pending replacements of an app's stores: what a take-over with stores leaves on disk until it is finished.
//!
//! See [`crate::deployment::takeover`] for how replacements are made.

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

/// Finishes or undoes the pending replacements of an earlier process. Nothing has the stores open. Returns the apps for
/// which that failed, which are all apps if the intents cannot be read: they must not serve before the replacement is
/// finished. Blocks.
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

/// The intents to replace stores: the text of each is the name of a replacement.
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

/// Returns whether stores of the app may be half replaced: then it must not serve. Blocks.
pub(crate) fn is_pending(dir: &NodeDir, state: &NodeState, tenant: &TenantName, app: &AppName) -> bool {
    let pending = pending(dir, state, &ChangeTarget::app(tenant, app));
    matches!(pending, Ok(Some(PendingReplacement::Recorded { .. })) | Err(_))
}

/// Syncs `folder` and all folders from the node's directory to it, so that their entries survive a power failure.
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

/// What an intent means, given what was recorded.
pub(crate) enum PendingReplacement {
    /// The replacement was recorded: the stores in `sql` are to be replaced by the files in `folder`.
    Recorded { sql: PathBuf, folder: PathBuf },
    /// The replacement was not recorded: the files in `folder` are of no use.
    ForNothing { folder: PathBuf },
    /// Only the intent is left, or nothing was made yet.
    Done,
}

/// Returns what the intent for an app means, if there is one.
pub(crate) fn pending(
    dir: &NodeDir,
    state: &NodeState,
    subject: &ChangeTarget,
) -> io::Result<Option<PendingReplacement>> {
    let Some(id) = intents(dir).read(subject)? else { return Ok(None) };
    // An earlier version did not write it completely: nothing was made.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Some(PendingReplacement::Done));
    }
    let data = subject.data(dir);
    let folder = snapshots::folder(&data).join(&id);
    let recorded = subject.app.as_ref().and_then(|app| state.app(&subject.tenant, app).ok());
    Ok(Some(match recorded {
        // Without its folder, the replacement was finished before and only the intent was left: see the deployment's `takeover` module.
        Some(app) if app.current().replacement.as_deref() == Some(&id) => {
            if folder.try_exists()? {
                PendingReplacement::Recorded { sql: data.join("sql"), folder }
            } else {
                PendingReplacement::Done
            }
        }
        // The store itself may be in the folder, under its snapshot's name.
        None if is_started(&folder)? => PendingReplacement::Recorded { sql: data.join("sql"), folder },
        _ => PendingReplacement::ForNothing { folder },
    }))
}

/// Returns whether the old files of stores are in a folder of replacements, which they are after the switch.
fn is_started(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        // Or their write-ahead logs, which are moved first.
        if entry?.file_name().to_str().is_some_and(|name| name.contains(&snapshot_name(""))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes the intent. Fails if an earlier one is left: that has to be finished first.
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
