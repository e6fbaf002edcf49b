//! Compiled code on disk: compiled once, mapped from then on.
//!
//! An entry is named by a [`Key`] over everything that went into it: what was compiled and with which engine. Beside the code lies
//! a note, opaque here: whatever the caller needs to use the code without looking at its source again.
//!
//! Compiled code is run as it is, so every file is sealed (see `seal`) with a key that lies beside the folder, as `FOLDER.key`,
//! and is verified through the very descriptor that is mapped. What was changed, cut short, renamed or sealed with another key is
//! removed, logged, and compiled again. A file is verified once for as long as it is not touched: its change time says so.
//!
//! Who removes what is a matter of who owns the folder. A cache ([`CodeCache::open`]) tidies itself: what has not been used for long, or
//! is more than the folder may hold, is removed when something new is compiled. Kept code ([`CodeCache::open_kept`]) is what deployed
//! apps start from: nothing of it goes away but by [`CodeCache::sweep`], which is told what is needed, and it is synced, so that what was
//! deployed is there after a loss of power. Removing code that is mapped hurts nobody.

mod cache;
mod key;
mod loaded;
mod seal;

pub use cache::{CodeCache, CodeError, precompile};
pub use key::{InvalidKey, Key};
pub use loaded::Code;
pub use seal::Sealing;
