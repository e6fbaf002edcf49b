//! Sessions in the requests and responses of the app's own routes.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use isomer_ids::PlanDigest;

use crate::app_gateway::{AppGateway, GatewayClient, RequestTime};
use crate::browser_revision::BrowserRevision;
use crate::registration;
use crate::request_origin::{is_page_navigation, may_start_session};
use crate::session::{Identity, VisitorSession};

/// A gateway with the revision that serves a request.
#[derive(Debug, Clone)]
pub struct SiteGateway {
    /// The gateway of the app.
    pub app: Arc<AppGateway>,
    /// The revision that serves requests.
    pub revision: Arc<BrowserRevision>,
}

/// A request of one of the app's routes in progress.
#[derive(Debug)]
pub struct PageExchange {
    session: Option<VisitorSession>,
    is_new: bool,
    /// Whether the script is appended to the response, if it is a page.
    wants_script: bool,
    client: GatewayClient,
    time: RequestTime,
}

impl SiteGateway {
    /// Records that the revision serves a request of a client, so that its tabs can call it after another revision has
    /// taken over. A revision that only gets health checks is not recorded: it may write to copies of the app's stores.
    pub fn begin_service(&self, now: Instant) {
        if self.revision.begin_service() {
            self.app.add_revision(&self.revision, now);
        }
    }

    /// Returns the revision with this plan digest: the one that serves requests, or an earlier one that is still in
    /// memory and may still be called.
    #[must_use]
    pub fn revision(&self, plan: PlanDigest, now: Instant) -> Option<Arc<BrowserRevision>> {
        let own = (self.revision.functions().plan() == plan).then(|| self.revision.clone());
        own.or_else(|| self.app.revision(plan, now))
    }

    /// Returns the revision whose files have this digest: the one that serves requests, or an earlier one that is still
    /// in memory.
    #[must_use]
    pub fn revision_of_files(&self, digest: &str) -> Option<Arc<BrowserRevision>> {
        let own = self.revision.files().filter(|files| files.digest() == digest).map(|_| self.revision.clone());
        own.or_else(|| self.app.revision_of_files(digest))
    }

    /// Finds or starts the session of a request, and rewrites the cookies of the request for the component.
    #[must_use]
    pub fn begin_page(
        &self,
        method: &Method,
        headers: &mut HeaderMap,
        client: GatewayClient,
        time: RequestTime,
    ) -> PageExchange {
        self.begin_service(time.instant);
        let known = self.app.session(headers, &client.scheme, time);
        let is_new = known.is_none();
        let session = known
            .or_else(|| may_start_session(method, headers).then(|| self.app.start_session(&client, time)).flatten());
        let has_files = self.revision.files().is_some();
        let wants_script = has_files && is_page_navigation(method, headers);
        self.revision.reserved().rewrite_request(headers, session.as_ref().map(VisitorSession::identity));
        PageExchange { session, is_new, wants_script, client, time }
    }

    /// Completes the head of a component's response: filters its cookies, sets the cookie of a new session, and prepares
    /// for the script. Returns the bytes to append to the body, if any.
    #[must_use]
    pub fn finish_page(&self, page: PageExchange, status: StatusCode, headers: &mut HeaderMap) -> Option<Bytes> {
        let PageExchange { session, is_new, wants_script, client, time } = page;
        let identity = session.as_ref().map(VisitorSession::identity);
        let change = self.revision.reserved().filter_response(headers, identity);
        if let Some(session) = session {
            let line = match change {
                Some(_) => Some(self.rotated(&session, &client, time).0),
                // A login in another request has replaced the session meanwhile.
                None if self.app.has_ended(&session) => None,
                None if is_new => Some(self.app.set_cookie(&session, &client.scheme)),
                None => self.app.renewed(&session, time).map(|session| self.app.set_cookie(&session, &client.scheme)),
            };
            if let Some(line) = line {
                headers.append(SET_COOKIE, line);
                forbid_sharing(headers);
            }
        }
        wants_script.then(|| registration::append_script(status, headers)).flatten()
    }

