//! The pages of one SQLite database, stored so that no crash, no lost lock and no second process can damage them.
//!
//! WASI has no file locks, and a host may run several instances of an app at the same time, also in several processes.
//! So a database is never changed in place. Its folder contains *generations*, and a generation is never changed either:
//! files are only added to it, each under a name that did not exist.
//!
//! ```text
//! orders/
//!   gen-00000003/
//!     base           a complete SQLite database
//!     seg-000001     the pages that the first commit after `base` changed
//!     seg-000002     the pages that the next commit changed
//!   done-00000002    an empty file: this generation existed and was removed
//!   newest           a number from which the newest generation is searched
//!   lock             held by the instance that writes (see `lock`)
//! ```
//!
//! A commit writes a new file, syncs it, and then links it as the next segment. Linking fails if the name exists or the
//! generation is gone, so of two writers that started from the same state, one fails, and its transaction is rolled
//! back. The lock only makes writers wait for each other; it is not needed for correctness.
//!
//! The last segment of a generation is *sealed*: nothing follows it. The next writer puts the complete database into a
//! new generation, by renaming a folder, which also fails if the name exists. Then the old generation gets another name
//! and is removed, after a file was created that states that it existed. So a writer that was stopped for hours finds a
//! name that exists, no folder, or this file; it cannot continue from an old state.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::generations::{
    NewFile, SEGMENTS_MAX, damaged, exists, generation_path, is_superseded, newest, publish_generation,
    remove_generations_before, segment_path, sync_dir,
};
use crate::lock;

/// The size of a page of every database, in bytes.
pub(crate) const PAGE_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"ISOMSEG1";
/// The length of a segment before the page numbers: magic, size of the database in pages, flags, number of pages.
const HEADER_BYTES: usize = 20;
const SEALED: u32 = 1;
/// The number of open files of segments after which a generation is sealed.
const FILES_MAX: usize = 16;
/// A generation is sealed if its segments are larger than this and than half of its base, in bytes.
const SEGMENT_BYTES_MAX: u64 = 4 << 20;
/// A segment with at most this number of pages is kept in memory instead of as an open file.
const PAGES_IN_MEMORY_MAX: u32 = 16;
/// The maximum number of pages that a transaction may change (256 MiB). They are in memory until the commit.
pub(crate) const WRITTEN_PAGES_MAX: usize = (256 << 20) / PAGE_BYTES;
/// The number of pages that are copied before the lock is extended.
const PAGES_PER_EXTENSION: u32 = 256;

/// Why a commit or a read failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PagesError {
    /// Another writer has changed the database since this snapshot was taken.
    #[error("another instance has changed the database at the same time")]
    Conflict,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the file `{0}` is damaged")]
    Damaged(String),
    /// The transaction has changed too many pages, and all its changes are dropped.
    #[error("the transaction changes more than {WRITTEN_PAGES_MAX} pages")]
    TooLarge,
}

/// A snapshot of a database, and the changes of the current transaction.
pub(crate) struct Pages {
    dir: PathBuf,
    snapshot: Option<Snapshot>,
    /// The pages that were written and not committed yet, by page number from 0.
    written: BTreeMap<u32, Box<[u8; PAGE_BYTES]>>,
    /// The number of pages of the database with the changes of the current transaction.
    size: u32,
    /// Whether the last commit or write failed. Then later writes, by which SQLite rolls back, are ignored, until the next
    /// snapshot.
    failed: bool,
}

struct Snapshot {
    generation: u64,
    segment: u32,
    sealed: bool,
    size: u32,
    base: File,
    base_pages: u32,
    /// The newest version of each page that a segment contains.
    newer: HashMap<u32, PageSource>,
    files: usize,
    segment_bytes: u64,
}

#[derive(Clone)]
enum PageSource {
    Memory(Rc<[u8; PAGE_BYTES]>),
    File(Rc<File>, u64),
}

