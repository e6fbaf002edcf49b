//! The numbers of apps and instances that the machine has room for, and the setting to change if they are too low. Only
//! [`Machine::read`] does input and output.
//!
//! A loaded app takes a descriptor and mappings of the process, because its code is mapped from a file, in parts with
//! different access rights. An instance takes mappings for each of its memories. Linux limits the mappings of a
//! process, by default to 65,530, and its descriptors, often to 1,024.

use std::fs;
use std::path::{Component, Path};

use crate::pool::PoolSizes;

/// The number of mappings that a loaded app's code takes: the read-only part, the executable part, and the rest.
pub const MAPPINGS_PER_APP: u64 = 3;

/// The number of descriptors that a loaded app takes. The file of its code stays open, because instances map the
/// initial content of their memory from the file.
pub const DESCRIPTORS_PER_APP: u64 = 1;

/// The resident memory of a loaded app in bytes, as measured with a component of 130 KB.
pub const BYTES_PER_APP: u64 = 300 << 10;

/// The number of mappings that a live instance with one memory takes: the space before the memory's initial content,
/// the content itself, the space after it, and the space that the memory can still grow into.
pub const MAPPINGS_PER_INSTANCE: u64 = 4;

/// The memory of a live instance in bytes, without what its guest allocates: the 64 KiB of its linear memory that stay
/// resident, a stack, page tables, and the wasmtime store.
pub const BYTES_PER_INSTANCE: u64 = 1 << 20;

/// The number of mappings that the process itself takes: libraries, threads, the heap.
const MAPPINGS_OF_PROCESS: u64 = 2_000;

/// The number of descriptors that are kept for everything except loaded apps, mainly connections of clients.
const DESCRIPTORS_OF_PROCESS: u64 = 12_000;

/// The machine's limits for a process. `None` means that there is no limit, or that the limit cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Machine {
    /// The maximum number of mappings (`vm.max_map_count`).
    pub mappings: Option<u64>,
    /// The soft limit on the number of open files.
    pub descriptors: Option<u64>,
    /// The memory of the machine, or the memory limit of the control group if that is less, in bytes.
    pub memory_bytes: Option<u64>,
    /// The limit on the size of the address space (`ulimit -v`), in bytes.
    pub address_bytes: Option<u64>,
    /// Whether the system refuses to reserve more memory than it has (`vm.overcommit_memory=2`).
    pub commits_strictly: bool,
}

/// The numbers of apps and instances that fit on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// The number of apps that can be loaded at the same time, each with its own code, in addition to `instances` live
    /// instances. Other apps stay on disk.
    pub loaded_apps: u64,
    /// The number of instances that can be live at the same time.
    pub instances: u64,
    /// The resource that limits the number of loaded apps.
    pub bound: Bound,
}

/// The scarcest resource of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// The number of mappings (`vm.max_map_count`).
    Mappings,
    /// The number of open files.
    Descriptors,
    /// The memory of the machine.
    Memory,
    /// The address space: it is too small for the pool, or the system does not allow memory to be overcommitted.
    AddressSpace,
}

impl Machine {
    /// Reads the machine's limits for this process.
    #[must_use]
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let number = |path: &str| text(path).trim().parse::<u64>().ok();
        let limits = text("/proc/self/limits");
        let memory = [
            kibibytes(&text("/proc/meminfo"), "MemTotal:"),
            control_group_bytes(Path::new("/sys/fs/cgroup"), &text("/proc/self/cgroup")),
            number("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        ];
        Self {
            mappings: number("/proc/sys/vm/max_map_count"),
            descriptors: soft_limit(&limits, "Max open files"),
            memory_bytes: memory.into_iter().flatten().min(),
            address_bytes: soft_limit(&limits, "Max address space"),
            commits_strictly: number("/proc/sys/vm/overcommit_memory") == Some(2),
        }
    }

    /// Returns the numbers of apps and instances that fit on this machine if the pool has the given sizes.
    #[must_use]
    pub fn capacity(&self, sizes: &PoolSizes) -> Capacity {
        if self.commits_strictly || self.address_bytes.is_some_and(|bytes| bytes < sizes.address_bytes()) {
            return Capacity { loaded_apps: 0, instances: 0, bound: Bound::AddressSpace };
        }
        let mappings = self.mappings.unwrap_or(u64::MAX);
        let mappings = mappings.saturating_sub(MAPPINGS_OF_PROCESS + sizes.mappings());
        let memory = self.memory_bytes.unwrap_or(u64::MAX);
        // Instances get at most half of the mappings and half of the memory. The rest is divided among apps below.
        let room = (mappings / 2 / MAPPINGS_PER_INSTANCE).min(memory / 2 / BYTES_PER_INSTANCE);
        let instances = u64::from(sizes.instances()).min(room);
        let mappings = mappings.saturating_sub(instances * MAPPINGS_PER_INSTANCE);
        let memory = memory.saturating_sub(instances.saturating_mul(BYTES_PER_INSTANCE));
        // If the limit is low, half of it is for apps, even if connections then get fewer than
        // `DESCRIPTORS_OF_PROCESS`.
        let descriptors = self.descriptors.unwrap_or(u64::MAX);
        let descriptors = descriptors.saturating_sub(DESCRIPTORS_OF_PROCESS).max(descriptors / 2);
        let bounds = [
            (mappings / MAPPINGS_PER_APP, Bound::Mappings),
            (descriptors / DESCRIPTORS_PER_APP, Bound::Descriptors),
            // Half of the memory that the instances leave is for apps; the other half is for what guests allocate.
            (memory / 2 / BYTES_PER_APP, Bound::Memory),
        ];
        let (loaded_apps, bound) = bounds.into_iter().min().expect("there are three bounds");
        Capacity { loaded_apps, instances, bound }
    }
}

impl Bound {
    /// Returns a command or an instruction with which the operator can make room for `apps` loaded apps.
    #[must_use]
    pub fn advice(self, apps: u64, sizes: &PoolSizes) -> String {
        match self {
            Self::Mappings => {
                let instances = u64::from(sizes.instances()) * MAPPINGS_PER_INSTANCE;
                let needed = MAPPINGS_OF_PROCESS + sizes.mappings() + instances + apps * MAPPINGS_PER_APP;
                format!("sudo sysctl vm.max_map_count={}", needed.next_power_of_two())
            }
            Self::Descriptors => {
                let needed = DESCRIPTORS_OF_PROCESS + apps * DESCRIPTORS_PER_APP;
                format!("before `isomer node`: ulimit -n {} (LimitNOFILE= in a unit)", needed.next_power_of_two())
            }
            Self::Memory => "use a machine, or a control group, with more memory".to_owned(),
            Self::AddressSpace => "ulimit -v unlimited, and sudo sysctl vm.overcommit_memory=0".to_owned(),
        }
    }
}

/// Returns the memory limit of a process whose `/proc/self/cgroup` contains `groups`: the minimum of the limits of its
/// control group and all enclosing control groups. `root` is the mount point of the control group tree.
fn control_group_bytes(root: &Path, groups: &str) -> Option<u64> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let parts: Vec<_> = Path::new(path).components().filter(|part| *part != Component::RootDir).collect();
    // In a container, the path may lead out of the mounted tree. In that case, the mounted root is the innermost
    // control group that can be read.
    let is_inside = parts.iter().all(|part| matches!(part, Component::Normal(_)));
    let group =
        if is_inside { parts.iter().fold(root.to_owned(), |group, part| group.join(part)) } else { root.to_owned() };
    let allowed = |folder: &Path| fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok();
    group.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(allowed).min()
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Machine = Machine {
        mappings: Some(65_530),
        descriptors: Some(1 << 20),
        memory_bytes: Some(32 << 30),
        address_bytes: None,
        commits_strictly: false,
    };

