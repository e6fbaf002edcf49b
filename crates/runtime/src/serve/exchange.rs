//! One request in one instance: calling the handler, enforcing the deadline, and interpreting the outcome.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt as _;
use isomer_display::excerpt;
use isomer_telemetry::{Event, RequestId, TraceContext};
use tokio::sync::oneshot;
use wasmtime::AsContextMut as _;
use wasmtime::component::{Accessor, GuestTaskId};
use wasmtime_wasi_http::p2::bindings::http::types as types2;
use wasmtime_wasi_http::p3::bindings::http::types as types3;
use wasmtime_wasi_http::{FieldMap, WasiBody, WasiHttpView as _, p3};

use super::request::GuestRequest;
use crate::failure::Failure;
use crate::guest::{GroupsInUse, Guest, RequestScope, ResponseSignals, TimeLimit, tasks};
use crate::instance::{HandleFunctionP2, HandleFunctionP3, HandlerFunction, Instance};

/// The guest's side of one response: the sender of the head, the receiver that reports the end of the body, and the
/// signals.
pub(crate) struct Exchange {
    pub(crate) head: HeadSender,
    /// Resolves when the last frame of the response's body has been read.
    pub(crate) ended: oneshot::Receiver<()>,
    pub(crate) signals: Arc<ResponseSignals>,
}

/// The head of a response, or the reason why the request failed.
pub(crate) type HeadOrFailure = Result<http::Response<WasiBody>, Failure>;

/// Sends the head of a response, or a failure. Only the first head or failure is sent.
#[derive(Clone)]
pub(crate) struct HeadSender {
    sender: Arc<Mutex<Option<oneshot::Sender<HeadOrFailure>>>>,
    signals: Arc<ResponseSignals>,
}

impl HeadSender {
    pub(crate) fn new(sender: oneshot::Sender<HeadOrFailure>, signals: Arc<ResponseSignals>) -> Self {
        Self { sender: Arc::new(Mutex::new(Some(sender))), signals }
    }

    fn is_sent(&self) -> bool {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Sends `head`. Returns `head` if a head or failure was sent earlier, or if the receiver was dropped.
    pub(crate) fn send(&self, head: HeadOrFailure) -> Option<HeadOrFailure> {
        if let Ok(response) = &head {
            self.signals.note_head(response);
        }
        match self.sender.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(sender) => sender.send(head).err(),
            None => Some(head),
        }
    }
}

/// Serves one request until all work that it started has ended. Returns `Ok` if the instance can be used again.
pub(super) async fn serve(
    instance: &mut Instance,
    groups: GroupsInUse,
    request: GuestRequest,
    exchange: Exchange,
) -> Result<(), ()> {
    let Exchange { head, ended, signals } = exchange;
    let GuestRequest { http, id, span, deadline, allowed, handler, component, .. } = request;
    let trace = span.trace();
    instance.begin(&component, RequestScope::new(Some(id), Some(span), groups), TimeLimit { deadline, allowed });
    instance.store.data_mut().follow(signals.clone());
    let function = instance.handlers[handler].clone();
    let over = {
        // The futures are pinned where they are created, because they take several kilobytes, and each function that
        // takes such a future by value would copy it.
        let mut run = pin!(instance.store.run_concurrent(async |accessor| -> wasmtime::Result<()> {
            let run = pin!(async {
                call(accessor, &function, http, &head, ended, &mut |_, _| {}).await?;
                // Waits until all other work that the request started has ended, before the next request starts.
                std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                Ok(())
            });
            tasks::charged(accessor, run).await
        }));
        let run = pin!(async {
            match &instance.in_flight_calls {
                Some(calls) => calls.run_alongside(run.as_mut()).await,
                None => run.as_mut().await,
            }
        });
        signals.limit(run).await
    };
    let allowed = signals.until().allowed;
    let failure = match over {
        Some(Ok(Ok(()))) => None,
        Some(Ok(Err(error)) | Err(error)) => Some(instance.failure(&error, allowed)),
        None => Some(too_late(instance, allowed)),
    };
    let guest = instance.store.data_mut();
    if let Some(failure) = &failure {
        guest.fail_probed_calls(failure);
    }
    guest.end_request();
    match failure {
        // Usually, the handler has already sent a head, so `send` sends nothing and returns the failure. Otherwise,
        // `send` has sent the failure, and the instance is not used again: a guest runtime that serves one request per
        // instance would end every further request without a response.
        None => match head.send(Err(Failure::NoResponse)) {
            None => Err(()),
            Some(_) => Ok(()),
        },
        Some(failure) => {
            signals.fail(&failure);
            report(head, &component, (id, trace), failure, instance.store.data());
            Err(())
        }
    }
}

/// Returns the failure of a request whose deadline passed while the guest was waiting.
fn too_late(instance: &Instance, allowed: Duration) -> Failure {
    let failure = Failure::Deadline { deadline: allowed, backtrace: Vec::new() };
    match instance.store.data().waits_for() {
        Some(seam) => Failure::Call { seam, failure: failure.to_call_failure(), backtrace: Vec::new() },
        None => failure,
    }
}

