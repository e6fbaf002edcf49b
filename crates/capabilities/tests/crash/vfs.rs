//! A VFS of SQLite that forwards all calls to the real VFS, and records the operations on databases and their logs.
//!
//! Deletes are treated as durable immediately, because the store syncs its directory after it has switched a new file
//! to WAL mode, and deletes nothing while it runs. The shared memory of WAL mode (`-shm`) is not recorded, because a
//! crash removes it and SQLite creates it again.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

use crate::disk::{Event, Recorder};

static INSTALLED: OnceLock<Installed> = OnceLock::new();

struct Installed {
    recorder: Arc<Recorder>,
    real: *mut sqlite3_vfs,
}

// SAFETY: SQLite's VFS objects are never changed after they were registered, and may be used from any thread.
unsafe impl Send for Installed {}
// SAFETY: as for `Send`.
unsafe impl Sync for Installed {}

/// The start of the memory that SQLite allocates for an open file. The file of the real VFS follows it.
#[repr(C)]
struct File {
    base: sqlite3_file,
    /// The name under which the file is recorded; null if it is not recorded.
    name: *mut String,
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
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
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Makes this VFS the default of the process. All later operations are recorded.
pub(crate) fn install() -> Arc<Recorder> {
    let installed = INSTALLED.get_or_init(|| {
        // SAFETY: SQLite is initialized first. The real VFS lives as long as the process, and so does the leaked copy
        // of it. The `xOpen` of the copy passes the real VFS on; the other functions of the real VFS use only fields
        // that were copied.
        unsafe {
            isomer_sqlite_heap::install().unwrap();
            assert_eq!(ffi::sqlite3_initialize(), ffi::SQLITE_OK);
            let real = ffi::sqlite3_vfs_find(std::ptr::null());
            assert!(!real.is_null());
            let mut layer = *real;
            layer.zName = c"recording".as_ptr();
            layer.pNext = std::ptr::null_mut();
            layer.szOsFile = c_int::try_from(size_of::<File>()).unwrap() + (*real).szOsFile;
            layer.xOpen = Some(open);
            layer.xDelete = Some(delete);
            assert_eq!(ffi::sqlite3_vfs_register(Box::leak(Box::new(layer)), 1), ffi::SQLITE_OK);
            Installed { recorder: Arc::default(), real }
        }
    });
    installed.recorder.clone()
}

/// Returns the entries of a store that consists of `files`. SQLite's own VFS opens the store in `dir`.
pub(crate) fn contents(dir: &Path, files: &BTreeMap<String, Vec<u8>>) -> rusqlite::Result<BTreeMap<String, String>> {
    for entry in std::fs::read_dir(dir).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (name, content) in files {
        std::fs::write(dir.join(name), content).unwrap();
    }
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
    let connection = rusqlite::Connection::open_with_flags_and_vfs(dir.join("crash.sqlite"), flags, c"unix")?;
    connection.execute_batch("PRAGMA synchronous = OFF")?;
    let damage: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    assert_eq!(damage, "ok");
    let mut statement = connection.prepare("SELECT key, value FROM entries")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn installed() -> &'static Installed {
    INSTALLED.get().expect("SQLite calls this VFS only after it was installed")
}

/// Returns the file name of a path if the file is a database, its log or its journal; `None` for other files.
///
/// # Safety
/// `path` must be null or a C string.
unsafe fn recorded_name(path: *const c_char) -> Option<String> {
    if path.is_null() {
        return None;
    }
    // SAFETY: `path` is not null, so it is a C string by this function's contract.
    let path = Path::new(unsafe { CStr::from_ptr(path) }.to_str().ok()?);
    let name = path.file_name()?.to_str()?;
    [".sqlite", ".sqlite-wal", ".sqlite-journal"].iter().any(|end| name.ends_with(end)).then(|| name.to_owned())
}

/// Returns the file of the real VFS, which follows this VFS's [`File`] in memory.
///
/// # Safety
/// SQLite must have allocated `file` with the `szOsFile` of this VFS.
unsafe fn real(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: the allocation has space for both files and is aligned to 8 bytes. The real file starts after the 16
    // bytes of `File`, so it is aligned too.
    unsafe { file.cast::<File>().add(1).cast() }
}

/// Records an event, if the file is one that is recorded.
///
/// # Safety
/// The requirements of [`real`]. Also, the file must be open.
unsafe fn record(file: *mut sqlite3_file, event: impl FnOnce(String) -> Event) {
    // SAFETY: `open` has set the name to null or to a leaked string, which `close` frees.
    if let Some(name) = unsafe { (*file.cast::<File>()).name.as_ref() } {
        installed().recorder.push(event(name.clone()));
    }
}

unsafe extern "C" fn open(
    _vfs: *mut sqlite3_vfs,
    path: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // SAFETY: the arguments follow SQLite's contract for `xOpen`. The real VFS gets its own object, and its own part of
    // the allocation.
    unsafe {
        let real_vfs = installed().real;
        let open = (*real_vfs).xOpen.expect("every layer opens");
        let code = open(real_vfs, path, real(file), flags, flags_out);
        let ours = file.cast::<File>();
        (*ours).name = recorded_name(path).map_or(std::ptr::null_mut(), |name| Box::into_raw(Box::new(name)));
        // With null, SQLite does not close the file.
        (*ours).base.pMethods = if code == ffi::SQLITE_OK { &raw const METHODS } else { std::ptr::null() };
        code
    }
}

unsafe extern "C" fn delete(_vfs: *mut sqlite3_vfs, path: *const c_char, sync_dir: c_int) -> c_int {
    // SAFETY: the arguments follow SQLite's contract for `xDelete`.
    unsafe {
        let real_vfs = installed().real;
        let code = (*real_vfs).xDelete.expect("every layer deletes")(real_vfs, path, sync_dir);
        if let (ffi::SQLITE_OK, Some(file)) = (code, recorded_name(path)) {
            installed().recorder.push(Event::Delete { file });
        }
        code
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: the file is open. `open` created the name, which is not used after this.
    unsafe {
        let name = std::mem::replace(&mut (*file.cast::<File>()).name, std::ptr::null_mut());
        if !name.is_null() {
            drop(Box::from_raw(name));
        }
        let real = real(file);
        (*(*real).pMethods).xClose.expect("every file closes")(real)
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, data: *const c_void, bytes: c_int, offset: sqlite3_int64) -> c_int {
    // SAFETY: `data` has `bytes` bytes, by SQLite's contract for `xWrite`.
    unsafe {
        let real = real(file);
        let code = (*(*real).pMethods).xWrite.expect("every file writes")(real, data, bytes, offset);
        if code == ffi::SQLITE_OK {
            let data = std::slice::from_raw_parts(data.cast::<u8>(), usize::try_from(bytes).unwrap()).to_vec();
            record(file, |file| Event::Write { file, offset: usize::try_from(offset).unwrap(), data });
        }
        code
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, bytes: sqlite3_int64) -> c_int {
    // SAFETY: the file is open.
    unsafe {
        let real = real(file);
        let code = (*(*real).pMethods).xTruncate.expect("every file truncates")(real, bytes);
        if code == ffi::SQLITE_OK {
            record(file, |file| Event::Resize { file, bytes: usize::try_from(bytes).unwrap() });
        }
        code
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: the file is open.
    unsafe {
        let real = real(file);
        let code = (*(*real).pMethods).xSync.expect("every file syncs")(real, flags);
        if code == ffi::SQLITE_OK {
            record(file, |file| Event::Sync { file });
        }
        code
    }
}

/// Defines functions that only forward the call to the real file.
macro_rules! pass_on {
    ($($name:ident, $method:ident, ($($argument:ident: $type:ty),*);)*) => {$(
        unsafe extern "C" fn $name(file: *mut sqlite3_file $(, $argument: $type)*) -> c_int {
            // SAFETY: the file is open, and SQLite passed these arguments to the recording VFS for the same method, so
            // they are valid for the real VFS.
            unsafe {
                let real = real(file);
                (*(*real).pMethods).$method.expect("the real VFS supports WAL mode")(real $(, $argument)*)
            }
        }
    )*};
}

pass_on! {
    read, xRead, (data: *mut c_void, bytes: c_int, offset: sqlite3_int64);
    file_size, xFileSize, (bytes: *mut sqlite3_int64);
    lock, xLock, (level: c_int);
    unlock, xUnlock, (level: c_int);
    check_reserved_lock, xCheckReservedLock, (reserved: *mut c_int);
    file_control, xFileControl, (operation: c_int, argument: *mut c_void);
    sector_size, xSectorSize, ();
    device_characteristics, xDeviceCharacteristics, ();
    shm_map, xShmMap, (page: c_int, bytes: c_int, extend: c_int, mapped: *mut *mut c_void);
    shm_lock, xShmLock, (offset: c_int, count: c_int, flags: c_int);
    shm_unmap, xShmUnmap, (delete: c_int);
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: the file is open.
    unsafe {
        let real = real(file);
        (*(*real).pMethods).xShmBarrier.expect("the real VFS supports WAL mode")(real);
    }
}
