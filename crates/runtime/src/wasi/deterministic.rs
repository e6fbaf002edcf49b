//! The deterministic clock and randomness of test mode. They depend only on the request and the component.
//!
//! Responses of an app in different shapes can be compared only if nothing but the shape changes between executions. So
//! the time of day depends only on the trace of the request, which every call across a seam passes on. Random bytes
//! depend only on the trace, on the calling component, and on the number of times that this component has already
//! requested random bytes or a random number within the trace.
//!
//! The time starts at a fixed instant and advances by one second with each trace number. `isomer test` numbers its
//! cases in order, so time never goes backwards, and data expires in the same case in each execution. Within one
//! request, a component always gets the same instant. Monotonic clocks are real, so that waiting takes time.
//!
//! Random bytes differ from call to call. Calls are counted per component, not per instance, because one shape may have
//! more instances than another. The seed of hash tables (`insecure-seed`) does not differ from call to call: each
//! instance requests it once, so the number of calls would depend on the number of instances. For the same reason, all
//! calls without a trace, and all calls before an instance's first request, get the same random bytes.
//!
//! Only for tests, because the random numbers can be predicted.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, LinkerInstance, Lower};

use super::provider::{InterfaceOwner, Provider};
use crate::guest::Guest;

/// The earliest time of the clock, 2026-01-01T00:00:00Z, in seconds since 1970. All times are less than
/// [`SPAN_SECONDS`] later.
const BEGIN_SECONDS: u64 = 1_767_225_600;
/// The number of different times that the clock can show, which are one second apart: one day. A test file has fewer
/// cases, so each case gets its own time. If a test sets the trace id of a request itself, the trace's number may be
/// larger, so numbers are reduced modulo this constant.
const SPAN_SECONDS: u64 = 24 * 60 * 60;
/// The maximum number of traces whose calls are counted. The oldest trace is forgotten to make room: it is no longer
/// needed, because a test sends one request at a time.
const TRACES_MAX: usize = 1024;
/// The maximum number of random bytes that one call returns. If a guest requests more, it gets this many.
const BYTES_MAX: u64 = 1 << 20;

/// Provides the deterministic clock and randomness. Must be registered before other providers of these interfaces.
#[derive(Debug, Clone, Default)]
pub struct DeterministicClockAndRandom {
    calls: Arc<Mutex<Calls>>,
}

/// Counts the calls for random bytes and random numbers, so that these differ from call to call.
#[derive(Debug, Default)]
struct Calls {
    /// The number of calls, by trace id and then by component.
    counts: HashMap<String, HashMap<String, u64>>,
    /// The keys of `counts`, which are trace ids, in the order of their first use, so that the oldest can be removed.
    traces: VecDeque<String>,
}

impl Calls {
    /// Counts a call. Returns the number of earlier calls of `component` in `trace`.
    fn next(&mut self, trace: &str, component: &str) -> u64 {
        if trace.is_empty() {
            return 0;
        }
        if !self.counts.contains_key(trace) {
            if self.traces.len() == TRACES_MAX
                && let Some(oldest) = self.traces.pop_front()
            {
                self.counts.remove(&oldest);
            }
            self.traces.push_back(trace.to_owned());
        }
        let count = self.counts.entry(trace.to_owned()).or_default().entry(component.to_owned()).or_default();
        *count += 1;
        *count - 1
    }
}

/// The `datetime` of `wasi:clocks/wall-clock` in WASI 0.2.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// The `instant` of `wasi:clocks/system-clock` in WASI 0.3.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
struct Instant {
    seconds: i64,
    nanoseconds: u32,
}

impl Provider for DeterministicClockAndRandom {
    fn provides(&self, interface: &str) -> bool {
        let path = interface.split('@').next().unwrap_or_default();
        path.starts_with("wasi:random/") || matches!(path, "wasi:clocks/wall-clock" | "wasi:clocks/system-clock")
    }

    fn link(
        &self,
        instance: &mut LinkerInstance<'_, Guest>,
        interface: &str,
        owner: &InterfaceOwner,
    ) -> wasmtime::Result<()> {
        // A shared import contains only types. For functions, each component has its own import.
        let InterfaceOwner::Component(component) = owner else { return Ok(()) };
        let bytes = |name: &'static str, instance: &mut LinkerInstance<'_, Guest>| {
            let (component, calls) = (component.clone(), self.calls.clone());
            instance.func_wrap(name, move |store: StoreContextMut<'_, Guest>, (length,): (u64,)| {
                let trace = trace(store.data());
                let call = called(&calls, &trace, &component);
                Ok((random(&trace, &component, call, length.min(BYTES_MAX)),))
            })
        };
        let number = |name: &'static str, instance: &mut LinkerInstance<'_, Guest>| {
            let (component, calls) = (component.clone(), self.calls.clone());
            instance.func_wrap(name, move |store: StoreContextMut<'_, Guest>, ()| {
                let trace = trace(store.data());
                let call = called(&calls, &trace, &component);
                Ok((numbers(&trace, &component, call).0,))
            })
        };
        match interface.split('@').next().unwrap_or_default() {
            "wasi:clocks/wall-clock" => {
                instance.func_wrap("now", |store: StoreContextMut<'_, Guest>, ()| {
                    let (seconds, nanoseconds) = now(&trace(store.data()));
                    Ok((Datetime { seconds, nanoseconds },))
                })?;
                instance.func_wrap("resolution", |_: StoreContextMut<'_, Guest>, ()| {
                    Ok((Datetime { seconds: 0, nanoseconds: 1 },))
                })
            }
            "wasi:clocks/system-clock" => {
                instance.func_wrap("now", |store: StoreContextMut<'_, Guest>, ()| {
                    let (seconds, nanoseconds) = now(&trace(store.data()));
                    Ok((Instant { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanoseconds },))
                })?;
                instance.func_wrap("get-resolution", |_: StoreContextMut<'_, Guest>, ()| Ok((1_u64,)))
            }
            "wasi:random/random" => {
                bytes("get-random-bytes", instance)?;
                number("get-random-u64", instance)
            }
            "wasi:random/insecure" => {
                bytes("get-insecure-random-bytes", instance)?;
                number("get-insecure-random-u64", instance)
            }
            // In WASI 0.2, the function has the name of the interface; in WASI 0.3, its name starts with `get-`.
            _ => ["insecure-seed", "get-insecure-seed"].into_iter().try_for_each(|name| {
                let component = component.clone();
                instance.func_wrap(name, move |store: StoreContextMut<'_, Guest>, ()| {
                    Ok((numbers(&trace(store.data()), &component, SEED),))
                })
            }),
        }
    }
}

