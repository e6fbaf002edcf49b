//! Random functions that are called with random values. In every mode, each function must return its arguments.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `types` | random types of WIT, and their layout in the canonical ABI |
//! | `values` | values of those types |
//! | `image` | encoded arguments and results |
//! | `package` | interfaces with such types, and components that export and import them |
//! | `module` | the code of those components |
//! | `calls` | calls of the functions in every mode |
//!
//! These files share no code with the code under test, except for the constants of `isomer_wire::image`.

mod calls;
mod edges;
mod image;
mod module;
mod package;
mod types;
mod values;

use crate::random::Random;
use crate::seed;
use package::Package;

/// The number of packages.
const PACKAGES: usize = 5;

/// The number of packages in a long run.
const PACKAGES_LONG: usize = 400;

/// The number of functions of each package.
const FUNCTIONS: usize = 25;

/// The number of sets of arguments for each function: 4,000 calls in each mode.
const VALUES: usize = 32;

/// The number of sets of arguments in a long run: 800,000 calls in each mode.
const VALUES_LONG: usize = 80;

/// The number of sets of arguments for each function of the package `edges`.
const VALUES_OF_EDGES: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn arguments_come_back_unchanged_in_every_mode() {
    let seed = seed::shown();
    let only = std::env::var("ISOMER_PACKAGE").ok().map(|text| text.parse().expect("ISOMER_PACKAGE is a number"));
    let (packages, values) = if seed::is_long() { (PACKAGES_LONG, VALUES_LONG) } else { (PACKAGES, VALUES) };
    let mut calls = 0;
    for number in (0..packages).filter(|number| only.is_none_or(|only: usize| only == *number)) {
        let mut random = Random::new(seed, number as u64 + 1);
        let package = Package::make(number, FUNCTIONS, &mut random);
        let replay = format!("ISOMER_PACKAGE={number} {}", seed::again(seed));
        calls += calls::check(&package, values, &mut random, &replay).await;
    }
    println!("{calls} calls in each of {} modes", calls::MODES.len());
    assert!(only.is_some() || calls >= packages * FUNCTIONS * values, "only {calls} calls were made");
}

#[tokio::test(flavor = "multi_thread")]
async fn edge_cases_of_every_type_cross_in_every_mode() {
    let seed = seed::shown();
    let mut random = Random::new(seed, 0);
    let package = edges::package();
    let calls = calls::check(&package, VALUES_OF_EDGES, &mut random, &seed::again(seed)).await;
    assert!(calls >= 500, "only {calls} calls were made");
}

/// Checks that every kind of type, function and component is generated, which the other tests rely on.
#[test]
fn the_generator_covers_every_type() {
    let seed = seed::shown();
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..PACKAGES {
        let package = Package::make(number, FUNCTIONS, &mut Random::new(seed, number as u64 + 1));
        package.functions.iter().for_each(|function| seen.extend(function.traits()));
    }
    let wanted = [
        "async",
        "both blocking",
        "both with a callback",
        "relay with a callback",
        "callee with a callback",
        "sync",
        "spilled",
        "in registers",
        "no parameters",
        "no result",
        "constant",
        "only",
        "all",
        "result in memory",
        "result in a register",
        "bool",
        "integer",
        "f32",
        "f64",
        "char",
        "string",
        "list",
        "tuple",
        "option",
        "result",
        "record",
        "variant",
        "enum",
        "flags",
        "list of lists",
        "list of strings",
        "joined flat values",
    ];
    let missing: Vec<_> = wanted.iter().filter(|wanted| !seen.contains(**wanted)).collect();
    assert!(missing.is_empty(), "never generated: {missing:?}");
}
