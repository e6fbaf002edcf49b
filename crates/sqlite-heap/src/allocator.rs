//! The memory allocator that SQLite uses. It calls Rust's allocator, and puts a header with the block's size and heap
//! before each block.
#![allow(unsafe_code, reason = "SQLite's allocator is a table of C functions")]

use std::alloc::{Layout, alloc, dealloc, realloc};
use std::ffi::{c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::{Arc, OnceLock};

use rusqlite::ffi;

use crate::heap::{self, Heap};

/// The header before each block that SQLite allocates.
#[repr(C, align(16))]
struct Header {
    /// The size of the block without the header.
    bytes: usize,
    /// The heap to which the block is charged, from [`Arc::into_raw`]; null if the block is not charged.
    heap: *const Heap,
}

const HEADER_BYTES: usize = size_of::<Header>();

/// The error of [`install`]: SQLite was used before the first call, so its memory cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("SQLite was used in this process before the allocator that counts its memory was installed (code {code})")]
pub struct InstallError {
    /// The result code that SQLite returned.
    pub code: i32,
}

/// Installs the allocator in SQLite. The first call must precede any other use of SQLite. Further calls do nothing, and
/// return the result of the first call.
///
/// # Errors
/// If SQLite was used before the first call.
pub fn install() -> Result<(), InstallError> {
    static INSTALLED: OnceLock<Result<(), InstallError>> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        let methods = ffi::sqlite3_mem_methods {
            xMalloc: Some(x_malloc),
            xFree: Some(x_free),
            xRealloc: Some(x_realloc),
            xSize: Some(x_size),
            xRoundup: Some(x_roundup),
            xInit: Some(x_init),
            xShutdown: Some(x_shutdown),
            pAppData: null_mut(),
        };
        let methods: *const ffi::sqlite3_mem_methods = &raw const methods;
        // SAFETY: `sqlite3_config` must not run concurrently with any other use of SQLite. If SQLite is already
        // initialized, `sqlite3_config` returns an error and changes nothing, and `get_or_init` lets only one thread
        // run this closure. With SQLITE_CONFIG_MALLOC the argument is a pointer to a table of this type, which SQLite
        // copies.
        let code = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, methods) };
        if code != ffi::SQLITE_OK {
            return Err(InstallError { code });
        }
        // Turns off SQLite's own statistics, because they would need a process-wide lock for each allocation. SAFETY:
        // as above; the argument of this option is an int.
        let code = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, c_int::from(0_u8)) };
        if code != ffi::SQLITE_OK {
            return Err(InstallError { code });
        }
        // SAFETY: as above. The arguments of this operation are an int and, if the int is 2, a function with two
        // pointers as parameters. SQLite keeps the function, which lives as long as the program.
        let code = unsafe {
            ffi::sqlite3_test_control(ffi::SQLITE_TESTCTRL_LOCALTIME_FAULT, c_int::from(2_u8), utc as LocalTime)
        };
        if code == ffi::SQLITE_OK { Ok(()) } else { Err(InstallError { code }) }
    })
}

/// The type of the function that SQLite calls to get the local time: it reads a `time_t` and writes a `tm`.
type LocalTime = unsafe extern "C" fn(*const libc::time_t, *mut libc::tm) -> c_int;

/// Writes UTC as the local time, because the result of a query must not depend on the time zone of the machine.
///
/// # Safety
/// Both pointers must be valid, as for `gmtime_r`. SQLite passes the pointers that it would pass to `localtime_r`.
unsafe extern "C" fn utc(time: *const libc::time_t, fields: *mut libc::tm) -> c_int {
    // SAFETY: both pointers are valid, by this function's contract.
    let filled = unsafe { libc::gmtime_r(time, fields) };
    c_int::from(filled.is_null())
}

fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.checked_add(HEADER_BYTES)?, align_of::<Header>()).ok()
}

/// Returns the header of a block.
///
/// # Safety
/// `block` must come from [`x_malloc`] or [`x_realloc`], and must not have been freed.
unsafe fn header(block: *mut c_void) -> *mut Header {
    // SAFETY: each block follows its header in the same allocation.
    unsafe { block.cast::<u8>().sub(HEADER_BYTES).cast() }
}