impl Pages {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), snapshot: None, written: BTreeMap::new(), size: 0, failed: false }
    }

    /// Drops the changes of the current transaction, and takes a snapshot of the newest state. Creates the database if it
    /// does not exist.
    pub(crate) fn refresh(&mut self) -> Result<(), PagesError> {
        self.discard();
        loop {
            let Some(snapshot) = &mut self.snapshot else {
                match newest(&self.dir)? {
                    Some(generation) => self.snapshot = Snapshot::open(&self.dir, generation)?,
                    // A conflict means that another instance was faster.
                    None => match publish_generation(&self.dir, 0, |_| Ok(())) {
                        Ok(()) | Err(PagesError::Conflict) => {}
                        Err(error) => return Err(error),
                    },
                }
                continue;
            };
            match snapshot.read_next(&self.dir)? {
                Next::Read => {}
                Next::None => break,
                Next::Gone => self.snapshot = None,
            }
        }
        self.discard();
        Ok(())
    }

    /// Returns whether no other writer has changed the database since the snapshot was taken.
    pub(crate) fn is_newest(&self) -> Result<bool, PagesError> {
        let Some(snapshot) = &self.snapshot else { return Ok(false) };
        if snapshot.sealed {
            return Ok(!is_superseded(&self.dir, snapshot.generation)?);
        }
        let folder = generation_path(&self.dir, snapshot.generation);
        Ok(!exists(&segment_path(&folder, snapshot.segment + 1))? && exists(&folder)?)
    }

    /// Drops the changes of the current transaction.
    pub(crate) fn discard(&mut self) {
        self.written.clear();
        self.size = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.size);
        self.failed = false;
    }

    /// Returns the size of the database, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.size) * PAGE_BYTES as u64
    }

    /// Reads bytes at `offset`. Returns whether all of them are inside of the database; the others are set to zero.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> Result<bool, PagesError> {
        into.fill(0);
        let mut complete = true;
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            let within = (at % PAGE_BYTES as u64) as usize;
            let part = (PAGE_BYTES - within).min(into.len() - done);
            let page = u32::try_from(at / PAGE_BYTES as u64).unwrap_or(u32::MAX);
            if page < self.size {
                self.read_page(page, within, &mut into[done..done + part])?;
            } else {
                complete = false;
            }
            done += part;
        }
        Ok(complete)
    }

    fn read_page(&self, page: u32, within: usize, into: &mut [u8]) -> Result<(), PagesError> {
        if let Some(bytes) = self.written.get(&page) {
            into.copy_from_slice(&bytes[within..within + into.len()]);
            return Ok(());
        }
        let Some(snapshot) = &self.snapshot else { return Ok(()) };
        match snapshot.newer.get(&page) {
            Some(PageSource::Memory(bytes)) => into.copy_from_slice(&bytes[within..within + into.len()]),
            Some(PageSource::File(file, offset)) => read_at(file, offset + within as u64, into)?,
            None if page < snapshot.base_pages => {
                read_at(&snapshot.base, u64::from(page) * PAGE_BYTES as u64 + within as u64, into)?;
            }
            // A page that was never written, after the database was extended.
            None => {}
        }
        Ok(())
    }

    /// Writes bytes at `offset`, as a change of the current transaction. If the transaction becomes too large, drops all its
    /// changes; SQLite must then end the transaction.
    pub(crate) fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), PagesError> {
        if self.failed {
            return Ok(());
        }
        let mut done = 0;
        while done < from.len() {
            let at = offset + done as u64;
            let within = (at % PAGE_BYTES as u64) as usize;
            let part = (PAGE_BYTES - within).min(from.len() - done);
            let page = u32::try_from(at / PAGE_BYTES as u64).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
            let mut bytes = match self.written.remove(&page) {
                Some(bytes) => bytes,
                None if self.written.len() >= WRITTEN_PAGES_MAX => {
                    self.discard();
                    self.failed = true;
                    return Err(PagesError::TooLarge);
                }
                None => {
                    let mut bytes = Box::new([0; PAGE_BYTES]);
                    if part < PAGE_BYTES && page < self.size {
                        self.read_page(page, 0, &mut bytes[..])?;
                    }
                    bytes
                }
            };
            bytes[within..within + part].copy_from_slice(&from[done..done + part]);
            self.written.insert(page, bytes);
            self.size = self.size.max(page + 1);
            done += part;
        }
        Ok(())
    }

    /// Sets the size of the database, as a change of the current transaction.
    pub(crate) fn truncate(&mut self, bytes: u64) {
        if self.failed {
            return;
        }
        self.size = u32::try_from(bytes.div_ceil(PAGE_BYTES as u64)).unwrap_or(u32::MAX);
        let size = self.size;
        self.written.retain(|page, _| *page < size);
    }

    /// Makes the changes of the current transaction durable and visible to other instances. After a failure, nothing has
    /// changed, with one exception: if the system cannot sync the folder, the changes may be visible, and may be lost if the
    /// machine stops.
    pub(crate) fn commit(&mut self) -> Result<(), PagesError> {
        if self.failed {
            return Ok(());
        }
        let committed = self.try_commit();
        if committed.is_err() {
            self.discard();
            self.failed = true;
        }
        committed
    }

    fn try_commit(&mut self) -> Result<(), PagesError> {
        let Some(snapshot) = &self.snapshot else { return Err(PagesError::Conflict) };
        if self.written.is_empty() && self.size == snapshot.size {
            return Ok(());
        }
        if snapshot.sealed {
            self.start_generation()?;
        }
        let snapshot = self.snapshot.as_mut().ok_or(PagesError::Conflict)?;
        let folder = generation_path(&self.dir, snapshot.generation);
        let number = snapshot.segment + 1;
        let bytes = (HEADER_BYTES + self.written.len() * (4 + PAGE_BYTES)) as u64;
        let base_bytes = u64::from(snapshot.base_pages) * PAGE_BYTES as u64;
        let sealed = number >= SEGMENTS_MAX
            || snapshot.files >= FILES_MAX
            || snapshot.segment_bytes + bytes > SEGMENT_BYTES_MAX.max(base_bytes / 2);
        let new = NewFile::create(&self.dir)?;
        let mut segment = Vec::with_capacity(HEADER_BYTES + 4 * self.written.len());
        segment.extend_from_slice(MAGIC);
        for number in [self.size, if sealed { SEALED } else { 0 }, self.written.len() as u32] {
            segment.extend_from_slice(&number.to_le_bytes());
        }
        for page in self.written.keys() {
            segment.extend_from_slice(&page.to_le_bytes());
        }
        let mut file = io::BufWriter::with_capacity(64 << 10, &new.file);
        file.write_all(&segment)?;
        for page in self.written.values() {
            file.write_all(&page[..])?;
        }
        file.flush()?;
        drop(file);
        new.file.sync_all()?;
        match fs::hard_link(&new.path, segment_path(&folder, number)) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {
                return Err(PagesError::Conflict);
            }
            Err(error) => return Err(error.into()),
        }
        // The commit is visible now, so an error that concerns only what comes next is not one of the commit.
        match sync_dir(&folder) {
            // Another writer has put this commit into the next generation, which is synced.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            synced => synced?,
        }
        drop(new);
        // The own segment is read like those of others, so that there is one way in which a snapshot changes. If it cannot be
        // read, for example because too many files are open, the next statement reads it.
        match snapshot.read_next(&self.dir) {
            Ok(Next::Read) => {}
            Ok(Next::None | Next::Gone) | Err(_) => self.snapshot = None,
        }
        self.discard();
        if sealed {
            // The commit is complete. If this fails, the next writer starts the generation.
            let _ = self.start_generation();
        }
        Ok(())
    }

    /// Puts the complete database of the sealed snapshot into a new generation.
    fn start_generation(&mut self) -> Result<(), PagesError> {
        let Some(snapshot) = &self.snapshot else { return Err(PagesError::Conflict) };
        let old = snapshot.generation;
        publish_generation(&self.dir, old + 1, |file| snapshot.copy_to(file))?;
        let Some(next) = Snapshot::open(&self.dir, old + 1)? else { return Err(PagesError::Conflict) };
        self.snapshot = Some(next);
        remove_generations_before(&self.dir, old + 1);
        match exists(&segment_path(&generation_path(&self.dir, old + 1), 1))? {
            true => Err(PagesError::Conflict),
            false => Ok(()),
        }
    }
}

