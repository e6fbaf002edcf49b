//! What a plan can be asked for beside the shape.

/// Nothing of this is for apps in service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// Import the clock and randomness for each component under a label, as if they gave authority. So they can be given, by request
    /// and component, where answers are to be compared.
    pub given_clock_and_random: bool,
}
