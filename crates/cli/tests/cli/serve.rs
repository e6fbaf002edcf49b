//! Tests of `isomer run` with apps, and with single components whose grants are flags.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use crate::support::{Server, TIMEOUT, Workspace, signal};

#[test]
fn an_app_responds_and_stops() {
    let workspace = Workspace::ping_pong("grants = { config = { WHO = \"pong\" } }\n");
    let server = workspace.serve(&["run"]);
    assert_eq!(server.get("/greet?name=ann"), (200, "pong to ann (count 1)\n".to_owned()));
    assert_eq!(server.get("/env?name=WHO"), (200, "ping=nothing pong=pong\n".to_owned()));
    assert_eq!(server.get("/.isomer/health").0, 200);
    server.wait_for_log("pong sees WHO=pong");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn telemetry_can_be_switched_off() {
    let workspace =
        Workspace::ping_pong("[shapes.apart]\nisolate = [\"pong\"]\ngroups = { all = [\"ping\", \"pong\"] }\n");
    for shape in ["monolith", "apart"] {
        let server = workspace.serve(&["run", "--shape", shape, "--telemetry", "off"]);
        assert_eq!(server.get("/greet?name=ann").0, 200);
        let traces = workspace.run(&["traces"]);
        assert!(traces.contains("this process records no traces") && traces.contains("--telemetry off"), "{traces}");
        let metrics = workspace.run(&["metrics", "--json"]);
        assert!(!metrics.contains("http.server") && !metrics.contains("isomer.seam"), "{metrics}");
        assert_eq!(server.stop(), Some(0));
    }
    let server = workspace.serve(&["run", "--telemetry", "0"]);
    assert_eq!(server.get("/greet?name=ann").0, 200);
    let metrics = workspace.run(&["metrics", "--json"]);
    assert!(metrics.contains("http.server.request.duration"), "{metrics}");
    assert!(!workspace.run(&["traces"]).contains("/greet"), "no request is sampled");
}

/// Returns the waterfall of a request to `/greet`, as soon as a request runs the code that reports fused calls.
fn waterfall_with_fused_call(workspace: &Workspace, server: &Server) -> String {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        assert_eq!(server.get("/greet?name=ann").0, 200);
        let newest = workspace.run(&["traces", "--json", "-n", "1"]);
        let page = newest.lines().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        if let Some(id) = page.as_ref().and_then(|page| page["traces"][0]["request"].as_str()) {
            let waterfall = workspace.run(&["trace", id]);
            if waterfall.contains("guest:pong/pong.greet") {
                return waterfall;
            }
            assert!(waterfall.contains("note: calls between fused components are missing"), "{waterfall}");
        }
        assert!(Instant::now() < deadline, "no trace contains the fused call: {newest}");
    }
}

#[test]
fn a_trace_contains_calls_between_fused_components() {
    let workspace = Workspace::ping_pong("");
    let server = workspace.serve(&["run"]);
    let waterfall = waterfall_with_fused_call(&workspace, &server);
    assert!(waterfall.contains("fused"), "{waterfall}");
    assert_eq!(server.stop(), Some(0));
    // The code is in the cache now, and is loaded again at the next start.
    let server = workspace.serve(&["run"]);
    waterfall_with_fused_call(&workspace, &server);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_service_manager_is_notified() {
    let workspace = Workspace::new();
    workspace.guest("http-hello", "hello.wasm");
    let path = workspace.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let heard = || {
        let mut bytes = [0; 1024];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "20000")];
    let server = workspace.serve_with(&["run", "hello.wasm"], &variables);
    assert_eq!(heard(), format!("READY=1\nSTATUS=serving at http://{}\n", server.address()));
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1\n");
    }
    signal("TERM", server.pid());
    while heard() != "STOPPING=1\n" {}
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn single_components_of_both_wasi_versions_respond() {
    let workspace = Workspace::new();
    for (guest, hello) in [("http-hello", "hello from WASI 0.3\n"), ("http-hello-p2", "hello from WASI 0.2\n")] {
        workspace.guest(guest, "hello.wasm");
        let server = workspace.serve(&["run", "hello.wasm"]);
        assert_eq!(server.get("/any/path"), (200, hello.to_owned()));
        assert_eq!(server.stop(), Some(0));
    }
    assert!(!workspace.path(".isomer").exists(), "nothing is left next to the file");
}

