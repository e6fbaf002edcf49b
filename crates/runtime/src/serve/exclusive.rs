//! The pool of instances that each serve one request or call at a time.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use futures::future::BoxFuture;
use isomer_telemetry::{Event, RequestId, SpanContext, TraceContext};
use isomer_wire::CallFailure;
use isomer_wire::call::CallResult;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::body::{RemainingWork, ResponseBody};
use super::exchange::{Exchange, HeadSender, serve};
use super::instance_pool::{InstanceCounts, InstancePermit, InstancePool, PoolLimits};
use super::request::GuestRequest;
use crate::failure::Failure;
use crate::guest::{GroupsInUse, RequestScope, ResponseSignals, TimeLimit};
use crate::instance::{Instance, InstanceMaker, LinkedCode, SkeletonFunction};
use crate::lanes::MeteredFuture;
use crate::pool::Account;
use crate::spans::CallSpan;

pub(crate) struct ExclusiveInstances {
    maker: Arc<InstanceMaker>,
    /// The functions of the group's skeletons, one skeleton after another.
    skeleton_functions: Vec<SkeletonFunction>,
    pool: Arc<InstancePool<Instance>>,
}

impl ExclusiveInstances {
    pub(crate) fn new(
        maker: Arc<InstanceMaker>,
        skeleton_functions: Vec<SkeletonFunction>,
        limits: PoolLimits,
    ) -> Self {
        let pool = Arc::new(InstancePool::new(limits, maker.metrics.clone()));
        maker.register(pool.since(), &pool);
        Self { maker, skeleton_functions, pool }
    }

    /// Creates one instance and adds it to the pool.
    pub(crate) async fn warm_up(&self, deadline: Instant) -> Result<(), Failure> {
        let (permit, idle) = self.pool.take(false, deadline, None).await?;
        let instance = match idle {
            Some(instance) => instance,
            None => {
                let maker = self.maker.clone();
                MeteredFuture::new(self.account(), Box::pin(async move { maker.make(None, deadline, None).await }))
                    .await?
            }
        };
        self.pool.give_back(permit, instance);
        Ok(())
    }

    /// Returns the numbers of instances and of waiting requests and calls.
    pub(crate) fn counts(&self) -> InstanceCounts {
        self.pool.counts()
    }

    /// Adds an instance that was created outside of the pool, or drops it if the pool has no room for it.
    pub(crate) fn add(&self, instance: Instance) {
        self.pool.add(instance);
    }

    /// Creates an instance of `probed`, or of the plain code. If no instance of `probed` can be created, uses an idle
    /// instance, or creates one of the plain code. The caller must hold a permit of the pool without an instance.
    async fn make(
        &self,
        probed: Option<&LinkedCode>,
        deadline: Instant,
        current: Option<&SpanContext>,
    ) -> Result<Instance, Failure> {
        if let Some(probed) = probed {
            let made = self.maker.make_probed(probed, deadline, current).await;
            if let Some(instance) = made.or_else(|| self.pool.pop_any_idle()) {
                return Ok(instance);
            }
        }
        self.maker.make(None, deadline, current).await
    }

    fn account(&self) -> &Arc<Account> {
        &self.maker.template.account
    }

