//! SQLite's memory, counted for each owner and bounded for each statement.
//!
//! SQLite's own bound (`PRAGMA hard_heap_limit`) applies to the whole process: one tenant's statement would make
//! another tenant's fail. This crate installs an allocator in SQLite ([`install`]) that counts memory for the [`Heap`]
//! that the current thread has entered: see [`Heap::enter`]. A heap is charged to its [`HeapAccount`], in steps, before
//! the memory is allocated. A statement may have its own bound. When the bound is reached or the account refuses,
//! SQLite reports `SQLITE_NOMEM`, which undoes the statement and nothing else.
//!
//! Memory belongs to the heap that it was allocated for, whichever thread frees it. Allocations of a thread that has
//! entered no heap are not counted.
//!
//! [`install`] also makes SQLite use UTC as the local time, because this needs the same kind of function in C.
//!
//! This crate has no notion of tenants or stores. It is separate from `isomer-capabilities` because an allocator needs
//! `unsafe` code.

mod allocator;
mod heap;

pub use allocator::{InstallError, install};
pub use heap::{Heap, HeapAccount, HeapGuard, Refusal, refusal};
