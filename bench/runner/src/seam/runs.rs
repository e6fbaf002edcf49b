//! Makes the calls of one round and checks their results. Also determines how many calls fill a round.

use anyhow::{Context as _, Result, ensure};
use isomer_bench_workload::{Mode, What, Work, expected};
use serde_json::Value;

use super::methods::CallMethod;
use crate::http;

/// The maximum number of calls of a round. The number is limited, because the expected results of all calls are
/// computed as well.
const CALLS_MAX: u32 = 20_000_000;

/// The kind of call that a round makes repeatedly. The number of calls is passed separately.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub what: What,
    pub mode: Mode,
    pub size: u32,
    pub concurrency: u32,
}

/// The measurement of one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measurement {
    /// The duration of the round by the caller's clock, divided by the number of calls.
    pub ns_per_call: f64,
}

impl Call {
    /// Determines the number of calls that take about `ms` milliseconds, by trying increasing numbers.
    pub(super) fn count_for(self, method: &CallMethod, ms: u32) -> Result<u32> {
        let enough_ns = f64::from(ms) * 1e6;
        let mut count = self.concurrency;
        loop {
            let ns = self.make(method, count)?.ns_per_call * f64::from(count);
            match next_count(count, ns, enough_ns) {
                Ok(fits) => return Ok(fits.max(self.concurrency)),
                Err(more) => count = more,
            }
        }
    }

    /// Makes `calls` calls.
    ///
    /// # Errors
    /// If a call fails, or a result is wrong: the speed of wrong results has no meaning.
    pub(super) fn make(self, method: &CallMethod, calls: u32) -> Result<Measurement> {
        let Self { what, mode, size, concurrency } = self;
        let work = Work { what, mode, calls, size, concurrency };
        let response = http::get_json_line(method.address(), &format!("/run?{work}"))
            .with_context(|| format!("{} did not respond to {work}", method.name))?;
        read(&response, work).with_context(|| format!("{} responded to {work} with {response}", method.name))
    }
}

/// Estimates the number of calls that take `enough_ns`, from the duration `ns` of `count` calls. If this duration is
/// too short for an estimate, returns the number of calls to try next as `Err`.
fn next_count(count: u32, ns: f64, enough_ns: f64) -> Result<u32, u32> {
    let fits = f64::from(count) * enough_ns / ns.max(1.0);
    // The number of calls is estimated only from a measurement that took at least a quarter of the wanted duration,
    // because the duration of few calls is unreliable.
    if ns >= enough_ns / 4.0 || count >= CALLS_MAX {
        return Ok(fits.clamp(1.0, f64::from(CALLS_MAX)) as u32);
    }
    let most = f64::from(count) * 16.0;
    Err(fits.min(most).clamp(f64::from(count) + 1.0, f64::from(CALLS_MAX)) as u32)
}

fn read(response: &str, work: Work) -> Result<Measurement> {
    let json: Value = serde_json::from_str(response)?;
    let ns = json["ns"].as_f64().context("the response contains no number `ns`")?;
    let wanted = format!("{:016x}", expected(work));
    ensure!(json["checksum"] == wanted.as_str(), "the results are wrong: the checksum should be {wanted}");
    Ok(Measurement { ns_per_call: ns / f64::from(work.calls) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_calls_that_fill_a_round_is_found() {
        // With calls of 100 ns, 400,000 calls take 40 ms.
        let mut count = 1;
        let mut tries = 0;
        let found = loop {
            tries += 1;
            match next_count(count, f64::from(count) * 100.0, 40e6) {
                Ok(found) => break found,
                Err(more) => count = more,
            }
        };
        assert_eq!(found, 400_000);
        assert!(tries < 10, "{tries}");
        // If one call takes longer than a round should take, a round has one call. If the measured duration is always
        // 0, the number of calls grows only up to `CALLS_MAX`.
        assert_eq!(next_count(1, 1e9, 40e6), Ok(1));
        assert_eq!(next_count(CALLS_MAX, 0.0, 40e6), Ok(CALLS_MAX));
    }

    #[test]
    fn wrong_results_are_errors() {
        let work = Work { what: What::Add, mode: Mode::Sync, calls: 4, size: 0, concurrency: 1 };
        let correct = format!("{{\"ns\":400,\"checksum\":\"{:016x}\"}}", expected(work));
        assert_eq!(read(&correct, work).unwrap(), Measurement { ns_per_call: 100.0 });
        assert!(read("{\"ns\":400,\"checksum\":\"0000000000000000\"}", work).is_err());
        assert!(read("{}", work).is_err());
    }
}
