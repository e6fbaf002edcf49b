//! Creates the instances of a group, and defines the callback that interrupts them.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use isomer_display::{excerpt, size};
use isomer_telemetry::metrics::{CallOutcome, InstanceMetrics};
use isomer_telemetry::{SpanContext, SpanTemplate};
use wasmtime::{AsContextMut as _, Store, StoreContextMut, Trap, UpdateDeadline};

use super::exports::{HandlerFunction, HandlerIndex};
use super::linked_code::{LinkedCode, ProbedVariant};
use super::live::Instance;
use crate::clock::now;
use crate::engine::Engine;
use crate::failure::{Failure, RefusedBy};
use crate::guest::{GroupTemplate, Guest, RequestScope, TimeLimit, tasks};
use crate::lanes;
use crate::pool::bounds::COMPONENT_HANDLES_MAX;
use crate::pool::idle::{IdlePool, IdleSince};
use crate::pool::{RoomLimit, RoomReservation};
use crate::spans::{CANCELLED, record_wait};

/// Creates instances of one group.
pub(crate) struct InstanceMaker {
    pub(crate) engine: Engine,
    pub(crate) plain: LinkedCode,
    pub(crate) probed: ProbedVariant,
    /// Whether the component has a stub, through which it can make calls across seams.
    pub(crate) calls: bool,
    /// Whether components of the group call each other over fused seams, and the group can get probed code.
    pub(crate) has_fused_seams: bool,
    pub(crate) template: Arc<GroupTemplate>,
    pub(crate) memory_bytes: usize,
    /// The template for the spans in which instances are created.
    pub(crate) span: Arc<SpanTemplate>,
    pub(crate) metrics: Arc<InstanceMetrics>,
}

/// The maximum number of bytes that the host copies out of a guest for one call of a host function. Strings, lists and
/// batches of values count towards it.
const HOST_CALL_BYTES_MAX: usize = 32 << 20;

