//! The file system of SQLite: each database is stored as [`Pages`]. Journals and temporary files are in memory.
//!
//! SQLite writes the pages of a transaction, and then syncs the file. Here, the sync is the commit: until then, written
//! pages are only in memory.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

use rusqlite::ffi;

use crate::pages::{PAGE_BYTES, Pages, PagesError};

/// The maximum length of a path, in bytes.
const PATH_BYTES_MAX: c_int = 512;
/// The time between the epoch of SQLite (noon of November 24, 4714 BC) and that of Unix, in milliseconds.
const UNIX_EPOCH_MS: i64 = 210_866_760_000_000;

/// An open file. SQLite allocates it, with the size in the VFS, and accesses only the first field.
#[repr(C)]
struct OpenFile {
    base: ffi::sqlite3_file,
    /// A `Box<State>`, from `open` until `close`.
    state: *mut State,
}

struct State {
    pages: Pages,
    lock: c_int,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// SQLite calls this function when it is initialised, because it is compiled without a file system of its own.
#[unsafe(no_mangle)]
extern "C" fn sqlite3_os_init() -> c_int {
    let vfs = Box::new(ffi::sqlite3_vfs {
        iVersion: 2,
        szOsFile: size_of::<OpenFile>() as c_int,
        mxPathname: PATH_BYTES_MAX,
        pNext: ptr::null_mut(),
        zName: c"pages".as_ptr(),
        pAppData: ptr::null_mut(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(last_error),
        xCurrentTimeInt64: Some(current_time_ms),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    });
    // SAFETY: the structure is never freed, and its functions have the signatures that SQLite expects.
    unsafe { ffi::sqlite3_vfs_register(Box::into_raw(vfs), 1) }
}

/// SQLite calls this function when it is shut down, which never happens here.
#[unsafe(no_mangle)]
extern "C" fn sqlite3_os_end() -> c_int {
    ffi::SQLITE_OK
}

/// The code for a transaction that changes too many pages. SQLite ends a transaction after `SQLITE_FULL`, and passes the upper
/// bits on to the caller.
pub(crate) const TRANSACTION_TOO_LARGE: c_int = ffi::SQLITE_FULL | (1 << 8);

fn code_of(error: &PagesError, io: c_int) -> c_int {
    match error {
        PagesError::Conflict => ffi::SQLITE_BUSY,
        PagesError::TooLarge => TRANSACTION_TOO_LARGE,
        PagesError::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => ffi::SQLITE_FULL,
        PagesError::Io(error) => {
            eprintln!("error: a store failed: {error}");
            io
        }
        PagesError::Damaged(_) => {
            eprintln!("error: a store failed: {error}");
            ffi::SQLITE_CORRUPT
        }
    }
}

/// Returns the state of an open file.
///
/// # Safety
/// `file` must be a file that [`open`] has opened successfully and that is not closed. No other reference to its state
/// may exist; this holds because SQLite calls one function at a time (there are no threads), and no function below calls
/// SQLite.
unsafe fn state<'a>(file: *mut ffi::sqlite3_file) -> &'a mut State {
    // SAFETY: `open` has stored a valid pointer, and SQLite passes the memory that it passed to `open`.
    unsafe { &mut *(*file.cast::<OpenFile>()).state }
}

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes memory of `szOsFile` bytes. A null `pMethods` tells SQLite that the file is not open.
    unsafe { (*file).pMethods = ptr::null() };
    if name.is_null() || flags & ffi::SQLITE_OPEN_MAIN_DB == 0 {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: the name is not null, so it is a string that ends with a zero.
    let Ok(path) = unsafe { CStr::from_ptr(name) }.to_str() else { return ffi::SQLITE_CANTOPEN };
    let mut pages = Pages::new(Path::new(path));
    if let Err(error) = pages.refresh() {
        return code_of(&error, ffi::SQLITE_CANTOPEN);
    }
    let state = Box::into_raw(Box::new(State { pages, lock: ffi::SQLITE_LOCK_NONE }));
    // SAFETY: as above; `out_flags` may be null.
    unsafe {
        let file = file.cast::<OpenFile>();
        (*file).state = state;
        (*file).base.pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once, so the box is freed once.
    drop(unsafe { Box::from_raw((*file.cast::<OpenFile>()).state) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, into: *mut c_void, bytes: c_int, offset: i64) -> c_int {
    // SAFETY: SQLite passes a buffer of `bytes` bytes, which no one else uses during the call.
    let (state, into) = unsafe { (state(file), std::slice::from_raw_parts_mut(into.cast::<u8>(), bytes as usize)) };
    match state.pages.read(offset as u64, into) {
        Ok(true) => ffi::SQLITE_OK,
        Ok(false) => ffi::SQLITE_IOERR_SHORT_READ,
        Err(error) => code_of(&error, ffi::SQLITE_IOERR_READ),
    }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, bytes: c_int, offset: i64) -> c_int {
    // SAFETY: SQLite passes a buffer of `bytes` bytes, which is not changed during the call.
    let (state, from) = unsafe { (state(file), std::slice::from_raw_parts(from.cast::<u8>(), bytes as usize)) };
    match state.pages.write(offset as u64, from) {
        Ok(()) => ffi::SQLITE_OK,
        Err(error) => code_of(&error, ffi::SQLITE_IOERR_WRITE),
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, bytes: i64) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe { state(file) }.pages.truncate(bytes as u64);
    ffi::SQLITE_OK
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    match unsafe { state(file) }.pages.commit() {
        Ok(()) => ffi::SQLITE_OK,
        Err(error) => code_of(&error, ffi::SQLITE_IOERR_FSYNC),
    }
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, bytes: *mut i64) -> c_int {
    // SAFETY: SQLite passes an open file and a pointer to write to.
    unsafe { *bytes = state(file).pages.bytes() as i64 };
    ffi::SQLITE_OK
}

/// The first lock of a transaction takes a snapshot. Before the first write, the snapshot must still be the newest state.
unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    let state = unsafe { state(file) };
    let done = match (state.lock, level) {
        (ffi::SQLITE_LOCK_NONE, ffi::SQLITE_LOCK_SHARED) => state.pages.refresh(),
        (ffi::SQLITE_LOCK_SHARED, level) if level > ffi::SQLITE_LOCK_SHARED => match state.pages.is_newest() {
            Ok(true) => Ok(()),
            Ok(false) => Err(PagesError::Conflict),
            Err(error) => Err(error),
        },
        _ => Ok(()),
    };
    match done {
        Ok(()) => {
            state.lock = state.lock.max(level);
            ffi::SQLITE_OK
        }
        Err(error) => code_of(&error, ffi::SQLITE_IOERR_LOCK),
    }
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    let state = unsafe { state(file) };
    if level == ffi::SQLITE_LOCK_NONE {
        state.pages.discard();
    }
    state.lock = state.lock.min(level);
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_file: *mut ffi::sqlite3_file, reserved: *mut c_int) -> c_int {
    // SAFETY: SQLite passes a pointer to write to.
    unsafe { *reserved = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_file: *mut ffi::sqlite3_file, _operation: c_int, _argument: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    PAGE_BYTES as c_int
}

unsafe extern "C" fn device_characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn delete(_vfs: *mut ffi::sqlite3_vfs, _name: *const c_char, _sync: c_int) -> c_int {
    ffi::SQLITE_OK
}

/// No journal ever exists, so nothing has to be rolled back when a database is opened.
unsafe extern "C" fn access(
    _vfs: *mut ffi::sqlite3_vfs,
    _name: *const c_char,
    _flags: c_int,
    result: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes a pointer to write to.
    unsafe { *result = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite passes a string that ends with a zero, and a buffer of `size` bytes that does not overlap it.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes_with_nul();
        if name.len() > size as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(_vfs: *mut ffi::sqlite3_vfs, bytes: c_int, out: *mut c_char) -> c_int {
    // SAFETY: SQLite passes a buffer of `bytes` bytes.
    let out = unsafe { std::slice::from_raw_parts_mut(out.cast::<u8>(), bytes as usize) };
    for chunk in out.chunks_mut(8) {
        let random = crate::random::number().to_le_bytes();
        chunk.copy_from_slice(&random[..chunk.len()]);
    }
    bytes
}

unsafe extern "C" fn sleep(_vfs: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    std::thread::sleep(std::time::Duration::from_micros(microseconds as u64));
    microseconds
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UNIX_EPOCH_MS + now.map_or(0, |since| since.as_millis() as i64)
}

unsafe extern "C" fn current_time(_vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: SQLite passes a pointer to write to.
    unsafe { *out = now_ms() as f64 / 86_400_000.0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn current_time_ms(_vfs: *mut ffi::sqlite3_vfs, out: *mut i64) -> c_int {
    // SAFETY: SQLite passes a pointer to write to.
    unsafe { *out = now_ms() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn last_error(_vfs: *mut ffi::sqlite3_vfs, _size: c_int, _out: *mut c_char) -> c_int {
    0
}
