//! Links two components by dynamic values, like a host that learns a component's types only at run time.
//!
//! The caller's imports are host functions that take wasmtime's `Val`s and pass them to the called component in a
//! separate wasmtime store. So every argument and every result is converted twice: from the memory of one component to
//! `Val`s, and from these to the memory of the other component. The seam benchmarks compare Isomer with this crate,
//! which has no other use.
//!
//! The crate is as fast as this approach can be: it has no deadlines and no limits, and it uses the callee's wasmtime
//! store for all calls without ever replacing it. It must not depend on Isomer's runtime.
#![forbid(unsafe_code)]

mod callee;

use std::sync::Arc;

use tokio::sync::Mutex;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceTable, ResourceType, TypedFunc};
use wasmtime::error::Context as _;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store, bail};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p2, p3};

use callee::{Blocking, Pool};

/// The interface of the called component with the blocking functions.
const BLOCKING: &str = "guest:seam-bench/calls@0.1.0";
/// The interface of the called component with the `async func`s. Many of their calls can be in flight.
const IN_FLIGHT: &str = "guest:seam-bench/async-calls@0.1.0";
/// The functions that the called component exports in both interfaces, [`BLOCKING`] and [`IN_FLIGHT`].
const FUNCTIONS: [&str; 4] = ["add", "echo", "lookup", "all"];
/// The interface of the calling component through which a host without an HTTP server starts the calls.
const RUNNER: &str = "guest:seam-bench/runner@0.1.0";

/// Two linked components. Holds the caller's wasmtime store, and the caller's function that starts the calls.
#[derive(Clone)]
pub struct Linked(Arc<Mutex<Caller>>);

struct Caller {
    store: Store<Guest>,
    run: TypedFunc<(String,), (Result<String, String>,)>,
}

impl Linked {
    /// Compiles and links the two components.
    ///
    /// # Errors
    /// If one of the files is not a component, or lacks the expected interfaces.
    pub async fn new(caller: &[u8], callee: &[u8]) -> Result<Self> {
        let engine = Engine::new(&config())?;
        let callee = Component::new(&engine, callee)?;
        let caller = Component::new(&engine, caller)?;
        let mut linker: Linker<Guest> = Linker::new(&engine);
        p2::add_to_linker_async(&mut linker)?;
        p3::add_to_linker(&mut linker)?;
        let mut interface = linker.instance(BLOCKING)?;
        for name in FUNCTIONS {
            let function = Blocking::function(&callee, name)?;
            interface.func_new(name, move |mut store, _, arguments, results| {
                store.data_mut().callee()?.call(&function, arguments, results)
            })?;
        }
        let pool = Pool::new(&callee)?;
        let mut interface = linker.instance(IN_FLIGHT)?;
        for name in FUNCTIONS {
            let (pool, function) = (pool.clone(), Pool::function(&callee, name)?);
            interface.func_new_concurrent(name, move |_, _, arguments, results| {
                let (pool, function) = (pool.clone(), function);
                Box::pin(async move { pool.call(function, arguments, results).await })
            })?;
        }
        http_traps(&mut linker, &caller)?;
        let mut store = Store::new(&engine, Guest { callee: Some(Blocking::new(&callee)?), ..Guest::default() });
        let instance = linker.instantiate_async(&mut store, &caller).await?;
        let runner = instance
            .get_export_index(&mut store, None, RUNNER)
            .context("the caller does not export the interface of the runner")?;
        let run = instance
            .get_export_index(&mut store, Some(&runner), "run")
            .context("the caller's runner has no function `run`")?;
        let run = instance.get_typed_func(&mut store, run)?;
        Ok(Self(Arc::new(Mutex::new(Caller { store, run }))))
    }

    /// Makes the caller component run the calls that `query` describes, and returns the text with which that component
    /// responds to `GET /run?QUERY`. If this function is called several times concurrently, the queries run one after
    /// another.
    ///
    /// # Errors
    /// If the caller component returns an error or traps. The error is the message of the component or of the trap.
    pub async fn run(&self, query: String) -> Result<String, String> {
        let Caller { store, run } = &mut *self.0.lock().await;
        let (result,) = run.call_async(store, (query,)).await.map_err(|error| format!("{error:#}"))?;
        result
    }
}

/// Defines the caller's imports of `wasi:http` as functions that trap, because the benchmark never calls them.
fn http_traps(linker: &mut Linker<Guest>, caller: &Component) -> Result<()> {
    let engine = caller.engine();
    let ty = caller.component_type();
    for (name, import) in ty.imports(engine).filter(|(name, _)| name.starts_with("wasi:http/")) {
        let ComponentItem::ComponentInstance(interface) = import.ty else { continue };
        let mut instance = linker.instance(name)?;
        for (name, export) in interface.exports(engine) {
            match export.ty {
                ComponentItem::Resource(_) => instance.resource(name, ResourceType::host::<()>(), |_, _| Ok(()))?,
                ComponentItem::ComponentFunc(function) if function.async_() => {
                    instance.func_new_concurrent(name, |_, _, _, _| {
                        Box::pin(async { bail!("this host does not implement HTTP") })
                    })?;
                }
                ComponentItem::ComponentFunc(_) => {
                    instance.func_new(name, |_, _, _, _| bail!("this host does not implement HTTP"))?
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    let mut pool = PoolingAllocationConfig::default();
    // Slots for the maximum of 1024 concurrent calls, and some spare ones.
    pool.total_memories(1200).total_tables(1200).total_component_instances(1200).total_stacks(2400);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// The data of a wasmtime store.
#[derive(Default)]
struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
    callee: Option<Blocking>,
}

impl Guest {
    fn callee(&mut self) -> Result<&mut Blocking> {
        self.callee.as_mut().context("this guest has no callee")
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
