//! A cache of compiled code on disk. A component is compiled once; afterwards its code is mapped from the file.
//!
//! An entry is named by a [`Key`], which is a hash of the component and the engine's settings. A note is stored next to
//! the code. This module does not interpret the note, which contains what the caller needs to use the code without
//! reading the component again.
//!
//! Compiled code is executed without further checks. So every file is sealed (see `seal`) with a key that is stored
//! next to the folder, as `FOLDER.key`, and is verified through the same descriptor that is mapped. If a file was
//! changed, truncated, renamed or sealed with another key, it is removed, this is logged, and the component is compiled
//! again. A verified file is verified again only if its change time has changed.
//!
//! There are two kinds of folders. A cache folder ([`CodeCache::open`]) cleans itself up whenever code is compiled: it
//! removes files that have not been used for a long time, and the least recently used files if the folder exceeds its
//! limit. A folder of deployed apps ([`CodeCache::open_kept`]) is cleaned up only by [`CodeCache::sweep`], which gets a
//! list of the needed entries. Its files are synced, so that they survive a loss of power. Removing code that is mapped
//! is harmless.
//!
//! A shipped app has its code with it: [`CodeArchive`]. A [`CodeSource`] is a cache or an archive.

mod archive;
mod cache;
#[cfg(feature = "compiler")]
mod compiling;
mod key;
mod loaded;
mod seal;
mod source;

pub use archive::{CodeArchive, ShippedCode};
pub use cache::{CodeCache, CodeError};
#[cfg(feature = "compiler")]
pub use compiling::precompile;
pub use key::{InvalidKey, Key};
pub use loaded::Code;
pub use seal::SealedFile;
pub use source::CodeSource;
