//! Attempts to access what was not granted. Each function responds with one line for each attempt and its outcome.

use std::fmt::Debug;
use std::{env, fs};

use futures::future::join;
use guest_support::{HandlerResult, body_bytes, query, query_number, respond};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp_create_socket::create_udp_socket;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::wit_future;

use crate::isomer::secrets::store as secrets;
use crate::isomer::sql::store as sqls;
use crate::isomer::sql::types::Value;
use crate::wasi::keyvalue::store as kv;

/// Returns the line of the response for one attempt. The line begins with `got` if the attempt has succeeded.
fn line<T: Debug, E: Debug>(attempt: &str, outcome: Result<T, E>) -> String {
    match outcome {
        Ok(value) => format!("got {attempt}: {value:?}\n"),
        Err(error) => format!("refused {attempt}: {error:?}\n"),
    }
}

/// Returns the attempts to make, which are the lines of the request's body.
async fn attempts(request: Request) -> Vec<String> {
    let text = String::from_utf8_lossy(&body_bytes(request).await).into_owned();
    text.lines().map(str::to_owned).collect()
}

/// Sends two concurrent requests to the host and port in the query's `url`, which lead back to this app. Responds with
/// both outcomes.
pub async fn itself(request: Request) -> HandlerResult {
    let url = query(&request, "url").unwrap_or_default();
    let target = request.get_path_with_query().unwrap_or_default();
    let (first, second) = join(get(&url, &target), get(&url, &target)).await;
    let status = |response: Result<Response, ErrorCode>| response.map(|response| response.get_status_code());
    respond(200, format!("{:?} {:?}\n", status(first), status(second)))
}

/// Sends a request to each host (`HOST` or `HOST:PORT`) in the request's body, one per line.
pub async fn fetch(request: Request) -> HandlerResult {
    let mut lines = String::new();
    for url in attempts(request).await {
        let response = get(&url, "/").await;
        lines += &line(&url, response.map(|response| response.get_status_code()));
    }
    respond(200, lines)
}

async fn get(authority: &str, target: &str) -> Result<Response, ErrorCode> {
    let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (request, _sent) = Request::new(Fields::new(), None, trailers_reader, None);
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_scheme(Some(&Scheme::Http)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(target)).map_err(invalid)?;
    client::send(request).await
}

/// Tries to read, list, write and remove each path in the request's body (one per line), and to create a folder in it.
pub async fn files(request: Request) -> HandlerResult {
    let mut lines = String::new();
    for path in attempts(request).await {
        lines += &line(&format!("read {path}"), fs::read(&path));
        lines += &line(&format!("list {path}"), fs::read_dir(&path).map(|entries| entries.count()));
        lines += &line(&format!("write {path}"), fs::write(&path, "hostile"));
        lines += &line(&format!("make {path}"), fs::create_dir(format!("{path}/hostile")));
        lines += &line(&format!("remove {path}"), fs::remove_file(format!("{path}/")));
    }
    respond(200, lines)
}

/// Tries to open sockets of every kind, and to resolve names. Calls WASI 0.2 directly instead of using `std::net`,
/// because some C libraries for guests have no sockets.
pub fn sockets() -> HandlerResult {
    let network = instance_network();
    let mut lines = String::new();
    for (address, port) in [((127, 0, 0, 1), 80), ((169, 254, 169, 254), 80), ((1, 1, 1, 1), 53), ((0, 0, 0, 0), 0)] {
        let place = IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address });
        let attempt = |what: &str| format!("{what} {address:?}:{port}");
        let connected = create_tcp_socket(IpAddressFamily::Ipv4).and_then(|socket| {
            socket.start_connect(&network, place)?;
            socket.subscribe().block();
            socket.finish_connect().map(|_| "connected")
        });
        lines += &line(&attempt("connect"), connected);
        let listening = create_tcp_socket(IpAddressFamily::Ipv4).and_then(|socket| {
            socket.start_bind(&network, place)?;
            socket.finish_bind()?;
            socket.start_listen()?;
            socket.finish_listen()
        });
        lines += &line(&attempt("listen"), listening);
        let bound = create_udp_socket(IpAddressFamily::Ipv4).and_then(|socket| {
            socket.start_bind(&network, place)?;
            socket.finish_bind()?;
            socket.stream(Some(place)).map(|_| "a stream")
        });
        lines += &line(&attempt("datagrams"), bound);
    }
    for name in ["localhost", "example.com", "127.0.0.1"] {
        let found = resolve_addresses(&network, name).and_then(|names| {
            names.subscribe().block();
            names.resolve_next_address()
        });
        lines += &line(&format!("find {name}"), found);
    }
    respond(200, lines)
}

/// Tries to open a key-value store, an SQL store and a secret by each name in the request's body (one per line).
pub async fn stores(request: Request) -> HandlerResult {
    let mut lines = String::new();
    for name in attempts(request).await {
        let keys = kv::open(&name).and_then(|bucket| bucket.list_keys(None)).map(|page| page.keys);
        lines += &line(&format!("keys of {name:?}"), keys);
        lines += &line(&format!("tables of {name:?}"), sqls::open(name.clone()).await.map(|_| "a connection"));
        lines += &line(&format!("secret {name:?}"), secrets::get(&name).map(|_| "a secret"));
    }
    respond(200, lines)
}

/// Runs each line of the request's body as a statement. `?at-once=N` runs only the first line, N times concurrently.
/// `?parameter-bytes=N` passes a parameter of that size to each statement.
pub async fn sql(request: Request) -> HandlerResult {
    let at_once = query_number(&request, "at-once", 0);
    let parameter_bytes = query_number(&request, "parameter-bytes", 0) as usize;
    let statements = attempts(request).await;
    let connection = match sqls::open("default".to_owned()).await {
        Ok(connection) => connection,
        Err(error) => return respond(200, format!("{error:?}\n")),
    };
    let run = async |statement: &str| {
        let parameters = if parameter_bytes > 0 { vec![Value::Blob(vec![7; parameter_bytes])] } else { Vec::new() };
        let outcome = connection.query(statement.to_owned(), parameters).await;
        line(statement, outcome.map(|rows| rows.rows.len()))
    };
    let mut lines = String::new();
    match statements.first() {
        Some(first) if at_once > 0 => {
            lines = futures::future::join_all((0..at_once).map(|_| run(first))).await.concat();
        }
        _ => {
            for statement in &statements {
                lines += &run(statement).await;
            }
        }
    }
    respond(200, lines)
}

/// Responds with everything that a guest can learn about the platform.
pub fn environment() -> HandlerResult {
    let mut lines = String::new();
    for (key, value) in env::vars() {
        lines += &format!("got variable {key}={value}\n");
    }
    for argument in env::args() {
        lines += &format!("got argument {argument}\n");
    }
    lines += &line("the working directory's entries", fs::read_dir(".").map(|entries| entries.count()));
    lines +=
        &line("standard input", std::io::read_to_string(std::io::stdin()).map(|text| text.len()).and_then(nothing));
    respond(200, lines)
}

/// Returns an error if a read returned 0 bytes, because reading an empty input is not a successful attempt.
fn nothing(bytes: usize) -> std::io::Result<usize> {
    if bytes == 0 { Err(std::io::Error::other("it is empty")) } else { Ok(bytes) }
}
