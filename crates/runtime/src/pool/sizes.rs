//! The size of an engine's pool in every dimension in which the pool is limited.
//!
//! Core instances are not a dimension, because the pool only counts them, and their limit cannot be reached (see
//! `engine::settings`). Garbage-collected heaps are not a dimension either, because wasmtime is built without a garbage
//! collector.

use std::fmt;

use super::bounds::{MEMORY_BYTES_MAX, STACK_BYTES};
use super::slots::Slots;

/// The size of an engine's pool or of a part of it: an amount in every dimension.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolSizes {
    pub(crate) instances: u32,
    pub(crate) memories: u32,
    pub(crate) tables: u32,
    pub(crate) stacks: u32,
}

/// A dimension in which an engine's pool is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// Instances of components.
    Instances,
    /// Linear memories.
    Memories,
    /// Tables.
    Tables,
    /// Stacks on which guests run.
    Stacks,
}

impl Dimension {
    pub(crate) const ALL: [Self; 4] = [Self::Instances, Self::Memories, Self::Tables, Self::Stacks];
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instances => "instances",
            Self::Memories => "memories",
            Self::Tables => "tables",
            Self::Stacks => "stacks",
        })
    }
}

/// A pool has this number of memories, and this number of tables, for each of its instances, because an instance of
/// several components has several memories and tables. Memories and tables only cost address space.
const PARTS_PER_INSTANCE: u32 = 4;

/// The number of stacks in a pool for each of its instances: one that runs, and one for suspended components. Each
/// stack takes two mappings as soon as the pool exists.
const STACKS_PER_INSTANCE: u32 = 2;

/// The maximum number of memories in a pool. At 4 GiB each, they take half of a process's address space.
const MEMORIES_MAX: u32 = 16_384;

impl PoolSizes {
    /// Returns the size of a pool for at most `instances` live instances. Fewer fit if they are large compositions.
    #[must_use]
    pub fn new(instances: u32) -> Self {
        let instances = instances.clamp(1, MEMORIES_MAX);
        let parts = instances.saturating_mul(PARTS_PER_INSTANCE).min(MEMORIES_MAX);
        Self { instances, memories: parts, tables: parts, stacks: instances.saturating_mul(STACKS_PER_INSTANCE) }
    }

    /// Returns the size of a pool for one app. Setting up such a pool takes 3 ms.
    #[must_use]
    pub fn of_one_app() -> Self {
        Self::new(768)
    }

    /// Returns the size of a pool for a node with many apps. Setting up such a pool takes 8 ms and some 8,000 mappings.
    /// Each live instance takes another 4 mappings. If all instances are live, the pool takes a quarter of the mappings
    /// that a Linux process may have by default, which leaves enough for 10,000 loaded apps.
    #[must_use]
    pub fn of_a_node() -> Self {
        Self::new(2048)
    }

    /// Returns this size or `most`: the one with fewer instances.
    #[must_use]
    pub fn at_most(self, most: Self) -> Self {
        if self.instances <= most.instances { self } else { most }
    }

    /// Returns the maximum number of instances in the pool.
    #[must_use]
    pub fn instances(&self) -> u32 {
        self.instances
    }

    /// Returns the address space that the pool reserves, in bytes.
    #[must_use]
    pub fn address_bytes(&self) -> u64 {
        u64::from(self.memories) * MEMORY_BYTES_MAX + u64::from(self.stacks) * STACK_BYTES
    }

    /// Returns the number of mappings that the pool takes while it is empty.
    #[must_use]
    pub fn mappings(&self) -> u64 {
        2 * u64::from(self.stacks)
    }

    /// Returns this size divided by `parts`, in every dimension.
    pub(crate) fn part(self, parts: u32) -> Self {
        self.each(|size| size / parts)
    }

    /// Returns the number of instances with `slots` each that fit into this size.
    pub(crate) fn holds(self, slots: Slots) -> u32 {
        let one = Self::of(slots);
        let fit = |dimension| self.get(dimension).checked_div(one.get(dimension)).unwrap_or(u32::MAX);
        Dimension::ALL.into_iter().map(fit).min().unwrap_or_default()
    }

    /// Returns the part of the pool that one instance takes: the instance itself and its `slots`.
    pub(crate) fn of(slots: Slots) -> Self {
        Self { instances: 1, memories: slots.memories, tables: slots.tables, stacks: slots.stacks }
    }

    pub(crate) fn get(self, dimension: Dimension) -> u32 {
        match dimension {
            Dimension::Instances => self.instances,
            Dimension::Memories => self.memories,
            Dimension::Tables => self.tables,
            Dimension::Stacks => self.stacks,
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        self.with(other, u32::saturating_add)
    }

    /// Returns this size without `other`, but at least zero in every dimension.
    pub(crate) fn minus(self, other: Self) -> Self {
        self.with(other, u32::saturating_sub)
    }

    pub(crate) fn fits(self, room: Self) -> bool {
        self.exceeds(room).is_none()
    }

    /// Returns the first dimension in which this size is larger than `room`.
    pub(crate) fn exceeds(self, room: Self) -> Option<Dimension> {
        Dimension::ALL.into_iter().find(|dimension| self.get(*dimension) > room.get(*dimension))
    }

    fn each(self, of: impl Fn(u32) -> u32) -> Self {
        self.with(self, |size, _| of(size))
    }

    fn with(self, other: Self, of: impl Fn(u32, u32) -> u32) -> Self {
        Self {
            instances: of(self.instances, other.instances),
            memories: of(self.memories, other.memories),
            tables: of(self.tables, other.tables),
            stacks: of(self.stacks, other.stacks),
        }
    }
}