#[test]
fn a_single_component_has_the_grants_of_its_flags() {
    let workspace = Workspace::new();
    workspace.guest("env-print", "env.wasm");
    let server = workspace.serve(&["run", "env.wasm", "--env", "NAME=value"]);
    let (status, body) = server.get("/?name=NAME");
    assert!(status == 200 && body.contains("value"), "{body}");
}

#[test]
fn a_certificate_authority_of_the_environment_is_trusted() {
    let workspace = Workspace::new();
    workspace.guest("fetch-probe", "fetch.wasm");
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut own = rcgen::CertificateParams::new(Vec::new()).unwrap();
    own.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    workspace.write("company.pem", own.self_signed(&authority).unwrap().pem());
    let issuer = rcgen::Issuer::new(own, authority);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    workspace.write("certificates/app.crt", certificate.pem());
    workspace.write("certificates/app.key", key.serialize_pem());
    workspace.private_file("certificates/app.key");
    // The upstream server is a node with the certificate `app.crt`.
    workspace.write("node.toml", "[front]\nlisten_tls = \"127.0.0.1:0\"\n[front.tls]\nfolder = \"certificates\"\n");
    let arguments = ["node", "--config", "node.toml", "--data", "data", "--admin", "127.0.0.1:0", "--json"];
    let upstream = workspace.started(workspace.command(&arguments));
    let port = upstream.address_of("https").rsplit_once(':').unwrap().1.to_owned();
    let path = format!("/?url=https://localhost:{port}/");
    let company = workspace.path("company.pem");
    let ask = |variables: &[(&str, &str)]| {
        let server = workspace.serve_with(&["run", "fetch.wasm", "--allow", "localhost"], variables);
        server.get(&path)
    };
    let (status, body) = ask(&[("SSL_CERT_FILE", "")]);
    assert!(status == 502 && body.contains("TlsCertificateError"), "{status} {body}");
    let (status, body) = ask(&[("SSL_CERT_FILE", company.to_str().unwrap())]);
    assert_eq!(status, 404, "the node has no app there: {body}");
    // If the file cannot be read, an app still runs, because the public authorities may be all that its requests need.
    let server = workspace.serve_with(&["run", "fetch.wasm"], &[("SSL_CERT_FILE", "/nowhere/ca.pem")]);
    server.wait_for_log("`/nowhere/ca.pem` cannot be read");
}

#[test]
fn local_time_is_utc() {
    let workspace = Workspace::with_manifest(
        "[app]\nname = \"clock\"\nversion = \"1.0.0\"\n[components.it]\nwasm = \"it.wasm\"\nroutes = [\"/...\"]\ngrants.sql = [\"default\"]\n",
    );
    workspace.guest("sql-probe", "it.wasm");
    let server = workspace.serve_with(&["run"], &[("TZ", "FAR-9")]);
    let query = "/query?sql=SELECT%20datetime(0,'unixepoch','localtime'),datetime(0,'unixepoch','utc'),strftime('%25H',0,'unixepoch','localtime')";
    let (status, body) = server.get(query);
    assert!(status == 200 && body.ends_with("t:1970-01-01 00:00:00\tt:1970-01-01 00:00:00\tt:00\n"), "{body}");
}

