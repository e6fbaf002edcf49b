//! A request that the platform sends to a site to check whether the site works.
//!
//! The request passes the same layers as a client's request, from routing on, with the same limits. It arrives over no
//! connection and is not subject to the tenant's admission.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use isomer_telemetry::{RequestId, SpanContext, TraceContext};

use crate::handler::{Handler, HandlerRequest};
use crate::path;
use crate::request_body::RequestBody;
use crate::site::Site;
use crate::trace::{TRACEPARENT, traceparent};

/// The reason why a probe, which is a request that checks a site, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The site has no route for the path.
    #[error("no component has a route for `{path}`")]
    NoRoute {
        /// The requested path.
        path: String,
    },
    /// The host and the path do not form a valid URI.
    #[error("`http://{host}{path}` is not a valid URI")]
    Uri {
        /// The requested host name.
        host: String,
        /// The requested path.
        path: String,
    },
    /// The component's handler failed before it returned the head of a response.
    #[error("component `{component}` did not respond to `{path}`")]
    Failed {
        /// The name of the component.
        component: Arc<str>,
        /// The requested path.
        path: String,
        /// The handler's failure.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The response was not complete in time.
    #[error("component `{component}` did not respond to `{path}` within {} s", after.as_secs())]
    TimedOut {
        /// The name of the component.
        component: Arc<str>,
        /// The requested path.
        path: String,
        /// The maximum time for the response.
        after: Duration,
    },
    /// The status of the response is outside 200 to 299.
    #[error("component `{component}` responded to `{path}` with status {status}")]
    Status {
        /// The name of the component.
        component: Arc<str>,
        /// The requested path.
        path: String,
        /// The status of the response.
        status: StatusCode,
    },
}

/// Sends a `GET` of `path` at `host` to the site, and reads the response to its end. Succeeds if the response ends
/// within `allowed` and has a status of 200 to 299. If the deadline of the route is shorter than `allowed`, the
/// deadline applies.
///
/// # Errors
/// If the site has no route for `path`, if `host` and `path` do not form a valid URI, if the handler fails before it
/// responds, or if the response takes too long or has another status.
pub async fn probe<H: Handler>(site: &Site<H>, host: &str, path: &str, allowed: Duration) -> Result<(), ProbeError> {
    let normalized = path::normalize(path);
    let Some(route) = site.find(normalized.as_deref().unwrap_or(path)) else {
        return Err(ProbeError::NoRoute { path: path.to_owned() });
    };
    let target = &route.target;
    let invalid = || ProbeError::Uri { host: host.to_owned(), path: path.to_owned() };
    let uri = Uri::builder().scheme("http").authority(host).path_and_query(path).build().map_err(|_| invalid())?;
    let id = RequestId::random();
    let trace = TraceContext::start(id.into());
    let http = Request::builder().method(Method::GET).uri(uri).header(TRACEPARENT, traceparent(trace));
    let http = http.body(RequestBody::empty()).map_err(|_| invalid())?;
    let component = target.component.clone();
    let allowed = allowed.min(target.deadline);
    let request = HandlerRequest {
        http,
        id,
        span: SpanContext::unrecorded(trace),
        deadline: Instant::now() + allowed,
        allowed,
        stream_allowed: allowed,
        component: component.clone(),
        buffer_bytes: 0,
    };
    let path = path.to_owned();
    let response = tokio::time::timeout(allowed, async {
        let (head, mut body) = target.handler.handle(request).await?.into_parts();
        // The content is not used, but it is read to its end so that the guest can finish.
        while let Some(Ok(_)) = body.frame().await {}
        Ok::<_, H::Failure>(head.status)
    });
    match response.await {
        Ok(Ok(status)) if status.is_success() => Ok(()),
        Ok(Ok(status)) => Err(ProbeError::Status { component, path, status }),
        Ok(Err(source)) => Err(ProbeError::Failed { component, path, source: Box::new(source) }),
        Err(_) => Err(ProbeError::TimedOut { component, path, after: allowed }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeResponse, target_with};

    #[tokio::test]
    async fn a_site_works_if_it_responds_with_success() {
        let mut site = Site::new();
        site.exact("/healthy", target_with("a", FakeResponse::Text("ok")));
        site.exact("/broken", target_with("b", FakeResponse::Failure(crate::FailureKind::Failed)));
        site.exact("/slow", target_with("c", FakeResponse::Never));
        let check = async |path: &str| probe(&site, "shop.example", path, Duration::from_millis(1)).await;
        assert!(check("/healthy").await.is_ok());
        assert!(check("/%68ealthy").await.is_ok(), "the path is compared in normal form");
        assert!(matches!(check("/broken").await, Err(ProbeError::Failed { .. })));
        assert!(matches!(check("/slow").await, Err(ProbeError::TimedOut { .. })));
        assert!(matches!(check("/other").await, Err(ProbeError::NoRoute { .. })));
        let invalid = probe(&site, "shop example", "/healthy", Duration::from_secs(1)).await;
        assert!(matches!(invalid, Err(ProbeError::Uri { .. })));
    }
}
