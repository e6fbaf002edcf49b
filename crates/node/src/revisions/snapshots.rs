//! Snapshots. A snapshot contains the files that an app's SQL stores had before a take-over replaced them. A rollback
//! can restore these files.
//!
//! Each snapshot is a folder `snapshots/ID/` in the app's data, with a description. Snapshots are charged to the
//! tenant's quota `storage`. An app keeps its newest [`SNAPSHOTS_MAX`] snapshots, each for at most
//! [`SNAPSHOT_AGE_MAX`].
//!
//! If the tenant's storage has no room for the copies that a deployment needs, the deployment may use the space that is
//! charged for older snapshots (`lend_storage`). These snapshots are removed only after the deployment is recorded
//! (`remove_for_space`), so a refused deployment deletes no snapshot.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use isomer_api::{SnapshotInfo, StoreSnapshot};
use isomer_capabilities::{StorageAccount, StorageLoan};
use isomer_disk::tree;
use isomer_ids::ReleaseDigest;
use serde::{Deserialize, Serialize};

/// The maximum number of snapshots of an app.
pub const SNAPSHOTS_MAX: usize = 3;

/// The maximum age of a snapshot.
pub const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// The name of the file in a snapshot's folder that describes the snapshot.
const ABOUT: &str = "about.json";

/// The description of a snapshot, as JSON in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotDescription {
    /// The Unix time at which the snapshot was taken, in seconds.
    pub(crate) taken_at: u64,
    /// The revision in service when the snapshot was taken; `None` if the app had none.
    pub(crate) before: Option<ReleaseDigest>,
    /// The stores in the snapshot, with their sizes.
    pub(crate) stores: Vec<StoreSnapshot>,
}

/// A snapshot on disk.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) folder: PathBuf,
    pub(crate) about: SnapshotDescription,
}

impl Snapshot {
    pub(crate) fn info(&self) -> SnapshotInfo {
        SnapshotInfo { taken_at: self.about.taken_at, stores: self.about.stores.clone() }
    }
}

/// Returns the path of the folder with all snapshots of an app. `data` is the path of the app's data.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join("snapshots")
}

/// Returns a name for a new snapshot of an app. `before` is the name of the app's last recorded replacement, if any.
/// The name sorts after `before` and after the names of all existing snapshots.
pub(crate) fn new_id(data: &Path, before: Option<&str>) -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let ids = ids(data);
    let last = ids.first().map(String::as_str).into_iter().chain(before).filter_map(|id| id.parse().ok()).max();
    format!("{:013}", last.map_or(now, |last: u64| now.max(last.saturating_add(1))))
}

/// Writes the description of the snapshot in `folder`, and syncs the file.
pub(crate) fn write_description(folder: &Path, about: &SnapshotDescription) -> io::Result<()> {
    let path = folder.join(ABOUT);
    fs::write(&path, serde_json::to_vec(about).expect("a description is plain data"))?;
    File::open(&path)?.sync_all()?;
    File::open(folder)?.sync_all()
}

/// Returns all snapshots of an app, newest first.
pub(crate) fn all(data: &Path) -> Vec<Snapshot> {
    ids(data).into_iter().filter_map(|id| read(&folder(data).join(id))).collect()
}

/// Returns whether `folder` contains the description of a snapshot.
pub(crate) fn has_description(folder: &Path) -> bool {
    read(folder).is_some()
}

fn read(folder: &Path) -> Option<Snapshot> {
    let about: SnapshotDescription = serde_json::from_slice(&fs::read(folder.join(ABOUT)).ok()?).ok()?;
    (!about.stores.is_empty()).then(|| Snapshot { folder: folder.to_owned(), about })
}

/// Returns the newest snapshot that was taken while `revision` was in service; `None` if there is none.
pub(crate) fn of(data: &Path, revision: &ReleaseDigest) -> Option<Snapshot> {
    all(data).into_iter().find(|snapshot| snapshot.about.before.as_ref() == Some(revision))
}

