//! Checks the system limits that a process with many instances or connections can reach.

use std::fs;

use isomer_node::compiler::sandbox::Confinement;
use isomer_node::compiler::{ChildLimits, CompilerOptions, Compilers};
use isomer_runtime::engine::PoolSizes;
use isomer_runtime::machine::{Bound, Capacity, Machine};
use isomer_supervisor::{SOCKET_PATH_BYTES_MAX, socket_folders};
use rustix::process::{Resource, getrlimit};

use super::Finding;

const MAPS: &str = "mappings";
const FILES: &str = "open files";
const SOCKETS: &str = "sockets";
const NODE: &str = "node";
const COMPILERS: &str = "compilers";

/// The number of loaded apps below which a warning is shown. A node on this machine that can keep fewer apps loaded
/// still works, but loads more apps from disk when requests arrive.
const APPS_WANTED: u64 = 5_000;

/// The value of `vm.max_map_count` below which a warning is shown. It is the default of Linux. Every instance needs
/// several mappings, so a lower limit allows fewer instances.
const MAP_COUNT_MIN: u64 = 65_530;

/// The soft limit of open files below which a warning is shown. A connection needs one descriptor, and the front door
/// accepts ten thousand connections.
const OPEN_FILES_MIN: u64 = 10_240;

/// Checks the limit `vm.max_map_count`.
pub(crate) fn map_count() -> Finding {
    let text = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    judge_map_count(text.trim().parse().ok())
}

fn judge_map_count(count: Option<u64>) -> Finding {
    match count {
        Some(count) if count >= MAP_COUNT_MIN => Finding::ok(MAPS, format!("vm.max_map_count is {count}")),
        Some(count) => Finding::warn(
            MAPS,
            format!("vm.max_map_count is {count}: only a few instances can run at once"),
            format!("sudo sysctl vm.max_map_count={}", MAP_COUNT_MIN * 4),
        ),
        None => Finding::ok(MAPS, "this system has no limit that can be read"),
    }
}

/// Checks how many apps and instances a node on this machine can keep in memory.
pub(crate) fn node() -> Finding {
    // A node raises its soft limit of open files to the hard limit, so the hard limit decides.
    judge_node(&Machine { descriptors: getrlimit(Resource::Nofile).maximum, ..Machine::read() })
}

fn judge_node(machine: &Machine) -> Finding {
    let sizes = PoolSizes::of_a_node();
    let Capacity { loaded_apps, instances, bound } = machine.capacity(&sizes);
    let least = match bound {
        Bound::Mappings => "mappings",
        Bound::Descriptors => "open files",
        Bound::Memory => "memory",
        Bound::AddressSpace => "address space",
    };
    let found = format!(
        "`isomer node` can keep {loaded_apps} apps loaded, with {instances} live instances; the scarcest resource is {least}"
    );
    if loaded_apps >= APPS_WANTED && instances == u64::from(sizes.instances()) {
        Finding::ok(NODE, found)
    } else {
        Finding::warn(NODE, found, bound.advice(APPS_WANTED, &sizes))
    }
}

/// Checks that a folder exists in which the processes of a shape can create their sockets.
pub(crate) fn sockets() -> Finding {
    judge_sockets(socket_folders().next().map(|folder| folder.display().to_string()))
}

fn judge_sockets(folder: Option<String>) -> Finding {
    match folder {
        Some(folder) => Finding::ok(SOCKETS, format!("in `{folder}`, for shapes of several processes")),
        None => Finding::warn(
            SOCKETS,
            format!(
                "the paths of all folders for sockets are too long (the path of a socket can have at most {} bytes)",
                SOCKET_PATH_BYTES_MAX
            ),
            "before `isomer run` in a shape of several processes: export TMPDIR=/tmp",
        ),
    }
}

/// Checks how well this system can confine a node's compiler processes. Starts one compiler process that compiles
/// nothing.
pub(crate) fn compilers() -> Finding {
    let compilers = Compilers::new(CompilerOptions::new(ChildLimits::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let found = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(compilers.confinement()).map_err(|error| error.to_string()));
    judge_compilers(found)
}

fn judge_compilers(found: Result<Confinement, String>) -> Finding {
    match found {
        Ok(confinement) if confinement.is_sufficient() => {
            Finding::ok(COMPILERS, format!("a node's compilers are confined by {confinement}"))
        }
        Ok(confinement) => Finding::warn(
            COMPILERS,
            format!("a node's compilers are not confined enough: {confinement}"),
            "run nodes on Linux 5.13 or later, with `landlock` in `lsm=` of the kernel's command line",
        ),
        Err(error) => Finding::warn(
            COMPILERS,
            format!("a node could not compile anything: {error}"),
            "check whether the system prevents this program from starting itself, which a node does to compile",
        ),
    }
}

/// Checks the soft limit of open files.
pub(crate) fn open_files() -> Finding {
    judge_open_files(&fs::read_to_string("/proc/self/limits").unwrap_or_default())
}

fn judge_open_files(limits: &str) -> Finding {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    match soft.parse::<u64>() {
        Ok(soft) if soft < OPEN_FILES_MIN => Finding::warn(
            FILES,
            format!("{soft} at once, for connections, files and stores"),
            "before `isomer run`: ulimit -n 65536",
        ),
        Ok(soft) => Finding::ok(FILES, format!("{soft} at once")),
        Err(_) => Finding::ok(FILES, "no limit"),
    }
}

#[cfg(test)]
mod tests {
    use isomer_node::compiler::sandbox::Layer;

    use super::super::CheckState;
    use super::*;

    #[test]
    fn low_limits_are_reported() {
        let few = Machine { descriptors: Some(1024), ..Machine::default() };
        let found = judge_node(&few);
        assert_eq!(found.state, CheckState::Warn);
        assert!(found.hint.is_some_and(|hint| hint.contains("ulimit -n")), "{}", found.found);
        assert_eq!(judge_node(&Machine::default()).state, CheckState::Ok);
        let mut confinement = Confinement::default();
        for layer in [Layer::Landlock, Layer::Seccomp] {
            assert_eq!(judge_compilers(Ok(confinement.clone())).state, CheckState::Warn, "{confinement}");
            confinement.held.insert(layer, "as it should be".to_owned());
        }
        assert_eq!(judge_compilers(Ok(confinement)).state, CheckState::Ok);
        assert_eq!(judge_compilers(Err("no".to_owned())).state, CheckState::Warn);
        assert_eq!(judge_sockets(None).state, CheckState::Warn);
        assert_eq!(judge_sockets(Some("/tmp".to_owned())).state, CheckState::Ok);
        assert_eq!(judge_map_count(Some(65_530)).state, CheckState::Ok);
        assert_eq!(judge_map_count(Some(1_000)).state, CheckState::Warn);
        assert_eq!(judge_map_count(None).state, CheckState::Ok);
        let limits = |soft: &str| {
            format!("Limit      Soft Limit  Hard Limit  Units\nMax open files   {soft}   1048576   files\n")
        };
        assert_eq!(judge_open_files(&limits("1024")).state, CheckState::Warn);
        assert_eq!(judge_open_files(&limits("1048576")).state, CheckState::Ok);
        assert_eq!(judge_open_files(&limits("unlimited")).state, CheckState::Ok);
    }
}
