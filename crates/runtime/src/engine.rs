//! The one wasmtime engine of a process: its settings, the sizes of its pool, the clock that interrupts guests, and what all groups
//! share (see [`Engine`]).

mod epoch;
mod settings;

use std::sync::Arc;

use wasmtime::component::Linker;
use wasmtime::{Config, InstanceAllocationStrategy, WasmBacktraceDetails};

pub use self::epoch::EPOCH_TICK;
use self::epoch::tick;
use self::settings::{pool, settings};
use crate::guest::Guest;
use crate::pool::Room;
pub use crate::pool::bounds::MEMORY_BYTES_MAX;
pub use crate::pool::{Dimension, Footprint, PoolSizes, Slots, SlotsError};
use crate::wasi::BaseLinker;

/// A wasmtime engine with its pool, its epoch clock and all that groups share. One per process; cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<EngineInner>);

struct EngineInner {
    engine: wasmtime::Engine,
    room: Arc<Room>,
    linker: BaseLinker,
}

impl Engine {
    /// An engine with a pool of `sizes`.
    ///
    /// # Errors
    /// When the pool's address space cannot be reserved (`ulimit -v`, or more slots than the address space has room for).
    pub fn new(sizes: PoolSizes) -> wasmtime::Result<Self> {
        let mut config = settings();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(sizes)));
        Self::start(&config, sizes)
    }

    /// As [`Engine::new`], for an app that is developed: call stacks name the lines of sources, where components have debug information.
    /// Its code is of no use for other engines, nor theirs for it.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn with_source_lines(sizes: PoolSizes) -> wasmtime::Result<Self> {
        let mut config = settings();
        config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
        config.generate_address_map(true);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(sizes)));
        Self::start(&config, sizes)
    }

    /// An engine that allocates each instance on demand: for one-off commands, and for compiling.
    ///
    /// # Errors
    /// When the host's processor lacks what the compiler needs.
    pub fn on_demand() -> wasmtime::Result<Self> {
        Self::start(&settings(), PoolSizes::of_a_node())
    }

    fn start(config: &Config, sizes: PoolSizes) -> wasmtime::Result<Self> {
        let engine = wasmtime::Engine::new(config)?;
        let room = Room::new(sizes);
        let shared = Arc::new(EngineInner { engine, room: room.clone(), linker: BaseLinker::default() });
        let (engine, alive) = (shared.engine.weak(), Arc::downgrade(&shared));
        std::thread::Builder::new()
            .name("isomer-epoch".into())
            .spawn(move || tick(&engine, || alive.strong_count() > 0))?;
        // What an instance holds may want to be dropped where tasks can be started.
        let runtime = tokio::runtime::Handle::try_current().ok();
        std::thread::Builder::new().name("isomer-sweep".into()).spawn(move || {
            let _entered = runtime.as_ref().map(tokio::runtime::Handle::enter);
            room.sweep();
        })?;
        Ok(Self(shared))
    }

    /// The wasmtime engine itself.
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.engine
    }

    /// How many instances live now.
    #[must_use]
    pub fn live_instances(&self) -> u32 {
        self.0.room.instances()
    }

    /// Times that wasmtime's pool was full although there was room by the runtime's count. Always 0, unless the runtime has a defect:
    /// then guests may be refused what others take uncounted.
    #[must_use]
    pub fn pool_miscounts(&self) -> u64 {
        self.0.room.miscounts()
    }

    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.0.room
    }

    /// Returns a linker that has all of WASI under its own names, acting for no owner.
    ///
    /// # Errors
    /// When an interface cannot be defined.
    pub(crate) fn base_linker(&self) -> wasmtime::Result<Linker<Guest>> {
        self.0.linker.get(&self.0.engine)
    }
}

impl Drop for EngineInner {
    fn drop(&mut self) {
        self.room.end();
    }
}
