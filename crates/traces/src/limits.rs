//! The limits of the stored traces of all apps.

use std::time::Duration;

/// The limits of the trace stores of all apps of a process.
#[derive(Debug, Clone)]
pub struct TraceLimits {
    /// The maximum size of one file of a trace store in bytes. At least [`SEGMENT_BYTES_MIN`].
    pub segment_bytes: u64,
    /// The maximum size of all files of one trace store in bytes. Before it is exceeded, the oldest file is deleted.
    pub store_bytes: u64,
    /// The maximum size of all trace stores together in bytes. If it is exceeded, the oldest file of the largest trace
    /// store is deleted.
    pub bytes: u64,
    /// The age from which traces are deleted. Whole files are deleted, so traces may become an eighth older.
    pub age: Duration,
    /// The maximum number of bytes in traces that wait to be written, for all apps together.
    pub waiting_bytes: usize,
    /// The maximum number of bytes in traces that wait to be written, for all apps of one tenant.
    pub waiting_bytes_of_tenant: usize,
    /// The maximum number of bytes in traces that wait to be written, for one app.
    pub waiting_bytes_of_app: usize,
    /// The number of bytes that the apps of one tenant may record per second, measured by the size of traces in memory.
    /// In a file, a trace has about a third of this size.
    pub bytes_per_second_of_tenant: u64,
    /// The maximum number of followers of one trace store.
    pub followers: usize,
    /// The number of bytes after which a query stops reading further files. Its page then has `next`, with which the
    /// search continues. So a response does not take longer in a larger store.
    pub query_bytes: u64,
    /// The number of bytes after which the search for one trace stops.
    pub find_bytes: u64,
}

/// The smallest value of [`TraceLimits::segment_bytes`]. A file has room for at least one trace of the maximum size.
pub const SEGMENT_BYTES_MIN: u64 = 512 << 10;

impl Default for TraceLimits {
    fn default() -> Self {
        Self::LOCAL
    }
}

impl TraceLimits {
    /// The limits of `isomer run` and `isomer dev`, which serve one app.
    pub const LOCAL: Self = Self {
        segment_bytes: 4 << 20,
        store_bytes: 128 << 20,
        bytes: 128 << 20,
        age: Duration::from_secs(7 * 24 * 3600),
        waiting_bytes: 16 << 20,
        waiting_bytes_of_tenant: 16 << 20,
        waiting_bytes_of_app: 16 << 20,
        bytes_per_second_of_tenant: u64::MAX,
        followers: 16,
        query_bytes: 16 << 20,
        find_bytes: 128 << 20,
    };

    /// The limits of a node, which serves many apps.
    pub const NODE: Self = Self {
        segment_bytes: 1 << 20,
        store_bytes: 8 << 20,
        bytes: 4 << 30,
        age: Duration::from_secs(3 * 24 * 3600),
        waiting_bytes: 16 << 20,
        waiting_bytes_of_tenant: 2 << 20,
        waiting_bytes_of_app: 1 << 20,
        bytes_per_second_of_tenant: 1 << 20,
        followers: 16,
        query_bytes: 4 << 20,
        find_bytes: 16 << 20,
    };
}
