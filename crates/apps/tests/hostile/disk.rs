//! Attacks that fill the disk with files in granted folders. The tenant's quota `storage` limits them: it counts the
//! written bytes.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::attacked_node;
use crate::attacks::AttackRequest;
use crate::disk_attacks::{GRANT, ON_DISK, STORAGE_BYTES};
use crate::harness::{one, until};
use crate::world::TestTenancy;

/// The maximum number of bytes on the disk in addition to the quota. Written bytes are charged exactly, but the growth
/// of a folder's own data on disk is only charged afterwards.
const OVERSHOOT_BYTES_MAX: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn files_are_limited_by_the_storage_quota() {
    let _exclusive = attacked_node::exclusive().await;
    let world = TestTenancy::of(&["attacker", "neighbour"], |_| {}).await;
    world.tenant("attacker", |quotas| quotas.storage_bytes = STORAGE_BYTES);
    let hostile = one("hostile", &format!("{GRANT}\nlimits.request_deadline = \"50s\""));
    world.deploy("attacker", "main", &["attacker.test"], &hostile).await;
    let neighbour = one("kv-probe", "grants.kv = [\"default\"]");
    world.deploy("neighbour", "main", &["neighbour.test"], &neighbour).await;
    for (number, attack) in ON_DISK.iter().enumerate() {
        let AttackRequest::Get(target) = attack.ask else { unreachable!("attacks on the disk are GET requests") };
        let response = world.get("attacker.test", &format!("/{target}")).await;
        let name = attack.name;
        assert_eq!(response.status, 200, "{name}: {response:?}; {:?}", world.usage("attacker"));
        let reported = response.ok();
        assert!(reported.contains(attack.contains) && !reported.contains("got "), "{name}: {reported}");
        let there = bytes_in(&world.folder().join("attacker/main/dirs"));
        assert!(there >= attack.bytes_min, "{name}: the attack was refused too early, after {there} bytes");
        assert!(there <= STORAGE_BYTES + OVERSHOOT_BYTES_MAX, "{name}: {there} bytes");
        // The written bytes are charged to the attacker when the folders are measured the next time. The next use of a
        // folder starts this measurement, so this loop requests such uses. Its requests leave no canary (`stain=0`),
        // because canaries stay in the instance's memory, which has room for only 128 of them.
        until(&format!("{name}: {there} bytes to be counted"), async || {
            world.get("attacker.test", "/fill-disk?folders=0&bytes=0&stain=0").await;
            (world.usage("attacker").storage_bytes >= there.min(STORAGE_BYTES) / 4 * 3).then_some(())
        })
        .await;
        let response = world.get("neighbour.test", "/increment?key=n&delta=1").await;
        assert_eq!(response.ok(), format!("{}\n", number + 1), "{name}");
    }
    assert!(world.usage("neighbour").refused.is_empty());
}

/// Returns the disk space, in bytes, that the content of a folder occupies, including subfolders.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            let of = entry.metadata().expect("the file exists");
            let inside = if of.is_dir() { bytes_in(&entry.path()) } else { 0 };
            of.blocks() * 512 + inside
        })
        .sum()
}
