//! wasmtime's implementation of the functions on files, apart from the store of any guest: a thread for file work calls it for a copy of
//! the guest's handles, and stays until it has answered.
//!
//! A [`FileCall`] is [admitted](FileCall::admit) first: its texts are bounded, what it holds of them is charged, and the space that it may fill is
//! claimed. That is the only way to [`call`], so no function can leave it out.
//!
//! Handles of guests are made so that wasmtime does what they are asked where it is called ([`WasiCtxBuilder::allow_blocking_current_thread`]),
//! which may be one of these threads only.

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

/// Bytes of a path, of a name and of the target of a link: what the system takes, which counts a zero at the end. What is longer is
/// refused as what is too long for the system is.
const TEXT_BYTES_MAX: usize = 4095;

/// What a call takes of the host beside its texts: its job, and its place in the queue.
const CALL_BYTES: usize = 512;

/// Nothing is ever instantiated in it.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.wasm_component_model_async(true).concurrency_support(true);
    Engine::new(&config).expect("these settings need nothing that a machine could lack")
});

thread_local! {
    static STORE: RefCell<Store<FileCallState>> = RefCell::new(Store::new(&ENGINE, FileCallState::new()));
}

/// What wasmtime's implementation sees in place of a guest.
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

    /// Takes what a handle stands for.
    ///
    /// # Errors
    /// When there is no such handle.
    pub(crate) fn take(&mut self, handle: Resource<Descriptor>) -> wasmtime::Result<Descriptor> {
        Ok(self.table.delete(handle)?)
    }
}

/// An argument of a function on files.
pub(crate) trait FileArgument {
    /// Its text; what has none takes nothing beside its place.
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
    /// What it may fill of the storage.
    cost: u64,
    /// Of all its texts.
    text_bytes: usize,
    is_too_long: bool,
}

/// What a call holds until its work is done.
pub(crate) struct FileCallPermit {
    _claim: Option<SpaceReservation>,
    _memory: HostMemory,
}

impl FileCall {
    /// A call of a function of `file`, which has these texts as arguments and may fill `cost` bytes of the storage.
    pub(crate) fn of(file: Handle, cost: u64, texts: &[&str]) -> Self {
        let lengths = || texts.iter().map(|text| text.len());
        let is_too_long = lengths().any(|bytes| bytes > TEXT_BYTES_MAX);
        Self { file, other: None, cost, text_bytes: lengths().sum(), is_too_long }
    }

    /// The same with a second handle.
    pub(crate) fn and(self, other: Handle) -> Self {
        Self { other: Some(other), ..self }
    }

    /// Charges what the call holds, and then claims what it may fill, where the storage has a limit.
    ///
    /// # Errors
    /// When a text is too long, or there is no memory or no space: before anything is waited for, but for space.
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

    /// What is behind its handles.
    ///
    /// # Errors
    /// When there is no such handle.
    pub(crate) fn files(&self, table: &ResourceTable) -> wasmtime::Result<(Descriptor, Option<Descriptor>)> {
        let other = self.other.as_ref().map(|other| table.get(other).cloned()).transpose()?;
        Ok((table.get(&self.file)?.clone(), other))
    }
}

/// The handles of a call: that of the function, and for some functions another one.
pub(crate) type Handles = (Resource<Descriptor>, Resource<Descriptor>);

/// Has `work` done by one of the threads. What was admitted ends with it. An error where there is no thread, or as `work` says.
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
            // Also what a call that panicked has left.
            let table = &mut store.data_mut().table;
            *table = ResourceTable::new();
            let (file, other) = files;
            let file = table.push(file)?;
            let other = match other {
                Some(other) => table.push(other)?,
                None => Resource::new_borrow(file.rep()),
            };
            let result = work(store, (file, other));
            // Files are closed here, and not when the next call comes.
            store.data_mut().table = ResourceTable::new();
            result
        })
    };
    threads::run(account, job).await?
}

/// The same handle once more.
pub(crate) fn again(handle: &Handle) -> Handle {
    Resource::new_borrow(handle.rep())
}

/// What a call of WASI 0.2 has come to. It is over at once, as the thread may block.
pub(crate) fn now<T, E: From<io::Error>>(call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    call.now_or_never().unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::WouldBlock).into()))
}

/// Calls a function of WASI 0.3.
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
