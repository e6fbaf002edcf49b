//! Checks that the table in `docs/reference/attacks.md` and the tests name the same attacks.

use std::collections::BTreeSet;

use crate::attacks::CORPUS;
use crate::{disk_attacks, full_node, hoards, instantiation, tenants};

/// The markers before (`BEGIN`) and after (`END`) the table of attacks.
const BEGIN: &str = "<!-- attacks -->";
const END: &str = "<!-- end of attacks -->";

#[test]
fn the_documented_attacks_are_those_of_the_tests() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/attacks.md"))
        .expect("the page is there");
    let (_, rest) = page.split_once(BEGIN).expect("the table begins");
    let (table, _) = rest.split_once(END).expect("the table ends");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")).filter_map(|row| row.split(" | ").next());
    // The first two lines of the table are its head.
    let listed: Vec<&str> = rows.skip(2).collect();
    let names: Vec<&str> = CORPUS
        .iter()
        .map(|attack| attack.name)
        .chain(instantiation::names())
        .chain(disk_attacks::names())
        .chain(hoards::names())
        .chain([tenants::HANDED_ON, full_node::NAME])
        .collect();
    let made: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(made.len(), names.len(), "two attacks have the same name");
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), made);
    assert_eq!(listed.len(), made.len(), "an attack is listed twice");
}
