//! The asynchronous calls across seams that the guests of a wasmtime store have started and whose results they have not
//! taken yet.
//!
//! Such a call runs next to its store, in the same task: the guest's execution and the calls that it started are polled
//! one after another. A call cannot run inside the store's own event loop, because the callee has its own event loop
//! and wasmtime does not allow one loop inside another. A separate task would wake other threads for every call.
//! Dropping the execution also drops the calls.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use isomer_display::size;
use isomer_wire::CallFailure;
use isomer_wire::image::IMAGE_BYTES_MAX;

use crate::pool::{Account, HostMemory, OutOfMemory};
use crate::seam::SeamFunction;

/// The maximum number of calls that one instance may have in flight.
pub(crate) const CALLS_MAX: usize = 1024;

/// The maximum total size in bytes of the images of an instance's calls in flight. An image holds the encoded arguments
/// until the callee has them, then the encoded result.
pub(crate) const BYTES_MAX: usize = 4 * IMAGE_BYTES_MAX as usize;

/// The host memory of a call in bytes, without its image: mainly the call's future, which contains the callee's future.
const CALL_BYTES: usize = 4 << 10;

/// The calls in flight of one wasmtime store.
#[derive(Default)]
pub(crate) struct InFlightCalls(Mutex<CallState>);

#[derive(Default)]
struct CallState {
    /// The futures of calls that have not been polled yet.
    new: Vec<BoxFuture<'static, ()>>,
    /// The number and the seam of each call in flight, the oldest first.
    in_flight: Vec<(u64, Arc<SeamFunction>)>,
    next: u64,
    bytes: usize,
}

impl InFlightCalls {
    fn state(&self) -> MutexGuard<'_, CallState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a permit for a call over `seam` whose image has `bytes` bytes.
    ///
    /// # Errors
    /// If too many calls are in flight, if the images of all calls would exceed their limit, or if the account has no
    /// memory left.
    pub(crate) fn enter(
        self: &Arc<Self>,
        seam: &Arc<SeamFunction>,
        bytes: usize,
        account: &Arc<Account>,
    ) -> Result<CallPermit, CallFailure> {
        let charged = account.charge_host_memory(CALL_BYTES + bytes);
        let memory = charged.map_err(|full| CallFailure::overloaded(full.to_string()))?;
        let mut state = self.state();
        if state.in_flight.len() >= CALLS_MAX {
            return Err(CallFailure::overloaded(format!(
                "the caller already has {CALLS_MAX} calls in flight, which is the maximum"
            )));
        }
        if state.bytes + bytes > BYTES_MAX {
            return Err(CallFailure::overloaded(no_room()));
        }
        state.bytes += bytes;
        let number = state.next;
        state.next += 1;
        state.in_flight.push((number, seam.clone()));
        drop(state);
        Ok(CallPermit { in_flight_calls: self.clone(), number, bytes, memory })
    }

    /// Adds the future of a call. [`Self::run_alongside`] polls it from now on.
    pub(crate) fn push(&self, call: BoxFuture<'static, ()>) {
        self.state().new.push(call);
    }

    fn take_new(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut self.state().new)
    }

    /// Returns the seam of the oldest call in flight.
    pub(crate) fn oldest(&self) -> Option<Arc<SeamFunction>> {
        self.state().in_flight.first().map(|(_, seam)| seam.clone())
    }

    /// Polls `run` until it is ready, together with the calls that `run` starts. Calls that are still in flight at the
    /// end are dropped.
    pub(crate) async fn run_alongside<T>(&self, run: impl Future<Output = T>) -> T {
        let mut run = pin!(run);
        let mut calls = None::<FuturesUnordered<BoxFuture<'static, ()>>>;
        std::future::poll_fn(|cx| {
            loop {
                if let Poll::Ready(output) = run.as_mut().poll(cx) {
                    // The futures are dropped after the lock is released, because dropping a call's permit acquires the
                    // same lock.
                    drop(self.take_new());
                    return Poll::Ready(output);
                }
                let new = self.take_new();
                if !new.is_empty() {
                    calls.get_or_insert_default().extend(new);
                }
                // When a call has ended, `run` may be able to continue, so `run` is polled again.
                match calls.as_mut().map(|calls| calls.poll_next_unpin(cx)) {
                    Some(Poll::Ready(Some(()))) => {}
                    _ => return Poll::Pending,
                }
            }
        })
        .await
    }
}

