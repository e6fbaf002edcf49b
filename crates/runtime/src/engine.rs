//! The one wasmtime engine of a process: its settings, the sizes of its pool, and the clock that interrupts guests.

use std::sync::{Arc, Weak};
use std::time::Duration;

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails};

/// How often the epoch advances, and so how long a guest may run before its deadline is looked at again.
pub const EPOCH_TICK: Duration = Duration::from_millis(5);

/// The most linear memory that one memory of a guest can have, whatever the manifest says. Every memory is a slot of this size
/// in the pool's address space.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// Bytes of a returned slot that are cleared and kept, instead of given back to the operating system. Measured: a request's own
/// instance costs 26 µs without and 11 µs with 64 KiB and `pagemap_scan`; 1 MiB is worse than nothing.
const KEEP_RESIDENT_BYTES: usize = 64 << 10;

/// Fiber stacks per component instance: one for the request, others for calls between the group's components that block.
const STACKS_PER_INSTANCE: u32 = 4;

pub use crate::slots::Slots;

/// How many slots the pool needs, computed from the plan: the sum over all groups of what an instance takes, times the instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolSizes {
    instances: u32,
    memories: u32,
    tables: u32,
}

impl PoolSizes {
    /// Room for `instances` more instances that take `slots` each.
    pub fn add(&mut self, slots: Slots, instances: u32) {
        self.instances = self.instances.saturating_add(instances);
        self.memories = self.memories.saturating_add(slots.memories.saturating_mul(instances));
        self.tables = self.tables.saturating_add(slots.tables.saturating_mul(instances));
    }
}

/// A wasmtime engine with its epoch clock. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    engine: wasmtime::Engine,
    _clock: Arc<Clock>,
}

/// Keeps the epoch thread alive; the thread ends when the last engine is gone.
struct Clock;

impl Engine {
    /// An engine whose pool has `sizes` slots.
    ///
    /// # Errors
    /// When the pool's address space cannot be reserved (`ulimit -v`, or more slots than the address space has room for).
    pub fn new(sizes: PoolSizes) -> wasmtime::Result<Self> {
        let mut config = settings();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(sizes)));
        Self::start(&config)
    }

    /// An engine that allocates each instance on demand: for one-off commands, and for compiling.
    ///
    /// # Errors
    /// When the host's processor lacks what the compiler needs.
    pub fn on_demand() -> wasmtime::Result<Self> {
        Self::start(&settings())
    }

    fn start(config: &Config) -> wasmtime::Result<Self> {
        let engine = wasmtime::Engine::new(config)?;
        let clock = Arc::new(Clock);
        let (weak_engine, alive) = (engine.weak(), Arc::downgrade(&clock));
        std::thread::Builder::new().name("isomer-epoch".into()).spawn(move || tick(&weak_engine, &alive))?;
        Ok(Self { engine, _clock: clock })
    }

    /// The wasmtime engine itself.
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.engine
    }
}

fn tick(engine: &wasmtime::EngineWeak, alive: &Weak<Clock>) {
    while alive.strong_count() > 0 {
        std::thread::sleep(EPOCH_TICK);
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
    }
}

/// What code is compiled for; part of the key of the code cache through wasmtime's compatibility hash.
fn settings() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.wasm_component_model_async(true);
    config.concurrency_support(true);
    config.epoch_interruption(true);
    config.cranelift_opt_level(OptLevel::Speed);
    config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config.memory_reservation(MEMORY_BYTES_MAX);
    config
}

fn pool(sizes: PoolSizes) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(sizes.instances.max(1))
        // Only counted, nothing is set aside for them.
        .total_core_instances(u32::MAX)
        .total_memories(sizes.memories.max(1))
        .total_tables(sizes.tables.max(1))
        .total_stacks(sizes.instances.max(1).saturating_mul(STACKS_PER_INSTANCE))
        .max_memory_size(usize::try_from(MEMORY_BYTES_MAX).unwrap_or(usize::MAX))
        .max_component_instance_size(16 << 20)
        .max_core_instance_size(4 << 20)
        .max_core_instances_per_component(u32::MAX)
        .max_memories_per_component(u32::MAX)
        .max_tables_per_component(u32::MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Elements of a guest's table (function pointers); far above what compilers emit, far below what hurts.
const TABLE_ELEMENTS_MAX: usize = 100_000;
