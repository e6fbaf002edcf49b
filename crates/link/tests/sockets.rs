//! Listening: socket files and their permissions, ports, and errors.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use isomer_link::{Address, LinkError, Peer, PeerLimits, Server, ServerLimits};
use isomer_wire::Callee as _;
use support::callee::Scripted;
use support::server::TestServer;
use support::{call, call_in, lost, peer, ready};

fn path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("run").join("cart.sock")
}

async fn fails(address: &Address) -> LinkError {
    let callee = Arc::new(Scripted(Arc::default()));
    match Server::listen(address, None, ServerLimits::default(), callee).await {
        Ok(server) => panic!("it listens at {}", server.address()),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_is_private_and_goes_with_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let server = TestServer::at(&Address::Unix(path.clone())).await;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(server.stopped().await, 0);
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_ones_socket_is_replaced_and_a_living_ones_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let address = Address::Unix(path.clone());
    let server = TestServer::at(&address).await;
    let error = fails(&address).await;
    assert!(matches!(error, LinkError::InUse { .. }), "{error}");
    assert!(error.hint().unwrap().contains("stop the process"));
    let peer = ready(&[&address]).await;
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
    drop(server.kill().await);
    // The socket file of a killed process.
    let stale = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(stale);
    assert!(path.exists());
    let _server = TestServer::at(&address).await;
    let peer = ready(&[&address]).await;
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_programs_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    let path = folder.path().join("cart.sock");
    let _living = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(fails(&Address::Unix(path.clone())).await, LinkError::InUse { .. }));
    assert!(path.exists());
    let file = folder.path().join("notes");
    fs::write(&file, "mine").unwrap();
    assert!(matches!(fails(&Address::Unix(file.clone())).await, LinkError::NotASocket { .. }));
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_others_may_enter_is_none_for_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let error = fails(&Address::Unix(folder.path().join("cart.sock"))).await;
    assert!(matches!(error, LinkError::OpenFolder { mode: 0o755, .. }), "{error}");
    assert_eq!(error.hint().unwrap(), format!("chmod 700 {}", folder.path().display()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_users_folder_is_none_for_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    // Only root can give the folder to another user. If the test runs as another user, it uses a folder that belongs to
    // root.
    let foreign = match chown(folder.path(), Some(65534), None) {
        Ok(()) => folder.path(),
        Err(_) => std::path::Path::new("/usr"),
    };
    let error = fails(&Address::Unix(foreign.join("cart.sock"))).await;
    assert!(matches!(error, LinkError::ForeignFolder { .. }), "{error}");
    assert!(error.hint().unwrap().contains("belongs to the user"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_no_files_is_refused() {
    for path in ["/", "/tmp/..", "", "cart.sock"] {
        let error = fails(&Address::Unix(path.into())).await;
        assert!(matches!(error, LinkError::Address(_)), "{path}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_said_to_be() {
    let server = TestServer::tcp().await;
    let error = fails(&server.address).await;
    assert!(matches!(error, LinkError::InUse { .. }), "{error}");
    assert!(error.hint().unwrap().contains("another port"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaves_the_machine_in_the_clear() {
    for text in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7000", "cart.example:7000"] {
        let address: Address = text.parse().unwrap();
        let error = fails(&address).await;
        assert!(matches!(error, LinkError::Cleartext { .. }), "{text}: {error}");
        let error = Peer::new("cart", vec![address], None, PeerLimits::default()).unwrap_err();
        assert!(matches!(error, LinkError::Cleartext { .. }), "{text}: {error}");
        assert!(error.hint().unwrap().contains("a certificate, a key and an authority"));
    }
    assert!(matches!(Peer::new("cart", Vec::new(), None, PeerLimits::default()), Err(LinkError::NoAddress { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_a_missing_socket_fails_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let absent = peer(&[&Address::Unix(path(&folder))]);
    let (_, reason, not_run) = lost(absent.call(call_in(Duration::from_secs(20), b"echo".to_vec())).await);
    assert!(not_run && reason.ends_with("its socket does not exist"), "{reason}");
}