    pub(crate) async fn handle(
        self: Arc<Self>,
        groups: GroupsInUse,
        request: GuestRequest,
    ) -> Result<http::Response<ResponseBody>, Failure> {
        let probed = self.maker.probed.code_for(Some(&request.span));
        let (permit, idle) = self.pool.take(probed.is_some(), request.deadline, Some(&request.span)).await?;
        let unread = request.http.method() == http::Method::HEAD;
        let (head_sender, mut head) = oneshot::channel();
        let (ended_sender, ended) = oneshot::channel();
        let signals = ResponseSignals::new(request.until(), (!unread).then_some(request.stream_allowed));
        let exchange =
            Exchange { head: HeadSender::new(head_sender, signals.clone()), ended, signals: signals.clone() };
        let account = self.account().clone();
        let run: BoxFuture<'static, ()> = Box::pin(async move {
            let made = match idle {
                Some(instance) => Ok(instance),
                None => self.make(probed.as_deref(), request.deadline, Some(&request.span)).await,
            };
            match made {
                Ok(mut instance) => {
                    self.maker.note_run(Some(&request.span), instance.is_probed());
                    if serve(&mut instance, groups, request, exchange).await.is_ok() {
                        self.pool.give_back(permit, instance);
                    }
                }
                Err(failure) => {
                    let _ = exchange.head.send(Err(failure));
                }
            }
        });
        let mut run = Some(MeteredFuture::new(&account, run));
        let response = std::future::poll_fn(|cx| {
            if let Some(running) = &mut run
                && Pin::new(running).poll(cx).is_ready()
            {
                run = None;
            }
            Pin::new(&mut head).poll(cx).map(|head| head.unwrap_or(Err(Failure::NoResponse)))
        });
        match response.await {
            Ok(response) => {
                let rest = run.map_or(RemainingWork::Over, RemainingWork::Reader);
                Ok(ResponseBody::of(response, rest, signals, ended_sender, unread))
            }
            Err(failure) => {
                // No body will be read. But the handler may still have work to do after it has returned an error, so
                // its execution continues in a task of its own.
                drop(ended_sender);
                if let Some(mut run) = run
                    && std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut run).poll(cx).is_pending())).await
                {
                    tokio::spawn(run);
                }
                Err(failure)
            }
        }
    }

    /// Makes a call and returns its result. Dropping the future drops the callee's wasmtime store. Sets no timer: the
    /// caller drops the future at the deadline.
    pub(crate) async fn call(
        self: &Arc<Self>,
        function: usize,
        scope: RequestScope,
        until: TimeLimit,
        image: &[u8],
    ) -> CallResult {
        let Some(function) = self.skeleton_functions.get(function) else {
            return Err(CallFailure::refused("the called group has no function with this number"));
        };
        let mut span = CallSpan::begin(scope.span(), &function.span);
        let scope = scope.within(span.context());
        let (result, used) = match self.call_in_instance(function, scope, until, image, &mut span).await {
            Ok((result, permit, instance)) => (result, Some((permit, instance))),
            Err(failure) => (Err(failure), None),
        };
        span.end(&result);
        if let Some((permit, instance)) = used {
            self.finish(permit, instance, function, until).await;
        }
        result
    }

    /// Makes a call. Returns the instance too, so that it can be used again. After a failure in the instance, returns
    /// only the failure.
    async fn call_in_instance(
        &self,
        function: &SkeletonFunction,
        scope: RequestScope,
        until: TimeLimit,
        image: &[u8],
        span: &mut CallSpan,
    ) -> Result<(CallResult, InstancePermit, Instance), CallFailure> {
        let origin = (scope.id(), scope.trace());
        let failed = |failure: Failure| {
            self.report_failed_call(&function.component, origin, &failure);
            failure.to_call_failure()
        };
        let probed = self.maker.probed.code_for(scope.span());
        let taken = self.pool.take(probed.is_some(), until.deadline, scope.span()).await;
        let (permit, idle) = taken.map_err(|failure| failure.to_call_failure())?;
        let mut instance = match idle {
            Some(instance) => instance,
            None => {
                span.set_cold();
                // The future of `make` is large. It is boxed, because it would otherwise enlarge the future of every
                // call, although instances are rarely created here.
                Box::pin(self.make(probed.as_deref(), until.deadline, scope.span())).await.map_err(failed)?
            }
        };
        self.maker.note_run(scope.span(), instance.is_probed());
        match instance.call(function, scope, until, image).await {
            Ok(result) => Ok((result, permit, instance)),
            Err(failure) => {
                let guest = instance.store.data_mut();
                guest.fail_probed_calls(&failure);
                guest.end_request();
                Err(failed(failure))
            }
        }
    }

    /// Returns an instance to the pool after its call has returned a result. If the callee still has work to do, waits
    /// until that work ends. The caller does not wait for that work, just as in a fused call.
    async fn finish(
        self: &Arc<Self>,
        permit: InstancePermit,
        mut instance: Instance,
        function: &SkeletonFunction,
        until: TimeLimit,
    ) {
        let over = {
            let mut rest = pin!(instance.rest());
            std::future::poll_fn(|cx| {
                Poll::Ready(match rest.as_mut().poll(cx) {
                    Poll::Ready(over) => Some(over),
                    Poll::Pending => None,
                })
            })
            .await
        };
        match over {
            Some(Ok(())) => {
                instance.store.data_mut().end_request();
                self.pool.give_back(permit, instance);
            }
            Some(Err(error)) => self.report_late_failure(&mut instance, function, &error, until),
            None => {
                let (instances, function) = (self.clone(), function.clone());
                let account = self.account().clone();
                let rest = async move {
                    match timeout_at(until.deadline.into(), instance.rest()).await {
                        Ok(Ok(())) => {
                            instance.store.data_mut().end_request();
                            instances.pool.give_back(permit, instance);
                        }
                        Ok(Err(error)) => instances.report_late_failure(&mut instance, &function, &error, until),
                        Err(_) => instance.store.data_mut().end_request(),
                    }
                };
                tokio::spawn(MeteredFuture::new(&account, Box::pin(rest)));
            }
        }
    }

    /// Reports the failure of a callee that failed after its call had returned.
    fn report_late_failure(
        &self,
        instance: &mut Instance,
        function: &SkeletonFunction,
        error: &wasmtime::Error,
        until: TimeLimit,
    ) {
        let scope = instance.store.data().scope();
        let origin = scope.map(|scope| (scope.id(), scope.trace())).unwrap_or_default();
        let failure = instance.failure(error, until.allowed);
        let guest = instance.store.data_mut();
        guest.fail_probed_calls(&failure);
        guest.end_request();
        self.report_failed_call(&function.component, origin, &failure);
    }

    fn report_failed_call(
        &self,
        component: &str,
        (request, trace): (Option<RequestId>, Option<TraceContext>),
        failure: &Failure,
    ) {
        let (reason, backtrace) = (failure, failure.backtrace());
        self.maker.template.sink.emit(Event::CallFailed { component, request, trace, reason, backtrace });
    }
}