    /// Ends a session. Returns the line of `Set-Cookie` for the next one, and its identity. If the client gets no further
    /// session now, the line removes the cookie.
    #[must_use]
    pub fn rotated(
        &self,
        session: &VisitorSession,
        client: &GatewayClient,
        time: RequestTime,
    ) -> (HeaderValue, Option<Identity>) {
        match self.app.rotate(session, client, time) {
            Some(next) => (self.app.set_cookie(&next, &client.scheme), Some(next.identity())),
            None => (self.app.remove_cookie(&client.scheme), None),
        }
    }
}

/// Prevents shared caches from storing a response that sets a session's cookie.
fn forbid_sharing(headers: &mut HeaderMap) {
    let targeted: Vec<_> = headers.keys().filter(|name| is_targeted(name)).cloned().collect();
    for name in targeted {
        headers.remove(name);
    }
    let texts = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    let items: Vec<_> = texts.flat_map(|text| text.split(',')).map(str::trim).filter(|item| !item.is_empty()).collect();
    let name = |item: &str| item.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
    if items.iter().any(|item| name(item) == "no-store") {
        return;
    }
    // `private="field"` restricts only this field, so it is replaced too.
    let shared = |item: &&str| !["public", "s-maxage", "private"].contains(&name(item).as_str());
    let kept: Vec<_> = items.into_iter().filter(shared).chain(["private"]).collect();
    if let Ok(value) = HeaderValue::try_from(kept.join(", ")) {
        headers.insert(CACHE_CONTROL, value);
    }
}

