//! A store's files: `NUMBER.traces`, each of bounded size. The file with the highest number is the newest. Only the
//! writer's thread writes to these files.
//!
//! A file starts with the format's name and the time of its creation. Then follow records ([`crate::codec`]).

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use isomer_telemetry::unix_ns;

use crate::codec::intact_bytes;
use crate::limits::TraceLimits;

/// The first bytes of each file: the name and the version of the format. Files that begin with other bytes are not
/// read.
const FORMAT: &[u8; 8] = b"isotrc\x001";

/// The number of bytes before the first record of a file.
pub(crate) const FILE_HEADER_BYTES: usize = 16;

/// A file that is older than [`TraceLimits::age`] divided by this number gets no more records, even if it is small. So
/// a trace is deleted at most this part of `age` too late.
const AGE_PARTS: u32 = 8;

/// A file of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// The number of bytes that the writer has written completely.
    pub(crate) bytes: u64,
    /// The time of the last write, in nanoseconds since the Unix epoch.
    pub(crate) written_ns: u64,
}

/// The files of one store, as far as the writer's thread knows them.
#[derive(Debug, Default)]
pub(crate) struct SegmentFiles {
    /// The files, the oldest first.
    segments: VecDeque<Segment>,
    /// The time at which the newest file was created.
    created_ns: u64,
    /// Whether the newest file ends with an intact record. If not, it is examined before the next write.
    is_intact: bool,
}

impl SegmentFiles {
    /// Reads which files exist in `folder`.
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let mut segments = Vec::new();
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".traces")?.parse::<u64>().ok());
            if let (Some(number), Ok(metadata)) = (number, entry.metadata()) {
                let written_ns = metadata.modified().map_or(0, unix_ns);
                segments.push(Segment { number, bytes: metadata.len(), written_ns });
            }
        }
        segments.sort_unstable_by_key(|segment| segment.number);
        Ok(Self { segments: segments.into(), ..Self::default() })
    }

    /// Returns the files, the oldest first.
    pub(crate) fn segments(&self) -> impl DoubleEndedIterator<Item = Segment> {
        self.segments.iter().copied()
    }

    /// Returns the size of all files in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Appends `records` at the time `now_ns`. Creates another file if the newest file would become too large or is too
    /// old, and deletes the oldest files so that the store does not become too large.
    pub(crate) fn append(
        &mut self,
        folder: &Path,
        records: &[u8],
        now_ns: u64,
        limits: &TraceLimits,
    ) -> io::Result<()> {
        self.examine_newest(folder)?;
        let needed = records.len() as u64;
        let age_max = nanoseconds(limits.age / AGE_PARTS);
        let newest = self.segments.back().filter(|newest| {
            newest.bytes + needed <= limits.segment_bytes && now_ns.saturating_sub(self.created_ns) < age_max
        });
        let starts_file = newest.is_none();
        let number = newest.or(self.segments.back()).map_or(1, |last| last.number + u64::from(starts_file));
        let bytes = needed + if starts_file { FILE_HEADER_BYTES as u64 } else { 0 };
        while self.bytes() + bytes > limits.store_bytes && self.segments.len() > usize::from(!starts_file) {
            self.remove_oldest(folder)?;
        }
        // A failed write may leave a part of the records in the file.
        self.is_intact = false;
        let mut file = open(folder, number)?;
        if starts_file {
            self.segments.push_back(Segment { number, bytes: 0, written_ns: now_ns });
            self.created_ns = now_ns;
            // The header and the records are written in one call. With two calls, a full disk could leave a file that
            // consists of a header only.
            file.write_all(&[FORMAT, &now_ns.to_le_bytes()[..], records].concat())?;
        } else {
            file.write_all(records)?;
        }
        if let Some(newest) = self.segments.back_mut() {
            newest.bytes += bytes;
            newest.written_ns = now_ns;
        }
        self.is_intact = true;
        Ok(())
    }

    /// Deletes the files whose last record was written before `oldest_ns`.
    pub(crate) fn expire(&mut self, folder: &Path, oldest_ns: u64) -> io::Result<()> {
        while self.segments.front().is_some_and(|oldest| oldest.written_ns < oldest_ns) {
            self.remove_oldest(folder)?;
        }
        Ok(())
    }

    /// Deletes the oldest file. Returns the size of the file.
    pub(crate) fn remove_oldest(&mut self, folder: &Path) -> io::Result<u64> {
        let Some(oldest) = self.segments.front().copied() else { return Ok(0) };
        match std::fs::remove_file(path_of(folder, oldest.number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.segments.pop_front();
        Ok(oldest.bytes)
    }

    /// If a killed process or a failed write may have left a part of a record at the end of the newest file, removes
    /// this part. Removes the file if it has not even a header.
    fn examine_newest(&mut self, folder: &Path) -> io::Result<()> {
        while !self.is_intact {
            let Some(newest) = self.segments.back_mut() else { return Ok(()) };
            let path = path_of(folder, newest.number);
            let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.segments.pop_back();
                    continue;
                }
                file => file?,
            };
            if file.metadata()?.len() < FILE_HEADER_BYTES as u64 {
                std::fs::remove_file(&path)?;
                self.segments.pop_back();
                continue;
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            newest.bytes = bytes.len() as u64;
            // A file of another version is left unchanged. With this time of creation it counts as too old for further
            // records, so the next write creates another file.
            self.created_ns = 0;
            if let Some(created_ns) = created_ns(&bytes) {
                self.created_ns = created_ns;
                newest.bytes = intact_bytes(&bytes, FILE_HEADER_BYTES) as u64;
                file.set_len(newest.bytes)?;
            }
            self.is_intact = true;
        }
        Ok(())
    }
}

