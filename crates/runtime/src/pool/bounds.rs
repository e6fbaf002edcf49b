//! The maximum resources of the engine's pool that one instance may take. The engine is configured with these limits,
//! and components that need more are refused.

/// The maximum size of one memory of a guest in bytes. A manifest cannot allow more. In the pool's address space, each
/// memory is a slot of this size.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// The address space of one stack in bytes: wasmtime's default.
pub(crate) const STACK_BYTES: u64 = 2 << 20;

/// The number of bytes of a stack that a guest's own code may use.
pub(crate) const GUEST_STACK_BYTES: usize = 512 << 10;

/// The maximum resident memory of one stack in bytes: the part that the guest's own code may use, and a part for the
/// host functions that the guest calls.
pub(crate) const STACK_RESIDENT_BYTES: usize = GUEST_STACK_BYTES + (64 << 10);

/// The maximum number of core instances in one instance of a component.
pub(crate) const CORE_INSTANCES_MAX: u32 = 10_000;

/// The maximum number of bytes of the host's heap that the engine may use for one instance, without its memories and
/// tables.
pub(crate) const INSTANCE_BYTES_MAX: usize = 16 << 20;

/// The maximum number of bytes of the host's heap that the engine may use for one core instance.
pub(crate) const CORE_INSTANCE_BYTES_MAX: usize = 4 << 20;

/// The maximum number of elements (function pointers) in one table of a guest: far more than compilers emit, and so few
/// that the table's memory is harmless.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;

/// The maximum number of handles that a wasmtime store holds for its components: streams, futures, tasks, and the
/// components' own resources. Each handle takes several hundred bytes of host memory.
pub(crate) const COMPONENT_HANDLES_MAX: usize = 20_000;
