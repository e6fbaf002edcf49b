//! Counts the memory of SQLite per owner, and limits it per statement.
//!
//! SQLite's own limit (`PRAGMA hard_heap_limit`) applies to the whole process, so one tenant's statement would make
//! another tenant's statement fail. [`install`] installs an allocator in SQLite that counts each allocation in the
//! [`Heap`] that the current thread has entered ([`Heap::enter`]). A heap charges its [`HeapAccount`] in steps, before
//! memory is allocated. In addition, a statement may have its own limit. If the limit is reached or the account
//! refuses, SQLite reports `SQLITE_NOMEM`, which undoes only this statement.
//!
//! A block stays charged to the heap that was current when the block was allocated, even if another thread frees the
//! block. Allocations of a thread that has entered no heap are not counted.
//!
//! [`install`] also makes SQLite use UTC as the local time. This is part of this crate because it also needs `unsafe`
//! code: a C function is passed to SQLite.
//!
//! This crate knows neither tenants nor stores. It is separate from `isomer-capabilities` because an allocator needs
//! `unsafe` code.

mod allocator;
mod heap;

pub use allocator::{InstallError, install};
pub use heap::{Heap, HeapAccount, HeapGuard, Refusal, refusal};
