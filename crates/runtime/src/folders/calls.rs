//! Calls of wasmtime's file functions outside of any guest's wasmtime store. A thread for file work makes such a call
//! with a copy of the guest's handles, and waits until the call returns.
//!
//! A [`FileCall`] must be [admitted](FileCall::admit) first. Admission checks the length of its texts, charges the
//! memory that the call holds, and reserves the space that it may fill. [`call`] accepts only an admitted call, so no
//! function can skip these checks.
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

/// A guest's handle of an open file or folder.
pub(crate) type Handle = Resource<Descriptor>;

/// The maximum length in bytes of a path, a file name, or the target of a symbolic link, without the terminating zero
/// byte: the maximum of the operating system. For a longer text, a call returns the error that the operating system
/// returns.
const TEXT_BYTES_MAX: usize = 4095;

/// The host memory of a call in bytes, without the call's texts: the job, and the job's entry in the queue.
const CALL_BYTES: usize = 512;

/// The engine of the wasmtime stores that wasmtime's WASI filesystem functions need. No component is instantiated in it.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.wasm_component_model_async(true).concurrency_support(true);
    Engine::new(&config).expect("these settings work on every machine")
});

thread_local! {
    static STORE: RefCell<Store<FileCallState>> = RefCell::new(Store::new(&ENGINE, FileCallState::new()));
}

/// The data of a wasmtime store for file calls. wasmtime's functions use it instead of a guest's data.
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

    /// Removes the object of `handle` from the table, and returns it.
    ///
    /// # Errors
    /// If the handle does not exist.
    pub(crate) fn take(&mut self, handle: Resource<Descriptor>) -> wasmtime::Result<Descriptor> {
        Ok(self.table.delete(handle)?)
    }
}

/// An argument of a file function.
pub(crate) trait FileArgument {
    /// Returns the text whose length is charged for the argument, in addition to the [`CALL_BYTES`] of the call: the
    /// argument itself if it is a text, otherwise an empty text.
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

/// A call of a file function, as far as admission must know it: the handles, the cost, and the length of the texts.
pub(crate) struct FileCall {
    file: Handle,
    other: Option<Handle>,
    /// The maximum number of bytes of the tenant's storage that the call may fill.
    cost: u64,
    /// The total length of all texts of the call, in bytes.
    text_bytes: usize,
    is_too_long: bool,
}

/// The memory charge and the space reservation of an admitted call. Held until the call's work is done.
pub(crate) struct FileCallPermit {
    _claim: Option<SpaceReservation>,
    _memory: HostMemory,
}

impl FileCall {
    /// Returns a call of a file function on the file `file`, with the text arguments `texts`. The call may use at most
    /// `cost` further bytes of the storage.
    pub(crate) fn of(file: Handle, cost: u64, texts: &[&str]) -> Self {
        let lengths = || texts.iter().map(|text| text.len());
        let is_too_long = lengths().any(|bytes| bytes > TEXT_BYTES_MAX);
        Self { file, other: None, cost, text_bytes: lengths().sum(), is_too_long }
    }

    /// Adds a second handle, for functions on two files or folders.
    pub(crate) fn and(self, other: Handle) -> Self {
        Self { other: Some(other), ..self }
    }

    /// Charges the memory that the call holds. Then reserves the space that the call may use, if the storage has a
    /// limit; only this step waits.
    ///
    /// # Errors
    /// If a text is too long, if the account has no memory left, or if the storage has no space left.
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
    /// If a handle does not exist.
    pub(crate) fn files(&self, table: &ResourceTable) -> wasmtime::Result<(Descriptor, Option<Descriptor>)> {
        let other = self.other.as_ref().map(|other| table.get(other).cloned()).transpose()?;
        Ok((table.get(&self.file)?.clone(), other))
    }
}

/// The handles of a call: the file or folder that the function is called on, and the second handle of functions that
/// take two.
pub(crate) type Handles = (Resource<Descriptor>, Resource<Descriptor>);

/// Runs `work` on a thread for file work. The permit is dropped when the work is done.
///
/// # Errors
/// The errors of `work`, and an error if no thread is available.
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
            // Removes the objects that remain if an earlier call panicked.
            let table = &mut store.data_mut().table;
            *table = ResourceTable::new();
            let (file, other) = files;
            let file = table.push(file)?;
            let other = match other {
                Some(other) => table.push(other)?,
                None => Resource::new_borrow(file.rep()),
            };
            let result = work(store, (file, other));
            // Closes the call's files now, instead of at the beginning of the next call.
            store.data_mut().table = ResourceTable::new();
            result
        })
    };
    threads::run(account, job).await?
}

/// Returns another handle with the same number. Does not duplicate the file.
pub(crate) fn again(handle: &Handle) -> Handle {
    Resource::new_borrow(handle.rep())
}

/// Returns the result of a WASI 0.2 function. The future is ready at its first poll, because wasmtime does the work of
/// a file function on the calling thread.
pub(crate) fn now<T, E: From<io::Error>>(call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    call.now_or_never().unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::WouldBlock).into()))
}

/// Calls a WASI 0.3 function and returns its result. The function's future is ready at its first poll.
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
