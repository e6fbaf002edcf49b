//! Data that is to be removed: noted before anything else is done, so that a process that is killed in between leaves none of it behind.
//!
//! A note is an empty file `removals/TENANT` or `removals/TENANT.APP` in the node's directory. A restart looks at each: if the tenant or app
//! is still there, it was killed before that was removed, and the note means nothing; else its data goes. (Removing whatever data has
//! no tenant was rejected: a node that was given the wrong state would then remove all data there is.)

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use isomer_api::{AppName, TenantName};
use isomer_capabilities::NodeDir;
use isomer_state::State;

/// Notes that the data of an app, or all of a tenant, is to be removed.
pub(crate) fn note(dir: &NodeDir, tenant: &TenantName, app: Option<&AppName>) -> io::Result<()> {
    let folder = folder(dir.path());
    fs::create_dir_all(&folder)?;
    File::create(folder.join(name(tenant, app)))?.sync_all()?;
    File::open(&folder)?.sync_all()?;
    File::open(dir.path())?.sync_all()
}

/// Removes the data, then the note.
pub(crate) fn carry_out(dir: &NodeDir, tenant: &TenantName, app: Option<&AppName>) -> io::Result<()> {
    let data = match app {
        Some(app) => dir.app(tenant.as_str(), app.as_str()),
        None => dir.tenant(tenant.as_str()),
    };
    match fs::remove_dir_all(&data) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Some(above) = data.parent().filter(|above| above.is_dir()) {
        File::open(above)?.sync_all()?;
    }
    forget(dir, tenant, app)
}

/// Removes a note alone.
pub(crate) fn forget(dir: &NodeDir, tenant: &TenantName, app: Option<&AppName>) -> io::Result<()> {
    fs::remove_file(folder(dir.path()).join(name(tenant, app)))
}

/// Carries out what an earlier process has noted and not done.
pub(crate) fn recover(dir: &NodeDir, state: &State) -> io::Result<()> {
    let notes = match fs::read_dir(folder(dir.path())) {
        Ok(notes) => notes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for note in notes {
        let name = note?.file_name();
        let Some((tenant, app)) = name.to_str().and_then(read) else { continue };
        let is_there = match &app {
            Some(app) => state.app(&tenant, app).is_ok(),
            None => state.tenant(&tenant).is_ok(),
        };
        if is_there { forget(dir, &tenant, app.as_ref())? } else { carry_out(dir, &tenant, app.as_ref())? }
    }
    Ok(())
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
        recover(&dir, &state).unwrap();
        assert!(dir.app("here", "other").is_dir(), "the tenant is there");
        assert!(!dir.app("here", "shop").exists(), "the app is not");
        assert!(!dir.tenant("gone").exists());
        assert_eq!(fs::read_dir(super::folder(dir.path())).unwrap().count(), 0);
        recover(&dir, &state).unwrap();
    }
}
