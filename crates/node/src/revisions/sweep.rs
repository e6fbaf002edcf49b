//! Removal of unreferenced files: uploaded parts, compiled code, and the files of revisions.
//!
//! A deployment uses such files before the node's state refers to them. So each use of a file sets its modification
//! time, and the sweep removes a file only if the last use was at least [`UNUSED_MAX`] ago. This is longer than any
//! deployment takes, so deployments may run during a sweep.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use isomer_capabilities::NodeDir;
use isomer_ids::ReleaseDigest;
use isomer_runtime::code::CodeCache;
use isomer_state::{Blobs, NodeState};

use crate::trash;

/// The minimum time between the last use of an unreferenced file and its removal.
pub const UNUSED_MAX: Duration = Duration::from_secs(6 * 3600);

/// The numbers of files that a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepCounts {
    /// The number of removed uploaded parts.
    pub blobs: usize,
    /// The number of removed files with compiled code.
    pub code: usize,
    /// The number of removed folders with a revision's files.
    pub revisions: usize,
}

/// Removes files that no recorded revision refers to and that were last used more than `unused_max` ago. Blocks.
pub(crate) fn sweep(
    state: &NodeState,
    blobs: &Blobs,
    cache: &CodeCache,
    dir: &NodeDir,
    now: SystemTime,
    unused_max: Duration,
) -> Result<SweepCounts, Box<dyn std::error::Error + Send + Sync>> {
    let needed = state.references()?;
    Ok(SweepCounts {
        blobs: blobs.sweep(&needed.blobs, now, unused_max)?,
        code: cache.sweep(&needed.code, now, unused_max)?,
        revisions: sweep_files(dir, &needed.revisions, now, unused_max)?,
    })
}

fn sweep_files(
    dir: &NodeDir,
    needed: &HashSet<ReleaseDigest>,
    now: SystemTime,
    unused_max: Duration,
) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(dir.revisions())? {
        let entry = entry?;
        let is_unneeded = entry.file_name().to_str().and_then(|name| name.parse::<ReleaseDigest>().ok());
        let is_unneeded = is_unneeded.is_some_and(|revision| !needed.contains(&revision));
        let used = entry.metadata()?.modified()?;
        if is_unneeded && now.duration_since(used).is_ok_and(|unused| unused >= unused_max) {
            // Rename the folder first: a deployment must find either all of a revision's files or none of them.
            trash::discard(trash::move_to_trash(dir, &entry.path())?);
            removed += 1;
        }
    }
    Ok(removed)
}
