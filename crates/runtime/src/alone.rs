//! Requests and calls that have an instance for themselves, out of one pool.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use futures::future::BoxFuture;
use isomer_telemetry::{Event, RequestId};
use isomer_wire::CallFailure;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::account::Account;
use crate::body::{ResponseBody, Rest, Signals};
use crate::failure::Failure;
use crate::graph::Graph;
use crate::group::Request;
use crate::lanes::Metered;
use crate::pool::{Pool, PoolLimits, Slot};
use crate::scope::{Scope, Until};
use crate::serve::{Exchange, Head, Instance, InstanceMaker};
use crate::skeleton::Entry;

pub(crate) struct Alone {
    maker: Arc<InstanceMaker>,
    pool: Arc<Pool>,
}

impl Alone {
    pub(crate) fn new(maker: Arc<InstanceMaker>, limits: PoolLimits) -> Self {
        let pool = Arc::new(Pool::new(limits));
        maker.register(pool.since(), &pool);
        Self { maker, pool }
    }

    /// Makes one instance and keeps it.
    pub(crate) async fn warm_up(&self, deadline: Instant) -> Result<(), Failure> {
        let (slot, idle) = self.pool.take(deadline).await?;
        let instance = match idle {
            Some(instance) => instance,
            None => {
                let maker = self.maker.clone();
                Metered::new(self.account(), Box::pin(async move { maker.make(deadline).await })).await?
            }
        };
        self.pool.give_back(slot, instance);
        Ok(())
    }

    fn account(&self) -> &Arc<Account> {
        &self.maker.template.account
    }

    pub(crate) async fn handle(
        self: Arc<Self>,
        graph: Arc<Graph>,
        request: Request,
    ) -> Result<http::Response<ResponseBody>, Failure> {
        let (slot, idle) = self.pool.take(request.deadline).await?;
        let unread = request.http.method() == http::Method::HEAD;
        let (head_sender, mut head) = oneshot::channel();
        let (ended_sender, ended) = oneshot::channel();
        let signals = Signals::new(request.until(), (!unread).then_some(request.stream_allowed));
        let exchange = Exchange { head: Head::new(head_sender, signals.clone()), ended, signals: signals.clone() };
        let account = self.account().clone();
        let run: BoxFuture<'static, ()> = Box::pin(async move {
            let made = match idle {
                Some(instance) => Ok(instance),
                None => self.maker.make(request.deadline).await,
            };
            match made {
                Ok(mut instance) => {
                    if instance.serve(graph, request, exchange).await.is_ok() {
                        self.pool.give_back(slot, instance);
                    }
                }
                Err(failure) => {
                    let _ = exchange.head.send(Err(failure));
                }
            }
        });
        let mut run = Some(Metered::new(&account, run));
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
                let rest = run.map_or(Rest::Over, Rest::Reader);
                Ok(ResponseBody::of(response, rest, signals, ended_sender, unread))
            }
            Err(failure) => {
                // The handler may go on working after it has answered with an error.
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

    /// Makes a call. Dropping the future drops the callee's store. Waits have no timer here: the caller sees to the deadline.
    pub(crate) async fn call(
        self: &Arc<Self>,
        function: usize,
        scope: Arc<Scope>,
        until: Until,
        image: &[u8],
    ) -> Result<Vec<u8>, CallFailure> {
        let Some(entry) = self.maker.entries.get(function) else {
            return Err(CallFailure::refused("the group has no such function"));
        };
        let id = scope.id;
        let failed = |failure: Failure| {
            self.report_failed_call(&entry.component, id, &failure);
            failure.to_call_failure()
        };
        let (slot, idle) = self.pool.take(until.deadline).await.map_err(|failure| failure.to_call_failure())?;
        let mut instance = match idle {
            Some(instance) => instance,
            // Rare, and large: not part of every call's future.
            None => Box::pin(self.maker.make(until.deadline)).await.map_err(failed)?,
        };
        match instance.call(entry, scope, until, image).await {
            Ok(answer) => {
                self.finish(slot, instance, entry, until).await;
                answer
            }
            Err(failure) => {
                instance.store.data_mut().end_request();
                Err(failed(failure))
            }
        }
    }

    /// Gives back an instance that has answered a call; where the callee still has something to do, as soon as that is done. Its
    /// caller does not wait for it, as it would not if the two were fused.
    async fn finish(self: &Arc<Self>, slot: Slot, mut instance: Instance, entry: &Entry, until: Until) {
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
                self.pool.give_back(slot, instance);
            }
            Some(Err(error)) => self.broken(&mut instance, entry, &error, until),
            None => {
                let (alone, entry) = (self.clone(), entry.clone());
                let account = self.account().clone();
                let rest = async move {
                    match timeout_at(until.deadline.into(), instance.rest()).await {
                        Ok(Ok(())) => {
                            instance.store.data_mut().end_request();
                            alone.pool.give_back(slot, instance);
                        }
                        Ok(Err(error)) => alone.broken(&mut instance, &entry, &error, until),
                        Err(_) => instance.store.data_mut().end_request(),
                    }
                };
                tokio::spawn(Metered::new(&account, Box::pin(rest)));
            }
        }
    }

    /// A callee failed when its call was already answered.
    fn broken(&self, instance: &mut Instance, entry: &Entry, error: &wasmtime::Error, until: Until) {
        let id = instance.store.data().scope().and_then(|scope| scope.id);
        let failure = instance.failure(error, until.allowed);
        instance.store.data_mut().end_request();
        self.report_failed_call(&entry.component, id, &failure);
    }

    fn report_failed_call(&self, component: &str, request: Option<RequestId>, failure: &Failure) {
        let (reason, backtrace) = (failure, failure.backtrace());
        self.maker.template.sink.emit(Event::CallFailed { component, request, reason, backtrace });
    }
}
