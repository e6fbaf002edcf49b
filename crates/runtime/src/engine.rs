//! The wasmtime engine of a process: its settings, the sizes of its pool, the epoch clock that interrupts guests, and
//! the resources that all groups share.

mod epoch;
mod settings;
mod target;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime::component::Linker;
use wasmtime::{Config, InstanceAllocationStrategy};

pub use self::epoch::EPOCH_TICK;
use self::epoch::tick;
#[cfg(feature = "compiler")]
use self::settings::settings_for;
use self::settings::{pool, settings, settings_with_source_lines};
pub use self::target::CodeTarget;
use crate::guest::Guest;
use crate::pool::Room;
pub use crate::pool::bounds::MEMORY_BYTES_MAX;
pub use crate::pool::{Dimension, Footprint, PoolSizes, Slots, SlotsError};
use crate::wasi::BaseLinker;

/// A wasmtime engine with its pool, its epoch clock and its base linker. The linker of every group starts as a copy of
/// the base linker. A process has one engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<EngineInner>);

struct EngineInner {
    engine: wasmtime::Engine,
    room: Arc<Room>,
    /// Whether call stacks name source lines.
    has_source_lines: bool,
    linker: BaseLinker,
    /// Whether the engine still exists. The thread of the epoch clock ends when this value is false.
    is_alive: Arc<AtomicBool>,
}

impl Engine {
    /// Returns an engine whose pool has the given sizes.
    ///
    /// # Errors
    /// If the pool's address space cannot be reserved, because of `ulimit -v` or because the process's address space is
    /// too small for the slots.
    pub fn new(sizes: PoolSizes) -> wasmtime::Result<Self> {
        let mut config = settings();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(sizes)));
        Self::start(&config, sizes, false)
    }

    /// Returns an engine for an app that is being developed: call stacks name source lines if the components have debug
    /// information. Other engines cannot use the code that this engine compiles, and this engine cannot use theirs.
    pub fn with_source_lines(sizes: PoolSizes) -> wasmtime::Result<Self> {
        let mut config = settings_with_source_lines();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(sizes)));
        Self::start(&config, sizes, true)
    }

    /// Returns an engine without a pool, for one-off commands and for compiling. Each instance is allocated on demand.
    ///
    /// # Errors
    /// If the processor lacks features that the compiler needs.
    pub fn on_demand() -> wasmtime::Result<Self> {
        Self::start(&settings(), PoolSizes::of_a_node(), false)
    }

    /// Returns an engine that compiles code for another machine. It cannot run that code.
    ///
    /// # Errors
    /// If this program cannot compile code for the target's architecture.
    #[cfg(feature = "compiler")]
    pub fn for_target(target: CodeTarget) -> wasmtime::Result<Self> {
        Self::start(&settings_for(target)?, PoolSizes::of_a_node(), false)
    }

    fn start(config: &Config, sizes: PoolSizes, has_source_lines: bool) -> wasmtime::Result<Self> {
        let engine = wasmtime::Engine::new(config)?;
        let room = Room::new(sizes);
        let shared = Arc::new(EngineInner {
            engine,
            room: room.clone(),
            has_source_lines,
            linker: BaseLinker::default(),
            is_alive: Arc::new(AtomicBool::new(true)),
        });
        let (engine, is_alive) = (shared.engine.weak(), shared.is_alive.clone());
        std::thread::Builder::new()
            .name("isomer-epoch".into())
            .spawn(move || tick(&engine, || is_alive.load(Ordering::Relaxed)))?;
        // The thread that evicts idle instances enters the tokio runtime, because dropping an instance may spawn tasks.
        let runtime = tokio::runtime::Handle::try_current().ok();
        std::thread::Builder::new().name("isomer-sweep".into()).spawn(move || {
            let _entered = runtime.as_ref().map(tokio::runtime::Handle::enter);
            room.sweep();
        })?;
        Ok(Self(shared))
    }

    /// Returns an engine that compiles code for this engine on the calling thread only, instead of on all processors.
    #[cfg(feature = "compiler")]
    pub(crate) fn single_threaded_compiler(&self) -> wasmtime::Result<wasmtime::Engine> {
        let mut config = if self.0.has_source_lines { settings_with_source_lines() } else { settings() };
        config.parallel_compilation(false);
        wasmtime::Engine::new(&config)
    }

    /// Returns the underlying wasmtime engine.
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.engine
    }

    /// Returns the number of live instances in this engine.
    #[must_use]
    pub fn live_instances(&self) -> u32 {
        self.0.room.instances()
    }

    /// Returns how often wasmtime's pool was full although the runtime's own count showed free slots. The number is
    /// always 0 unless the runtime has a defect. With such a defect, a tenant may be refused slots because other
    /// tenants hold slots that were not counted.
    #[must_use]
    pub fn pool_miscounts(&self) -> u64 {
        self.0.room.miscounts()
    }

    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.0.room
    }

    /// Returns a linker that defines all of WASI under its standard names. Its functions belong to no owner, so they
    /// reach nothing that needs a grant.
    ///
    /// # Errors
    /// If wasmtime refuses a definition.
    pub(crate) fn base_linker(&self) -> wasmtime::Result<Linker<Guest>> {
        self.0.linker.get(&self.0.engine)
    }
}

impl Drop for EngineInner {
    fn drop(&mut self) {
        self.is_alive.store(false, Ordering::Relaxed);
        self.room.end();
    }
}
