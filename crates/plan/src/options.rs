//! Options of the planner.

/// Options that only tests set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// Whether each component imports clocks and randomness under its own label, as it does for interfaces that give
    /// authority. The host can then return reproducible values for each request and component, so that tests can
    /// compare responses.
    pub deterministic: bool,
}
