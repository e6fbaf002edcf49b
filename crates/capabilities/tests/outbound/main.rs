//! Outbound HTTP over real sockets on loopback, with a resolver that the tests control.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod idle_connections;
mod server;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use isomer_capabilities::outbound::{
    Authorities, HostRule, OutboundClient, OutboundLimits, OutboundNetwork, OutboundPolicy, Outgoing, Resolve,
};
use rustls::RootCertStore;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// A resolver with lists of addresses per name. Each look-up returns the next list; the last list is returned
/// repeatedly.
#[derive(Default)]
struct Names {
    answers: Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>,
    looked_up: Mutex<Vec<String>>,
}

impl Names {
    fn with(names: &[(&str, &[&str])]) -> Arc<Self> {
        let it = Self::default();
        for (name, answers) in names {
            let answers = answers.iter().map(|answer| answer.split(' ').map(|ip| ip.parse().unwrap()).collect());
            it.answers.lock().unwrap().insert((*name).to_owned(), answers.collect());
        }
        Arc::new(it)
    }

    fn looked_up(&self) -> Vec<String> {
        self.looked_up.lock().unwrap().clone()
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            self.looked_up.lock().unwrap().push(name.to_owned());
            let mut answers = self.answers.lock().unwrap();
            let answers = answers.get_mut(name).ok_or_else(|| io::Error::other("no such name"))?;
            let next = answers.front().cloned().unwrap_or_default();
            if answers.len() > 1 {
                answers.pop_front();
            }
            Ok(next)
        })
    }
}

fn rule(host: &str, private: bool) -> HostRule {
    HostRule { host: host.to_owned(), port: None, private }
}

fn client(names: &Arc<Names>, rules: Vec<HostRule>, limits: OutboundLimits) -> OutboundClient {
    let mut roots = RootCertStore::empty();
    roots.add(server::authority()).unwrap();
    let network = OutboundNetwork::with(limits, names.clone(), roots);
    OutboundClient::new(network, OutboundPolicy::new("front", rules))
}

fn get(uri: &str) -> http::Request<WasiBody> {
    request(uri, Empty::new().map_err(|never| match never {}).boxed_unsync())
}

fn request(uri: &str, body: WasiBody) -> http::Request<WasiBody> {
    http::Request::builder().uri(uri).body(body).unwrap()
}

/// Drives the connection of a response, and reads the body to its end. Returns the status and the body.
async fn text((response, io): Outgoing) -> (u16, String) {
    let status = response.status().as_u16();
    let (body, _) = tokio::join!(response.into_body().collect(), io);
    (status, String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap())
}

fn error(result: Result<Outgoing, Error>) -> String {
    format!("{:?}", result.map(|_| "a response").unwrap_err())
}

#[tokio::test]
async fn a_granted_host_is_reached_with_its_own_host_header() {
    let port = server::echo().await;
    let names = Names::with(&[("app.localhost", &["127.0.0.1"])]);
    let client = client(&names, vec![rule("app.localhost", false)], OutboundLimits::default());
    let mut request = get(&format!("http://app.localhost:{port}/a?b=c"));
    request.headers_mut().insert("host", "elsewhere.test".parse().unwrap());
    let (status, body) = text(client.send(request, None).await.unwrap()).await;
    assert_eq!((status, body), (200, format!("HTTP/1.1 GET /a?b=c host=app.localhost:{port} ")));
}

#[tokio::test]
async fn hosts_without_a_grant_are_denied_before_the_look_up() {
    let names = Names::with(&[("other.test", &["127.0.0.1"])]);
    for rules in [vec![], vec![rule("app.localhost", true)], vec![rule("*.other.test", true)]] {
        let client = client(&names, rules, OutboundLimits::default());
        for uri in ["http://other.test/", "https://other.test:8443/", "http://127.0.0.1/", "http://[::1]:9/"] {
            assert_eq!(error(client.send(get(uri), None).await), "HttpRequestDenied", "{uri}");
        }
    }
    assert!(names.looked_up().is_empty());
    let client = client(&names, vec![rule("*", true)], OutboundLimits::default());
    for (uri, expected) in [
        ("http://user@other.test/", "HttpRequestUriInvalid"),
        ("http://0x7f.1/", "HttpRequestUriInvalid"),
        ("ftp://other.test/", "HttpProtocolError"),
        ("/path", "HttpRequestUriInvalid"),
    ] {
        assert_eq!(error(client.send(get(uri), None).await), expected, "{uri}");
    }
    let mut connect = get("http://other.test/");
    *connect.method_mut() = http::Method::CONNECT;
    assert_eq!(error(client.send(connect, None).await), "HttpRequestMethodInvalid");
    assert!(names.looked_up().is_empty());
}