/// Returns the failure of a call that was run, but whose result the account has no memory for.
fn no_memory_for_result(full: OutOfMemory) -> CallFailure {
    CallFailure::Lost { error: isomer_wire::CallError::Overloaded, reason: full.to_string(), not_run: false }
}

fn no_room() -> String {
    format!("the images of the caller's calls in flight would take more than {}", size(BYTES_MAX))
}

/// The permit of a call in flight, held from the start of the call until the guest takes its result.
pub(crate) struct CallPermit {
    in_flight_calls: Arc<InFlightCalls>,
    number: u64,
    bytes: usize,
    /// The charge to the caller's account for the call and its image.
    memory: HostMemory,
}

impl CallPermit {
    /// Records that the result of the call is an image of `bytes` bytes, which replaces the image of its arguments.
    ///
    /// # Errors
    /// If the images of all calls would exceed their limit, or the account has no memory left.
    pub(crate) fn set_result(&mut self, bytes: usize) -> Result<(), CallFailure> {
        let mut state = self.in_flight_calls.state();
        let others = state.bytes - self.bytes;
        if others + bytes > BYTES_MAX {
            return Err(CallFailure::Lost {
                error: isomer_wire::CallError::Overloaded,
                reason: no_room(),
                not_run: false,
            });
        }
        if bytes > self.bytes {
            self.memory.grow(bytes - self.bytes).map_err(no_memory_for_result)?;
        } else {
            self.memory.shrink_to(CALL_BYTES + bytes);
        }
        state.bytes = others + bytes;
        drop(state);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        let mut state = self.in_flight_calls.state();
        state.bytes -= self.bytes;
        state.in_flight.retain(|(number, _)| *number != self.number);
    }
}

impl fmt::Debug for InFlightCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("InFlightCalls").field("in_flight", &state.in_flight.len()).field("bytes", &state.bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn calls_run_next_to_the_run_and_end_with_it() {
        let calls = Arc::new(InFlightCalls::default());
        let (answer, mut answered) = oneshot::channel();
        let (kept, dropped) = oneshot::channel::<()>();
        let run = async {
            calls.push(Box::pin(async move {
                let _ = answer.send(7);
            }));
            calls.push(Box::pin(async move {
                std::future::pending::<()>().await;
                drop(kept);
            }));
            (&mut answered).await
        };
        assert_eq!(calls.run_alongside(run).now_or_never(), Some(Ok(7)));
        assert!(dropped.now_or_never().expect("the call is gone").is_err());
    }

    #[test]
    fn permits_are_limited_and_released() {
        let calls = Arc::new(InFlightCalls::default());
        let [caller, callee, interface, function] = ["a", "b", "test:calls/b", "f"].map(Arc::from);
        let seam = Arc::new(SeamFunction { caller, callee, interface, function });
        let account = Account::unlimited();
        let mut permits = (0..CALLS_MAX).map(|_| calls.enter(&seam, 1, &account).unwrap()).collect::<Vec<_>>();
        assert!(matches!(calls.enter(&seam, 1, &account), Err(CallFailure::Lost { not_run: true, .. })));
        assert!(permits[0].set_result(BYTES_MAX).is_err());
        assert!(permits[0].set_result(BYTES_MAX - CALLS_MAX + 1).is_ok());
        permits.pop();
        assert!(calls.enter(&seam, 2, &account).is_err());
        assert!(calls.enter(&seam, 1, &account).is_ok());
        assert_eq!(calls.oldest(), Some(seam));
        drop(permits);
        assert_eq!((calls.oldest(), calls.state().bytes), (None, 0));
        assert_eq!(account.used().host_bytes, 0);
    }
}