enum Next {
    Read,
    None,
    Gone,
}

impl Snapshot {
    /// Opens the base of a generation. Returns `None` if the generation is gone.
    fn open(dir: &Path, generation: u64) -> Result<Option<Self>, PagesError> {
        let path = generation_path(dir, generation).join("base");
        let base = match File::open(&path) {
            Ok(base) => base,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let bytes = base.metadata()?.len();
        if bytes % PAGE_BYTES as u64 != 0 {
            return Err(damaged(&path));
        }
        let base_pages = u32::try_from(bytes / PAGE_BYTES as u64).map_err(|_| damaged(&path))?;
        Ok(Some(Self {
            generation,
            segment: 0,
            sealed: false,
            size: base_pages,
            base,
            base_pages,
            newer: HashMap::new(),
            files: 0,
            segment_bytes: 0,
        }))
    }

    /// Reads the next segment, if it exists.
    fn read_next(&mut self, dir: &Path) -> Result<Next, PagesError> {
        if self.sealed {
            return Ok(if is_superseded(dir, self.generation)? { Next::Gone } else { Next::None });
        }
        let folder = generation_path(dir, self.generation);
        let path = segment_path(&folder, self.segment + 1);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            // The order matters: if the folder is still there after the segment was not found, no segment was removed.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(if exists(&folder)? { Next::None } else { Next::Gone });
            }
            Err(error) => return Err(error.into()),
        };
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header).map_err(|_| damaged(&path))?;
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let (size, flags, count) = (number(8), number(12), number(16));
        let bytes = HEADER_BYTES as u64 + u64::from(count) * (4 + PAGE_BYTES as u64);
        if header[..8] != *MAGIC || file.metadata()?.len() != bytes {
            return Err(damaged(&path));
        }
        let mut numbers = vec![0; count as usize * 4];
        file.read_exact(&mut numbers)?;
        let numbers = numbers.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")));
        if count <= PAGES_IN_MEMORY_MAX {
            for page in numbers {
                let mut bytes = [0; PAGE_BYTES];
                file.read_exact(&mut bytes)?;
                self.newer.insert(page, PageSource::Memory(Rc::new(bytes)));
            }
        } else {
            self.files += 1;
            let file = Rc::new(file);
            let first = HEADER_BYTES as u64 + u64::from(count) * 4;
            for (index, page) in numbers.enumerate() {
                let offset = first + (index * PAGE_BYTES) as u64;
                self.newer.insert(page, PageSource::File(file.clone(), offset));
            }
        }
        // Pages beyond the end of a database that became smaller must not appear again if it grows later.
        if size < self.size {
            self.newer.retain(|page, _| *page < size);
            self.base_pages = self.base_pages.min(size);
        }
        self.segment += 1;
        self.size = size;
        self.sealed = flags & SEALED != 0;
        self.segment_bytes += bytes;
        Ok(Next::Read)
    }

    /// Writes the complete database into a file.
    fn copy_to(&self, file: &File) -> Result<(), PagesError> {
        let mut out = io::BufWriter::with_capacity(256 << 10, file);
        let mut bytes = [0; PAGE_BYTES];
        for page in 0..self.size {
            if page % PAGES_PER_EXTENSION == 0 {
                lock::extend_held();
            }
            match self.newer.get(&page) {
                Some(PageSource::Memory(bytes)) => out.write_all(&bytes[..])?,
                Some(PageSource::File(from, offset)) => {
                    read_at(from, *offset, &mut bytes)?;
                    out.write_all(&bytes)?;
                }
                None if page < self.base_pages => {
                    read_at(&self.base, u64::from(page) * PAGE_BYTES as u64, &mut bytes)?;
                    out.write_all(&bytes)?;
                }
                None => out.write_all(&[0; PAGE_BYTES])?,
            }
        }
        out.flush()?;
        Ok(())
    }
}

fn read_at(mut file: &File, offset: u64, into: &mut [u8]) -> Result<(), PagesError> {
    file.seek(SeekFrom::Start(offset))?;
    Ok(file.read_exact(into)?)
}