/// Returns whether a field contains instructions for some caches only, which then ignore `cache-control`: targeted fields
/// (RFC 9213), and the fields that preceded them.
fn is_targeted(name: &HeaderName) -> bool {
    name.as_str().ends_with("-cache-control")
        || ["surrogate-control", "edge-control", "x-accel-expires"].contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::time::Duration;

    use http::header::COOKIE;
    use isomer_wire::{Call, CallFailure, CallResult, Callee};

    use super::*;
    use crate::app_gateway::OLD_REVISION_MAX;
    use crate::app_gateway::tests::{client, gateway, time};
    use crate::browser_revision::{BrowserParts, TabConfig};
    use crate::published::PublishedFunctions;
    use crate::static_files::{NewStaticFile, StaticFiles};

    struct NoCallee;

    impl Callee for NoCallee {
        fn call(&self, _: Call) -> Pin<Box<dyn Future<Output = CallResult> + Send>> {
            Box::pin(std::future::ready(Err(CallFailure::refused("no function"))))
        }
    }

    fn site() -> SiteGateway {
        site_with(PlanDigest([1; 16]))
    }

    /// Returns a site whose plan differs from that of `other`.
    fn other_revision(other: &SiteGateway) -> SiteGateway {
        site_with(PlanDigest([other.revision.functions().plan().0[0] + 1; 16]))
    }

    fn site_with(plan: PlanDigest) -> SiteGateway {
        let file = NewStaticFile::compressed("a.js".into(), Bytes::new(), "text/javascript".into());
        let parts = BrowserParts {
            functions: PublishedFunctions::new(plan, []),
            callee: Arc::new(NoCallee),
            files: Some(StaticFiles::new("d", "a.js", [file]).unwrap()),
            components: ["frontend".to_owned()].into(),
            config: TabConfig::from([("frontend".into(), [("title".into(), "Shop".into())].into())]),
            cookie: Some("shop_session".into()),
            image_bytes_max: 1 << 20,
            memory: None,
        };
        SiteGateway { app: Arc::new(gateway()), revision: Arc::new(BrowserRevision::new(parts)) }
    }

    /// Runs an exchange with these header fields. Returns the `Cookie` field that the component receives, the
    /// response's head and the appended bytes.
    fn exchange(
        site: &SiteGateway,
        request: &[(&'static str, &str)],
        response: &[(&'static str, &str)],
    ) -> (Option<String>, HeaderMap, Option<Bytes>) {
        let fields = |lines: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            lines.iter().for_each(|(name, value)| {
                headers.append(*name, value.parse().unwrap());
            });
            headers
        };
        let mut headers = fields(request);
        let page = site.begin_page(&Method::GET, &mut headers, client("192.0.2.1"), time());
        let received = headers.get(COOKIE).map(|value| value.to_str().unwrap().to_owned());
        let mut head = fields(response);
        let appended = site.finish_page(page, StatusCode::OK, &mut head);
        (received, head, appended)
    }

    fn cookie(head: &HeaderMap) -> Option<String> {
        Some(head.get(SET_COOKIE)?.to_str().unwrap().split(';').next().unwrap().to_owned())
    }

    #[test]
    fn a_visitor_keeps_one_identity() {
        let site = site();
        let (first, head, _) = exchange(&site, &[("cookie", "shop_session=forged; a=1")], &[]);
        let (first, cookie) = (first.unwrap(), cookie(&head).unwrap());
        assert!(first.starts_with("shop_session=") && first.ends_with("; a=1") && !first.contains("forged"), "{first}");
        assert_eq!(head[CACHE_CONTROL], "private");
        let (second, head, _) = exchange(&site, &[("cookie", &format!("a=1; {cookie}"))], &[]);
        assert_eq!(second.as_ref(), Some(&first));
        assert!(head.is_empty(), "{head:?}");
        let (other, ..) = exchange(&site, &[("cookie", "a=1")], &[]);
        assert_ne!(other.as_ref(), Some(&first));
    }

    #[test]
    fn login_and_logout_start_another_session() {
        let site = site();
        let (first, head, _) = exchange(&site, &[], &[]);
        let own = cookie(&head).unwrap();
        for line in ["shop_session=; Max-Age=0", "shop_session=another"] {
            let (_, head, _) = exchange(
                &site,
                &[("cookie", &own)],
                &[("set-cookie", line), ("cache-control", "Public, max-age=9, s-maxage=9")],
            );
            assert_eq!(head.get_all(SET_COOKIE).iter().count(), 1);
            assert_eq!(head[CACHE_CONTROL], "max-age=9, private");
            let (next, ..) = exchange(&site, &[("cookie", &cookie(&head).unwrap())], &[]);
            assert_ne!(next, first);
        }
        let (after, head, _) = exchange(&site, &[("cookie", &own)], &[]);
        assert!(after != first && cookie(&head).is_some(), "the ended session is not accepted");
    }

    #[test]
    fn no_shared_cache_gets_instructions_of_its_own() {
        let fields = [
            ("cache-control", "no-store"),
            ("cdn-cache-control", "max-age=600"),
            ("cloudflare-cdn-cache-control", "max-age=600"),
            ("surrogate-control", "max-age=600"),
            ("x-accel-expires", "600"),
        ];
        let site = site();
        let (_, head, _) = exchange(&site, &[], &fields);
        assert!(head.contains_key(SET_COOKIE));
        let names: Vec<_> = head.keys().map(HeaderName::as_str).collect();
        assert_eq!((names.len(), &head[CACHE_CONTROL]), (2, &HeaderValue::from_static("no-store")), "{names:?}");
        let (_, head, _) = exchange(&site, &[("cookie", &cookie(&head).unwrap())], &fields);
        assert_eq!(head.len(), fields.len(), "responses without the session's cookie are not changed: {head:?}");
    }

    #[test]
    fn a_page_that_began_before_a_login_does_not_replace_the_new_session() {
        let (site, start) = (site(), time());
        let client = client("192.0.2.1");
        let session = site.app.start_session(&client, start).unwrap();
        let line = site.app.set_cookie(&session, &client.scheme);
        let pair: HeaderValue = line.to_str().unwrap().split(';').next().unwrap().parse().unwrap();
        // A day later, so that the token is due.
        let time = RequestTime { unix: start.unix + 25 * 60 * 60, ..start };
        let begin = || {
            let mut headers = HeaderMap::from_iter([(COOKIE, pair.clone())]);
            site.begin_page(&Method::GET, &mut headers, client.clone(), time)
        };
        let lines = |page, mut head: HeaderMap| {
            let _ = site.finish_page(page, StatusCode::OK, &mut head);
            head.get_all(SET_COOKIE).iter().count()
        };
        let (login, slow) = (begin(), begin());
        assert_eq!(lines(begin(), HeaderMap::new()), 1, "the token is renewed");
        let login_head = HeaderMap::from_iter([(SET_COOKIE, HeaderValue::from_static("shop_session=alice"))]);
        assert_eq!(lines(login, login_head), 1);
        assert_eq!(lines(slow, HeaderMap::new()), 0);
    }

    #[test]
    fn a_chain_of_calls_keeps_no_revision_for_ever() {
        let (old, new) = (site(), other_revision(&site()));
        let (plan, start) = (old.revision.functions().plan(), Instant::now());
        let new = SiteGateway { app: old.app.clone(), ..new };
        old.begin_service(start);
        assert!(new.revision(plan, start + 2 * OLD_REVISION_MAX).is_some(), "it is the only one");
        new.begin_service(start);
        // Each call holds a reference while the next one begins.
        let mut call = new.revision(plan, start);
        for seconds in (0..OLD_REVISION_MAX.as_secs()).step_by(30) {
            let next = new.revision(plan, start + Duration::from_secs(seconds));
            assert!(next.is_some(), "{seconds}");
            call = next;
        }
        assert!(call.is_some() && new.revision(plan, start + OLD_REVISION_MAX).is_none());
        // A third revision does not extend the time.
        let third = SiteGateway { app: old.app.clone(), ..other_revision(&new) };
        third.begin_service(start + Duration::from_secs(60));
        assert!(third.revision(plan, start + OLD_REVISION_MAX).is_none());
        // When stores are replaced, only the revision in service can be called.
        let replaced = new.revision.functions().plan();
        assert!(third.revision(replaced, start + OLD_REVISION_MAX).is_some());
        third.app.end_revisions();
        assert!(third.revision(replaced, start + OLD_REVISION_MAX).is_none());
        assert!(third.revision(third.revision.functions().plan(), start).is_some());
    }

    #[test]
    fn only_navigations_get_the_script() {
        let navigation = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let html = [("content-type", "text/html")];
        assert!(exchange(&site(), &navigation, &html).2.is_some());
        assert!(exchange(&site(), &[], &html).2.is_none());
        assert!(exchange(&site(), &navigation, &[("content-type", "image/png")]).2.is_none());
    }

    #[test]
    fn an_image_starts_no_session() {
        let (received, head, _) = exchange(
            &site(),
            &[("sec-fetch-dest", "image"), ("cookie", "shop_session=x")],
            &[("set-cookie", "shop_session=y")],
        );
        assert_eq!((received, head.is_empty()), (None, true));
    }

    #[test]
    fn a_report_contains_what_a_tab_needs() {
        let site = site();
        let identity = site.app.start_session(&client("192.0.2.1"), time()).unwrap().identity();
        let report: serde_json::Value = serde_json::from_slice(&site.revision.session_report(identity)).unwrap();
        assert_eq!(report["identity"], identity.to_string());
        assert_eq!(report["revision"], "01".repeat(16));
        assert_eq!(report["cookie"], "shop_session");
        assert_eq!(report["config"]["frontend"]["title"], "Shop");
        assert_eq!(report["limits"]["image_bytes_max"], 1 << 20);
    }
}
