//! The handlers of the front door: each passes requests to an HTTP handler in a group of an app.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use isomer_front::{
    BodyFailure, FailureKind, Front, Handler, HandlerBody, HandlerFailure, HandlerRequest, RequestBodyError, Site,
    SiteInUse, SiteLookup, SiteResolver,
};
use isomer_runtime::{Failure, GroupHandle, GuestRequest, HostMemory, HttpError, ResponseBody};
use isomer_wire::CallError;

/// A front door that serves apps.
pub type AppFront = Front<GroupHandler>;

/// The routes of an app, which lead to HTTP handlers of the app's groups.
pub type AppSite = Site<GroupHandler>;

/// The site of an app (its routes) while a request uses it. The app stays in memory until this value is dropped.
pub type AppSiteInUse = SiteInUse<GroupHandler>;

/// The routes of an app, or a future that resolves to them.
pub type AppSiteLookup = SiteLookup<GroupHandler>;

/// A resolver that maps a host name to the app that serves it.
pub type AppResolver = dyn SiteResolver<GroupHandler>;

/// One of the HTTP handlers in a group.
#[derive(Clone)]
pub struct GroupHandler {
    group: GroupHandle,
    /// The index of the handler in the group's list of handlers.
    index: usize,
}

/// The body of a guest's response.
pub struct GuestBody(ResponseBody);

/// The reason why a guest returned no response.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct GuestFailure(Failure);

impl GroupHandler {
    pub(crate) fn new(group: GroupHandle, index: usize) -> Self {
        Self { group, index }
    }
}

impl Handler for GroupHandler {
    type Body = GuestBody;
    type Failure = GuestFailure;
    type Memory = HostMemory;

    async fn handle(&self, request: HandlerRequest) -> Result<http::Response<GuestBody>, GuestFailure> {
        let HandlerRequest { http, id, span, deadline, allowed, stream_allowed, component, buffer_bytes } = request;
        let http = http.map(|body| body.map_err(to_http_error).boxed_unsync());
        let handler = self.index;
        let request =
            GuestRequest { http, id, span, deadline, allowed, stream_allowed, handler, component, buffer_bytes };
        match self.group.handle(request).await {
            Ok(response) => Ok(response.map(GuestBody)),
            Err(failure) => Err(GuestFailure(failure)),
        }
    }

    fn tenant(&self) -> &Arc<str> {
        self.group.account().tenant()
    }

    fn charge_memory(&self, bytes: usize) -> Option<HostMemory> {
        self.group.account().charge_host_memory(bytes).ok()
    }

    fn charge_cpu(&self, used: Duration) {
        self.group.account().charge_cpu(used);
    }
}

/// Returns the error that a guest gets if reading the request body fails.
fn to_http_error(error: RequestBodyError) -> HttpError {
    match error {
        RequestBodyError::TooLarge => HttpError::HttpRequestBodySize(None),
        RequestBodyError::TooSlow => HttpError::ConnectionReadTimeout,
        RequestBodyError::Connection(error) => HttpError::from(error),
    }
}

impl HandlerFailure for GuestFailure {
    fn kind(&self) -> FailureKind {
        match &self.0 {
            Failure::Handler { body_too_large: true, .. } => FailureKind::RequestBodyTooLarge,
            Failure::Deadline { .. } => FailureKind::Deadline,
            Failure::Overloaded { .. } | Failure::Full { .. } => FailureKind::Overloaded,
            Failure::Quota { quota, .. } => FailureKind::Quota(*quota),
            // If a call was lost, either this call or a call nested in it, the kind of failure depends on why it was
            // lost. Otherwise the callee trapped, which is a failure of the handler.
            Failure::Call { failure, .. } => match failure.lost() {
                None => FailureKind::Failed,
                Some(CallError::Unreachable | CallError::Refused) => FailureKind::Unreachable,
                Some(CallError::Overloaded) => FailureKind::Overloaded,
                Some(CallError::Deadline) => FailureKind::Deadline,
            },
            Failure::InstanceLost => FailureKind::InstanceLost,
            Failure::BadRequest { .. } => FailureKind::InvalidRequest,
            Failure::Instantiate { .. } => FailureKind::CannotStart,
            _ => FailureKind::Failed,
        }
    }

    fn backtrace(&self) -> &[String] {
        self.0.backtrace()
    }
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl HandlerBody for GuestBody {
    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    fn failure(&self) -> BodyFailure {
        let (reason, is_reported) = self.0.broke_off();
        BodyFailure { reason, is_reported }
    }
}

#[cfg(test)]
mod tests {
    use isomer_runtime::RoomLimit;
    use isomer_runtime::engine::Dimension;

    use super::*;

    #[test]
    fn a_full_engine_is_overload() {
        let limit = RoomLimit::Share { of: Dimension::Memories, accounts: 4 };
        assert_eq!(GuestFailure(Failure::Full { limit }).kind(), FailureKind::Overloaded);
    }
}
