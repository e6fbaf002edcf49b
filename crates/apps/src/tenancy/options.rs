//! The options of a tenancy: how many apps are in memory, and how they run.

use isomer_capabilities::outbound::OutboundNetwork;
use isomer_manifest::NodeLimits;
use isomer_runtime::engine::PoolSizes;
use isomer_runtime::machine::Machine;
use isomer_telemetry::metrics::Metrics;

use super::memory::MemoryBounds;
use super::time_limits::TimeLimits;

/// The default of [`TenancyOptions::disk_reserve_bytes`]: enough for several hundred deployments of a typical app.
const DISK_RESERVE_BYTES: u64 = 256 << 20;

/// The lower limit of the default of [`TenancyOptions::loaded_max`]. With fewer apps, a node would evict an app after
/// almost every request.
const LOADED_MIN: usize = 64;

/// The upper limit of the default of [`TenancyOptions::loaded_max`]. With more apps, the search for apps to evict would
/// take too long.
const LOADED_MAX: usize = 50_000;

/// The default of [`TenancyOptions::probed_groups_max`].
const PROBED_GROUPS_MAX: usize = 64;

/// The options of a tenancy: how many apps are in memory, and how they run.
#[derive(Debug, Clone)]
pub struct TenancyOptions {
    /// The maximum number of apps in memory.
    pub loaded_max: usize,
    /// The maximum number of apps that are loaded at the same time.
    pub loads_max: usize,
    /// The memory limits; if one of them is exceeded, idle apps are evicted. With `None`, memory is not checked.
    pub memory: Option<MemoryBounds>,
    /// The maximum number of live instances of a group; `None` for the platform's default. The maximum is lower if the
    /// engine's pool has no room for this number.
    pub instances_max: Option<u32>,
    /// The number of requests that one instance serves before it is replaced; with 1, each request gets a new instance.
    /// `None` uses the number in the manifest or the platform's default.
    pub requests_per_instance_max: Option<u32>,
    /// The number of bytes that tenants must leave free on the file system of the data directory, for the node's own
    /// state, audit log and code.
    pub disk_reserve_bytes: u64,
    /// The maximum durations of requests and SQL statements, even if manifests allow more.
    pub time_limits: TimeLimits,
    /// The maximum number of groups with probed code in memory. If there are more, the code that no sampled request has
    /// used for the longest time is removed.
    pub probed_groups_max: usize,
    /// The resolver, certificate authorities and limits for outgoing requests.
    pub network: OutboundNetwork,
    /// The registry for the metrics of the apps.
    pub metrics: Metrics,
    /// Whether the process serves a single app under every host name. If so, and no revision is in service yet,
    /// requests are refused with the message that the app is still being built.
    pub is_of_one_app: bool,
    /// Whether call stacks name source lines of the components. For development only, because the code then takes more
    /// space on disk and in memory.
    pub source_lines: bool,
}

impl Default for TenancyOptions {
    /// Returns the options of a node with many apps, on a machine without other large processes. The maximum number of
    /// apps in memory is the number for which `isomer doctor` reports room, but at least `LOADED_MIN` and at most
    /// `LOADED_MAX`.
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
            probed_groups_max: PROBED_GROUPS_MAX,
            network: OutboundNetwork::default(),
            metrics: Metrics::default(),
            is_of_one_app: false,
            source_lines: false,
        }
    }
}

impl TenancyOptions {
    /// Returns the options for apps that always stay in memory, without time limits other than those of the apps
    /// themselves.
    #[must_use]
    pub fn unbounded() -> Self {
        Self { loaded_max: usize::MAX, memory: None, time_limits: TimeLimits::NONE, ..Self::default() }
    }
}
