//! The maximum that one instance may take of the engine's pool. The engine is configured with these limits, and
//! components that need more are refused.

/// The maximum size of one memory of a guest in bytes, whatever the manifest says. Each memory is a slot of this size
/// in the pool's address space.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// The address space of a stack in bytes: wasmtime's default.
pub(crate) const STACK_BYTES: u64 = 2 << 20;

/// The bytes of stack that a guest's own code may use.
pub(crate) const GUEST_STACK_BYTES: usize = 512 << 10;

/// The maximum host memory that a stack takes, in bytes: the guest's part, and that of the host functions which it
/// calls.
pub(crate) const STACK_RESIDENT_BYTES: usize = GUEST_STACK_BYTES + (64 << 10);

/// The maximum number of core modules in one instance of a component.
pub(crate) const CORE_INSTANCES_MAX: u32 = 10_000;

/// The maximum number of bytes of the host's heap that the engine may need for one instance, without memories and
/// tables.
pub(crate) const INSTANCE_BYTES_MAX: usize = 16 << 20;

/// The maximum number of bytes of the host's heap that the engine may need for one core module.
pub(crate) const CORE_INSTANCE_BYTES_MAX: usize = 4 << 20;

/// The maximum number of elements in a guest's table (function pointers): far more than compilers emit, and small
/// enough for its memory to be harmless.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;

/// The maximum number of handles that a wasmtime store keeps for its components: streams, futures, tasks, their own
/// resources. Each takes some hundred bytes of host memory.
pub(crate) const COMPONENT_HANDLES_MAX: usize = 20_000;
