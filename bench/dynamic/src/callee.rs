//! The called component, in one wasmtime store for blocking functions and in a pool of wasmtime stores for concurrent
//! calls.

use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::{Component, ComponentExportIndex, Instance, InstancePre, Linker, Val};
use wasmtime::error::Context as _;
use wasmtime::{Result, Store};
use wasmtime_wasi::p2;

use crate::{BLOCKING, Guest, IN_FLIGHT};

/// An instance and its wasmtime store.
struct Home {
    store: Store<Guest>,
    instance: Instance,
}

/// The instance whose blocking functions are called.
pub(crate) struct Blocking(Home);

impl Blocking {
    pub(crate) fn new(callee: &Component) -> Result<Self> {
        let mut linker = Linker::new(callee.engine());
        p2::add_to_linker_sync(&mut linker)?;
        let mut store = Store::new(callee.engine(), Guest::default());
        let instance = linker.instantiate(&mut store, callee)?;
        Ok(Self(Home { store, instance }))
    }

    pub(crate) fn function(callee: &Component, name: &str) -> Result<ComponentExportIndex> {
        function(callee, BLOCKING, name)
    }

    pub(crate) fn call(
        &mut self,
        function: &ComponentExportIndex,
        arguments: &[Val],
        results: &mut [Val],
    ) -> Result<()> {
        let Home { store, instance } = &mut self.0;
        let function = instance.get_func(&mut *store, function).context("an export is not a function")?;
        function.call(store, arguments, results)
    }
}

/// A pool of instances for concurrent calls of `async func`s. If no instance is free, a new one is created. After a
/// successful call, the instance is kept for reuse.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    made: InstancePre<Guest>,
    free: Mutex<Vec<Home>>,
}

impl Pool {
    pub(crate) fn new(callee: &Component) -> Result<Self> {
        let mut linker = Linker::new(callee.engine());
        p2::add_to_linker_async(&mut linker)?;
        let made = linker.instantiate_pre(callee)?;
        Ok(Self(Arc::new(Shared { made, free: Mutex::default() })))
    }

    pub(crate) fn function(callee: &Component, name: &str) -> Result<ComponentExportIndex> {
        function(callee, IN_FLIGHT, name)
    }

    pub(crate) async fn call(
        &self,
        function: ComponentExportIndex,
        arguments: &[Val],
        results: &mut [Val],
    ) -> Result<()> {
        // A wasmtime store cannot run inside the execution of another wasmtime store, so the call runs in its own task,
        // with copies of the values.
        let (arguments, values) = (arguments.to_vec(), results.to_vec());
        let shared = Arc::clone(&self.0);
        let values = tokio::spawn(async move { shared.call(function, &arguments, values).await }).await??;
        for (result, value) in results.iter_mut().zip(values) {
            *result = value;
        }
        Ok(())
    }
}

impl Shared {
    async fn call(&self, function: ComponentExportIndex, arguments: &[Val], mut values: Vec<Val>) -> Result<Vec<Val>> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut home = match free {
            Some(home) => home,
            None => {
                let mut store = Store::new(self.made.component().engine(), Guest::default());
                let instance = self.made.instantiate_async(&mut store).await?;
                Home { store, instance }
            }
        };
        let function = home.instance.get_func(&mut home.store, function).context("an export is not a function")?;
        function.call_async(&mut home.store, arguments, &mut values).await?;
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(home);
        Ok(values)
    }
}

fn function(callee: &Component, interface: &str, name: &str) -> Result<ComponentExportIndex> {
    let missing = || format!("the callee has no `{name}` in `{interface}`");
    let interface = callee.get_export_index(None, interface).with_context(missing)?;
    callee.get_export_index(Some(&interface), name).with_context(missing)
}
