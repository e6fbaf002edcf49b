//! Data that is to be removed: noted before anything else is done, so that a process that is killed in between leaves none of it behind.
//!
//! A note is an empty file `removals/TENANT` or `removals/TENANT.APP` in the node's directory. A restart looks at each: if the tenant or app
//! is still there, it was killed before that was removed, and the note means nothing; else its data goes. (Removing whatever data has
//! no tenant was rejected: a node that was given the wrong state would then remove all data there is.)
//!
//! Data goes in two steps: it is moved to `trash/`, which is a rename and done at once, and what is in the trash is removed, which takes as
//! long as the tenant has made it take. Nothing in the trash belongs to anybody, so failing to remove it hinders nothing: it is logged
//! and tried again ([`clean`]), by this process and by every later one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use isomer_api::{AppName, Problem, ProblemKind, TenantName};
use isomer_capabilities::NodeDir;
use isomer_disk::tree;
use isomer_state::State;

/// Notes that the data of an app, or all of a tenant, is to be removed.
pub(crate) fn note(dir: &NodeDir, tenant: &TenantName, app: Option<&AppName>) -> io::Result<()> {
    let folder = folder(dir.path());
    fs::create_dir_all(&folder)?;
    File::create(folder.join(name(tenant, app)))?.sync_all()?;
    File::open(&folder)?.sync_all()?;
    File::open(dir.path())?.sync_all()
}

/// Moves the data to the trash, then removes the note. What it gives is to be passed to [`discard`].
///
/// # Errors
/// When the data could not be moved: the note is still there.
pub(crate) fn set_aside(dir: &NodeDir, tenant: &TenantName, app: Option<&AppName>) -> io::Result<Option<PathBuf>> {
    let data = match app {
        Some(app) => dir.app(tenant.as_str(), app.as_str()),
        None => dir.tenant(tenant.as_str()),
    };
    let moved = move_to_trash(dir, &data)?;
    if let Some(above) = data.parent().filter(|above| above.is_dir()) {
        File::open(above)?.sync_all()?;
    }
    forget(dir, tenant, app)?;
    Ok(moved)
}

/// Moves a file or folder of the node's directory to the trash, and says where it lies there; `None` if it was not there. Where it cannot
/// be moved, as a mount point, it is removed where it is.
pub(crate) fn move_to_trash(dir: &NodeDir, path: &Path) -> io::Result<Option<PathBuf>> {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let goal = dir.trash().join(format!("{now:x}-{}", NUMBERS.fetch_add(1, Ordering::Relaxed)));
    match fs::rename(path, &goal) {
        Ok(()) => File::open(dir.trash())?.sync_all().map(|()| Some(goal)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::ResourceBusy) => {
            tree::remove_if_there(path).map(|()| None)
        }
        Err(error) => Err(error),
    }
}

/// Removes what was moved to the trash. If that fails, it is logged, and [`clean`] tries again.
pub(crate) fn discard(moved: Option<PathBuf>) {
    if let Some(path) = moved
        && let Err(error) = tree::remove_if_there(&path)
    {
        tracing::warn!(path = %path.display(), %error, "removed data still takes space: it is tried again later");
    }
}

