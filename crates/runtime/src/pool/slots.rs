//! The slots of the engine's pool that one instance of a component takes.

use wasmtime::component::Component;

/// The slots that one instance of a component takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slots {
    /// Linear memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
    /// Stacks: one for each component in it, as each can wait for something, and one more.
    pub stacks: u32,
}

impl Slots {
    /// The most that an instance may take. What takes more is refused when it is compiled: one such instance would be a good part of
    /// a pool.
    pub const MAX: Self = Self { memories: 256, tables: 512, stacks: 256 };

    /// Is it no more than that?
    #[must_use]
    pub fn fits(self) -> bool {
        self.memories <= Self::MAX.memories && self.tables <= Self::MAX.tables && self.stacks <= Self::MAX.stacks
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.memories = self.memories.saturating_add(other.memories);
        self.tables = self.tables.saturating_add(other.tables);
        self.stacks = self.stacks.saturating_add(other.stacks);
    }

    /// The same with the memories and tables that the compiled `component` itself says: what the pool will be asked for counts,
    /// whatever was noted of it. `None` where that depends on what the host provides.
    pub(crate) fn of_compiled(self, component: &Component) -> Option<Self> {
        let required = component.resources_required()?;
        Some(Self { memories: required.num_memories, tables: required.num_tables, stacks: self.stacks })
    }
}
