//! Tests of TLS on the front door: the certificate that a client gets, the requests that a connection permits, and
//! changed certificates.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::http::{Method, Request};
use arc_swap::ArcSwap;
use isomer_apps::{AppFront, AppResolver, AppSite};
use isomer_front::{CertificateFiles, Certificates, IpNetwork, Limits, Proxies, TlsError, TlsSettings};
use isomer_observe::{Format, Log};
use tempfile::TempDir;

use crate::harness::body::whole;
use crate::harness::client::Connection;
use crate::harness::front::{TestFront, site};
use crate::harness::log::MemoryLog;
use crate::harness::tls::{Authority, Client, Signed, write};
use crate::harness::{one, until, within};

const HTTP1: &[&str] = &["http/1.1"];
const BOTH: &[&str] = &["h2", "http/1.1"];

/// A folder with certificates, and the authority that signs them. Each folder has a different authority.
struct CertificateFolder {
    authority: Authority,
    folder: TempDir,
}

impl CertificateFolder {
    fn new() -> Self {
        Self { authority: Authority::new(), folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn sign(&self, stem: &str, names: &[&str]) -> Signed {
        self.authority.sign(self.folder.path(), stem, names)
    }

    fn settings(&self) -> TlsSettings {
        TlsSettings { folder: Some(self.folder.path().to_owned()), ..TlsSettings::default() }
    }

    fn load(&self) -> Arc<Certificates> {
        let (certificates, loaded) = Certificates::load(self.settings()).expect("the certificates are valid");
        assert!(loaded.problems.is_empty() && loaded.warnings.is_empty(), "{loaded:?}");
        certificates
    }
}

/// Starts a front door with a TLS listener and a listener without TLS. Returns the front door, whose address is that of
/// the TLS listener, and the address of the other listener.
fn serve(door: Arc<AppResolver>, certificates: &Arc<Certificates>, limits: Limits) -> (TestFront, SocketAddr) {
    let socket = || std::net::TcpListener::bind(("127.0.0.1", 0)).expect("port 0 is always free");
    let log = Log::start(MemoryLog::default(), Format::Json, true).expect("the log starts");
    let front = AppFront::new(limits, door, log);
    let front = front.with_listener(socket(), Some(certificates.clone())).expect("a socket that listens");
    let front = front.with_listener(socket(), None).expect("a socket that listens");
    let plain = front.addresses()[1];
    (TestFront::serve(front), plain)
}

/// Starts a front door like [`serve`] does. Every host name leads to the same app, which consists of the component
/// `guest`.
async fn serve_guest(guest: &str, certificates: &Arc<Certificates>) -> (TempDir, TestFront, SocketAddr) {
    let (folder, site) = site(&one(guest, "")).await;
    let (front, plain) = serve(Arc::new(ArcSwap::from(site)), certificates, Limits::default());
    (folder, front, plain)
}

/// Starts a front door with a site that has no routes.
fn serve_nothing(certificates: &Arc<Certificates>, change: impl FnOnce(&mut Limits)) -> TestFront {
    let mut limits = Limits::default();
    change(&mut limits);
    serve(Arc::new(ArcSwap::from_pointee(AppSite::new())), certificates, limits).0
}

fn get(connection: &Connection, host: &str) -> Request<crate::harness::body::Body> {
    let target = if connection.is_http2() { format!("https://{host}/") } else { "/".to_owned() };
    let request = Request::builder().method(Method::GET).uri(target);
    let request = if connection.is_http2() { request } else { request.header("host", host) };
    request.body(whole("")).expect("a valid request")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_name_selects_the_certificate() {
    let shop = CertificateFolder::new();
    let exact = shop.sign("shop", &["shop.example", "www.shop.example"]);
    let wildcard = shop.sign("wild", &["*.shop.example"]);
    let other = shop.sign("other", &["OTHER.example"]);
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    let default = shop.authority.sign(elsewhere.path(), "default", &["default.example"]);
    let front = serve_nothing(&shop.load(), |_| {});
    let settings = TlsSettings { files: vec![default.files.clone()], ..shop.settings() };
    let with_default = serve_nothing(&Certificates::load(settings).expect("the certificates are valid").0, |_| {});
    let settings = TlsSettings { default: Some("A.Shop.Example".to_owned()), ..shop.settings() };
    let with_named = serve_nothing(&Certificates::load(settings).expect("the certificates are valid").0, |_| {});
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = Client::trusting(version, BOTH);
        for (name, expected) in [
            ("shop.example", Some(&exact)),
            ("SHOP.example", Some(&exact)),
            ("www.shop.example", Some(&exact)),
            ("a.shop.example", Some(&wildcard)),
            ("other.example", Some(&other)),
            ("a.b.shop.example", None),
            ("unknown.example", None),
            ("127.0.0.1", None),
        ] {
            let shown = client.shown(front.address, name).await.ok();
            assert_eq!(shown.as_ref(), expected.map(|it| &it.der), "{name}");
            let shown = client.shown(with_default.address, name).await.expect("a default certificate");
            assert_eq!(shown, expected.unwrap_or(&default).der, "{name}");
            let shown = client.shown(with_named.address, name).await.expect("a default certificate");
            assert_eq!(shown, expected.unwrap_or(&wildcard).der, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxys_headers_count_over_tls() {
    let shop = CertificateFolder::new();
    shop.sign("shop", &["shop.example"]);
    let (_kept, site) = site(&one("http-head", "")).await;
    let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("port 0 is always free");
    let log = Log::start(MemoryLog::default(), Format::Json, true).expect("the log starts");
    let local = IpNetwork { address: [127, 0, 0, 1].into(), prefix: 32 };
    let proxies = Proxies { trusted: vec![local], proxy_protocol: false };
    let front = AppFront::new(Limits::default(), Arc::new(ArcSwap::from(site)), log).with_proxies(proxies);
    let front = TestFront::serve(front.with_listener(socket, Some(shop.load())).expect("a socket that listens"));
    for alpn in [BOTH, HTTP1] {
        let client = shop.authority.client(alpn);
        let mut connection = client.connect(front.address, "shop.example").await.expect("a connection");
        for (proto, scheme) in [(None, "https"), (Some("http"), "http"), (Some("https"), "https")] {
            let mut request = get(&connection, "shop.example");
            if let Some(proto) = proto {
                request.headers_mut().insert("x-forwarded-proto", proto.parse().expect("a value"));
            }
            assert_eq!(
                connection.exchange(request).await.ok(),
                format!("{scheme} shop.example / host=\n"),
                "{proto:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_see_the_scheme_of_each_listener() {
    let shop = CertificateFolder::new();
    shop.sign("shop", &["shop.example"]);
    let certificates = shop.load();
    for guest in ["http-head", "http-head-p2"] {
        let (_kept, front, plain) = serve_guest(guest, &certificates).await;
        for alpn in [BOTH, HTTP1, &[]] {
            let client = shop.authority.client(alpn);
            let mut connection = client.connect(front.address, "shop.example").await.expect("a connection");
            assert_eq!(connection.is_http2(), alpn == BOTH, "{alpn:?}");
            for _ in 0..2 {
                let request = get(&connection, "Shop.example");
                assert_eq!(connection.exchange(request).await.ok(), "https Shop.example / host=\n");
            }
        }
        let mut connection = within("connect", Connection::http1(plain)).await;
        let request = get(&connection, "shop.example:80");
        assert_eq!(connection.exchange(request).await.ok(), "http shop.example:80 / host=\n");
        // An absolute URI has precedence over the `Host` header. Its scheme must be that of the connection.
        for (uri, status) in [("http://shop.example/a?b", 200), ("https://shop.example/a?b", 421)] {
            let request = Request::get(uri).header("host", "other.example");
            let response = connection.exchange(request.body(whole("")).expect("a valid request")).await;
            assert_eq!(response.status, status, "{uri}");
            assert!(status != 200 || response.text() == "http shop.example /a?b host=\n", "{}", response.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsupported_protocol_ends_the_handshake() {
    let shop = CertificateFolder::new();
    shop.sign("shop", &["shop.example"]);
    let front = serve_nothing(&shop.load(), |_| {});
    let error = shop.authority.client(&["acme/1"]).stream(front.address, "shop.example").await.expect_err("refused");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_the_hosts_of_its_certificate_only() {
    let shop = CertificateFolder::new();
    shop.sign("shop", &["shop.example", "*.shop.example", "partner.example"]);
    shop.sign("other", &["other.example"]);
    let (_kept, front, _) = serve_guest("http-hello", &shop.load()).await;
    for alpn in [BOTH, HTTP1] {
        let client = shop.authority.client(alpn);
        for (named, host, status) in [
            ("shop.example", "shop.example", 200),
            ("shop.example", "SHOP.example.:443", 200),
            ("shop.example", "partner.example", 200),
            ("a.shop.example", "b.shop.example", 200),
            ("shop.example", "a.b.shop.example", 421),
            ("shop.example", "other.example", 421),
            ("other.example", "shop.example", 421),
            ("shop.example", "unknown.example", 421),
            ("shop.example", "127.0.0.1", 421),
        ] {
            let mut connection = client.connect(front.address, named).await.expect("a connection");
            let response = connection.exchange(get(&connection, host)).await;
            assert_eq!(response.status, status, "{named} {host}: {}", response.text());
            if status == 421 {
                response.problem(421);
            }
            // The refused request does not affect requests for other hosts over the same connection.
            let response = connection.exchange(get(&connection, named)).await;
            assert_eq!(response.ok(), "hello from WASI 0.3\n");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_server_name_may_request_an_address() {
    let shop = CertificateFolder::new();
    let default = shop.sign("shop", &["shop.example"]);
    let settings = TlsSettings { files: vec![default.files], ..TlsSettings::default() };
    let (certificates, _) = Certificates::load(settings).expect("the certificate is right");
    let (_kept, front, _) = serve_guest("http-hello", &certificates).await;
    let client = Client::trusting(&rustls::version::TLS13, BOTH);
    for (host, status) in [("127.0.0.1", 200), ("[::1]:443", 200), ("shop.example", 200), ("other.example", 421)] {
        let mut connection = client.connect(front.address, "127.0.0.1").await.expect("a connection");
        let response = connection.exchange(get(&connection, host)).await;
        assert_eq!(response.status, status, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_reloaded_without_a_failed_request() {
    let shop = CertificateFolder::new();
    let first = shop.sign("shop", &["shop.example"]);
    let certificates = shop.load();
    let (_kept, front, _) = serve_guest("http-hello", &certificates).await;
    let address = front.address;
    let client = shop.authority.client(BOTH);
    let mut old = client.connect(address, "shop.example").await.expect("a connection");
    let (over, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..3)
        .map(|number| {
            let (over, requests) = (over.clone(), requests.clone());
            let client = shop.authority.client(if number == 0 { HTTP1 } else { BOTH });
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let mut connection = client.connect(address, "shop.example").await.expect("a connection");
                    for _ in 0..3 {
                        let request = get(&connection, "shop.example");
                        assert_eq!(connection.exchange(request).await.ok(), "hello from WASI 0.3\n");
                        requests.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let mut last = first;
    for _ in 0..20 {
        last = shop.sign("shop", &["shop.example"]);
        let loaded = certificates.reload().expect("the certificates are valid");
        assert!(loaded.problems.is_empty(), "{loaded:?}");
        assert_eq!(client.shown(address, "shop.example").await.expect("a connection"), last.der);
        let before = requests.load(Ordering::Relaxed);
        until("more requests", async || (requests.load(Ordering::Relaxed) > before + 3).then_some(())).await;
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        within("the end of the clients", client).await.expect("no request failed");
    }
    let request = get(&old, "shop.example");
    assert_eq!(old.exchange(request).await.ok(), "hello from WASI 0.3\n");
    assert_eq!(client.shown(address, "shop.example").await.expect("a connection"), last.der);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_certificates_keep_the_previous_ones() {
    let shop = CertificateFolder::new();
    let first = shop.sign("shop", &["shop.example"]);
    shop.sign("gone", &["gone.example"]);
    let certificates = shop.load();
    let front = serve_nothing(&certificates, |_| {});
    let client = shop.authority.client(BOTH);
    // The folder now has one broken certificate and one new certificate, and one certificate was removed.
    write(&first.files.certificate, "nonsense", 0o644);
    let second = shop.sign("second", &["second.example"]);
    std::fs::remove_file(shop.folder.path().join("gone.crt")).expect("the certificate exists");
    std::fs::remove_file(shop.folder.path().join("gone.key")).expect("the key exists");
    let loaded = certificates.reload().expect("valid certificates are loaded");
    assert_eq!((loaded.certificates, loaded.problems.len()), (2, 1), "{loaded:?}");
    assert!(
        matches!(&loaded.problems[0], TlsError::Content { what: "certificate", path, .. } if *path == first.files.certificate)
    );
    assert_eq!(client.shown(front.address, "shop.example").await.expect("the old certificate"), first.der);
    assert_eq!(client.shown(front.address, "second.example").await.expect("the new certificate"), second.der);
    assert!(client.shown(front.address, "gone.example").await.is_err());
    // First the key file belongs to another certificate. Then it is replaced by the right key.
    let third = shop.sign("shop", &["shop.example"]);
    let other = shop.sign("second", &["second.example"]);
    std::fs::copy(&other.files.key, &third.files.key).expect("the key is copied");
    let loaded = certificates.reload().expect("valid certificates are loaded");
    assert!(loaded.problems[0].to_string().contains("not the key of that certificate"), "{loaded:?}");
    assert_eq!(client.shown(front.address, "shop.example").await.expect("the old certificate"), first.der);
    let right = shop.sign("shop", &["shop.example"]);
    assert!(certificates.reload().expect("all certificates are valid").problems.is_empty());
    assert_eq!(client.shown(front.address, "shop.example").await.expect("the new certificate"), right.der);
    // If the folder is missing, all certificates are kept.
    std::fs::rename(shop.folder.path(), shop.folder.path().with_extension("away")).expect("the folder is renamed");
    let loaded = certificates.reload().expect("the previous certificates are kept");
    std::fs::rename(shop.folder.path().with_extension("away"), shop.folder.path()).expect("the folder is renamed back");
    assert!(matches!(&loaded.problems[0], TlsError::Read { what: "folder of certificates", .. }), "{loaded:?}");
    assert_eq!(client.shown(front.address, "shop.example").await.expect("the certificate is kept"), right.der);
}

#[test]
fn unusable_certificates_have_distinct_errors() {
    let shop = CertificateFolder::new();
    let load = |files: &CertificateFiles| {
        let settings = TlsSettings { files: vec![files.clone()], ..TlsSettings::default() };
        match Certificates::load(settings) {
            Ok(_) => panic!("an invalid certificate was loaded"),
            Err(error) => error,
        }
    };
    assert!(matches!(Certificates::load(shop.settings()).err(), Some(TlsError::Nothing { .. })));
    let signed = shop.sign("shop", &["shop.example"]);
    let key = std::fs::read_to_string(&signed.files.key).expect("the key exists");
    write(&signed.files.key, &key, 0o644);
    let error = load(&signed.files);
    assert!(matches!(error, TlsError::KeyForAll { mode: 0o644, .. }), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.starts_with("run: chmod 600 ")));
    write(&signed.files.key, &key, 0o640);
    let settings = TlsSettings { default: Some("other.example".to_owned()), ..shop.settings() };
    assert!(matches!(Certificates::load(settings).err(), Some(TlsError::NoDefault { .. })));
    for (text, problem) in [("", "no private key"), ("nonsense", "no private key")] {
        write(&signed.files.key, text, 0o600);
        assert!(load(&signed.files).to_string().contains(problem), "{text}");
    }
    write(&signed.files.key, &key, 0o600);
    write(&signed.files.certificate, &"x".repeat((1 << 20) + 1), 0o644);
    assert!(load(&signed.files).to_string().contains("larger than"));
    write(&signed.files.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o644);
    assert!(matches!(load(&signed.files), TlsError::Content { what: "certificate", .. }));
    std::fs::remove_file(&signed.files.certificate).expect("the certificate exists");
    assert!(matches!(load(&signed.files), TlsError::Read { what: "certificate", .. }));
    // A certificate without its key, or a key without its certificate, is reported. So are two certificates for one
    // host.
    shop.sign("a", &["a.example"]);
    let second = shop.sign("b", &["a.example"]);
    let (_, loaded) = Certificates::load(shop.settings()).expect("some certificates are valid");
    assert_eq!(loaded.names, ["a.example"]);
    let warnings = loaded.warnings.join("\n");
    assert!(warnings.contains("there is no `shop.crt` next to it"), "{warnings}");
    assert!(
        warnings.contains(&format!("`{}` both cover `a.example`", second.files.certificate.display())),
        "{warnings}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_handshake_is_disconnected() {
    let shop = CertificateFolder::new();
    shop.sign("shop", &["shop.example"]);
    let short = |limits: &mut Limits| {
        // The timeout is long enough for a handshake on a busy machine.
        limits.handshake_timeout = Duration::from_secs(1);
        limits.connections_max = 1;
    };
    let front = serve_nothing(&shop.load(), short);
    let client = shop.authority.client(HTTP1);
    // The client sends nothing, an HTTP request without TLS, or the start of a handshake. Only one connection is
    // allowed, so the next connection waits until the timeout closes this one.
    for bytes in ["", "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n", "\u{16}\u{3}\u{1}"] {
        let mut raw = front.connect_raw().await;
        raw.write(bytes).await;
        let mut connection = client.connect(front.address, "shop.example").await.expect("a connection");
        let request = get(&connection, "shop.example");
        connection.exchange(request).await.problem(404);
        let response = raw.read_bytes().await;
        assert!(!response.starts_with(b"HTTP"), "{response:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_resumes_its_session() {
    let shop = CertificateFolder::new();
    shop.sign("shop", &["shop.example"]);
    let front = serve_nothing(&shop.load(), |_| {});
    let client = shop.authority.client(HTTP1);
    let kind = async || {
        let mut connection = client.connect(front.address, "shop.example").await.expect("a connection");
        let request = get(&connection, "shop.example");
        connection.exchange(request).await.problem(404);
        drop(connection);
        let stream = client.stream(front.address, "shop.example").await.expect("a connection");
        stream.get_ref().1.handshake_kind()
    };
    assert_eq!(kind().await, Some(rustls::HandshakeKind::Resumed));
}