/// Removes a note alone, if it is there.
pub(crate) fn forget(dir: &NodeDir, tenant: &TenantName, app: Option<&AppName>) -> io::Result<()> {
    match fs::remove_file(folder(dir.path()).join(name(tenant, app))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// A note of an earlier process: a tenant, or one of its apps.
pub(crate) type Note = (TenantName, Option<AppName>);

/// Sets aside what an earlier process has noted and not done. Returns the notes that could not be carried out: they are logged, and
/// whoever opens the node tries again later.
pub(crate) fn recover(dir: &NodeDir, state: &State) -> Vec<Note> {
    let notes = match fs::read_dir(folder(dir.path())) {
        Ok(notes) => notes.flatten().filter_map(|note| read(note.file_name().to_str()?)).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::error!(%error, "removals of an earlier process cannot be read: the next start tries again");
            Vec::new()
        }
    };
    notes.into_iter().filter(|note| !carry_out(dir, state, note)).collect()
}

/// Is there a note?
pub(crate) fn is_noted(dir: &NodeDir, (tenant, app): &Note) -> bool {
    folder(dir.path()).join(name(tenant, app.as_ref())).exists()
}

/// Before something is made under a name that has a note: what is left of its predecessor must be out of the way.
///
/// # Errors
/// When it cannot be removed.
pub(crate) fn make_way(dir: &NodeDir, state: &State, note: &Note) -> Result<(), Problem> {
    if !is_noted(dir, note) || carry_out(dir, state, note) {
        return Ok(());
    }
    let of = note.1.as_ref().map_or_else(|| format!("tenant `{}`", note.0), |app| format!("app `{app}`"));
    Err(Problem::new(ProblemKind::Conflict, format!("data of an earlier {of} is still there, and cannot be removed"))
        .hint("the node's log says why; it is tried again every minute"))
}

/// Does what a note of an earlier process says. Whether that is done; else it is logged.
pub(crate) fn carry_out(dir: &NodeDir, state: &State, (tenant, app): &Note) -> bool {
    let is_there = match app {
        Some(app) => state.app(tenant, app).is_ok(),
        None => state.tenant(tenant).is_ok(),
    };
    let done =
        if is_there { forget(dir, tenant, app.as_ref()) } else { set_aside(dir, tenant, app.as_ref()).map(drop) };
    if let Err(error) = &done {
        let app = app.as_ref().map_or("all", AppName::as_str);
        tracing::error!(%tenant, app, %error, "a removal of an earlier process cannot be finished: it is tried again later");
    }
    done.is_ok()
}

/// Removes all that is in the trash. Blocks for as long as that takes. Whether something is left.
pub(crate) fn clean(dir: &NodeDir) -> bool {
    let mut is_left = false;
    let mut failed = |error: &io::Error| {
        is_left = true;
        tracing::warn!(%error, "removed data still takes space: it is tried again later");
    };
    match fs::read_dir(dir.trash()) {
        Ok(entries) => {
            for entry in entries {
                if let Err(error) = entry.and_then(|entry| tree::remove_if_there(&entry.path())) {
                    failed(&error);
                }
            }
        }
        Err(error) => failed(&error),
    }
    is_left
}

fn folder(dir: &Path) -> PathBuf {
    dir.join("removals")
}

fn name(tenant: &TenantName, app: Option<&AppName>) -> String {
    app.map_or_else(|| tenant.to_string(), |app| format!("{tenant}.{app}"))
}

/// Names have no dots.
fn read(name: &str) -> Option<(TenantName, Option<AppName>)> {
    match name.split_once('.') {
        Some((tenant, app)) => Some((tenant.parse().ok()?, Some(app.parse().ok()?))),
        None => Some((name.parse().ok()?, None)),
    }
}

#[cfg(test)]
mod tests {
    use isomer_api::TenantChange;

    use super::*;

    #[test]
    fn data_goes_only_with_its_app_or_tenant() {
        let folder = tempfile::tempdir().unwrap();
        let dir = NodeDir::open(folder.path()).unwrap();
        let state = State::open(&dir.state()).unwrap();
        let (here, gone): (TenantName, TenantName) = ("here".parse().unwrap(), "gone".parse().unwrap());
        state.set_tenant(&here, TenantChange::default()).unwrap();
        let app: AppName = "shop".parse().unwrap();
        for tenant in [&here, &gone] {
            fs::create_dir_all(dir.app(tenant.as_str(), "shop").join("kv")).unwrap();
            fs::create_dir_all(dir.app(tenant.as_str(), "other").join("kv")).unwrap();
        }
        note(&dir, &here, None).unwrap();
        note(&dir, &here, Some(&app)).unwrap();
        note(&dir, &gone, None).unwrap();
        assert_eq!(recover(&dir, &state), []);
        assert!(dir.app("here", "other").is_dir(), "the tenant is there");
        assert!(!dir.app("here", "shop").exists(), "the app is not");
        assert!(!dir.tenant("gone").exists());
        assert_eq!(fs::read_dir(super::folder(dir.path())).unwrap().count(), 0);
        assert_eq!(fs::read_dir(dir.trash()).unwrap().count(), 2);
        assert!(!clean(&dir));
        assert_eq!(fs::read_dir(dir.trash()).unwrap().count(), 0);
        assert_eq!(recover(&dir, &state), []);
    }

    #[test]
    fn a_removal_that_fails_is_reported_and_hinders_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = NodeDir::open(folder.path()).unwrap();
        let state = State::open(&dir.state()).unwrap();
        let [first, second]: [TenantName; 2] = ["first", "second"].map(|name| name.parse().unwrap());
        for tenant in [&first, &second] {
            fs::create_dir_all(dir.app(tenant.as_str(), "shop").join("kv")).unwrap();
            note(&dir, tenant, None).unwrap();
        }
        // Nothing can be moved to a trash that is a file.
        fs::remove_dir(dir.trash()).unwrap();
        fs::write(dir.trash(), "").unwrap();
        let mut left = recover(&dir, &state);
        left.sort();
        assert_eq!(left, [(first.clone(), None), (second.clone(), None)]);
        assert!(clean(&dir), "something is left");
        assert!(dir.tenant("first").exists() && dir.tenant("second").exists());
        fs::remove_file(dir.trash()).unwrap();
        fs::create_dir(dir.trash()).unwrap();
        // What has no data any more, by whomever, is done.
        tree::remove(&dir.tenant("first")).unwrap();
        assert!(left.iter().all(|note| carry_out(&dir, &state, note)));
        assert!(!dir.tenant("second").exists());
        assert!(!clean(&dir));
        assert_eq!(recover(&dir, &state), []);
    }
}
