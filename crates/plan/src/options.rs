//! Options of planning besides the shape.

/// Options that only tests set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// Whether each component imports clocks and randomness under its own label, as if they gave authority. The host
    /// can then provide them for each request and component, so that responses can be compared.
    pub deterministic: bool,
}
