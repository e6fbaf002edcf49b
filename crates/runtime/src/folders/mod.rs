//! Granted folders: a tenant's storage is asked before each write, folders lie only so deep, and what the host does and holds for guests
//! that use files is bounded and paid for.
//!
//! wasmtime's implementation of `wasi:filesystem` knows permissions and paths. It knows no quota, does its work on the threads for
//! blocking work of whichever executor is current, and keeps what it reads or is to write on the host without a bound. So its functions
//! are defined anew here, for both versions of the interface:
//!
//! | file | what it owns |
//! | --- | --- |
//! | `threads` | the threads that do the work, and whose turn it is |
//! | `granted` | the folders that a manifest grants, open once for all instances of a group |
//! | `apart` | what a call may hold and take, and wasmtime's functions, called by those threads |
//! | `calls2`, `calls3` | functions that wasmtime goes on to implement, after a claim where they take space |
//! | `chunk` | pieces of files that are read or written, on the way |
//! | `streams2`, `streams3` | streams of bytes, ours altogether |
//! | `listing` | what is in a folder, ours altogether |
//!
//! A write asks for its *cost*: the blocks that it may fill. What it asked for is a [`SpaceReservation`] on the storage until it is over and the folders
//! have been counted again. Setting a file's length costs nothing, as it fills no block.
//!
//! A folder that is made deeper than [`DEPTH_MAX`] is removed again, and the guest is told that the name is too long. (Counting the parts of
//! paths was rejected: a symbolic link makes a deep path short.) A folder that is moved may take others below that depth; then the folders
//! cannot be counted, and what cannot be counted counts as full.

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
pub(crate) use listing::{LISTING_BYTES, Listing2, Listing3};
pub use storage::FolderStorage;
pub(crate) use storage::{ENTRY_BYTES, SpaceReservation, cost, is_too_deep};
pub(crate) use streams_p2::{Input, Output};
pub(crate) use streams_p3::{Read, Write};
