//! Measures the memory of this process during an attack.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::process_resources::resident_bytes;
use crate::world::TestTenancy;

/// A process that grows by more than this number of bytes is ended, before it affects the machine.
const RUNAWAY_BYTES: u64 = 3 << 30;

/// The maximums that were measured, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MemoryPeaks {
    /// The growth of the process's resident memory since the start.
    pub(crate) grown: u64,
    /// The memory that was charged to all tenants together.
    pub(crate) charged: u64,
    /// The difference between the growth of the process's resident memory at a measurement and the largest amount that
    /// had been charged up to this measurement.
    pub(crate) excess: u64,
}

/// A thread that repeatedly measures the process's memory. Only the kernel knows the resident memory, and it announces
/// no change.
pub(crate) struct Watch {
    seen: Arc<Mutex<MemoryPeaks>>,
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    pub(crate) fn start(world: &Arc<TestTenancy>, attack: &'static str, baseline: u64) -> Self {
        let (seen, over) = (Arc::new(Mutex::new(MemoryPeaks::default())), Arc::new(AtomicBool::new(false)));
        let (world, noted, is_over) = (world.clone(), seen.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let charged: u64 = ["attacker", "neighbour"].map(|it| world.usage(it).memory_bytes).iter().sum();
                let grown = resident_bytes().saturating_sub(baseline);
                let mut seen = noted.lock().expect("no thread panics with it");
                seen.grown = seen.grown.max(grown);
                seen.charged = seen.charged.max(charged);
                seen.excess = seen.excess.max(grown.saturating_sub(seen.charged));
                if grown > RUNAWAY_BYTES {
                    eprintln!("{attack}: {seen:?}");
                    std::process::abort();
                }
                drop(seen);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { seen, over, thread }
    }

    pub(crate) fn stop(self) -> MemoryPeaks {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch does not panic");
        *self.seen.lock().expect("no thread panics with it")
    }
}
