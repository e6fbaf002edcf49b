//! The settings of the wasmtime engine: the target of compiled code, and the pool that instances are allocated from.

use wasmtime::{Config, Enabled, PoolingAllocationConfig, WasmBacktraceDetails};

#[cfg(feature = "compiler")]
use super::target::CodeTarget;
use crate::pool::bounds::{
    CORE_INSTANCE_BYTES_MAX, CORE_INSTANCES_MAX, GUEST_STACK_BYTES, INSTANCE_BYTES_MAX, MEMORY_BYTES_MAX, STACK_BYTES,
    TABLE_ELEMENTS_MAX,
};
use crate::pool::{PoolSizes, Slots};

/// The number of bytes of a freed slot that the process clears and keeps resident. The other bytes are released to the
/// operating system. Measured: a fresh instance per request costs 26 µs with 0 bytes, and 11 µs with 64 KiB and
/// `pagemap_scan`; 1 MiB is slower than 0.
const KEEP_RESIDENT_BYTES: usize = 64 << 10;

/// The number of bytes of a freed stack that the process clears and keeps resident: as many as requests usually use.
/// The other bytes are released to the operating system. If all bytes stayed resident, a guest could recurse deeply
/// once in each stack, and the node would never get that memory back.
const STACK_KEPT_BYTES: usize = 32 << 10;

/// Returns the settings of the compiler. The keys of the code cache depend on these settings, through wasmtime's
/// compatibility hash.
pub(super) fn settings() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.wasm_component_model_async(true);
    config.concurrency_support(true);
    config.async_stack_size(usize::try_from(STACK_BYTES).unwrap_or(usize::MAX));
    config.async_stack_zeroing(true);
    config.max_wasm_stack(GUEST_STACK_BYTES);
    config.epoch_interruption(true);
    #[cfg(feature = "compiler")]
    config.cranelift_opt_level(wasmtime::OptLevel::Speed);
    // Call stacks name functions but no source lines, because line information would take up a quarter of a file of
    // compiled code and would be read at every trap. Unwind information is omitted because nothing unwinds through
    // guests, and because the operating system is slow to register it for thousands of guests.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.generate_address_map(false);
    config.native_unwind_info(false);
    config.debug_symbols(false);
    config.memory_reservation(MEMORY_BYTES_MAX);
    config
}

/// Returns the settings of the compiler for call stacks that name source lines.
pub(super) fn settings_with_source_lines() -> Config {
    let mut config = settings();
    config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config.generate_address_map(true);
    config
}

/// Returns the settings of the compiler for code that runs on another machine.
///
/// # Errors
/// If this program cannot compile code for the target's architecture.
#[cfg(feature = "compiler")]
pub(super) fn settings_for(target: CodeTarget) -> wasmtime::Result<Config> {
    let mut config = settings();
    config.target(target.triple())?;
    for flag in target.flags() {
        #[expect(unsafe_code, reason = "the method is unsafe")]
        // SAFETY: the flags only permit instructions of the processor. wasmtime stores them with the code, and refuses to
        // load the code on a processor without these instructions.
        unsafe {
            config.cranelift_flag_enable(flag);
        }
    }
    Ok(config)
}

pub(super) fn pool(sizes: PoolSizes) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(sizes.instances.max(1))
        // The number of core instances is not limited, because the engine only counts them and reserves no memory for
        // them. The number never reaches `u32::MAX`: there are at most 16,384 instances, each with at most 10,000 core
        // instances.
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
