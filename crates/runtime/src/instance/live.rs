//! A live instance. It runs one request or call at a time unless the `concurrency` of its group is over 1.

use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_wire::CallFailure;
use wasmtime::component::TypedFunc;
use wasmtime::{Store, Trap};

use super::exports::{DispatchFunctions, HandlerFunction, Refusal, SkeletonFunction};
use crate::failure::{Failure, backtrace};
use crate::guest::{Guest, InFlightCalls, RequestScope, TimeLimit, tasks};
use crate::pool::RoomReservation;

/// A live instance with its own wasmtime store.
pub(crate) struct Instance {
    pub(crate) store: Store<Guest>,
    is_probed: bool,
    pub(crate) handlers: Vec<HandlerFunction>,
    pub(crate) dispatches: Vec<DispatchFunctions>,
    /// The asynchronous calls across seams that the instance has started; `None` if the instance has no stub through
    /// which it could start calls.
    pub(crate) in_flight_calls: Option<Arc<InFlightCalls>>,
    served: u32,
    born: Instant,
    /// The reservation of the slots that the instance takes in the engine's pool. Declared after the wasmtime store,
    /// because the store must be dropped first.
    room: RoomReservation,
}

impl Instance {
    /// Returns an instance that has not served anything yet. `room` is the reservation of the slots that the instance
    /// takes in the engine's pool.
    pub(super) fn new(
        store: Store<Guest>,
        is_probed: bool,
        handlers: Vec<HandlerFunction>,
        dispatches: Vec<DispatchFunctions>,
        in_flight_calls: Option<Arc<InFlightCalls>>,
        room: RoomReservation,
    ) -> Self {
        Self { store, is_probed, handlers, dispatches, in_flight_calls, served: 0, born: Instant::now(), room }
    }

    /// Returns whether the instance runs probed code.
    pub(crate) fn is_probed(&self) -> bool {
        self.is_probed
    }

    /// Returns the number of requests and calls that the instance has served.
    pub(crate) fn served(&self) -> u32 {
        self.served
    }

    /// Returns whether a request that waits for room in the engine's pool could start if this instance were dropped
    /// now.
    pub(crate) fn is_room_wanted(&self) -> bool {
        self.room.is_wanted()
    }

    /// Returns whether the guest holds so many handles that another request might fail: see [`Guest::is_cluttered`].
    pub(crate) fn is_cluttered(&self) -> bool {
        self.store.data().is_cluttered()
    }

    pub(crate) fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Returns the number of bytes that the account is charged for the instance's memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.store.data().limiter.held_bytes()
    }

    /// Starts a request or call of `component` with the scope `scope` and the time limit `until` in the instance.
    pub(crate) fn begin(&mut self, component: &Arc<str>, scope: RequestScope, until: TimeLimit) {
        self.served += 1;
        self.store.set_epoch_deadline(1);
        let guest = self.store.data_mut();
        guest.begin_request(scope, until);
        if self.is_probed {
            guest.set_entry(component.clone());
        }
    }

    /// Runs the work that is left after a call has returned its result, until the work ends. After an error, the
    /// instance must be dropped.
    pub(crate) async fn rest(&mut self) -> wasmtime::Result<()> {
        let run = self.store.run_concurrent(async |accessor| {
            let rest = async {
                std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                Ok(())
            };
            tasks::charged(accessor, rest).await
        });
        match &self.in_flight_calls {
            Some(calls) => calls.run_alongside(run).await.flatten(),
            None => run.await.flatten(),
        }
    }

    /// Checks whether `error` states that wasmtime's pool is full. The instance has a reservation, so the free slots
    /// would then be miscounted. This is counted and logged: see [`RoomReservation::check`].
    pub(crate) fn check(&self, error: &wasmtime::Error) {
        self.room.check(error, self.store.engine());
    }

    pub(crate) fn failure(&self, error: &wasmtime::Error, allowed: Duration) -> Failure {
        self.check(error);
        if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
            let backtrace = backtrace(error);
            if self.store.data().out_of_cpu {
                return Failure::out_of_cpu(backtrace);
            }
            return match self.store.data().call_results.too_late() {
                Some((seam, failure)) => Failure::Call { seam, failure, backtrace },
                None => Failure::Deadline { deadline: allowed, backtrace },
            };
        }
        Failure::from_trap(error, self.store.data().limiter.refused())
    }

    /// Makes one call. If the call returns a result or the skeleton refuses it, the instance can be used again as soon
    /// as [`Instance::rest`] has returned. After a failure, the instance must be dropped.
    pub(crate) async fn call(
        &mut self,
        entry: &SkeletonFunction,
        scope: RequestScope,
        until: TimeLimit,
        image: &[u8],
    ) -> Result<Result<Vec<u8>, CallFailure>, Failure> {
        self.begin(&entry.component, scope, until);
        let functions = self.dispatches[entry.skeleton];
        let function: TypedFunc<(u32, &[u8]), _> = if entry.is_async { functions.call_async } else { functions.call };
        let run = function.call_async(&mut self.store, (entry.number, image));
        let outcome = match &self.in_flight_calls {
            Some(calls) => calls.run_alongside(run).await,
            None => run.await,
        };
        match outcome {
            Ok((Ok(image),)) => Ok(Ok(image)),
            Ok((Err(Refusal::BadImage),)) => {
                Ok(Err(CallFailure::refused("the image does not match the function's parameters")))
            }
            Ok((Err(Refusal::UnknownFunction),)) => {
                Ok(Err(CallFailure::refused("the skeleton has no function with this number")))
            }
            Err(error) => Err(self.failure(&error, until.allowed)),
        }
    }
}
