//! Compiled code on disk: compiled once, mapped from then on.
//!
//! An entry is named by a [`Key`] over everything that went into it: what was compiled and with which engine. Next to
//! the code lies a note, whose content this module does not know: what the caller needs to use the code without looking
//! at its source again.
//!
//! Compiled code is run as it is, so every file is sealed (see `seal`) with a key that lies next to the folder, as
//! `FOLDER.key`, and is verified through the same descriptor that is mapped. A file that was changed, truncated,
//! renamed or sealed with another key is removed, logged, and compiled again. A file is verified once for as long as
//! its change time stays the same.
//!
//! The owner of a folder decides what is removed. A cache ([`CodeCache::open`]) cleans up itself: files that have not
//! been used for long, or exceed the folder's limit, are removed when something new is compiled. Kept code
//! ([`CodeCache::open_kept`]) is what deployed apps start from: only [`CodeCache::sweep`], which gets a list of what is
//! needed, removes any of it, and it is synced, so that what was deployed survives a loss of power. Removing code that
//! is mapped is harmless.

mod cache;
mod key;
mod loaded;
mod seal;

pub use cache::{CodeCache, CodeError, precompile};
pub use key::{InvalidKey, Key};
pub use loaded::Code;
pub use seal::SealedFile;