/// Reads the first `bytes` bytes of a file. Returns `None` if the file was deleted, or is not a file of this version.
pub(crate) fn read(folder: &Path, segment: &Segment) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path_of(folder, segment.number)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::with_capacity(usize::try_from(segment.bytes).unwrap_or(0));
    file.take(segment.bytes).read_to_end(&mut bytes)?;
    Ok(created_ns(&bytes).is_some().then_some(bytes))
}

/// Returns the time of creation in the header of a file.
fn created_ns(file: &[u8]) -> Option<u64> {
    let rest = file.strip_prefix(FORMAT)?;
    rest.first_chunk().copied().map(u64::from_le_bytes)
}

fn open(folder: &Path, number: u64) -> io::Result<File> {
    let path = path_of(folder, number);
    // Only the owner may read the files: traces contain addresses of clients and texts of SQL statements.
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            open()
        }
        opened => opened,
    }
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.traces"))
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Encoder, records};
    use crate::samples::fragment;

    const SECOND: u64 = 1_000_000_000;

    fn limits() -> TraceLimits {
        let (segment_bytes, store_bytes, age) = (1000, 3000, Duration::from_secs(80));
        TraceLimits { segment_bytes, store_bytes, age, ..TraceLimits::LOCAL }
    }

    /// Returns the record of a request.
    fn record(request: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        Encoder::default().append(&mut bytes, &fragment(request), None);
        bytes
    }

    /// Returns the requests in all files, each file separately.
    fn requests(folder: &Path, files: &SegmentFiles) -> Vec<Vec<u64>> {
        let of = |segment: Segment| {
            let bytes = read(folder, &segment).unwrap().unwrap();
            records(&bytes, FILE_HEADER_BYTES).map(|record| record.header.request.get()).collect()
        };
        files.segments().map(of).collect()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_bounded_in_bytes_and_the_oldest_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("traces");
        let mut files = SegmentFiles::read(&folder).unwrap();
        let mut last = 0;
        while files.segments().next().is_none_or(|oldest| oldest.number < 4) {
            last += 1;
            files.append(&folder, &record(last), 0, &limits()).unwrap();
            assert!(files.bytes() <= limits().store_bytes && files.segments().all(|it| it.bytes <= 1000));
        }
        let found = requests(&folder, &files).concat();
        assert_eq!(found, (last + 1 - found.len() as u64..=last).collect::<Vec<_>>());
        assert!(found.len() >= 6, "{found:?}");
        assert_eq!(SegmentFiles::read(&folder).unwrap().bytes(), files.bytes());
    }

    #[test]
    fn files_are_deleted_by_their_age() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = SegmentFiles::default();
        for (request, second) in [(1, 0), (2, 9), (3, 10), (4, 19)] {
            files.append(dir.path(), &record(request), second * SECOND, &limits()).unwrap();
        }
        // The maximum age of a trace is 80 seconds. A file gets records only for an eighth of this time, 10 seconds, so
        // the third record is in another file.
        assert_eq!(requests(dir.path(), &files), [vec![1, 2], vec![3, 4]]);
        files.expire(dir.path(), 9 * SECOND).unwrap();
        assert_eq!(requests(dir.path(), &files), [vec![1, 2], vec![3, 4]]);
        files.expire(dir.path(), 10 * SECOND).unwrap();
        assert_eq!(requests(dir.path(), &files), [[3, 4]]);
        files.expire(dir.path(), u64::MAX).unwrap();
        assert_eq!((files.bytes(), names(dir.path()).len()), (0, 0));
        files.append(dir.path(), &record(5), 30 * SECOND, &limits()).unwrap();
        assert_eq!(requests(dir.path(), &files), [[5]]);
    }

    #[test]
    fn a_torn_record_is_removed_before_the_next_write() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = SegmentFiles::default();
        files.append(dir.path(), &record(1), 0, &limits()).unwrap();
        let path = path_of(dir.path(), 1);
        let torn = record(2);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&torn[..torn.len() - 1]).unwrap();
        let mut files = SegmentFiles::read(dir.path()).unwrap();
        assert_eq!(requests(dir.path(), &files), [[1]]);
        files.append(dir.path(), &record(3), 0, &limits()).unwrap();
        assert_eq!(requests(dir.path(), &files), [[1, 3]]);
        // A crash may leave a file without a header.
        std::fs::write(path_of(dir.path(), 2), "iso").unwrap();
        let mut files = SegmentFiles::read(dir.path()).unwrap();
        files.append(dir.path(), &record(4), SECOND, &TraceLimits::LOCAL).unwrap();
        assert_eq!(requests(dir.path(), &files), [[1, 3, 4]]);
        // Another version may write files in another format.
        std::fs::write(path_of(dir.path(), 2), [b'x'; 100]).unwrap();
        let mut files = SegmentFiles::read(dir.path()).unwrap();
        files.append(dir.path(), &record(5), 1_700_000_000 * SECOND, &TraceLimits::LOCAL).unwrap();
        let found = files.segments().map(|segment| read(dir.path(), &segment).unwrap().is_some());
        assert_eq!(found.collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn a_write_that_failed_is_repeated_in_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        // Each write to this device fails, as on a full disk.
        std::os::unix::fs::symlink("/dev/full", path_of(dir.path(), 1)).unwrap();
        let mut files = SegmentFiles::default();
        let error = files.append(dir.path(), &record(1), 0, &limits()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(files.bytes(), 0);
        // The file without a header is removed, so the next write creates a file on the disk.
        files.append(dir.path(), &record(2), 0, &limits()).unwrap();
        assert_eq!((requests(dir.path(), &files), names(dir.path()).len()), (vec![vec![2]], 1));
    }
}
