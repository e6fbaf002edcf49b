//! Makes the calls and computes the checksum of their results.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::answers;
use crate::work::{What, Work};

/// A method of calling the functions in [`answers`], for example over a seam. Items are returned as digests, so that an
/// implementation need not convert them to a common type first.
pub trait Callee {
    /// Returns the sum of two numbers, wrapping on overflow.
    fn add(&mut self, a: u32, b: u32) -> impl Future<Output = u32>;
    /// Returns the bytes unchanged.
    fn echo(&mut self, bytes: Vec<u8>) -> impl Future<Output = Vec<u8>>;
    /// Returns the digest of the item with the name `key`, or of the error message.
    fn lookup(&mut self, key: &str) -> impl Future<Output = Digest>;
    /// Returns the digest of the first `count` items.
    fn all(&mut self, count: u32) -> impl Future<Output = Digest>;
}

/// The digest of a result. It covers only lengths and a few bytes, because checking a result must be cheap compared
/// with the call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Adds the fields of an item to the digest.
    pub fn item<'a>(&mut self, id: u64, name: &str, price_cents: u32, tags: impl Iterator<Item = &'a str>) {
        self.number(id);
        self.text(name);
        self.number(price_cents.into());
        tags.for_each(|tag| self.text(tag));
    }

    /// Adds to the digest the error message that was returned instead of an item.
    pub fn refusal(&mut self, reason: &str) {
        self.text(reason);
    }

    fn number(&mut self, number: u64) {
        self.0 = self.0.rotate_left(5).wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn text(&mut self, text: &str) {
        let [first, .., last] = text.as_bytes() else { return self.number(text.len() as u64) };
        self.number((text.len() as u64) << 16 | u64::from(*first) << 8 | u64::from(*last));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let at = |index: usize| u64::from(bytes.get(index).copied().unwrap_or(0));
        let length = bytes.len();
        self.number(length as u64);
        self.number(
            at(0) << 24 | at(length / 2) << 16 | at(length.saturating_sub(2)) << 8 | at(length.saturating_sub(1)),
        );
    }
}

/// The result of running a [`Work`]. `Display` writes it as JSON: `{"ns":…,"checksum":"…"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The time from before the first call to after the last one, in nanoseconds, by the caller's clock.
    pub ns: u64,
    /// The sum of the digests of all results, which does not depend on their order.
    pub checksum: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The checksum is a string, because JSON parsers that use floating point keep only 53 bits of a number.
        writeln!(f, "{{\"ns\":{},\"checksum\":\"{:016x}\"}}", self.ns, self.checksum)
    }
}

/// Makes a share of the calls of `work`, one after another: `first`, and every `work.concurrency`th call after it.
/// Returns the sum of the digests of the results. `work.concurrency` workers together make all calls.
pub async fn worker<C: Callee>(callee: &mut C, work: Work, first: u32) -> u64 {
    let mut checksum = 0u64;
    let mut buffer = if work.what == What::Echo { pattern(work.size) } else { Vec::new() };
    let mut call = first;
    while call < work.calls {
        let mut digest = Digest::default();
        match work.what {
            What::Add => digest.number(callee.add(call, 0x0bad_cafe).await.into()),
            What::Echo => {
                // Each call sends a different first and last byte. So if the callee returns the result of an earlier
                // call, the digest is wrong.
                stamp(&mut buffer, call);
                // The next call sends the bytes that this call returned.
                buffer = callee.echo(buffer).await;
                digest.bytes(&buffer);
            }
            What::Lookup => digest = callee.lookup(answers::key(call)).await,
            What::All => digest = callee.all(work.size).await,
        }
        checksum = checksum.wrapping_add(digest.0);
        call = call.saturating_add(work.concurrency);
    }
    checksum
}

/// Returns the checksum of `work`, computed without a seam.
#[must_use]
pub fn expected(work: Work) -> u64 {
    let workers = (0..work.concurrency).map(|first| ready(worker(&mut Here, work, first)));
    workers.fold(0, u64::wrapping_add)
}

/// Calls the functions in [`answers`] directly, without a seam.
struct Here;

impl Callee for Here {
    async fn add(&mut self, a: u32, b: u32) -> u32 {
        answers::add(a, b)
    }

    async fn echo(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    async fn lookup(&mut self, key: &str) -> Digest {
        let mut digest = Digest::default();
        match answers::lookup(key) {
            Ok(item) => digest.item(item.id, &item.name, item.price_cents, item.tags.iter().map(String::as_str)),
            Err(reason) => digest.refusal(&reason),
        }
        digest
    }

    async fn all(&mut self, count: u32) -> Digest {
        let mut digest = Digest::default();
        for item in answers::all(count) {
            digest.item(item.id, &item.name, item.price_cents, item.tags.iter().map(String::as_str));
        }
        digest
    }
}

/// Returns the output of a future that is ready when it is first polled.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("calls without a seam wait for nothing"),
    }
}

fn pattern(size: u32) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

fn stamp(buffer: &mut [u8], call: u32) {
    let [low, high, ..] = call.to_le_bytes();
    if let [first, .., last] = buffer {
        (*first, *last) = (low, high);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Mode;

    fn work(what: What, calls: u32, concurrency: u32) -> Work {
        Work { what, mode: Mode::Async, calls, size: 100, concurrency }
    }

    #[test]
    fn the_checksum_does_not_depend_on_which_worker_makes_a_call() {
        for what in [What::Add, What::Echo, What::Lookup, What::All] {
            assert_eq!(expected(work(what, 50, 1)), expected(work(what, 50, 16)), "{what}");
        }
    }

    #[test]
    fn the_checksum_depends_on_every_call() {
        for what in [What::Add, What::Echo, What::Lookup, What::All] {
            assert_ne!(expected(work(what, 50, 1)), expected(work(what, 49, 1)), "{what}");
        }
    }

    #[test]
    fn a_wrong_result_changes_the_checksum() {
        struct Stale;
        impl Callee for Stale {
            async fn add(&mut self, a: u32, b: u32) -> u32 {
                if a == 7 { 0 } else { answers::add(a, b) }
            }
            async fn echo(&mut self, bytes: Vec<u8>) -> Vec<u8> {
                // Returns the result of the first call again for every later call.
                if bytes.first() == Some(&0) { bytes } else { pattern(100) }
            }
            async fn lookup(&mut self, _key: &str) -> Digest {
                Here.lookup("Terrarium").await
            }
            async fn all(&mut self, count: u32) -> Digest {
                Here.all(count - 1).await
            }
        }
        for what in [What::Add, What::Echo, What::Lookup, What::All] {
            let work = work(what, 10, 1);
            assert_ne!(ready(worker(&mut Stale, work, 0)), expected(work), "{what}");
        }
    }

    #[test]
    fn outcomes_are_json() {
        assert_eq!(Outcome { ns: 12, checksum: 0xab }.to_string(), "{\"ns\":12,\"checksum\":\"00000000000000ab\"}\n");
    }
}
