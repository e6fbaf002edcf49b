//! The options of a tenancy: how many apps are in memory, and how they run.

use isomer_capabilities::outbound::OutboundNetwork;
use isomer_manifest::NodeLimits;
use isomer_runtime::engine::PoolSizes;
use isomer_runtime::machine::Machine;

use super::memory::MemoryBounds;
use super::time_limits::TimeLimits;

/// The default of [`TenancyOptions::disk_reserve_bytes`]: enough for some hundred deployments of a typical app.
const DISK_RESERVE_BYTES: u64 = 256 << 20;

/// The minimum of the default of [`TenancyOptions::loaded_max`]: a node that evicts an app after every request is of no
/// use.
const LOADED_MIN: usize = 64;

/// The maximum of the default of [`TenancyOptions::loaded_max`]: searching a larger set for apps to evict takes too
/// long.
const LOADED_MAX: usize = 50_000;

/// How many apps are in memory, and how they run.
#[derive(Debug, Clone)]
pub struct TenancyOptions {
    /// The number of apps that may be in memory.
    pub loaded_max: usize,
    /// The number of apps that are loaded at the same time.
    pub loads_max: usize,
    /// The memory limits above which idle apps are evicted. With `None`, memory is not watched.
    pub memory: Option<MemoryBounds>,
    /// The maximum number of live instances of a group; fewer if the engine's pool has no room for this number.
    pub instances_max: Option<u32>,
    /// The number of requests that one instance serves before it is replaced; 1 gives each request a new instance.
    pub requests_per_instance_max: Option<u32>,
    /// The number of bytes in the data directory's file system that tenants' writes must leave free for the node's own
    /// state, audit log and code.
    pub disk_reserve_bytes: u64,
    /// The maximum times of requests and statements, even if manifests allow more.
    pub time_limits: TimeLimits,
    /// The network that outgoing requests use.
    pub network: OutboundNetwork,
    /// Whether there is a single app, which serves every host name. While no revision of this app is in service,
    /// requests are told that the app is still being built.
    pub is_of_one_app: bool,
    /// Whether call stacks name the source lines with which components were built. For development: the code then takes
    /// more space on disk and in memory.
    pub source_lines: bool,
}

impl Default for TenancyOptions {
    /// The options of a node for many apps that has the machine to itself. The node keeps at most as many apps in
    /// memory as `isomer doctor` reports room for.
    fn default() -> Self {
        let room = Machine::read().capacity(&PoolSizes::of_a_node());
        Self {
            loaded_max: usize::try_from(room.loaded_apps).unwrap_or(usize::MAX).clamp(LOADED_MIN, LOADED_MAX),
            loads_max: 8,
            memory: Some(MemoryBounds::of_this_machine()),
            instances_max: None,
            requests_per_instance_max: None,
            disk_reserve_bytes: DISK_RESERVE_BYTES,
            time_limits: TimeLimits::of(&NodeLimits::default()),
            network: OutboundNetwork::default(),
            is_of_one_app: false,
            source_lines: false,
        }
    }
}

impl TenancyOptions {
    /// Returns the options for apps that always stay in memory, without time limits except those of the apps
    /// themselves.
    #[must_use]
    pub fn unbounded() -> Self {
        Self { loaded_max: usize::MAX, memory: None, time_limits: TimeLimits::NONE, ..Self::default() }
    }
}
