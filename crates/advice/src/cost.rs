//! The published cost of a call in each mode.

use isomer_plan::SeamMode;

/// The time of one call with a small record, in microseconds: the row `fused` of the table "Calls across a seam" in
/// `docs/reference/benchmarks.md`.
pub const FUSED_CALL_US: f64 = 0.51;

/// The time of one isolated call with a small record, in microseconds: the row `isolated` of the same table.
pub const ISOLATED_CALL_US: f64 = 4.1;

/// The time of one call between processes of one machine with a small record, in microseconds: the row `Unix socket` of
/// the same table.
pub const REMOTE_CALL_US: f64 = 95.0;

/// Returns the time of one call in microseconds, without the work of the callee. Larger arguments and results take
/// longer.
#[must_use]
pub fn call_us(mode: SeamMode) -> f64 {
    match mode {
        SeamMode::Fused => FUSED_CALL_US,
        SeamMode::Isolated => ISOLATED_CALL_US,
        SeamMode::Remote => REMOTE_CALL_US,
    }
}
