//! The responses to a browser: the files of the pages, and the start and end of a session. The server of the admin API
//! calls these functions, after it has checked the header `Host`.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde::Serialize;

use crate::files;
use crate::request_origin::{is_own_page, is_secure};
use crate::secret::{NoRandomness, Secret};
use crate::sessions::{SESSION_LIFETIME, SessionRights, Sessions};

/// The path at which a page starts a session (`POST` with [`CODE_FIELD`]) or ends it (`DELETE` with [`KEY_FIELD`]).
pub const SESSION_PATH: &str = "/dashboard/session";

/// The header field with the one-time code. The code is in a header field and not in the body, because browsers let a
/// page of another origin send such a header field only if the server allows it by CORS. This server never allows it.
pub const CODE_FIELD: &str = "x-isomer-dashboard-code";

/// The header field with the key of the session. Each request of a page for data has this field.
pub const KEY_FIELD: &str = "x-isomer-dashboard-key";

/// The maximum length in bytes of a one-time code, cookie or key in a request. Longer ones are treated as missing.
const SECRET_BYTES_MAX: usize = 256;

/// The dashboard of a process: its files, and the sessions of its browsers, which have rights of the type `R`.
#[derive(Debug)]
pub struct Dashboard<R> {
    sessions: Mutex<Sessions<R>>,
}

/// The reason why a request of a page is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionRefusal {
    /// The session is unknown, or has expired.
    #[error("the dashboard's session has expired")]
    Unknown,
    /// The one-time code is unknown, was used, or has expired.
    #[error("the link to the dashboard was used or has expired")]
    Code,
    /// A page of another origin made the browser send the request.
    #[error("a page of another origin has sent the request")]
    ForeignPage,
    /// The operating system provides no random bytes.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

impl<R> Default for Dashboard<R> {
    fn default() -> Self {
        Self { sessions: Mutex::default() }
    }
}

impl<R: SessionRights> Dashboard<R> {
    /// Creates a one-time code for a session with `rights`.
    ///
    /// # Errors
    /// If the operating system provides no random bytes.
    pub fn create_code(&self, rights: R) -> Result<Secret, NoRandomness> {
        let code = Secret::random()?;
        self.lock().add_code(&code, rights, Instant::now());
        Ok(code)
    }

    /// Returns whether a request is for a file or page of the dashboard.
    #[must_use]
    pub fn has_file(method: &Method, path: &str) -> bool {
        (*method == Method::GET || *method == Method::HEAD) && files::exists(path)
    }

    /// Returns the response to a request for a file or page; `None` if the path is not one of the dashboard's.
    #[must_use]
    pub fn file(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Bytes>> {
        Self::has_file(method, path).then(|| files::respond(path, headers))?
    }

    /// Starts a session for the one-time code in the request. The response sets the cookie and contains the key.
    ///
    /// # Errors
    /// If the code is not valid, or the request comes from a page of another origin.
    pub fn start(&self, headers: &HeaderMap) -> Result<Response<Bytes>, SessionRefusal> {
        if !is_own_page(headers, true) {
            return Err(SessionRefusal::ForeignPage);
        }
        let code = field(headers, CODE_FIELD).ok_or(SessionRefusal::Code)?;
        let (cookie, key) = (Secret::random()?, Secret::random()?);
        self.lock().exchange(code, &cookie, &key, Instant::now()).ok_or(SessionRefusal::Code)?;
        let name = cookie_name(headers);
        let seconds = SESSION_LIFETIME.as_secs();
        let mut response = json(&SessionStart { key: key.reveal(), expires_in_s: seconds });
        set_cookie(&mut response, headers, &format!("{name}={}; Max-Age={seconds}", cookie.reveal()));
        Ok(response)
    }

    /// Ends the session of the request.
    ///
    /// # Errors
    /// If there is no such session, or the request comes from a page of another origin.
    pub fn end(&self, headers: &HeaderMap) -> Result<Response<Bytes>, SessionRefusal> {
        if !is_own_page(headers, true) {
            return Err(SessionRefusal::ForeignPage);
        }
        let (cookie, key) = identity(headers).ok_or(SessionRefusal::Unknown)?;
        if !self.lock().end(cookie, key) {
            return Err(SessionRefusal::Unknown);
        }
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        set_cookie(&mut response, headers, &format!("{}=; Max-Age=0", cookie_name(headers)));
        Ok(response)
    }

    /// Returns the rights of the session to which a request belongs, or `None` if the request has no session key, and
    /// so does not come from a page of the dashboard. `changes` states whether the request can change something.
    ///
    /// # Errors
    /// If the session is unknown, or the request comes from a page of another origin.
    pub fn rights(&self, headers: &HeaderMap, changes: bool) -> Option<Result<R, SessionRefusal>> {
        headers.get(KEY_FIELD)?;
        if !is_own_page(headers, changes) {
            return Some(Err(SessionRefusal::ForeignPage));
        }
        let rights = identity(headers).and_then(|(cookie, key)| self.lock().rights(cookie, key, Instant::now()));
        Some(rights.ok_or(SessionRefusal::Unknown))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions<R>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of the response that starts a session.
#[derive(Serialize)]
struct SessionStart<'a> {
    key: &'a str,
    expires_in_s: u64,
}

/// Returns the cookie and the key of a request.
fn identity(headers: &HeaderMap) -> Option<(&[u8], &[u8])> {
    let name = cookie_name(headers);
    let cookies = headers.get_all(COOKIE).iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    let mut values = cookies.filter_map(|cookie| {
        let cookie = cookie.trim_ascii();
        let split = cookie.iter().position(|byte| *byte == b'=')?;
        (cookie[..split] == *name.as_bytes()).then(|| &cookie[split + 1..])
    });
    let cookie = values.next().filter(|cookie| cookie.len() <= SECRET_BYTES_MAX)?;
    Some((cookie, field(headers, KEY_FIELD)?))
}

/// Returns the value of the header field `name`, or `None` if the field does not occur exactly once or is too long.
fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) if value.len() <= SECRET_BYTES_MAX => Some(value.as_bytes()),
        _ => None,
    }
}