#[test]
fn a_single_component_reaches_the_hosts_of_its_flags() {
    let workspace = Workspace::new();
    workspace.guest("fetch-probe", "fetch.wasm");
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in upstream.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\nupstream").unwrap();
        }
    });
    let path = format!("/?url=http://{address}/");
    let denied = workspace.serve(&["run", "fetch.wasm"]);
    assert!(!denied.get(&path).1.contains("upstream"), "{:?}", denied.get(&path));
    // The hint names a flag, because the component has no manifest that could grant the host.
    denied.wait_for_log(&format!("was denied; to grant it, start the process with `--allow {address}`"));
    let allowed = workspace.serve(&["run", "fetch.wasm", "--allow", &address.to_string()]);
    assert!(allowed.get(&path).1.contains("upstream"), "{:?}", allowed.get(&path));
}

#[test]
fn an_app_can_be_named_by_its_manifest_and_listens_as_flagged() {
    let workspace = Workspace::ping_pong("");
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    for (address, host) in [("localhost:0", "127.0.0.1"), (":0", "127.0.0.1"), ("0", "127.0.0.1"), ("[::1]:0", "[::1]")]
    {
        if host == "[::1]" && !has_ipv6 {
            continue;
        }
        let server = workspace.serve_at(address, &["run", "isomer.toml"]);
        assert_eq!(server.address().rsplit_once(':').unwrap().0, host);
        assert_eq!(server.get("/greet?name=ann").0, 200);
        assert_eq!(server.stop(), Some(0));
    }
}

#[test]
fn a_store_without_a_manifest_is_denied_with_a_hint() {
    let workspace = Workspace::new();
    workspace.guest("kv-probe", "kv.wasm");
    let server = workspace.serve(&["run", "kv.wasm"]);
    server.get("/get?store=scores&key=a");
    let printed = server.wait_for_log("was denied");
    assert!(printed.contains("`isomer new`"), "{printed}");
}

const LOG_APP: &str = "[app]\nname = \"log\"\nversion = \"1.0.0\"\n\n\
    [components.it]\nwasm = \"it.wasm\"\nroutes = [\"/...\"]\n\
    grants = { secrets = [\"key\"], config = { WORD = \"config-value\" } }\n\n[secrets]\nkey = { env = \"KEY\" }\n";

#[test]
fn log_levels_are_respected_and_secrets_are_never_logged() {
    let workspace = Workspace::with_manifest(LOG_APP);
    workspace.guest("secret-probe", "it.wasm");
    let talk = |flags: &[&str], variables: &[(&str, &str)]| {
        let variables = [variables, &[("KEY", "secret-value")]].concat();
        let server = workspace.serve_with(&[&["run"], flags].concat(), &variables);
        let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let head =
            "GET /?name=key HTTP/1.1\r\nhost: a\r\nauthorization: Bearer header-value\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        // The server closes the connection, because the client sends no valid request. This is logged at level `debug`.
        let mut broken = std::net::TcpStream::connect(server.address()).unwrap();
        broken.set_read_timeout(Some(TIMEOUT)).unwrap();
        broken.write_all(b"no HTTP\r\n\r\n").unwrap();
        let _ = broken.read_to_end(&mut answer);
        // Both connections are closed here, because the server would otherwise wait for them when it shuts down.
        drop((stream, broken));
        server.log_to_the_end()
    };
    let quiet = talk(&[], &[]);
    assert!(!quiet.iter().any(|line| line.contains("\"event\":\"debug\"")), "{quiet:?}");
    for loud in [talk(&["--log", "trace"], &[]), talk(&[], &[("ISOMER_LOG", "front=debug")])] {
        let debug = loud.iter().find(|line| line.contains("\"event\":\"debug\"")).unwrap_or_else(|| panic!("{loud:?}"));
        assert!(debug.contains("\"target\":\"isomer_front::connection\""), "{debug}");
        for told in ["secret-value", "header-value", "config-value"] {
            assert!(!loud.iter().any(|line| line.contains(told)), "{told}: {loud:?}");
        }
    }
    // The flag takes precedence over the environment variable.
    let flag = talk(&["--log", "info"], &[("ISOMER_LOG", "trace")]);
    assert!(!flag.iter().any(|line| line.contains("\"event\":\"debug\"")), "{flag:?}");
}
