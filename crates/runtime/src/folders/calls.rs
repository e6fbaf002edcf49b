//! Calls of wasmtime's functions on files, outside of any guest's wasmtime store: a thread for file work makes them
//! with a copy of the guest's handles, and waits until they return.
//!
//! A [`FileCall`] is [admitted](FileCall::admit) first: the length of its texts is checked, the memory that it holds is
//! charged, and the space that it may fill is reserved. [`call`] accepts only an admitted call, so no function can skip
//! these checks.
//!
//! Handles of guests are created so that wasmtime does the work on the calling thread
//! ([`WasiCtxBuilder::allow_blocking_current_thread`]), which must be a thread for file work.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, LazyLock};

use futures::FutureExt as _;
use wasmtime::component::{Accessor, Resource, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemCtxView};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use super::storage::{FolderStorage, SpaceReservation, full, no_memory};
use super::threads;
use crate::pool::{Account, HostMemory};

/// A guest's handle of a file or a folder.
pub(crate) type Handle = Resource<Descriptor>;

/// The maximum length of a path, of a name and of the target of a link: what the system accepts, minus the zero byte at
/// the end. A longer text is refused with the same error that the system returns.
const TEXT_BYTES_MAX: usize = 4095;

/// The host memory of a call in bytes, without its texts: its job, and the job's entry in the queue.
const CALL_BYTES: usize = 512;

/// The engine of the wasmtime stores that file calls use. No component is ever instantiated in it.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.wasm_component_model_async(true).concurrency_support(true);
    Engine::new(&config).expect("these settings work on every machine")
});

thread_local! {
    static STORE: RefCell<Store<FileCallState>> = RefCell::new(Store::new(&ENGINE, FileCallState::new()));
}

/// The data of a wasmtime store for file calls, used by wasmtime's functions instead of a guest's data.
pub(crate) struct FileCallState {
    ctx: WasiCtx,
    table: ResourceTable,
}

impl FileCallState {
    fn new() -> Self {
        let ctx = WasiCtxBuilder::new().allow_blocking_current_thread(true).build();
        Self { ctx, table: ResourceTable::new() }
    }

    pub(crate) fn view(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: self.ctx.filesystem(), table: &mut self.table }
    }

    /// Removes the object that a handle refers to, and returns it.
    ///
    /// # Errors
    /// When the handle does not exist.
    pub(crate) fn take(&mut self, handle: Resource<Descriptor>) -> wasmtime::Result<Descriptor> {
        Ok(self.table.delete(handle)?)
    }
}

/// An argument of a function on files.
pub(crate) trait FileArgument {
    /// Returns the text of the argument. Only an argument with text needs memory in addition to that of the call.
    fn text(&self) -> &str {
        ""
    }
}

impl FileArgument for String {
    fn text(&self) -> &str {
        self
    }
}

impl FileArgument for u64 {}

/// A call of a function on files.
pub(crate) struct FileCall {
    file: Handle,
    other: Option<Handle>,
    /// The bytes of the storage that the call may fill.
    cost: u64,
    /// The total length of all texts of the call.
    text_bytes: usize,
    is_too_long: bool,
}

/// The charge and the reservation of a call. Held until the work of the call is done.
pub(crate) struct FileCallPermit {
    _claim: Option<SpaceReservation>,
    _memory: HostMemory,
}

impl FileCall {
    /// Returns a call of a function of `file` that has these texts as arguments and may fill `cost` bytes of the
    /// storage.
    pub(crate) fn of(file: Handle, cost: u64, texts: &[&str]) -> Self {
        let lengths = || texts.iter().map(|text| text.len());
        let is_too_long = lengths().any(|bytes| bytes > TEXT_BYTES_MAX);
        Self { file, other: None, cost, text_bytes: lengths().sum(), is_too_long }
    }

    /// Adds a second handle.
    pub(crate) fn and(self, other: Handle) -> Self {
        Self { other: Some(other), ..self }
    }

    /// Charges the memory that the call holds, and then reserves the space that it may fill, if the storage has a
    /// limit.
    ///
    /// # Errors
    /// When a text is too long, or memory or space is used up. Only the check of space waits.
    pub(crate) async fn admit(
        &self,
        account: &Arc<Account>,
        storage: Option<Arc<dyn FolderStorage>>,
    ) -> io::Result<FileCallPermit> {
        if self.is_too_long {
            return Err(rustix::io::Errno::NAMETOOLONG.into());
        }
        let memory = account.charge_host_memory(CALL_BYTES + self.text_bytes).map_err(|_| no_memory())?;
        let claim = match storage.filter(|_| self.cost > 0) {
            Some(storage) => Some(SpaceReservation::wait(&storage, self.cost).await.ok_or_else(full)?),
            None => None,
        };
        Ok(FileCallPermit { _claim: claim, _memory: memory })
    }

    /// Returns the objects that the handles of the call refer to.
    ///
    /// # Errors
    /// When a handle does not exist.
    pub(crate) fn files(&self, table: &ResourceTable) -> wasmtime::Result<(Descriptor, Option<Descriptor>)> {
        let other = self.other.as_ref().map(|other| table.get(other).cloned()).transpose()?;
        Ok((table.get(&self.file)?.clone(), other))
    }
}

/// The handles of a call: the one that the function is called on, and for some functions a second one.
pub(crate) type Handles = (Resource<Descriptor>, Resource<Descriptor>);

/// Runs `work` on a thread for file work. The permit is dropped when the work is done.
///
/// # Errors
/// Those of `work`, and when no thread is available.
pub(crate) async fn call<T, E>(
    account: &Arc<Account>,
    admitted: FileCallPermit,
    files: (Descriptor, Option<Descriptor>),
    work: impl FnOnce(&mut Store<FileCallState>, Handles) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<io::Error> + From<wasmtime::component::ResourceTableError> + Send + 'static,
{
    let job = move || {
        let _admitted = admitted;
        STORE.with_borrow_mut(|store| {
            // Removes the objects that an earlier call left when it panicked.
            let table = &mut store.data_mut().table;
            *table = ResourceTable::new();
            let (file, other) = files;
            let file = table.push(file)?;
            let other = match other {
                Some(other) => table.push(other)?,
                None => Resource::new_borrow(file.rep()),
            };
            let result = work(store, (file, other));
            // Closes files now instead of when the next call begins.
            store.data_mut().table = ResourceTable::new();
            result
        })
    };
    threads::run(account, job).await?
}

/// Returns a second copy of a handle.
pub(crate) fn again(handle: &Handle) -> Handle {
    Resource::new_borrow(handle.rep())
}

/// Returns the result of a call of WASI 0.2. The result is ready at once, because the thread is allowed to block.
pub(crate) fn now<T, E: From<io::Error>>(call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    call.now_or_never().unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::WouldBlock).into()))
}

/// Calls a function of WASI 0.3 and returns its result, which is ready at once.
pub(crate) fn now3<T: Send + 'static, E: From<io::Error>>(
    store: &mut Store<FileCallState>,
    call: impl AsyncFnOnce(&Accessor<FileCallState, WasiFilesystem>) -> Result<T, E> + Send,
) -> Result<T, E> {
    let run =
        store.run_concurrent(async |accessor| call(&accessor.with_getter::<WasiFilesystem>(FileCallState::view)).await);
    match run.now_or_never() {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(io::Error::other(error).into()),
        None => Err(io::Error::from(io::ErrorKind::WouldBlock).into()),
    }
}
