//! The slots of the engine's pool that one instance of a component takes.

use wasmtime::component::Component;

/// The slots that one instance of a component takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slots {
    /// The number of linear memories.
    pub memories: u32,
    /// The number of tables.
    pub tables: u32,
    /// The number of stacks: one for each component in the instance, because each component can be suspended, and one
    /// more.
    pub stacks: u32,
}

impl Slots {
    /// The maximum numbers of slots for one instance. A component that needs more is refused when it is compiled,
    /// because one of its instances would take a large part of a pool.
    pub const MAX: Self = Self { memories: 256, tables: 512, stacks: 256 };

    /// Returns whether every number is at most the number in [`Slots::MAX`].
    #[must_use]
    pub fn fits(self) -> bool {
        self.memories <= Self::MAX.memories && self.tables <= Self::MAX.tables && self.stacks <= Self::MAX.stacks
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.memories = self.memories.saturating_add(other.memories);
        self.tables = self.tables.saturating_add(other.tables);
        self.stacks = self.stacks.saturating_add(other.stacks);
    }

    /// Returns these slots, which were computed from the component's bytes, with the numbers of memories and tables
    /// replaced by those of the compiled `component`, because the pool allocates by the latter. Returns `None` if the
    /// numbers depend on the host.
    pub(crate) fn of_compiled(self, component: &Component) -> Option<Self> {
        let required = component.resources_required()?;
        Some(Self { memories: required.num_memories, tables: required.num_tables, stacks: self.stacks })
    }
}