    #[test]
    fn a_usual_machine_has_room_for_ten_thousand_apps_and_a_full_pool() {
        let sizes = PoolSizes::of_a_node();
        let capacity = USUAL.capacity(&sizes);
        assert_eq!((capacity.instances, capacity.bound), (2048, Bound::Mappings));
        assert!(capacity.loaded_apps >= 10_000, "{capacity:?}");
    }

    #[test]
    fn the_scarcest_resource_is_named_with_advice() {
        let sizes = PoolSizes::of_a_node();
        let few_files = Machine { descriptors: Some(1024), ..USUAL }.capacity(&sizes);
        assert_eq!((few_files.loaded_apps, few_files.bound), (512, Bound::Descriptors));
        assert!(few_files.bound.advice(10_000, &sizes).contains("ulimit -n 32768"));
        let little = Machine { memory_bytes: Some(1 << 30), ..USUAL }.capacity(&sizes);
        assert_eq!((little.instances, little.bound), (512, Bound::Memory));
        let strict = Machine { commits_strictly: true, ..USUAL }.capacity(&sizes);
        assert_eq!((strict.loaded_apps, strict.bound), (0, Bound::AddressSpace));
        let small = Machine { address_bytes: Some(1 << 40), ..USUAL }.capacity(&sizes);
        assert_eq!(small.bound, Bound::AddressSpace);
    }

    #[test]
    fn the_advice_makes_enough_room() {
        let sizes = PoolSizes::of_a_node();
        let line = Bound::Mappings.advice(50_000, &sizes);
        let count: u64 = line.rsplit('=').next().unwrap().parse().unwrap();
        assert!(Machine { mappings: Some(count), ..USUAL }.capacity(&sizes).loaded_apps >= 50_000);
    }

    #[test]
    fn the_least_memory_of_all_control_groups_around_a_process_counts() {
        let root = tempfile::tempdir().unwrap();
        let unit = root.path().join("system.slice/isomer.service");
        fs::create_dir_all(&unit).unwrap();
        let bytes = |groups: &str| control_group_bytes(root.path(), groups);
        let allow = |folder: &Path, text: &str| fs::write(folder.join("memory.max"), text).unwrap();
        let of_unit = "1:name=systemd:/other\n0::/system.slice/isomer.service\n";
        assert_eq!(bytes(of_unit), None);
        allow(&unit, "max\n");
        assert_eq!(bytes(of_unit), None);
        allow(&unit, "2000\n");
        allow(unit.parent().unwrap(), "3000\n");
        assert_eq!(bytes(of_unit), Some(2000));
        allow(unit.parent().unwrap(), "1000\n");
        assert_eq!((bytes(of_unit), bytes("0::/\n")), (Some(1000), None));
        // The limit at the root of the control group tree counts even if the path in `/proc/self/cgroup` does not exist
        // in this tree, as in a container.
        allow(root.path(), "500\n");
        for groups in ["0::/\n", "0::/../../other\n", "0::/kubepods/pod\n", "", of_unit] {
            assert_eq!(bytes(groups), Some(500), "{groups}");
        }
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read();
        assert!(machine.memory_bytes.is_some_and(|bytes| bytes > 1 << 28), "{machine:?}");
    }
}
