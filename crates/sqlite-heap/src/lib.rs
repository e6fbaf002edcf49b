//! The memory of SQLite, counted for whom it is allocated and bounded for each statement.
//!
//! SQLite's own bound (`PRAGMA hard_heap_limit`) holds for the whole process: one tenant's statement makes its neighbour's fail. Here an
//! allocator is put under SQLite ([`install`]) that knows, by the thread, for which [`Heap`] it allocates: see [`Heap::enter`]. A heap is
//! charged to its [`HeapAccount`], in steps, before the memory is there. A statement may be given a bound of its own; reaching it, or a payer
//! that refuses, is SQLite's `SQLITE_NOMEM`, which undoes the statement and nothing else.
//!
//! Memory belongs to the heap that it was allocated for, whichever thread frees it. What is allocated by a thread that has entered no
//! heap is not counted.
//!
//! [`install`] also makes SQLite's local time UTC, which is one more function in C that it asks.
//!
//! This crate knows nothing of tenants or stores. It exists beside `isomer-capabilities` because an allocator is `unsafe` code.

mod allocator;
mod heap;

pub use allocator::{InstallError, install};
pub use heap::{Heap, HeapAccount, HeapGuard, Refusal, refusal};
