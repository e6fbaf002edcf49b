//! Compiled code on disk: compiled once, mapped from then on.
//!
//! An entry is named by a [`Key`], which is a hash of the compiled component and the engine. A note is stored next to
//! the code. This module does not interpret the note: it contains what the caller needs to use the code without reading
//! the component again.
//!
//! Compiled code is executed without further checks. So every file is sealed (see `seal`) with a key that is stored
//! next to the folder, as `FOLDER.key`, and is verified through the same descriptor that is mapped. A file that was
//! changed, truncated, renamed or sealed with another key is removed, logged, and compiled again. A file is verified
//! once for as long as its change time stays the same.
//!
//! The kind of folder decides what is removed. A cache ([`CodeCache::open`]) cleans up itself: files that have not been
//! used for long, or exceed the folder's limit, are removed when something new is compiled. Kept code
//! ([`CodeCache::open_kept`]) is what deployed apps start from. Only [`CodeCache::sweep`] removes any of it, and gets a
//! list of the needed entries. Kept code is synced, so that it survives a loss of power. Removing code that is mapped
//! is harmless.

mod cache;
mod key;
mod loaded;
mod seal;

pub use cache::{CodeCache, CodeError, precompile};
pub use key::{InvalidKey, Key};
pub use loaded::Code;
pub use seal::SealedFile;