unsafe extern "C" fn x_malloc(bytes: c_int) -> *mut c_void {
    let Some(bytes) = usize::try_from(bytes).ok().filter(|bytes| *bytes > 0) else { return null_mut() };
    let Some(layout) = layout(bytes) else { return null_mut() };
    let Ok(heap) = heap::allocate(layout.size()) else { return null_mut() };
    // SAFETY: the size of the layout is not zero, because it includes the header.
    let start = unsafe { alloc(layout) };
    if start.is_null() {
        if let Some(heap) = heap {
            heap::free(&heap, layout.size());
        }
        return null_mut();
    }
    let heap = heap.map_or(null(), Arc::into_raw);
    // SAFETY: the allocation is aligned for a header and starts with space for one; the block follows the header.
    unsafe {
        start.cast::<Header>().write(Header { bytes, heap });
        start.add(HEADER_BYTES).cast()
    }
}

unsafe extern "C" fn x_free(block: *mut c_void) {
    if block.is_null() {
        return;
    }
    // SAFETY: SQLite frees only blocks from this allocator, and each block only once.
    let (header, Header { bytes, heap }) = unsafe {
        let header = header(block);
        (header, header.read())
    };
    let layout = layout(bytes).expect("the block was allocated with this size");
    // SAFETY: the block was allocated, or last reallocated, with this layout.
    unsafe { dealloc(header.cast(), layout) };
    if !heap.is_null() {
        // SAFETY: `heap` came from `into_raw`, and the header that held this reference was freed.
        let heap = unsafe { Arc::from_raw(heap) };
        heap::free(&heap, layout.size());
    }
}

unsafe extern "C" fn x_realloc(block: *mut c_void, bytes: c_int) -> *mut c_void {
    // SQLite never passes a null pointer or a size of zero, by the contract of `sqlite3_mem_methods`.
    let Some(new_bytes) = usize::try_from(bytes).ok().filter(|bytes| *bytes > 0) else { return null_mut() };
    // SAFETY: SQLite reallocates only blocks from this allocator that it has not freed.
    let (header, Header { bytes, heap }) = unsafe {
        let header = header(block);
        (header, header.read())
    };
    let (Some(old), Some(new)) = (layout(bytes), layout(new_bytes)) else { return null_mut() };
    let (more, less) = (new.size().saturating_sub(old.size()), old.size().saturating_sub(new.size()));
    // SAFETY: the heap exists, because the header holds a reference count of the heap. `ManuallyDrop` leaves the count
    // unchanged.
    let owner = std::mem::ManuallyDrop::new((!heap.is_null()).then(|| unsafe { Arc::from_raw(heap) }));
    if let (Some(owner), true) = (&*owner, more > 0)
        && !heap::grow_block(owner, more)
    {
        return null_mut();
    }
    // SAFETY: `old` is the block's current layout; the new size is not 0 and fits a layout.
    let start = unsafe { realloc(header.cast(), old, new.size()) };
    let freed = if start.is_null() { more } else { less };
    if let (Some(owner), true) = (&*owner, freed > 0) {
        heap::free(owner, freed);
    }
    if start.is_null() {
        return null_mut();
    }
    // SAFETY: as in `x_malloc`, the allocation starts with the header, and the block follows the header.
    unsafe {
        (*start.cast::<Header>()).bytes = new_bytes;
        start.add(HEADER_BYTES).cast()
    }
}

unsafe extern "C" fn x_size(block: *mut c_void) -> c_int {
    if block.is_null() {
        return 0;
    }
    // SAFETY: SQLite passes only blocks from this allocator that it has not freed.
    let bytes = unsafe { (*header(block)).bytes };
    c_int::try_from(bytes).unwrap_or(c_int::MAX)
}

unsafe extern "C" fn x_roundup(bytes: c_int) -> c_int {
    // SQLite's own allocator rounds up to a multiple of 8 too.
    bytes.checked_add(7).map_or(bytes, |sum| sum & !7)
}

