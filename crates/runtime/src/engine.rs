//! The one wasmtime engine of a process: its settings, the sizes of its pool, the clock that interrupts guests, and what all groups
//! share (see [`Engine`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::code::{Code, Key};
use crate::guest::Guest;
use crate::lanes::watch;
use crate::room::Room;
use crate::wasi;

/// How often the epoch advances, and so how long a guest may run before its deadline is looked at again.
pub const EPOCH_TICK: Duration = Duration::from_millis(5);

/// How often it is looked whether a guest has used up its time slice, while guests run.
const WATCH_TICK: Duration = Duration::from_millis(1);

/// The shortest time between two looks, however soon a slice is over.
const PAUSE_MIN: Duration = Duration::from_micros(100);

/// The most linear memory that one memory of a guest can have, whatever the manifest says. Every memory is a slot of this size
/// in the pool's address space.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// Address space of a stack: wasmtime's default.
pub(crate) const STACK_BYTES: u64 = 2 << 20;

/// Bytes of a returned slot that are cleared and kept, instead of given back to the operating system. Measured: a request's own
/// instance costs 26 µs without and 11 µs with 64 KiB and `pagemap_scan`; 1 MiB is worse than nothing.
const KEEP_RESIDENT_BYTES: usize = 64 << 10;

/// Bytes of stack that a guest's own code may use.
const GUEST_STACK_BYTES: usize = 512 << 10;

/// What a stack takes of the host at most: the guest's part, and that of the host functions which it calls.
pub(crate) const STACK_RESIDENT_BYTES: usize = GUEST_STACK_BYTES + (64 << 10);

/// Bytes of a returned stack that are cleared and kept, as deep as requests usually go. The rest goes back to the operating system: else a
/// guest that recurses deeply once would leave all of it to the node for good, stack by stack.
const STACK_KEPT_BYTES: usize = 32 << 10;

pub use crate::sizes::{Dimension, PoolSizes};
pub use crate::slots::{Footprint, Slots, SlotsError};

/// A wasmtime engine with its pool, its epoch clock and all that groups share. One per process; cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    engine: wasmtime::Engine,
    room: Arc<Room>,
    /// WASI, linked for nobody.
    linker: OnceLock<Linker<Guest>>,
    /// Code that is mapped, by what it was compiled from.
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    code: HashMap<Key, Weak<Component>>,
    /// As many were left when the map was last cleaned up.
    cleaned: usize,
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
        let shared = Arc::new(Shared { engine, room: room.clone(), linker: OnceLock::new(), loaded: Mutex::default() });
        let (engine, alive) = (shared.engine.weak(), Arc::downgrade(&shared));
        std::thread::Builder::new().name("isomer-epoch".into()).spawn(move || tick(&engine, &alive))?;
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

    /// A linker that has all of WASI under its own names, acting for nobody. Made once, since that takes longer than to link a group.
    pub(crate) fn linker(&self) -> wasmtime::Result<Linker<Guest>> {
        if let Some(linker) = self.0.linker.get() {
            return Ok(linker.clone());
        }
        let mut linker = Linker::new(&self.0.engine);
        linker.allow_shadowing(true);
        wasi::link_shared(&mut linker)?;
        Ok(self.0.linker.get_or_init(|| linker).clone())
    }

    /// The code under `key`, if it is mapped.
    pub(crate) fn loaded(&self, key: &Key) -> Option<Code> {
        self.0.loaded().code.get(key).and_then(Weak::upgrade).map(Code)
    }

    /// Remembers `code` for as long as somebody holds it. Of several that are the same, the first counts.
    pub(crate) fn remember(&self, key: &Key, code: Code) -> Code {
        let mut loaded = self.0.loaded();
        if let Some(first) = loaded.code.get(key).and_then(Weak::upgrade) {
            return Code(first);
        }
        if loaded.code.len() >= 2 * loaded.cleaned + 16 {
            loaded.code.retain(|_, code| code.strong_count() > 0);
            loaded.cleaned = loaded.code.len();
        }
        loaded.code.insert(key.clone(), Arc::downgrade(&code.0));
        code
    }
}

impl Shared {
    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.room.end();
    }
}

/// Advances the epoch at every tick, and as soon as a guest has used up its time slice.
fn tick(engine: &wasmtime::EngineWeak, alive: &Weak<Shared>) {
    let (mut advanced, mut pause) = (Instant::now(), EPOCH_TICK);
    while alive.strong_count() > 0 {
        std::thread::sleep(pause);
        let activity = watch::activity();
        if activity.slice_is_over || advanced.elapsed() >= EPOCH_TICK {
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
            advanced = Instant::now();
        }
        pause = match activity.next {
            Some(next) => next.clamp(PAUSE_MIN, WATCH_TICK),
            None if activity.is_active => WATCH_TICK,
            None => EPOCH_TICK,
        };
    }
}

/// What code is compiled for; part of the key of the code cache through wasmtime's compatibility hash.
fn settings() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.wasm_component_model_async(true);
    config.concurrency_support(true);
    config.async_stack_size(usize::try_from(STACK_BYTES).unwrap_or(usize::MAX));
    config.async_stack_zeroing(true);
    config.max_wasm_stack(GUEST_STACK_BYTES);
    config.epoch_interruption(true);
    config.cranelift_opt_level(OptLevel::Speed);
    // Call stacks name functions, no lines: what would be needed for those is a quarter of the code's file, and read at every trap. Nobody
    // unwinds through guests either, and the system is slow to be told how, with thousands of them.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.generate_address_map(false);
    config.native_unwind_info(false);
    config.debug_symbols(false);
    config.memory_reservation(MEMORY_BYTES_MAX);
    config
}

fn pool(sizes: PoolSizes) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(sizes.instances.max(1))
        // Only counted, nothing is set aside for them; all instances together have no more than 16,384 × 10,000.
        .total_core_instances(u32::MAX)
        .total_memories(sizes.memories.max(1))
        .total_tables(sizes.tables.max(1))
        .total_stacks(sizes.stacks.max(1))
        .max_memory_size(usize::try_from(MEMORY_BYTES_MAX).unwrap_or(usize::MAX))
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_core_instance_size(CORE_INSTANCE_BYTES_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(Slots::MAX.memories)
        .max_memories_per_module(Slots::MAX.memories)
        .max_tables_per_component(Slots::MAX.tables)
        .max_tables_per_module(Slots::MAX.tables)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .async_stack_keep_resident(STACK_KEPT_BYTES)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Core modules that one instance of a component may be made of.
pub(crate) const CORE_INSTANCES_MAX: u32 = 10_000;

/// Bytes that the engine may need on the host's heap for one instance, memories and tables aside.
pub(crate) const INSTANCE_BYTES_MAX: usize = 16 << 20;

/// Bytes of that for one core module.
pub(crate) const CORE_INSTANCE_BYTES_MAX: usize = 4 << 20;

/// Elements of a guest's table (function pointers); far above what compilers emit, far below what hurts.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;
