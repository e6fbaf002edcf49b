//! wasmtime's implementation of the functions on files, apart from the store of any guest: a thread for file work calls it for a copy of
//! the guest's handles, and stays until it has answered.
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

use super::{Claim, threads};
use crate::account::Account;

/// Nothing is ever instantiated in it.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.wasm_component_model_async(true).concurrency_support(true);
    Engine::new(&config).expect("these settings need nothing that a machine could lack")
});

thread_local! {
    static STORE: RefCell<Store<Apart>> = RefCell::new(Store::new(&ENGINE, Apart::new()));
}

/// What wasmtime's implementation sees in place of a guest.
pub(super) struct Apart {
    ctx: WasiCtx,
    table: ResourceTable,
}

impl Apart {
    fn new() -> Self {
        let ctx = WasiCtxBuilder::new().allow_blocking_current_thread(true).build();
        Self { ctx, table: ResourceTable::new() }
    }

    pub(super) fn view(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: self.ctx.filesystem(), table: &mut self.table }
    }

    /// Takes what a handle stands for.
    ///
    /// # Errors
    /// When there is no such handle.
    pub(super) fn take(&mut self, handle: Resource<Descriptor>) -> wasmtime::Result<Descriptor> {
        Ok(self.table.delete(handle)?)
    }
}

/// The handles of a call: that of the function, and for some functions another one.
pub(super) type Handles = (Resource<Descriptor>, Resource<Descriptor>);

/// Has `call` called by one of the threads. The claim ends with it. An error where there is no thread, or as `call` says.
pub(super) async fn call<T, E>(
    account: Arc<Account>,
    files: (Descriptor, Option<Descriptor>),
    claim: Option<Claim>,
    call: impl FnOnce(&mut Store<Apart>, Handles) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<io::Error> + From<wasmtime::component::ResourceTableError> + Send + 'static,
{
    let job = move || {
        let _claim = claim;
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
            let result = call(store, (file, other));
            // Files are closed here, and not when the next call comes.
            store.data_mut().table = ResourceTable::new();
            result
        })
    };
    threads::run(&account, job).await?
}

/// What a call of WASI 0.2 has come to. It is over at once, as the thread may block.
pub(super) fn now<T, E: From<io::Error>>(call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    call.now_or_never().unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::WouldBlock).into()))
}

/// Calls a function of WASI 0.3.
pub(super) fn now3<T: Send + 'static, E: From<io::Error>>(
    store: &mut Store<Apart>,
    call: impl AsyncFnOnce(&Accessor<Apart, WasiFilesystem>) -> Result<T, E> + Send,
) -> Result<T, E> {
    let run = store.run_concurrent(async |accessor| call(&accessor.with_getter::<WasiFilesystem>(Apart::view)).await);
    match run.now_or_never() {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(io::Error::other(error).into()),
        None => Err(io::Error::from(io::ErrorKind::WouldBlock).into()),
    }
}