#[tokio::test]
async fn a_public_name_that_leads_inside_is_refused() {
    let port = server::echo().await;
    let inside = ["127.0.0.1", "::1", "10.1.2.3", "169.254.169.254", "fd00::1", "::ffff:127.0.0.1", "0.0.0.0"];
    for address in inside {
        let names = Names::with(&[("public.test", &[address])]);
        for granted in ["public.test", "*.test", "*"] {
            let client = client(&names, vec![rule(granted, false)], OutboundLimits::default());
            let refused = client.send(get(&format!("http://public.test:{port}/")), None).await;
            assert_eq!(error(refused), "DestinationIpProhibited", "{granted} {address}");
        }
    }
    let names = Names::with(&[("public.test", &["127.0.0.1"])]);
    let client = client(&names, vec![rule("public.test", true)], OutboundLimits::default());
    assert_eq!(text(client.send(get(&format!("http://public.test:{port}/")), None).await.unwrap()).await.0, 200);
}

#[tokio::test]
async fn only_covered_addresses_of_a_name_are_tried() {
    let port = server::echo().await;
    let names = Names::with(&[("app.localhost", &["10.255.255.1 169.254.169.254 127.0.0.1"])]);
    let client = client(&names, vec![rule("app.localhost", false)], OutboundLimits::default());
    let (status, _) = text(client.send(get(&format!("http://app.localhost:{port}/")), None).await.unwrap()).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_name_that_changes_its_address_is_checked_for_every_request_and_looked_up_once_each() {
    let port = server::echo().await;
    let names = Names::with(&[("app.localhost", &["127.0.0.1", "10.0.0.1"])]);
    let limits = OutboundLimits { idle_max: 0, ..OutboundLimits::default() };
    let client = client(&names, vec![rule("app.localhost", false)], limits);
    let uri = format!("http://app.localhost:{port}/");
    assert_eq!(text(client.send(get(&uri), None).await.unwrap()).await.0, 200);
    assert_eq!(error(client.send(get(&uri), None).await), "DestinationIpProhibited");
    assert_eq!(names.looked_up(), ["app.localhost", "app.localhost"]);
}

#[tokio::test]
async fn a_redirect_is_returned() {
    let port = server::raw(&["HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"]).await;
    let names = Names::with(&[("app.localhost", &["127.0.0.1"])]);
    let client = client(&names, vec![rule("app.localhost", false)], OutboundLimits::default());
    let (response, _io) = client.send(get(&format!("http://app.localhost:{port}/")), None).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["location"]),
        (302, &"http://127.0.0.1:1/".parse().unwrap())
    );
}