unsafe extern "C" fn x_init(_: *mut c_void) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_shutdown(_: *mut c_void) {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rusqlite::{Connection, ErrorCode};

    use super::*;
    use crate::{HeapAccount, Refusal, refusal};

    const BOMB: &str = "SELECT length(hex(zeroblob(1000000)) || hex(zeroblob(1000000)))";

    #[derive(Clone)]
    struct Budget(Arc<(AtomicUsize, usize)>);

    impl Budget {
        fn new(max: usize) -> Self {
            Self(Arc::new((AtomicUsize::new(0), max)))
        }

        fn taken(&self) -> usize {
            self.0.0.load(Ordering::SeqCst)
        }
    }

    impl HeapAccount for Budget {
        fn charge(&self, bytes: usize) -> bool {
            let add = |taken: usize| (taken + bytes <= self.0.1).then_some(taken + bytes);
            self.0.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add).is_ok()
        }

        fn charge_unchecked(&self, bytes: usize) {
            self.0.0.fetch_add(bytes, Ordering::SeqCst);
        }

        fn release(&self, bytes: usize) {
            self.0.0.fetch_sub(bytes, Ordering::SeqCst);
        }
    }

    fn query(connection: &Connection, statement: &str) -> Result<i64, rusqlite::Error> {
        connection.query_row(statement, [], |row| row.get(0))
    }

    fn is_out_of_memory(result: &Result<i64, rusqlite::Error>) -> bool {
        result.as_ref().is_err_and(|error| error.sqlite_error_code() == Some(ErrorCode::OutOfMemory))
    }

    #[test]
    fn a_statement_that_reaches_its_bound_fails_alone() {
        install().unwrap();
        let budget = Budget::new(usize::MAX);
        let heap = Heap::new(Box::new(budget.clone()));
        let connection = {
            let _entered = heap.enter(None);
            Connection::open_in_memory().unwrap()
        };
        let opened = heap.used();
        assert!(opened > 10_000 && budget.taken() >= opened, "{opened} {}", budget.taken());
        let entered = heap.enter(Some(3_000_000));
        let refused = query(&connection, BOMB);
        assert!(is_out_of_memory(&refused), "{refused:?}");
        assert_eq!(refusal(), Some(Refusal::Bound));
        drop(entered);
        let entered = heap.enter(Some(20_000_000));
        assert_eq!(query(&connection, BOMB).unwrap(), 4_000_000);
        assert_eq!(refusal(), None);
        drop(entered);
        assert!(heap.used() < 1_000_000 && budget.taken() < 2_000_000, "{} {}", heap.used(), budget.taken());
        // Another thread, which has entered no heap, frees the connection.
        std::thread::spawn(move || drop(connection)).join().unwrap();
        assert_eq!((heap.used(), budget.taken()), (0, 0));
    }

    #[test]
    fn an_account_refuses_only_its_own_heap() {
        install().unwrap();
        let (poor, rich) = (Budget::new(2_000_000), Budget::new(usize::MAX));
        let open = |budget: &Budget| {
            let heap = Heap::new(Box::new(budget.clone()));
            let entered = heap.enter(None);
            let connection = Connection::open_in_memory().unwrap();
            drop(entered);
            (heap, connection)
        };
        let ((poor_heap, small), (rich_heap, richs)) = (open(&poor), open(&rich));
        for _ in 0..3 {
            let entered = poor_heap.enter(Some(usize::MAX));
            assert!(is_out_of_memory(&query(&small, BOMB)));
            assert_eq!(refusal(), Some(Refusal::Account));
            // The rich heap is entered while the poor heap is the current one, and left before the poor heap is left.
            let within = rich_heap.enter(Some(usize::MAX));
            assert_eq!(query(&richs, BOMB).unwrap(), 4_000_000);
            assert_eq!(refusal(), None);
            drop(within);
            assert_eq!(refusal(), Some(Refusal::Account));
            assert_eq!(query(&small, "SELECT 1").unwrap(), 1);
            drop(entered);
            // Without a bound, no allocation is refused.
            let _entered = poor_heap.enter(None);
            assert_eq!(query(&small, BOMB).unwrap(), 4_000_000);
        }
        drop((small, richs));
        assert_eq!((poor.taken(), rich.taken()), (0, 0));
    }

    #[test]
    fn allocations_without_a_heap_are_not_counted() {
        install().unwrap();
        let heap = Heap::new(Box::new(Budget::new(0)));
        let connection = Connection::open_in_memory().unwrap();
        assert_eq!(query(&connection, BOMB).unwrap(), 4_000_000);
        assert_eq!(heap.used(), 0);
    }
}
