//! The seed of the tests' random numbers.
//!
//! - By default, the seed is always the same, so that the result of a run depends only on the code.
//! - `ISOMER_LONG=1` uses a new seed in each run, and runs many more tests.
//! - `ISOMER_SEED=N` uses the seed N, to repeat a run.

/// The default seed.
const SEED: u64 = 20;

/// Returns whether `ISOMER_LONG` requests a long run.
pub(crate) fn is_long() -> bool {
    std::env::var_os("ISOMER_LONG").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Returns whether this run uses the default seed.
pub(crate) fn is_usual() -> bool {
    !is_long() && std::env::var_os("ISOMER_SEED").is_none()
}

/// Returns the seed of this run, and prints it.
pub(crate) fn shown() -> u64 {
    let seed = match std::env::var("ISOMER_SEED") {
        Ok(text) => text.parse().expect("ISOMER_SEED is a number"),
        Err(_) if is_long() => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.expect("the clock is after 1970").as_nanos() as u64
        }
        Err(_) => SEED,
    };
    println!("seed {seed}: {}", again(seed));
    seed
}

/// Returns a message that says how to repeat the run.
pub(crate) fn again(seed: u64) -> String {
    let long = if is_long() { "ISOMER_LONG=1 " } else { "" };
    format!("{long}ISOMER_SEED={seed} cargo test -p isomer-apps --test placement")
}
