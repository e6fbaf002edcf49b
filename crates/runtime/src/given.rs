//! The clock and randomness as a test gives them: by request and component.
//!
//! Answers of an app in different shapes can only be compared if all that changes from run to run is the shape. So here the time of
//! day and random bytes depend on two things alone: the trace that the request belongs to, which its calls take along across
//! every seam, and the component that asks. They keep no state. Within one request a component always sees the same instant, and random
//! bytes begin again with every call, however its instances are placed, fresh or reused. Before the first request (while an instance
//! starts) and without a trace they are those of the empty trace. Monotonic clocks go on measuring, so that waiting takes time.
//!
//! For tests only: what is random here can be predicted.

use sha2::{Digest as _, Sha256};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, LinkerInstance, Lower};

use crate::guest::Guest;
use crate::link::{Owner, Provider};

/// 2026-01-01T00:00:00Z, in seconds since 1970. Given instants lie within [`SPAN_SECONDS`] from here.
const BEGIN_SECONDS: u64 = 1_767_225_600;
/// A week: long enough to tell requests apart, and no month changes in it.
const SPAN_SECONDS: u64 = 7 * 24 * 60 * 60;
/// The most bytes that one call gives; a longer list of random bytes ends here.
const BYTES_MAX: u64 = 1 << 20;

/// Gives the clock and randomness. It comes before what else implements these interfaces.
#[derive(Debug, Clone, Copy, Default)]
pub struct GivenClockAndRandom;

/// `datetime` of WASI 0.2.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// `instant` of WASI 0.3.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
struct Instant {
    seconds: i64,
    nanoseconds: u32,
}

impl Provider for GivenClockAndRandom {
    fn provides(&self, interface: &str) -> bool {
        let path = interface.split('@').next().unwrap_or_default();
        path.starts_with("wasi:random/") || matches!(path, "wasi:clocks/wall-clock" | "wasi:clocks/system-clock")
    }

    fn link(&self, instance: &mut LinkerInstance<'_, Guest>, interface: &str, owner: &Owner) -> wasmtime::Result<()> {
        // What is shared has only types: each component has an import of its own.
        let Owner::Component(component) = owner else { return Ok(()) };
        let bytes = |name: &'static str, instance: &mut LinkerInstance<'_, Guest>| {
            let component = component.clone();
            instance.func_wrap(name, move |store: StoreContextMut<'_, Guest>, (length,): (u64,)| {
                Ok((random(store.data(), &component, length.min(BYTES_MAX)),))
            })
        };
        let number = |name: &'static str, instance: &mut LinkerInstance<'_, Guest>| {
            let component = component.clone();
            instance.func_wrap(name, move |store: StoreContextMut<'_, Guest>, ()| {
                Ok((numbers(store.data(), &component).0,))
            })
        };
        match interface.split('@').next().unwrap_or_default() {
            "wasi:clocks/wall-clock" => {
                instance.func_wrap("now", |store: StoreContextMut<'_, Guest>, ()| {
                    let (seconds, nanoseconds) = now(store.data());
                    Ok((Datetime { seconds, nanoseconds },))
                })?;
                instance.func_wrap("resolution", |_: StoreContextMut<'_, Guest>, ()| {
                    Ok((Datetime { seconds: 0, nanoseconds: 1 },))
                })
            }
            "wasi:clocks/system-clock" => {
                instance.func_wrap("now", |store: StoreContextMut<'_, Guest>, ()| {
                    let (seconds, nanoseconds) = now(store.data());
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
            // WASI 0.2 calls it by the interface's name, 0.3 says `get`.
            _ => ["insecure-seed", "get-insecure-seed"].into_iter().try_for_each(|name| {
                let component = component.clone();
                instance.func_wrap(name, move |store: StoreContextMut<'_, Guest>, ()| {
                    Ok((numbers(store.data(), &component),))
                })
            }),
        }
    }
}

/// Seconds since 1970, and nanoseconds: the request's instant, the same for all components.
fn now(guest: &Guest) -> (u64, u32) {
    let hash = block(guest, "", 0);
    let number = u64::from_le_bytes(hash[..8].try_into().expect("8 bytes"));
    let nanoseconds = u32::from_le_bytes(hash[8..12].try_into().expect("4 bytes"));
    (BEGIN_SECONDS + number % SPAN_SECONDS, nanoseconds % 1_000_000_000)
}

/// The first bytes of what is random for a request and a component.
fn random(guest: &Guest, component: &str, length: u64) -> Vec<u8> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let mut bytes: Vec<u8> = (0..).flat_map(|number| block(guest, component, number)).take(length).collect();
    bytes.shrink_to_fit();
    bytes
}

fn numbers(guest: &Guest, component: &str) -> (u64, u64) {
    let block = block(guest, component, 0);
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
    (number(&block[..8]), number(&block[8..16]))
}

/// 32 bytes. The empty name is the clock's: no component has it.
fn block(guest: &Guest, component: &str, number: u64) -> [u8; 32] {
    let mut hasher = Sha256::new();
    // `00-TRACE-PARENT-FLAGS`: parents differ from hop to hop.
    let trace = guest.traceparent().and_then(|text| text.split('-').nth(1)).unwrap_or_default();
    for text in [trace, component] {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hasher.update(number.to_le_bytes());
    hasher.finalize().into()
}
