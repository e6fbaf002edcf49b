//! The thread that advances wasmtime's epoch, which interrupts guests.

use std::time::{Duration, Instant};

use crate::lanes::watch;

/// The interval of the regular ticks. The epoch advances at each of them, even if no guest has used up its time slice.
/// A guest may run for this long before its deadline is checked again.
pub const EPOCH_TICK: Duration = Duration::from_millis(5);

/// The maximum time between two checks of time slices while guests run.
const WATCH_TICK: Duration = Duration::from_millis(1);

/// The minimum time between two checks. A time slice that ends earlier is noticed only at the next check.
const PAUSE_MIN: Duration = Duration::from_micros(100);

/// Advances the epoch at every regular tick, and when a guest has used up its time slice. Returns when `is_alive`
/// returns false.
pub(super) fn tick(engine: &wasmtime::EngineWeak, is_alive: impl Fn() -> bool) {
    let (mut advanced, mut pause) = (Instant::now(), EPOCH_TICK);
    while is_alive() {
        std::thread::sleep(pause);
        let activity = watch::activity();
        if activity.slice_is_over || advanced.elapsed() >= EPOCH_TICK {
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
            advanced = Instant::now();
        }
        pause = match activity.next {
            Some(next) => next.clamp(PAUSE_MIN, WATCH_TICK),
            None if activity.is_active => WATCH_TICK,
            None => EPOCH_TICK,
        };
    }
}
