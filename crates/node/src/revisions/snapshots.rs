//! Snapshots: the files of an app's SQL stores that were replaced when a revision took over. They can be restored.
//!
//! Each snapshot is a folder `snapshots/ID/` in the app's data, with a description. Snapshots are charged to the
//! tenant's storage. The last [`SNAPSHOTS_MAX`] of an app are kept, for [`SNAPSHOT_AGE_MAX`].
//!
//! If a tenant's storage has no room for a deployment's copies, the deployment may use the space of older snapshots in
//! addition (`lend_storage`). These snapshots are removed (`remove_for_space`) only when the deployment is recorded, so
//! a refused deployment deletes no snapshot.

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

/// How long a snapshot is kept.
pub const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// The name of the file with the description of a snapshot.
const ABOUT: &str = "about.json";

/// The description of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotDescription {
    /// The time at which the snapshot was taken, in seconds since 1970, UTC.
    pub(crate) taken_at: u64,
    /// The revision in service at that time, if there was one.
    pub(crate) before: Option<ReleaseDigest>,
    /// The stores.
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

/// Returns the folder of the snapshots of an app whose data is in `data`.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join("snapshots")
}

/// Returns a name for a new snapshot. It sorts after existing names and after `before`, the replacement that the app's
/// state names.
pub(crate) fn new_id(data: &Path, before: Option<&str>) -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let ids = ids(data);
    let last = ids.first().map(String::as_str).into_iter().chain(before).filter_map(|id| id.parse().ok()).max();
    format!("{:013}", last.map_or(now, |last: u64| now.max(last.saturating_add(1))))
}

/// Writes the description of the snapshot in `folder`, and syncs it.
pub(crate) fn write_description(folder: &Path, about: &SnapshotDescription) -> io::Result<()> {
    let path = folder.join(ABOUT);
    fs::write(&path, serde_json::to_vec(about).expect("it is plain data"))?;
    File::open(&path)?.sync_all()?;
    File::open(folder)?.sync_all()
}

/// Returns all snapshots of an app, the newest first.
pub(crate) fn all(data: &Path) -> Vec<Snapshot> {
    ids(data).into_iter().filter_map(|id| read(&folder(data).join(id))).collect()
}

/// Returns whether there is a snapshot in this folder.
pub(crate) fn has_description(folder: &Path) -> bool {
    read(folder).is_some()
}

fn read(folder: &Path) -> Option<Snapshot> {
    let about: SnapshotDescription = serde_json::from_slice(&fs::read(folder.join(ABOUT)).ok()?).ok()?;
    (!about.stores.is_empty()).then(|| Snapshot { folder: folder.to_owned(), about })
}

/// Returns the newest snapshot with the data of `revision`.
pub(crate) fn of(data: &Path, revision: &ReleaseDigest) -> Option<Snapshot> {
    all(data).into_iter().find(|snapshot| snapshot.about.before.as_ref() == Some(revision))
}

/// Removes snapshots beyond the maximum number or age. Returns the number of removed snapshots.
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

/// Raises the tenant's quota by the size of its app's snapshots, except `kept`, until the returned loan is dropped.
/// Blocks.
pub(crate) fn lend_storage(data: &Path, account: &Arc<StorageAccount>, kept: Option<&Path>) -> StorageLoan {
    let folders = ids(data).into_iter().map(|id| folder(data).join(id)).filter(|folder| Some(folder.as_path()) != kept);
    account.lend(folders.map(|folder| account.used_in(&folder)).sum())
}

/// Removes the oldest snapshots, except `kept`, until the tenant no longer exceeds its quota. Returns the times at
/// which the removed snapshots were taken.
pub(crate) fn remove_for_space(data: &Path, account: &StorageAccount, kept: &[&Path]) -> io::Result<Vec<u64>> {
    let mut given_up = Vec::new();
    for folder in ids(data).into_iter().rev().map(|id| folder(data).join(id)) {
        if !account.is_over() {
            break;
        }
        if !kept.contains(&folder.as_path()) {
            let snapshot = read(&folder);
            remove(&folder, account)?;
            given_up.extend(snapshot.map(|snapshot| snapshot.about.taken_at));
        }
    }
    Ok(given_up)
}

/// Removes a folder of replacements or of a snapshot.
pub(crate) fn remove(folder: &Path, account: &StorageAccount) -> io::Result<()> {
    // A candidate may have created deeply nested folders.
    let removed = tree::remove_if_there(folder);
    account.forget(folder);
    removed
}

/// Returns the names of all snapshot folders, the newest first.
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
        assert!(remove_for_space(data, &account, &[]).unwrap().is_empty(), "there is room");
        account.set_limit(account.used() - 1);
        assert_eq!(remove_for_space(data, &account, &[&made[2]]).unwrap(), [7]);
        assert_eq!(
            (all(data).len(), made[2].exists(), made[3].exists()),
            (2, true, false),
            "the oldest but for those kept"
        );
        assert_eq!(sweep(data, &account, SystemTime::now(), Duration::ZERO).unwrap(), 2);
        account.set_limit(0);
        assert!(remove_for_space(data, &account, &[]).unwrap().is_empty());
        assert_eq!(new_id(data, Some("9999999999999")), "10000000000000", "an earlier name is not used again");
    }
}