/// Sends `failure` to the client if no head was sent yet. Otherwise, logs `failure`.
fn report(
    head: HeadSender,
    component: &str,
    (request, trace): (RequestId, TraceContext),
    failure: Failure,
    guest: &Guest,
) {
    if let Some(Err(failure)) = head.send(Err(failure)) {
        guest.sink().emit(Event::RequestFailed {
            component,
            request,
            trace: Some(trace),
            reason: &failure,
            backtrace: failure.backtrace(),
            response_cut_off: true,
        });
    }
}

/// Refuses a response with an informational status. A handler returns only the final response, and an informational
/// response is not final (RFC 9110, section 15.2): a client would wait for another response, or would interpret the
/// following bytes as another protocol.
fn final_response(response: http::Response<WasiBody>) -> HeadOrFailure {
    match response.status() {
        status if status.is_informational() => Err(Failure::NotFinal { status: status.as_u16() }),
        _ => Ok(response),
    }
}

/// A callback that gets the task in which a handler will run. Called before the handler starts.
pub(crate) type OnStart<'a> = &'a mut (dyn FnMut(&mut Guest, GuestTaskId) + Send);

/// Calls the handler. Returns when the handler has returned and, in WASI 0.3, its response has been read.
pub(crate) async fn call(
    accessor: &Accessor<Guest>,
    function: &HandlerFunction,
    request: http::Request<WasiBody>,
    head: &HeadSender,
    ended: oneshot::Receiver<()>,
    on_start: OnStart<'_>,
) -> wasmtime::Result<()> {
    match function {
        HandlerFunction::P3(handle) => call3(accessor, handle, request, head, ended, on_start).await,
        HandlerFunction::P2(handle) => call2(accessor, handle, request, head, ended, on_start).await,
    }
}

async fn call3(
    accessor: &Accessor<Guest>,
    handle: &HandleFunctionP3,
    request: http::Request<WasiBody>,
    head: &HeadSender,
    ended: oneshot::Receiver<()>,
    on_start: OnStart<'_>,
) -> wasmtime::Result<()> {
    let (call, read) = accessor.with(|mut store| -> wasmtime::Result<_> {
        let http = store.data_mut().http();
        let (head, body) = request.into_parts();
        let uri = head.uri.into_parts();
        let headers = FieldMap::new_immutable(http.hooks, head.headers);
        let (request, read) =
            p3::Request::new(head.method, uri.scheme, uri.authority, uri.path_and_query, headers, None, body);
        let request = http.table.push(request)?;
        let call = handle.start_call_concurrent(store.as_context_mut(), (request,))?;
        on_start(store.data_mut(), call.task());
        Ok((call, read))
    })?;
    match handle.finish_call_concurrent(accessor, call).await?.0 {
        Ok(response) => {
            let response = accessor.with(|mut store| -> wasmtime::Result<_> {
                let response = store.data_mut().http().table.delete(response)?;
                response.into_http(store, read)
            })?;
            let response = final_response(response);
            let is_answered = response.is_ok();
            if head.send(response).is_none() && is_answered {
                // `ended` returns an error only if the body was dropped unread. In that case, the future of this
                // request is dropped too.
                let _ = ended.await;
            }
        }
        Err(code) => {
            let body_too_large = matches!(code, types3::ErrorCode::HttpRequestBodySize(_));
            let _ = head.send(Err(Failure::Handler {
                code: excerpt::cut(format_args!("{code:?}"), excerpt::TEXT_BYTES_MAX),
                body_too_large,
            }));
        }
    }
    Ok(())
}

async fn call2(
    accessor: &Accessor<Guest>,
    handle: &HandleFunctionP2,
    request: http::Request<WasiBody>,
    head: &HeadSender,
    ended: oneshot::Receiver<()>,
    on_start: OnStart<'_>,
) -> wasmtime::Result<()> {
    let secure = request.uri().scheme() == Some(&http::uri::Scheme::HTTPS);
    let scheme = if secure { types2::Scheme::Https } else { types2::Scheme::Http };
    let call = accessor.with(|mut store| -> wasmtime::Result<_> {
        let mut http = store.data_mut().http();
        let request = match http.new_incoming_request(scheme, request) {
            Ok(request) => request,
            Err(error) => {
                let _ = head.send(Err(Failure::BadRequest { reason: excerpt::cut(&error, excerpt::TEXT_BYTES_MAX) }));
                return Ok(None);
            }
        };
        let head = head.clone();
        let outparam = http.new_response_outparam_from_callback(move |answer| {
            let _ = head.send(match answer {
                Ok(response) => final_response(response.map(|body| body.boxed_unsync())),
                Err(code) => {
                    let body_too_large = matches!(code, types2::ErrorCode::HttpRequestBodySize(_));
                    Err(Failure::Handler {
                        code: excerpt::cut(format_args!("{code:?}"), excerpt::TEXT_BYTES_MAX),
                        body_too_large,
                    })
                }
            });
        })?;
        let call = handle.start_call_concurrent(store.as_context_mut(), (request, outparam))?;
        on_start(store.data_mut(), call.task());
        Ok(Some(call))
    })?;
    let Some(call) = call else { return Ok(()) };
    handle.finish_call_concurrent(accessor, call).await?;
    // If the handler has left a body open, the reader of the body must not take it for complete. It would do so if the
    // wasmtime store were dropped now. So the store is kept until the reader of the response's body has read the
    // available bytes and found that no more follow.
    if head.is_sent() && accessor.with(|mut store| store.data_mut().has_open_body()) {
        head.signals.set_returned();
        let _ = ended.await;
    }
    Ok(())
}