#[tokio::test]
async fn bodies_are_streamed_both_ways() {
    let port = server::echo().await;
    let names = Names::with(&[("app.localhost", &["127.0.0.1"])]);
    let client = client(&names, vec![rule("app.localhost", false)], OutboundLimits::default());
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let pieces = futures::stream::unfold(receiver, async |mut receiver| {
        let piece = receiver.recv().await?;
        Some((Ok::<_, Error>(http_body::Frame::data(piece)), receiver))
    });
    let mut request = request(&format!("http://app.localhost:{port}/mirror"), StreamBody::new(pieces).boxed_unsync());
    *request.method_mut() = http::Method::POST;
    let (response, _io) = client.send(request, None).await.unwrap();
    let mut body = response.into_body();
    for piece in ["one", "two", "three"] {
        // Waits for each response frame before it sends the next request frame.
        sender.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(sender);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_silent_server_runs_into_its_timeouts() {
    let names = Names::with(&[("app.localhost", &["127.0.0.1"])]);
    let limits = OutboundLimits {
        first_byte_timeout: Duration::from_millis(50),
        between_bytes_timeout: Duration::from_millis(50),
        ..OutboundLimits::default()
    };
    let short = client(&names, vec![rule("app.localhost", false)], limits.clone());
    let silent = server::raw(&[]).await;
    assert_eq!(error(short.send(get(&format!("http://app.localhost:{silent}/")), None).await), "ConnectionReadTimeout");
    let halting = server::raw(&["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"]).await;
    let (response, _io) = short.send(get(&format!("http://app.localhost:{halting}/")), None).await.unwrap();
    let failed = response.into_body().collect().await.unwrap_err();
    assert!(matches!(failed, Error::ConnectionReadTimeout), "{failed:?}");
    let patient = client(&names, vec![rule("app.localhost", false)], OutboundLimits::default());
    let options = RequestOptions { first_byte_timeout: Some(Duration::from_millis(50)), ..RequestOptions::default() };
    let silent = server::raw(&[]).await;
    let refused = patient.send(get(&format!("http://app.localhost:{silent}/")), Some(options)).await;
    assert_eq!(error(refused), "ConnectionReadTimeout", "the guest's own timeout");
}

#[tokio::test]
async fn connections_are_bounded_until_their_responses_are_dropped() {
    let port = server::echo().await;
    let names = Names::with(&[("app.localhost", &["127.0.0.1"])]);
    let limits = OutboundLimits { connections_max: 1, ..OutboundLimits::default() };
    let client = client(&names, vec![rule("app.localhost", false)], limits);
    let uri = format!("http://app.localhost:{port}/");
    let first = client.send(get(&uri), None).await.unwrap();
    assert_eq!(error(client.send(get(&uri), None).await), "ConnectionLimitReached");
    drop(first);
    // The connection's task ends shortly after the response has been dropped, so the permit is not free immediately.
    let again = async {
        loop {
            match client.send(get(&uri), None).await {
                Err(Error::ConnectionLimitReached) => tokio::task::yield_now().await,
                other => break other,
            }
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(10), again).await.unwrap().unwrap();
    assert_eq!(text(again).await.0, 200);
}

#[tokio::test]
async fn tls_checks_the_certificate_and_speaks_http2_where_it_can() {
    let names = Names::with(&[("secure.localhost", &["127.0.0.1"]), ("wrong.localhost", &["127.0.0.1"])]);
    let rules = vec![rule("secure.localhost", false), rule("wrong.localhost", false)];
    let trusting = client(&names, rules.clone(), OutboundLimits::default());
    for (alpn, version) in [("http/1.1", "HTTP/1.1"), ("h2", "HTTP/2.0")] {
        let port = server::tls_echo(alpn).await;
        let uri = format!("https://secure.localhost:{port}/x");
        let body = Full::new(Bytes::from_static(b"hello")).map_err(|never| match never {}).boxed_unsync();
        let (status, body) = text(trusting.send(request(&uri, body), None).await.unwrap()).await;
        assert_eq!((status, body), (200, format!("{version} GET /x host=secure.localhost:{port} hello")));
        let wrong_name = trusting.send(get(&format!("https://wrong.localhost:{port}/")), None).await;
        assert_eq!(error(wrong_name), "TlsCertificateError");
        let network = OutboundNetwork::with(
            OutboundLimits::default(),
            names.clone(),
            isomer_capabilities::outbound::public_roots(),
        );
        let public = OutboundClient::new(network, OutboundPolicy::new("front", rules.clone()));
        assert_eq!(error(public.send(get(&uri), None).await), "TlsCertificateError");
    }
    let plain = server::echo().await;
    let refused = trusting.send(get(&format!("https://secure.localhost:{plain}/")), None).await;
    assert_eq!(error(refused), "TlsProtocolError");
}

#[tokio::test]
async fn a_host_may_have_an_authority_of_its_own() {
    let names = Names::with(&[("secure.localhost", &["127.0.0.1"]), ("wrong.localhost", &["127.0.0.1"])]);
    let port = server::tls_echo("http/1.1").await;
    let uri = format!("https://secure.localhost:{port}/");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("company.pem");
    std::fs::write(&file, server::AUTHORITY).unwrap();
    let network = OutboundNetwork::default();
    let company = network.authorities().with_file(&file, &file).unwrap();
    let rules = vec![rule("*", true)];
    for (trusted, expected) in [
        (vec![], Some("TlsCertificateError")),
        (vec![(rule("wrong.localhost", false), company.clone())], Some("TlsCertificateError")),
        (vec![(HostRule { port: Some(1), ..rule("*", false) }, company.clone())], Some("TlsCertificateError")),
        (vec![(rule("secure.localhost", false), company.clone())], None),
        (vec![(rule("*.localhost", false), company.clone())], None),
    ] {
        let network = OutboundNetwork::with(
            OutboundLimits::default(),
            names.clone(),
            isomer_capabilities::outbound::public_roots(),
        );
        let shown = trusted.iter().map(|(rule, _): &(HostRule, Authorities)| rule.host.clone()).collect::<Vec<_>>();
        let client = OutboundClient::new(network, OutboundPolicy::new("front", rules.clone())).trusting(trusted);
        match expected {
            Some(refused) => assert_eq!(error(client.send(get(&uri), None).await), refused, "{shown:?}"),
            None => assert_eq!(text(client.send(get(&uri), None).await.unwrap()).await.0, 200, "{shown:?}"),
        }
    }
    let network =
        OutboundNetwork::with(OutboundLimits::default(), names, isomer_capabilities::outbound::public_roots());
    let all = OutboundClient::new(network.trusting(company), OutboundPolicy::new("front", rules));
    assert_eq!(text(all.send(get(&uri), None).await.unwrap()).await.0, 200);
}

#[tokio::test]
async fn a_request_without_a_body_says_that_it_has_none() {
    const NOTHING: &[&str] = &[];
    let names = Names::with(&[("app.localhost", &["127.0.0.1"])]);
    let limits = OutboundLimits { idle_max: 0, ..OutboundLimits::default() };
    let client = client(&names, vec![rule("app.localhost", false)], limits);
    let (port, mut heads) = server::recording().await;
    let mut head = async |method: &str, pieces: Option<&'static [&'static str]>, length: Option<&str>| {
        let body = match pieces {
            None => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            // A body like that of a guest: its length is unknown, and its data arrives a little later.
            Some(pieces) => {
                let pieces = futures::stream::unfold(pieces.iter(), async |mut pieces| {
                    tokio::task::yield_now().await;
                    let piece = Bytes::from_static(pieces.next()?.as_bytes());
                    Some((Ok::<_, Error>(http_body::Frame::data(piece)), pieces))
                });
                StreamBody::new(pieces).boxed_unsync()
            }
        };
        let mut request = request(&format!("http://app.localhost:{port}/"), body);
        *request.method_mut() = method.parse().unwrap();
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.parse().unwrap());
        }
        assert_eq!(text(client.send(request, None).await.unwrap()).await.0, 200);
        let head = heads.recv().await.unwrap().to_ascii_lowercase();
        let framing = head.lines().filter(|line| line.starts_with("content-length:") || line.starts_with("transfer-"));
        framing.map(str::to_owned).collect::<Vec<_>>().join(", ")
    };
    for method in ["POST", "PUT", "PATCH"] {
        for pieces in [None, Some(NOTHING)] {
            assert_eq!(head(method, pieces, None).await, "content-length: 0", "{method} {pieces:?}");
        }
        assert_eq!(head(method, Some(NOTHING), Some("0")).await, "content-length: 0", "{method}");
        assert_eq!(head(method, Some(&["some", "thing"]), Some("9")).await, "content-length: 9", "{method}");
    }
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        for pieces in [None, Some(NOTHING)] {
            assert_eq!(head(method, pieces, None).await, "", "{method} {pieces:?}");
        }
    }
    // A small body is sent with its length, and not in chunks.
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        assert_eq!(head(method, Some(&["some", "", "thing"]), None).await, "content-length: 9", "{method}");
    }
    // Requests with these methods have a body only if the guest states its length. Otherwise the body is ignored.
    for method in ["GET", "HEAD"] {
        assert_eq!(head(method, Some(&["some", "thing"]), None).await, "", "{method}");
    }
}

