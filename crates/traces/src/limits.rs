//! The limits of the stores of all apps.

use std::time::Duration;

/// The limits of the trace stores of all apps of a process.
#[derive(Debug, Clone)]
pub struct TraceLimits {
    /// The maximum size of one file of a store in bytes.
    pub segment_bytes: u64,
    /// The maximum number of files of a store. Before another file is created, the oldest file is deleted.
    pub segments: u64,
    /// The maximum number of bytes of all open stores together. If they have more, the oldest files are deleted.
    pub bytes: u64,
    /// The age from which traces are deleted. Whole files are deleted, so traces may be an eighth older.
    pub age: Duration,
    /// The maximum number of bytes in traces that wait to be written, for all apps together.
    pub waiting_bytes: usize,
    /// The maximum number of bytes in traces that wait to be written, for all apps of one tenant.
    pub waiting_bytes_of_tenant: usize,
    /// The maximum number of bytes in traces that wait to be written, for one app.
    pub waiting_bytes_of_app: usize,
    /// The maximum number of followers of one store.
    pub followers: usize,
    /// The maximum number of bytes that one query reads from files.
    pub query_bytes: u64,
}

impl TraceLimits {
    /// The limits of `isomer run` and `isomer dev`, which serve one app.
    pub const LOCAL: Self = Self {
        segment_bytes: 4 << 20,
        segments: 32,
        bytes: 128 << 20,
        age: Duration::from_secs(7 * 24 * 3600),
        waiting_bytes: 16 << 20,
        waiting_bytes_of_tenant: 16 << 20,
        waiting_bytes_of_app: 16 << 20,
        followers: 16,
        query_bytes: 128 << 20,
    };

    /// The limits of a node, which serves many apps.
    pub const NODE: Self = Self {
        segment_bytes: 1 << 20,
        segments: 8,
        bytes: 4 << 30,
        age: Duration::from_secs(3 * 24 * 3600),
        waiting_bytes: 16 << 20,
        waiting_bytes_of_tenant: 2 << 20,
        waiting_bytes_of_app: 1 << 20,
        followers: 16,
        query_bytes: 16 << 20,
    };
}
