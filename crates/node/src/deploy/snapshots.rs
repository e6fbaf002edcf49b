//! Snapshots: the files of an app's SQL stores that were replaced when a revision took over, for going back to them.
//!
//! Each lies in a folder of its own, `snapshots/ID/` in the app's data, with a description. They count for the tenant's storage. The last
//! [`SNAPSHOTS_MAX`] of an app are kept, for [`SNAPSHOT_AGE_MAX`]; older ones go before a new one would find no room.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use isomer_api::{RevisionId, SnapshotInfo, StoreSnapshot};
use isomer_capabilities::StorageAccount;
use isomer_disk::tree;
use serde::{Deserialize, Serialize};

/// How many snapshots of an app are kept.
pub const SNAPSHOTS_MAX: usize = 3;

/// How long a snapshot is kept.
pub const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// What the snapshot in a folder is of.
const ABOUT: &str = "about.json";

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    /// When it was taken: seconds since 1970, UTC.
    pub(crate) taken_at: u64,
    /// The revision that served then, if one did.
    pub(crate) before: Option<RevisionId>,
    /// The stores.
    pub(crate) stores: Vec<StoreSnapshot>,
}

/// A snapshot on disk.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) folder: PathBuf,
    pub(crate) about: About,
}

impl Snapshot {
    pub(crate) fn info(&self) -> SnapshotInfo {
        SnapshotInfo { taken_at: self.about.taken_at, stores: self.about.stores.clone() }
    }
}

/// Where the snapshots lie of an app whose data is in `data`.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join("snapshots")
}

/// A name for a new one, which comes after those that there are.
pub(crate) fn new_id(data: &Path) -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let last = ids(data).first().and_then(|id| id.parse::<u64>().ok()).unwrap_or(0);
    format!("{:013}", now.max(last + 1))
}

/// Writes down what the snapshot in `folder` is of. It is synced on return.
pub(crate) fn describe(folder: &Path, about: &About) -> io::Result<()> {
    let path = folder.join(ABOUT);
    fs::write(&path, serde_json::to_vec(about).expect("it is plain data"))?;
    File::open(&path)?.sync_all()?;
    File::open(folder)?.sync_all()
}

/// All of an app, the newest first.
pub(crate) fn all(data: &Path) -> Vec<Snapshot> {
    ids(data).into_iter().filter_map(|id| read(&folder(data).join(id))).collect()
}

/// Is there a snapshot in this folder?
pub(crate) fn is_of_something(folder: &Path) -> bool {
    read(folder).is_some()
}

fn read(folder: &Path) -> Option<Snapshot> {
    let about: About = serde_json::from_slice(&fs::read(folder.join(ABOUT)).ok()?).ok()?;
    (!about.stores.is_empty()).then(|| Snapshot { folder: folder.to_owned(), about })
}

/// The newest that has the data of `revision`.
pub(crate) fn of(data: &Path, revision: &RevisionId) -> Option<Snapshot> {
    all(data).into_iter().find(|snapshot| snapshot.about.before.as_ref() == Some(revision))
}

/// Removes those that are too many or too old.
pub(crate) fn sweep(data: &Path, account: &StorageAccount, now: SystemTime, age_max: Duration) -> io::Result<usize> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let is_old = |id: &str| id.parse().is_ok_and(|ms: u64| now.saturating_sub(ms / 1000) >= age_max.as_secs());
    let mut removed = 0;
    for (index, id) in ids(data).into_iter().enumerate() {
        if index >= SNAPSHOTS_MAX || is_old(&id) {
            remove(&folder(data).join(id), account)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes the oldest, to make room; not `kept`.
pub(crate) fn remove_oldest(data: &Path, account: &StorageAccount, kept: Option<&Path>) -> io::Result<bool> {
    let folders = ids(data).into_iter().rev().map(|id| folder(data).join(id));
    match folders.into_iter().find(|folder| Some(folder.as_path()) != kept) {
        Some(oldest) => remove(&oldest, account).map(|()| true),
        None => Ok(false),
    }
}

/// Removes what is in a folder of replacements or of a snapshot.
pub(crate) fn remove(folder: &Path, account: &StorageAccount) -> io::Result<()> {
    // A revision on trial may have built folders that are as deep as it likes.
    let removed = tree::remove_if_there(folder);
    account.forget(folder);
    removed
}

/// The names of all folders, the newest first.
fn ids(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder(data)).into_iter().flatten().flatten();
    let mut ids: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_kept_and_the_newest_of_a_revision_is_found() {
        let data = tempfile::tempdir().unwrap();
        let (data, account) = (data.path(), StorageAccount::unlimited());
        let revision = |number: u8| RevisionId::from([number; 16]);
        let mut made = Vec::new();
        for number in [1, 2, 1, 3, 4] {
            let id = new_id(data);
            let folder = folder(data).join(&id);
            fs::create_dir_all(&folder).unwrap();
            let stores = vec![StoreSnapshot { store: "main".to_owned(), bytes: number.into() }];
            describe(&folder, &About { taken_at: 7, before: Some(revision(number)), stores }).unwrap();
            made.push(folder);
        }
        assert_eq!(of(data, &revision(1)).unwrap().folder, made[2]);
        assert!(of(data, &revision(9)).is_none());
        assert_eq!(sweep(data, &account, SystemTime::now(), SNAPSHOT_AGE_MAX).unwrap(), 2);
        assert_eq!(
            all(data).iter().map(|one| one.folder.clone()).collect::<Vec<_>>(),
            [4, 3, 2].map(|at| made[at].clone())
        );
        assert!(remove_oldest(data, &account, Some(&made[2])).unwrap());
        assert_eq!((all(data).len(), made[2].exists()), (2, true));
        assert_eq!(sweep(data, &account, SystemTime::now(), Duration::ZERO).unwrap(), 2);
        assert!(!remove_oldest(data, &account, None).unwrap());
    }
}