/// Returns a body of unknown length that consists of these frames.
fn pieces(pieces: Vec<Result<http_body::Frame<Bytes>, Error>>) -> WasiBody {
    let pieces = futures::stream::unfold(pieces.into_iter(), async |mut pieces| {
        tokio::task::yield_now().await;
        Some((pieces.next()?, pieces))
    });
    StreamBody::new(pieces).boxed_unsync()
}

#[tokio::test]
async fn a_large_body_is_sent_completely_in_chunks() {
    let names = Names::with(&[("app.localhost", &["127.0.0.1"])]);
    let client = client(&names, vec![rule("app.localhost", false)], OutboundLimits::default());
    let (recording, mut heads) = server::recording().await;
    let echo = server::echo().await;
    for (bytes, framing) in [(64 << 10, "content-length: 65536"), ((64 << 10) + 1, "transfer-encoding: chunked")] {
        let sent: Vec<u8> = (0..bytes).map(|index: usize| u8::try_from(index % 251).unwrap()).collect();
        let body =
            || pieces(sent.chunks(10_000).map(|it| Ok(http_body::Frame::data(Bytes::copy_from_slice(it)))).collect());
        let post = |port: u16| {
            let mut request = request(&format!("http://app.localhost:{port}/mirror"), body());
            *request.method_mut() = http::Method::POST;
            request
        };
        assert_eq!(text(client.send(post(recording), None).await.unwrap()).await.0, 200);
        let head = heads.recv().await.unwrap().to_ascii_lowercase();
        assert!(head.contains(framing), "{bytes}: {head}");
        let (response, io) = client.send(post(echo), None).await.unwrap();
        let (mirrored, _) = tokio::join!(response.into_body().collect(), io);
        assert!(mirrored.unwrap().to_bytes() == sent, "{bytes}");
    }
}

