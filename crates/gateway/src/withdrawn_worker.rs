//! The script that replaces a service worker whose app is no longer served in tabs.
//!
//! Browsers keep a registered worker if its script cannot be loaded, also for years. So after a change to a shape without
//! a browser group, or if another app gets the host name, the old worker would continue to answer the requests of
//! visitors who have been there before. Browsers look for a new script at navigations, and then get this one.

use bytes::Bytes;
use http::{HeaderMap, Method, Response};

use crate::endpoint::TabEndpoint;
use crate::static_files::script;

/// The script. It has no handler for requests, so the server answers those of open pages too. The pages are not loaded
/// again, because visitors may have typed into them.
const SCRIPT: &str = r#"self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(withdraw()));
async function withdraw() {
  for (const name of await caches.keys()) {
    if (name.startsWith("isomer-")) await caches.delete(name);
  }
  await self.registration.unregister();
}
"#;

/// Returns the response to a browser that looks for a new version of a service worker, for a host without files for tabs.
/// Returns `None` for all other requests.
#[must_use]
pub fn withdrawn_worker(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Bytes>> {
    // Browsers send this field with requests for the script of a worker, and pages cannot send it.
    let is_script = headers.get("service-worker").is_some_and(|value| value == "script");
    let is_worker = matches!(TabEndpoint::of(method, path), Some(Ok(TabEndpoint::Worker)));
    (is_script && is_worker).then(|| script(Bytes::from_static(SCRIPT.as_bytes())))
}

#[cfg(test)]
mod tests {
    use http::header::{CACHE_CONTROL, CONTENT_TYPE};

    use super::*;

    #[test]
    fn only_browsers_that_look_for_the_worker_get_the_script() {
        let of = |method: Method, path, value: Option<&'static str>| {
            let field = value.map(|value| ("service-worker".parse().unwrap(), value.parse().unwrap()));
            withdrawn_worker(&method, path, &HeaderMap::from_iter(field))
        };
        let response = of(Method::GET, "/_isomer/worker.js", Some("script")).unwrap();
        assert_eq!(response.body(), SCRIPT);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-cache");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        for (method, path, value) in [
            (Method::GET, "/_isomer/worker.js", None),
            (Method::GET, "/_isomer/worker.js", Some("other")),
            (Method::POST, "/_isomer/worker.js", Some("script")),
            (Method::GET, "/_isomer/web/abc/worker.js", Some("script")),
            (Method::GET, "/worker.js", Some("script")),
        ] {
            assert!(of(method, path, value).is_none(), "{path} {value:?}");
        }
    }
}