/// Removes the snapshots of an app that exceed the maximum number or the age `age_max`. Returns the number of removed
/// snapshots.
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

/// Raises the tenant's storage quota by the size of the app's snapshots, except the snapshot `kept`, until the returned
/// loan is dropped. Blocks.
pub(crate) fn lend_storage(data: &Path, account: &Arc<StorageAccount>, kept: Option<&Path>) -> StorageLoan {
    let folders = ids(data).into_iter().map(|id| folder(data).join(id)).filter(|folder| Some(folder.as_path()) != kept);
    account.lend(folders.map(|folder| account.used_in(&folder)).sum())
}

/// Removes the app's oldest snapshots, except those in `kept`, until the tenant no longer exceeds its storage quota.
/// Returns the Unix times in seconds at which the removed snapshots were taken.
pub(crate) fn remove_for_space(data: &Path, account: &StorageAccount, kept: &[&Path]) -> io::Result<Vec<u64>> {
    let mut removed = Vec::new();
    for folder in ids(data).into_iter().rev().map(|id| folder(data).join(id)) {
        if !account.is_over() {
            break;
        }
        if !kept.contains(&folder.as_path()) {
            let snapshot = read(&folder);
            remove(&folder, account)?;
            removed.extend(snapshot.map(|snapshot| snapshot.about.taken_at));
        }
    }
    Ok(removed)
}

/// Removes a folder with files of stores, and releases the charge for the folder.
pub(crate) fn remove(folder: &Path, account: &StorageAccount) -> io::Result<()> {
    // `tree::remove_if_there` also removes deeply nested folders, which a candidate may have created.
    let removed = tree::remove_if_there(folder);
    account.forget(folder);
    removed
}

/// Returns the names of the app's snapshot folders, newest first.
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
    fn the_newest_snapshots_are_kept_and_found() {
        let data = tempfile::tempdir().unwrap();
        let (data, account) = (data.path(), Arc::new(StorageAccount::new(1 << 20)));
        let revision = |number: u8| ReleaseDigest::from([number; 16]);
        let mut made = Vec::new();
        for number in [1, 2, 1, 3, 4] {
            let id = new_id(data, None);
            let folder = folder(data).join(&id);
            fs::create_dir_all(&folder).unwrap();
            let stores = vec![StoreSnapshot { store: "main".to_owned(), bytes: number.into() }];
            write_description(&folder, &SnapshotDescription { taken_at: 7, before: Some(revision(number)), stores })
                .unwrap();
            made.push(folder);
        }
        assert_eq!(of(data, &revision(1)).unwrap().folder, made[2]);
        assert!(of(data, &revision(9)).is_none());
        assert_eq!(sweep(data, &account, SystemTime::now(), SNAPSHOT_AGE_MAX).unwrap(), 2);
        assert_eq!(
            all(data).iter().map(|one| one.folder.clone()).collect::<Vec<_>>(),
            [4, 3, 2].map(|at| made[at].clone())
        );
        account.scan(data).unwrap();
        {
            let _loan = lend_storage(data, &account, Some(&made[2]));
            assert_eq!(
                account.room(),
                (1 << 20) - account.used_in(data) + account.used_in(&made[3]) + account.used_in(&made[4])
            );
        }
        assert!(remove_for_space(data, &account, &[]).unwrap().is_empty(), "the quota is not exceeded");
        account.set_limit(account.used() - 1);
        assert_eq!(remove_for_space(data, &account, &[&made[2]]).unwrap(), [7]);
        assert_eq!(
            (all(data).len(), made[2].exists(), made[3].exists()),
            (2, true, false),
            "the oldest snapshots, except the kept ones, are removed"
        );
        assert_eq!(sweep(data, &account, SystemTime::now(), Duration::ZERO).unwrap(), 2);
        account.set_limit(0);
        assert!(remove_for_space(data, &account, &[]).unwrap().is_empty());
        assert_eq!(new_id(data, Some("9999999999999")), "10000000000000", "an earlier name is not used again");
    }
}