impl InstanceMaker {
    /// Registers an instance pool for which this maker creates instances, so that the pool's idle instances can be
    /// evicted.
    pub(crate) fn register<P: IdlePool + 'static>(&self, since: &Arc<IdleSince>, pool: &Arc<P>) {
        let pool: Weak<P> = Arc::downgrade(pool);
        let account = &self.template.account;
        self.engine.room().idle_pools.add(since.clone(), pool.clone(), Arc::downgrade(account));
        account.idle_pools().add(since.clone(), pool, ());
    }

    /// Returns whether a request that waits for room in the engine's pool could start if an instance of this group were
    /// dropped now.
    pub(crate) fn is_room_wanted(&self) -> bool {
        self.engine.room().is_wanted(self.plain.slots, &self.template.account)
    }

    /// Counts a request or call that an instance serves. `is_probed` says whether the instance runs probed code. If not,
    /// the trace of a sampled request states that fused calls are missing.
    pub(crate) fn note_run(&self, span: Option<&SpanContext>, is_probed: bool) {
        if !self.has_fused_seams {
            return;
        }
        let sampled = span.filter(|span| span.is_sampled());
        self.metrics.record_run(sampled.is_some() && is_probed);
        if let Some(span) = sampled.filter(|_| !is_probed) {
            span.lack_fused_calls();
        }
    }

    /// Creates an instance of `probed`, or of the plain code, as soon as the engine's pool has room for it. Records a span
    /// for the wait and a span for the creation, both caused by `current`.
    pub(crate) async fn make(
        &self,
        probed: Option<&LinkedCode>,
        deadline: Instant,
        current: Option<&SpanContext>,
    ) -> Result<Instance, Failure> {
        let code = probed.unwrap_or(&self.plain);
        let room = record_wait(
            current,
            &self.metrics,
            self.engine.room().reserve(code.slots, &self.template.account, deadline),
        )
        .await?;
        let span = current.map(|current| current.begin_from(&self.span).fails_unless_ended(CANCELLED));
        let start = Instant::now();
        let made = self.make_in(code, room, deadline).await;
        let outcome = if made.is_ok() { CallOutcome::Ok } else { CallOutcome::Failed };
        self.metrics.record_start(outcome, start.elapsed());
        if let Some(mut span) = span {
            span.fail_if(&made);
            span.end();
        }
        made
    }

    /// Creates an instance of `probed`. Returns `None` if this fails or takes more than half of the time until `deadline`,
    /// so that the caller can still use the plain code. In this case, sampled requests run the plain code for some time.
    pub(crate) async fn make_probed(
        &self,
        probed: &LinkedCode,
        deadline: Instant,
        current: Option<&SpanContext>,
    ) -> Option<Instance> {
        let start = Instant::now();
        let half = deadline.saturating_duration_since(start) / 2;
        let made = self.make(Some(probed), start + half, current).await.ok();
        if made.is_none() {
            self.probed.pause(now());
        }
        made
    }

    async fn make_in(&self, code: &LinkedCode, room: RoomReservation, deadline: Instant) -> Result<Instance, Failure> {
        let host = self.template.account.charge_host_memory(code.host_bytes)?;
        let engine = code.pre.engine();
        let mut store = Store::new(engine, Guest::new(self.template.clone(), self.memory_bytes, host));
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(HOST_CALL_BYTES_MAX);
        store.set_max_component_handles(COMPONENT_HANDLES_MAX);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(on_epoch);
        let allowed = deadline.saturating_duration_since(Instant::now());
        store.data_mut().begin_request(RequestScope::default(), TimeLimit { deadline, allowed });
        let made = tokio::time::timeout_at(deadline.into(), code.pre.instantiate_async(&mut store)).await;
        let instance = match made {
            Ok(Ok(instance)) => instance,
            Ok(Err(error)) => {
                room.check(&error, engine);
                return Err(cannot_make(&error, store.data(), allowed));
            }
            Err(_) => return Err(too_long(allowed)),
        };
        let handlers = code.handlers.iter().map(|export| match export {
            HandlerIndex::P2(index) => instance.get_typed_func(&mut store, index).map(HandlerFunction::P2),
            HandlerIndex::P3(index) => instance.get_typed_func(&mut store, index).map(HandlerFunction::P3),
        });
        let handlers = handlers.collect::<Result<Vec<_>, _>>();
        let handlers = handlers.map_err(|error| Failure::Instantiate {
            reason: excerpt::cut(format_args!("{error:#}"), excerpt::TEXT_BYTES_MAX),
        })?;
        let dispatches = code.dispatches.iter().map(|export| export.look_up(&mut store, &instance));
        let dispatches = dispatches.collect::<Result<Vec<_>, _>>();
        let dispatches = dispatches.map_err(|error| Failure::Instantiate {
            reason: excerpt::cut(format_args!("{error:#}"), excerpt::TEXT_BYTES_MAX),
        })?;
        let in_flight_calls = self.calls.then(|| store.data().in_flight_calls.clone());
        Ok(Instance::new(store, code.is_probed, handlers, dispatches, in_flight_calls, room))
    }
}

fn cannot_make(error: &wasmtime::Error, guest: &Guest, allowed: Duration) -> Failure {
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Failure::Full { limit: RoomLimit::Miscount };
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return if guest.out_of_cpu { Failure::out_of_cpu(Vec::new()) } else { too_long(allowed) };
    }
    match guest.limiter.refused() {
        Some(RefusedBy::Account { limit_bytes }) => Failure::out_of_memory(limit_bytes, Vec::new()),
        Some(RefusedBy::Instance { limit_bytes }) => {
            Failure::Instantiate { reason: format!("it needs more memory than its limit of {}", size(limit_bytes)) }
        }
        None => Failure::Instantiate { reason: excerpt::cut(format_args!("{error:#}"), excerpt::TEXT_BYTES_MAX) },
    }
}

fn too_long(allowed: Duration) -> Failure {
    Failure::Instantiate { reason: format!("it has not started within {} ms", allowed.as_millis()) }
}

/// The callback that wasmtime calls at every epoch tick at which the guest runs. Stops a guest whose deadline has
/// passed, or whose account has used up its processor time. Makes a guest yield if its time slice is over. Also charges
/// the memory of the guest's tasks and streams.
pub(crate) fn on_epoch(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<UpdateDeadline> {
    tasks::charge(store.as_context_mut())?;
    let guest = store.data_mut();
    if guest.limiter.account().must_stop() {
        guest.out_of_cpu = true;
        return Ok(UpdateDeadline::Interrupt);
    }
    Ok(match guest.deadline() {
        Some(deadline) if Instant::now() >= deadline => UpdateDeadline::Interrupt,
        _ if lanes::slice_is_over() => UpdateDeadline::Yield(1),
        _ => UpdateDeadline::Continue(1),
    })
}
