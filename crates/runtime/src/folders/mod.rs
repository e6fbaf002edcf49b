//! Granted folders. The tenant's free space is checked before each write, the depth of folders is limited, and the work
//! and memory that file access costs the host are limited and charged to the guest's account.
//!
//! wasmtime's implementation of `wasi:filesystem` checks permissions and paths. But it has no quota, does its work on
//! the blocking threads of the current executor, and buffers any number of bytes between guest and file in the host's
//! memory. So its functions are replaced (in `wasi/filesystem*.rs`), for both versions of the interface, with these
//! parts:
//!
//! | file | what it owns |
//! | --- | --- |
//! | `storage` | the space that a write may fill, reserved before the write starts |
//! | `open_files` | the number of files that guests may have open |
//! | `threads`, `fair_queue` | the threads that do the work, and the order of their jobs |
//! | `granted` | the folders that a manifest grants, open once for all instances of a group |
//! | `calls` | the limits of a call, and the calls of wasmtime's functions on those threads |
//! | `chunk` | chunks of bytes that are transferred between guests and files |
//! | `streams_p2`, `streams_p3` | streams of bytes, without wasmtime's implementation |
//! | `listing` | listings of folders, without wasmtime's implementation |
//!
//! A write has a *cost*: the size of the blocks that it may fill. This space stays reserved ([`SpaceReservation`])
//! until the write has ended and the folders have been measured again. Setting a file's length costs nothing, because
//! it fills no block.
//!
//! A folder that is created deeper than [`DEPTH_MAX`](isomer_disk::tree::DEPTH_MAX) is removed again, and the guest
//! gets the error code `name-too-long`. (A limit on the number of parts of a path would not suffice, because a symbolic
//! link makes a deep path short.) Moving a folder can put its subfolders below that depth. The size of the granted
//! folder can then no longer be measured, so the storage is treated as full.

pub(crate) mod calls;
pub(crate) mod chunk;
mod fair_queue;
#[cfg(test)]
pub(crate) mod fake;
mod granted;
mod listing;
pub(crate) mod open_files;
mod storage;
mod streams_p2;
mod streams_p3;
mod threads;
#[cfg(test)]
pub(crate) use threads::hold_all as hold_all_threads;

pub(crate) use calls::{FileArgument, FileCall, FileCallState, Handle, now, now3};
pub(crate) use chunk::{CHUNK_BYTES, Chunk};
pub use granted::Directory;
pub(crate) use granted::{GrantedFolder, GrantedFolders, OpenDirectoryError};
pub(crate) use listing::{LISTING_BYTES, ListingP2, ListingP3};
pub use storage::FolderStorage;
pub(crate) use storage::{ENTRY_BYTES, SpaceReservation, cost, is_too_deep};
pub(crate) use streams_p2::{FileInput, FileOutput};
pub(crate) use streams_p3::{FileReader, FileWriter};
