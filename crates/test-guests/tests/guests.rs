//! The guests build, and each is a component.

/// The first bytes of a component: the magic number, version 13, layer 1.
const COMPONENT: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];

#[test]
fn every_guest_is_a_component() {
    let mut count = 0;
    for entry in std::fs::read_dir(isomer_test_guests::guests_dir()).expect("the folder can be read") {
        let name = entry.expect("the folder can be read").file_name().into_string().expect("names are UTF-8");
        let is_guest = isomer_test_guests::guests_dir().join(&name).join("Cargo.toml").is_file() && name != "support";
        if is_guest {
            assert_eq!(isomer_test_guests::bytes(&name)[..8], COMPONENT, "{name}");
            count += 1;
        }
    }
    assert!(count > 0, "no guests at all");
}