/// The number that a seed gets instead of the number of a call. It makes the seed independent of the number of earlier
/// calls. No call has this number.
const SEED: u64 = u64::MAX;

/// Returns the trace of the guest's current request as hexadecimal digits. The span is not used, because it changes with
/// each hop.
fn trace(guest: &Guest) -> String {
    guest.trace_id().map(|trace| trace.to_string()).unwrap_or_default()
}

fn called(calls: &Mutex<Calls>, trace: &str, component: &str) -> u64 {
    calls.lock().unwrap_or_else(PoisonError::into_inner).next(trace, component)
}

/// Returns the time of day for `trace` in seconds since 1970 and nanoseconds. It is the same for all components, and
/// depends only on the trace's number: the second half of its digits.
fn now(trace: &str) -> (u64, u32) {
    let number = trace.get(16..).and_then(|half| u64::from_str_radix(half, 16).ok()).unwrap_or(0);
    (BEGIN_SECONDS + number % SPAN_SECONDS, 0)
}

/// Returns `length` random bytes for one call.
fn random(trace: &str, component: &str, call: u64, length: u64) -> Vec<u8> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let mut bytes: Vec<u8> = (0..).flat_map(|number| block(trace, component, call, number)).take(length).collect();
    bytes.shrink_to_fit();
    bytes
}

fn numbers(trace: &str, component: &str, call: u64) -> (u64, u64) {
    let block = block(trace, component, call, 0);
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("a block contains 8 bytes for the number"));
    (number(&block[..8]), number(&block[8..16]))
}

/// Returns 32 random bytes: the block with the number `number` in the random bytes of one call.
fn block(trace: &str, component: &str, call: u64, number: u64) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for text in [trace, component] {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hasher.update(call.to_le_bytes());
    hasher.update(number.to_le_bytes());
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_case(number: u64) -> String {
        format!("00112233aabbccdd{number:016x}")
    }

    #[test]
    fn the_clock_goes_forward_from_case_to_case() {
        let times: Vec<_> = (0..300).map(|number| now(&of_case(number)).0).collect();
        assert_eq!((times[0], times[1], times[299]), (BEGIN_SECONDS, BEGIN_SECONDS + 1, BEGIN_SECONDS + 299));
        assert_eq!(now(""), (BEGIN_SECONDS, 0), "the time without a trace is not the earliest time");
        for made_up in ["ffffffffffffffffffffffffffffffff", "short", "0011223344556677zz"] {
            assert!((BEGIN_SECONDS..BEGIN_SECONDS + SPAN_SECONDS).contains(&now(made_up).0), "{made_up}");
        }
    }

    #[test]
    fn calls_differ_within_a_request_and_are_the_same_in_the_next_run() {
        let run = || {
            let calls = Mutex::default();
            let draw = |trace: &str, component: &str| {
                let call = called(&calls, trace, component);
                (random(trace, component, call, 40), numbers(trace, component, call).0)
            };
            // The calls of two components alternate, as they may in one of the shapes. Their order must not matter.
            vec![draw(&of_case(1), "a"), draw(&of_case(1), "b"), draw(&of_case(1), "a"), draw(&of_case(2), "a")]
        };
        let (first, second) = (run(), run());
        assert_eq!(first, second);
        for (index, one) in first.iter().enumerate() {
            assert_eq!(one.0.len(), 40);
            assert!(first[index + 1..].iter().all(|other| other.0 != one.0 && other.1 != one.1));
        }
        assert_ne!(numbers("t", "a", SEED), numbers("t", "a", 0));
    }

    #[test]
    fn the_number_of_remembered_traces_is_limited() {
        let mut calls = Calls::default();
        for number in 0..2 * TRACES_MAX as u64 {
            assert_eq!(calls.next(&of_case(number), "a"), 0);
        }
        assert_eq!((calls.counts.len(), calls.traces.len()), (TRACES_MAX, TRACES_MAX));
        assert_eq!(
            (calls.next(&of_case(2 * TRACES_MAX as u64 - 1), "a"), calls.next("", "a"), calls.next("", "a")),
            (1, 0, 0)
        );
    }
}
