//! What one instance may take of the engine's pool at most: the engine is configured with these, and components that need more are refused.

/// The most linear memory that one memory of a guest can have, whatever the manifest says. Every memory is a slot of this size
/// in the pool's address space.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// Address space of a stack: wasmtime's default.
pub(crate) const STACK_BYTES: u64 = 2 << 20;

/// Bytes of stack that a guest's own code may use.
pub(crate) const GUEST_STACK_BYTES: usize = 512 << 10;

/// What a stack takes of the host at most: the guest's part, and that of the host functions which it calls.
pub(crate) const STACK_RESIDENT_BYTES: usize = GUEST_STACK_BYTES + (64 << 10);

/// Core modules that one instance of a component may be made of.
pub(crate) const CORE_INSTANCES_MAX: u32 = 10_000;

/// Bytes that the engine may need on the host's heap for one instance, memories and tables aside.
pub(crate) const INSTANCE_BYTES_MAX: usize = 16 << 20;

/// Bytes of that for one core module.
pub(crate) const CORE_INSTANCE_BYTES_MAX: usize = 4 << 20;

/// Elements of a guest's table (function pointers); far above what compilers emit, far below what hurts.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Handles that a store keeps for its components: streams, futures, tasks, their own resources. Each takes some hundred bytes of
/// the host.
pub(crate) const COMPONENT_HANDLES_MAX: usize = 20_000;
