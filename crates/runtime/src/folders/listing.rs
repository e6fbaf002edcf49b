//! Listings of folders, read a batch at a time by the threads for file work.
//!
//! wasmtime's implementation of WASI 0.2 holds the names of a whole folder in the host's memory for each stream,
//! without charging them. Its implementation of WASI 0.3 occupies a thread for each stream, which waits until the guest
//! takes the next name. The streams of this module hold at most one batch each, and occupy no thread between reads.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use rustix::fs::{AtFlags, Dir, FileType, statat};
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{Destination, StreamProducer, StreamResult};
use wasmtime_wasi::p2::bindings::filesystem::types as p2;
use wasmtime_wasi::p3::bindings::filesystem::types as p3;

use super::open_files::OpenFile;
use super::threads;
use crate::pool::{Account, HostMemory};

/// The maximum number of names that are read as one batch.
const BATCH: usize = 32;

/// The maximum host memory of one name in bytes: 255 bytes of text, the other fields of the entry, and the overhead of
/// the allocator.
const NAME_BYTES: usize = 384;

/// The memory in bytes that the C library holds for one folder while it is read.
const SYSTEM_BYTES: usize = 36 << 10;

/// The host memory of a stream of names, in bytes.
pub(crate) const LISTING_BYTES: usize = BATCH * NAME_BYTES + SYSTEM_BYTES;

struct Entry {
    name: String,
    kind: FileType,
}

/// The reasons why a listing ends before the last name.
#[derive(Debug)]
enum ListingError {
    /// Reading the folder failed.
    Io(io::Error),
    /// A name in the folder is not valid UTF-8.
    NotText,
}

impl From<io::Error> for ListingError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A folder that is being read. It uses one descriptor, which `_open` counts.
struct Listing {
    account: Arc<Account>,
    at: ListingPosition,
    _open: OpenFile,
}

enum ListingPosition {
    Beginning(Arc<File>),
    /// The entries that were read but not returned yet, and the folder from which the next batch is read.
    Middle(VecDeque<Entry>, Box<Dir>),
    /// The entries that were read but not returned yet, and the error that ended the listing, if any.
    End(VecDeque<Entry>, Option<ListingError>),
}

impl Listing {
    fn new(account: Arc<Account>, folder: Arc<File>, open: OpenFile) -> Self {
        Self { account, at: ListingPosition::Beginning(folder), _open: open }
    }

    /// Returns the next entry of the current batch, or `Some(Ok(None))` at the end of the folder. Returns `None` if
    /// [`Listing::more`] must be called first.
    fn next_read(&mut self) -> Option<Result<Option<Entry>, ListingError>> {
        match &mut self.at {
            ListingPosition::Beginning(_) => None,
            ListingPosition::Middle(entries, _) => entries.pop_front().map(|entry| Ok(Some(entry))),
            ListingPosition::End(entries, fault) => Some(match entries.pop_front() {
                Some(entry) => Ok(Some(entry)),
                None => fault.take().map_or(Ok(None), Err),
            }),
        }
    }

    /// Reads the next batch. If the future is dropped before it is ready, the listing ends early.
    async fn more(&mut self) {
        let rest = match std::mem::replace(&mut self.at, ListingPosition::End(VecDeque::new(), None)) {
            ListingPosition::Middle(entries, dir) if entries.is_empty() => UnreadPart::Started(dir),
            ListingPosition::Beginning(folder) => UnreadPart::All(folder),
            other => {
                self.at = other;
                return;
            }
        };
        let read = threads::run(&self.account, move || read(rest)).await;
        self.at = read.unwrap_or_else(|error| ListingPosition::End(VecDeque::new(), Some(ListingError::Io(error))));
    }
}

/// The part of a folder that has not been read yet.
enum UnreadPart {
    All(Arc<File>),
    Started(Box<Dir>),
}