#[tokio::test]
async fn a_failed_body_does_not_look_complete() {
    let names = Names::with(&[("app.localhost", &["127.0.0.1"])]);
    let client = client(&names, vec![rule("app.localhost", false)], OutboundLimits::default());
    let (port, _heads) = server::recording().await;
    let failing = pieces(vec![Ok(http_body::Frame::data(Bytes::from_static(b"half"))), Err(Error::HttpProtocolError)]);
    let mut request = request(&format!("http://app.localhost:{port}/"), failing);
    *request.method_mut() = http::Method::POST;
    assert!(client.send(request, None).await.is_err());
}

#[tokio::test]
async fn a_silent_address_does_not_delay_the_next_one() {
    // The listener on the second address accepts no connection, and its backlog is full. So packets to the listener are
    // dropped, as they would be by a firewall.
    let port = server::echo().await;
    let silent = std::net::SocketAddr::from(([127, 0, 0, 2], port));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(silent).unwrap();
    let _listener = socket.listen(1).unwrap();
    let mut queue = Vec::new();
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(silent)).await
    {
        queue.push(connected.unwrap());
    }
    let names = Names::with(&[("app.localhost", &["127.0.0.2 127.0.0.1"])]);
    let limits = OutboundLimits { connect_timeout: Duration::from_secs(60), ..OutboundLimits::default() };
    let client = client(&names, vec![rule("app.localhost", false)], limits);
    // If the client did not try the other address, this request would last until the timeout.
    let sent = client.send(get(&format!("http://app.localhost:{port}/")), None);
    let answer = tokio::time::timeout(Duration::from_secs(30), sent).await.expect("the second address answers");
    assert_eq!(text(answer.unwrap()).await.0, 200);
    // A parallel attempt needs its own connection permit.
    for (connections_max, expected) in [(1, Err("ConnectionTimeout".to_owned())), (2, Ok(200))] {
        let connect_timeout = Duration::from_secs(if connections_max == 1 { 1 } else { 60 });
        let limits = OutboundLimits { connections_max, connect_timeout, ..OutboundLimits::default() };
        let names = Names::with(&[("app.localhost", &["127.0.0.2 127.0.0.1"])]);
        let client = self::client(&names, vec![rule("app.localhost", false)], limits);
        let answer = match client.send(get(&format!("http://app.localhost:{port}/")), None).await {
            Ok(answer) => Ok(text(answer).await.0),
            failed => Err(error(failed)),
        };
        assert_eq!(answer, expected, "{connections_max}");
    }
    // All addresses are tried. Even if the machine has no route to the IPv6 address, the returned error states that the
    // servers at the other addresses refused the connection.
    let refusing = Names::with(&[("app.localhost", &["127.0.0.1 ::1 127.0.0.3"])]);
    let client = self::client(&refusing, vec![rule("app.localhost", false)], OutboundLimits::default());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(error(client.send(get(&format!("http://app.localhost:{free}/")), None).await), "ConnectionRefused");
}

#[tokio::test]
async fn failures_of_the_network_have_their_own_errors() {
    let names = Names::with(&[("app.localhost", &["127.0.0.1"]), ("empty.localhost", &[])]);
    let client = client(&names, vec![rule("*", true)], OutboundLimits::default());
    let port = {
        // The listener is dropped, so no process listens on the port.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    assert_eq!(error(client.send(get(&format!("http://app.localhost:{port}/")), None).await), "ConnectionRefused");
    assert!(error(client.send(get("http://unknown.localhost/"), None).await).starts_with("DnsError"));
    assert_eq!(error(client.send(get("http://empty.localhost/"), None).await), "DestinationNotFound");
}
