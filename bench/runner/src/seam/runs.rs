//! Asking for calls: how many fill a while, and whether the answers were right.

use anyhow::{Context as _, Result, ensure};
use isomer_bench_workload::{Mode, What, Work, expected};
use serde_json::Value;

use super::ways::Way;
use crate::http;

/// No run makes more calls: their expected answers are computed, too.
const CALLS_MAX: u32 = 20_000_000;

/// A kind of call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub what: What,
    pub mode: Mode,
    pub size: u32,
    pub concurrency: u32,
}

/// Calls that were made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Made {
    /// Time by the caller's clock, divided by the number of calls.
    pub ns_per_call: f64,
}

impl Call {
    /// How many calls take about so many milliseconds, found by making more and more of them.
    pub(super) fn count_for(self, way: &Way, ms: u32) -> Result<u32> {
        let enough_ns = f64::from(ms) * 1e6;
        let mut count = self.concurrency;
        loop {
            let ns = self.make(way, count)?.ns_per_call * f64::from(count);
            match next_count(count, ns, enough_ns) {
                Ok(fits) => return Ok(fits.max(self.concurrency)),
                Err(more) => count = more,
            }
        }
    }

    /// Makes so many calls.
    ///
    /// # Errors
    /// When an answer was wrong, too: a fast wrong answer is no speed.
    pub(super) fn make(self, way: &Way, calls: u32) -> Result<Made> {
        let Self { what, mode, size, concurrency } = self;
        let work = Work { what, mode, calls, size, concurrency };
        let answer = http::get_json_line(way.address(), &format!("/run?{work}"))
            .with_context(|| format!("{} did not answer {work}", way.name))?;
        read(&answer, work).with_context(|| format!("{} answered {work} with {answer}", way.name))
    }
}

/// The number of calls that take `enough_ns`, or another number to try.
fn next_count(count: u32, ns: f64, enough_ns: f64) -> Result<u32, u32> {
    let fits = f64::from(count) * enough_ns / ns.max(1.0);
    // Times of few calls say little: a fraction of the goal must be reached before they are believed.
    if ns >= enough_ns / 4.0 || count >= CALLS_MAX {
        return Ok(fits.clamp(1.0, f64::from(CALLS_MAX)) as u32);
    }
    let most = f64::from(count) * 16.0;
    Err(fits.min(most).clamp(f64::from(count) + 1.0, f64::from(CALLS_MAX)) as u32)
}

fn read(answer: &str, work: Work) -> Result<Made> {
    let json: Value = serde_json::from_str(answer)?;
    let ns = json["ns"].as_f64().context("there is no time in it")?;
    let wanted = format!("{:016x}", expected(work));
    ensure!(json["checksum"] == wanted.as_str(), "the answers are wrong: their checksum should be {wanted}");
    Ok(Made { ns_per_call: ns / f64::from(work.calls) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_calls_is_found() {
        // 100 ns a call, 40 ms: 400,000 calls.
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
        // Slow calls are made once; a clock that stands still ends the search, too.
        assert_eq!(next_count(1, 1e9, 40e6), Ok(1));
        assert_eq!(next_count(CALLS_MAX, 0.0, 40e6), Ok(CALLS_MAX));
    }

    #[test]
    fn wrong_answers_are_errors() {
        let work = Work { what: What::Add, mode: Mode::Sync, calls: 4, size: 0, concurrency: 1 };
        let right = format!("{{\"ns\":400,\"checksum\":\"{:016x}\"}}", expected(work));
        assert_eq!(read(&right, work).unwrap(), Made { ns_per_call: 100.0 });
        assert!(read("{\"ns\":400,\"checksum\":\"0000000000000000\"}", work).is_err());
        assert!(read("{}", work).is_err());
    }
}