/// Reads the next batch of `rest`.
fn read(rest: UnreadPart) -> ListingPosition {
    let mut entries = VecDeque::new();
    let opened = match rest {
        UnreadPart::All(folder) => Dir::read_from(&*folder).map(Box::new),
        UnreadPart::Started(dir) => Ok(dir),
    };
    let mut dir = match opened {
        Ok(dir) => dir,
        Err(error) => return ListingPosition::End(entries, Some(ListingError::Io(error.into()))),
    };
    while entries.len() < BATCH {
        let entry = match dir.read() {
            None => return ListingPosition::End(entries, None),
            Some(Err(error)) => return ListingPosition::End(entries, Some(ListingError::Io(error.into()))),
            Some(Ok(entry)) => entry,
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match dir.fd().and_then(|dir| statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                // The entry was removed while the folder was being read.
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return ListingPosition::End(entries, Some(ListingError::Io(error.into()))),
            },
            known => known,
        };
        match name.to_str() {
            Ok(name) => entries.push_back(Entry { name: name.to_owned(), kind }),
            Err(_) => return ListingPosition::End(entries, Some(ListingError::NotText)),
        }
    }
    ListingPosition::Middle(entries, dir)
}

/// A listing as a stream of WASI 0.2. The wasmtime store's charge for handles includes [`LISTING_BYTES`] for each
/// stream.
pub(crate) struct ListingP2(Listing);

impl ListingP2 {
    pub(crate) fn new(account: Arc<Account>, folder: Arc<File>, open: OpenFile) -> Self {
        Self(Listing::new(account, folder, open))
    }

    pub(crate) async fn next(&mut self) -> Result<Option<p2::DirectoryEntry>, p2::ErrorCode> {
        loop {
            match self.0.next_read() {
                None => self.0.more().await,
                Some(Ok(entry)) => {
                    return Ok(entry.map(|Entry { name, kind }| p2::DirectoryEntry { type_: kind2(kind), name }));
                }
                Some(Err(ListingError::Io(error))) => return Err(error.into()),
                Some(Err(ListingError::NotText)) => return Err(p2::ErrorCode::IllegalByteSequence),
            }
        }
    }
}

fn kind2(kind: FileType) -> p2::DescriptorType {
    match kind {
        FileType::RegularFile => p2::DescriptorType::RegularFile,
        FileType::Directory => p2::DescriptorType::Directory,
        FileType::Symlink => p2::DescriptorType::SymbolicLink,
        FileType::BlockDevice => p2::DescriptorType::BlockDevice,
        FileType::CharacterDevice => p2::DescriptorType::CharacterDevice,
        FileType::Fifo | FileType::Socket | FileType::Unknown => p2::DescriptorType::Unknown,
    }
}

fn kind3(kind: FileType) -> p3::DescriptorType {
    match kind {
        FileType::RegularFile => p3::DescriptorType::RegularFile,
        FileType::Directory => p3::DescriptorType::Directory,
        FileType::Symlink => p3::DescriptorType::SymbolicLink,
        FileType::BlockDevice => p3::DescriptorType::BlockDevice,
        FileType::CharacterDevice => p3::DescriptorType::CharacterDevice,
        FileType::Fifo | FileType::Socket | FileType::Unknown => p3::DescriptorType::Other(None),
    }
}

type Done3 = oneshot::Sender<Result<(), p3::ErrorCode>>;

/// A listing as a stream of WASI 0.3.
pub(crate) struct ListingP3 {
    state: ListingP3State,
    done: Option<Done3>,
    _memory: HostMemory,
}

enum ListingP3State {
    Has(Box<Listing>),
    Reads(BoxFuture<'static, Box<Listing>>),
    Over,
}

impl ListingP3 {
    /// Returns the stream of names in `folder`. `memory` is the charge for the stream ([`LISTING_BYTES`]).
    pub(crate) fn new(
        account: Arc<Account>,
        folder: Arc<File>,
        memory: HostMemory,
        done: Done3,
        open: OpenFile,
    ) -> Self {
        Self {
            state: ListingP3State::Has(Box::new(Listing::new(account, folder, open))),
            done: Some(done),
            _memory: memory,
        }
    }