/// Returns the name of the cookie. It contains the port, because all ports of a host share their cookies, and several
/// processes may have a dashboard.
fn cookie_name(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port = host.rsplit_once(':').map(|(_, port)| port).and_then(|port| port.parse::<u16>().ok());
    match port {
        Some(port) => format!("isomer-dashboard-{port}"),
        None => "isomer-dashboard".to_owned(),
    }
}

fn set_cookie(response: &mut Response<Bytes>, headers: &HeaderMap, cookie: &str) {
    let secure = if is_secure(headers) { "; Secure" } else { "" };
    let text = format!("{cookie}; Path=/; HttpOnly; SameSite=Strict{secure}");
    let value = HeaderValue::try_from(text).expect("names and hexadecimal digits are valid in a header");
    response.headers_mut().insert(SET_COOKIE, value);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

fn json(value: &impl Serialize) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(serde_json::to_vec(value).expect("the response is plain data")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let own = [("host", "127.0.0.1:7171"), ("origin", "http://127.0.0.1:7171")];
        let fields = own.iter().chain(fields);
        fields.map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    /// Starts a session. Returns the cookie and the key that its requests must contain.
    fn open(dashboard: &Dashboard<&'static str>) -> (String, String) {
        let code = dashboard.create_code("acme").unwrap();
        let response = dashboard.start(&headers(&[(CODE_FIELD, code.reveal())])).unwrap();
        let cookie = response.headers()[SET_COOKIE].to_str().unwrap().to_owned();
        assert!(
            cookie.starts_with("isomer-dashboard-7171=") && cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict")
        );
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        (cookie.split(';').next().unwrap().to_owned(), body["key"].as_str().unwrap().to_owned())
    }

    #[test]
    fn a_page_with_cookie_and_key_has_the_rights_of_the_code() {
        let dashboard = Dashboard::default();
        let (cookie, key) = open(&dashboard);
        let rights = |fields: &[(&'static str, &str)]| dashboard.rights(&headers(fields), true);
        assert_eq!(rights(&[("cookie", &cookie), (KEY_FIELD, &key)]), Some(Ok("acme")));
        let among_others = format!("a=b; {cookie}; isomer-dashboard-71=c");
        assert_eq!(rights(&[("cookie", &among_others), (KEY_FIELD, &key)]), Some(Ok("acme")));
        assert_eq!(rights(&[("cookie", &cookie)]), None, "no page of the dashboard");
        assert_eq!(rights(&[(KEY_FIELD, &key)]), Some(Err(SessionRefusal::Unknown)));
        assert_eq!(rights(&[("cookie", &cookie), (KEY_FIELD, "")]), Some(Err(SessionRefusal::Unknown)));
        let mut foreign = headers(&[("cookie", &cookie), (KEY_FIELD, &key)]);
        foreign.insert("origin", HeaderValue::from_static("http://127.0.0.1:3000"));
        assert_eq!(dashboard.rights(&foreign, false), Some(Err(SessionRefusal::ForeignPage)));
        assert!(dashboard.end(&foreign).is_err());
        let ended = dashboard.end(&headers(&[("cookie", &cookie), (KEY_FIELD, &key)])).unwrap();
        assert!(ended.headers()[SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
        assert_eq!(rights(&[("cookie", &cookie), (KEY_FIELD, &key)]), Some(Err(SessionRefusal::Unknown)));
    }

    #[test]
    fn a_code_is_accepted_once_and_only_from_an_own_page() {
        let dashboard = Dashboard::default();
        let code = dashboard.create_code("acme").unwrap();
        let own = headers(&[(CODE_FIELD, code.reveal())]);
        let mut foreign = own.clone();
        foreign.insert("origin", HeaderValue::from_static("http://evil.example"));
        assert_eq!(dashboard.start(&foreign).unwrap_err(), SessionRefusal::ForeignPage);
        let mut without = own.clone();
        without.remove("origin");
        assert_eq!(dashboard.start(&without).unwrap_err(), SessionRefusal::ForeignPage);
        assert_eq!(dashboard.start(&headers(&[])).unwrap_err(), SessionRefusal::Code);
        assert!(dashboard.start(&own).is_ok());
        assert_eq!(dashboard.start(&own).unwrap_err(), SessionRefusal::Code);
    }

    #[test]
    fn a_cookie_of_a_page_with_tls_is_secure() {
        let dashboard = Dashboard::default();
        let code = dashboard.create_code("acme").unwrap();
        let mut secure = headers(&[(CODE_FIELD, code.reveal())]);
        secure.insert("host", HeaderValue::from_static("node.example"));
        secure.insert("origin", HeaderValue::from_static("https://node.example"));
        let response = dashboard.start(&secure).unwrap();
        let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
        assert!(cookie.starts_with("isomer-dashboard=") && cookie.ends_with("; Secure"), "{cookie}");
    }
}
