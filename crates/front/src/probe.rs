//! A request of the platform's own to a site: does it work?
//!
//! It goes the way that a client's takes from the route on, with the same limits, but comes through no connection and counts for no
//! tenant's admission.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use isomer_runtime::Failure;
use isomer_telemetry::RequestId;

use crate::site::Site;
use crate::trace;

/// Why a site does not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Nobody answers that path.
    #[error("no component answers `{path}`")]
    NoRoute {
        /// Which.
        path: String,
    },
    /// The host or the path cannot be part of a URI.
    #[error("`http://{host}{path}` cannot be asked for")]
    Uri {
        /// The host.
        host: String,
        /// The path.
        path: String,
    },
    /// The guest gave no answer.
    #[error("component `{component}` did not answer `{path}`")]
    Failed {
        /// Who.
        component: std::sync::Arc<str>,
        /// What.
        path: String,
        /// Why.
        source: Failure,
    },
    /// It took too long.
    #[error("component `{component}` did not answer `{path}` within {} s", after.as_secs())]
    TimedOut {
        /// Who.
        component: std::sync::Arc<str>,
        /// What.
        path: String,
        /// How long it had.
        after: Duration,
    },
    /// It said that it does not work.
    #[error("component `{component}` answered `{path}` with {status}")]
    Status {
        /// Who.
        component: std::sync::Arc<str>,
        /// What.
        path: String,
        /// What it said.
        status: StatusCode,
    },
}

/// Sends a `GET` of `path` at `host` to the site, and reads the answer. It works if that comes within `allowed` and has a status of 200 to
/// 299.
///
/// # Errors
/// When it does not work.
pub async fn probe(site: &Site, host: &str, path: &str, allowed: Duration) -> Result<(), ProbeError> {
    let Some(target) = site.find(path) else { return Err(ProbeError::NoRoute { path: path.to_owned() }) };
    let wrong = || ProbeError::Uri { host: host.to_owned(), path: path.to_owned() };
    let uri = Uri::builder().scheme("http").authority(host).path_and_query(path).build().map_err(|_| wrong())?;
    let id = RequestId::random();
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    let http = Request::builder().method(Method::GET).uri(uri).header("traceparent", trace::traceparent(None, id));
    let http = http.body(body).map_err(|_| wrong())?;
    let component = target.component.clone();
    let allowed = allowed.min(target.deadline);
    let request = isomer_runtime::Request {
        http,
        id,
        deadline: Instant::now() + allowed,
        allowed,
        stream_allowed: allowed,
        handler: target.handler,
        component: component.clone(),
        buffer_bytes: 0,
    };
    let path = path.to_owned();
    let answer = tokio::time::timeout(allowed, async {
        let response = target.group.handle(request).await?;
        let (head, body) = response.into_parts();
        let mut body = std::pin::pin!(body);
        // What a guest says of its health is not looked at, but has to be read to its end for the guest to come to its own.
        while let Some(Ok(_)) = body.frame().await {}
        Ok(head.status)
    });
    match answer.await {
        Ok(Ok(status)) if status.is_success() => Ok(()),
        Ok(Ok(status)) => Err(ProbeError::Status { component, path, status }),
        Ok(Err(source)) => Err(ProbeError::Failed { component, path, source }),
        Err(_) => Err(ProbeError::TimedOut { component, path, after: allowed }),
    }
}