    fn end(&mut self, result: Result<(), p3::ErrorCode>) {
        self.state = ListingP3State::Over;
        if let Some(done) = self.done.take() {
            // Sending fails if the guest has dropped the future that would receive the result.
            let _ = done.send(result);
        }
    }
}

impl Drop for ListingP3 {
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}

impl<D> StreamProducer<D> for ListingP3 {
    type Item = p3::DirectoryEntry;
    type Buffer = Option<p3::DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let me = &mut *self;
        loop {
            match &mut me.state {
                ListingP3State::Has(listing) => match listing.next_read() {
                    Some(Ok(Some(Entry { name, kind }))) => {
                        destination.set_buffer(Some(p3::DirectoryEntry { type_: kind3(kind), name }));
                        return Poll::Ready(Ok(StreamResult::Completed));
                    }
                    Some(ended) => {
                        me.end(match ended {
                            Ok(_) => Ok(()),
                            Err(ListingError::Io(error)) => Err(error.into()),
                            Err(ListingError::NotText) => Err(p3::ErrorCode::IllegalByteSequence),
                        });
                        return Poll::Ready(Ok(StreamResult::Dropped));
                    }
                    None if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                    None => {
                        let ListingP3State::Has(mut listing) = std::mem::replace(&mut me.state, ListingP3State::Over)
                        else {
                            continue;
                        };
                        me.state = ListingP3State::Reads(Box::pin(async move {
                            listing.more().await;
                            listing
                        }));
                    }
                },
                // If the guest cancels the read before the batch arrives, the batch is kept for the next read.
                ListingP3State::Reads(read) => match read.as_mut().poll(cx) {
                    Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                    polled => me.state = ListingP3State::Has(ready!(polled)),
                },
                ListingP3State::Over => return Poll::Ready(Ok(StreamResult::Dropped)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn list(path: &std::path::Path) -> ListingP2 {
        let account = Account::unlimited();
        let open = OpenFile::new(&account).unwrap();
        ListingP2::new(account, Arc::new(File::open(path).unwrap()), open)
    }

    #[tokio::test]
    async fn a_folder_is_read_in_batches_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let names: BTreeSet<_> = (0..3 * BATCH + 1).map(|number| format!("f{number}")).collect();
        for name in &names {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        let mut listing = list(dir.path());
        let (mut files, mut others) = (BTreeSet::new(), BTreeSet::new());
        while let Some(entry) = listing.next().await.unwrap() {
            assert!(match &listing.0.at {
                ListingPosition::Middle(entries, _) | ListingPosition::End(entries, _) => entries.len() < BATCH,
                ListingPosition::Beginning(_) => false,
            });
            match entry.type_ {
                p2::DescriptorType::RegularFile => files.insert(entry.name),
                other => others.insert(format!("{}: {other:?}", entry.name)),
            };
        }
        assert_eq!(files, names);
        assert_eq!(
            others.into_iter().collect::<Vec<_>>(),
            ["folder: DescriptorType::Directory", "link: DescriptorType::SymbolicLink"]
        );
        assert!(listing.next().await.unwrap().is_none(), "a listing continues after its end");
    }

    #[tokio::test]
    async fn a_listing_has_one_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        let (account, folder) = (Account::unlimited(), Arc::new(File::open(dir.path()).unwrap()));
        let mut listing = ListingP2::new(account.clone(), folder.clone(), OpenFile::new(&account).unwrap());
        listing.next().await.unwrap();
        assert_eq!(Arc::strong_count(&folder), 1, "the listing holds the descriptor of the handle");
    }

    #[tokio::test]
    async fn a_failed_listing_returns_its_error_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        let mut listing = list(dir.path());
        assert_eq!(listing.next().await.unwrap_err(), p2::ErrorCode::IllegalByteSequence);
        assert!(listing.next().await.unwrap().is_none());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut listing = list(&file);
        assert_eq!(listing.next().await.unwrap_err(), p2::ErrorCode::NotDirectory);
    }
}
