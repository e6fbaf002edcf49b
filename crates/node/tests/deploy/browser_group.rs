//! Tests of an app with a browser group on a node: its files are made by the compiler's child process and are kept with
//! the code.

use std::path::Path;

use crate::node::{Client, TestNode, TestRelease};
use crate::reshape::chain;

/// Returns the release of [`chain`] in a shape whose browser group contains `seam-entry`.
fn in_a_tab() -> TestRelease {
    let mut release = chain();
    release.release.shape = "tab".to_owned();
    let exposed = "wasm = \"seam-relay.wasm\"\n        exposed = [\"guest:seam/relay\"]";
    release.release.manifest = release.release.manifest.replace("wasm = \"seam-relay.wasm\"", exposed)
        + "\n[shapes.tab.groups]\nclient = { components = [\"seam-entry\"], place = \"browser\" }\n";
    release
}

/// Returns the path of the file that the service worker of the app imports.
async fn entry(node: &TestNode) -> String {
    let (status, worker) = node.get("/_isomer/worker.js").await;
    assert_eq!(status, 200, "{worker}");
    worker.trim_start_matches("import \"").trim_end_matches("\";\n").to_owned()
}

fn key(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("tenants/default/apps/shop/sessions.key")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_group_is_served_after_a_deployment_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    node.deploy(&in_a_tab()).await.unwrap();
    assert_eq!(node.get("/pass?what=hello").await.0, 200, "the server runs a copy");
    let before = entry(&node).await;
    let (status, script) = node.get(&before).await;
    assert!(status == 200 && !script.is_empty(), "{status}");
    assert_eq!(node.get("/_isomer/call").await.0, 405);
    let sessions = key(folder.path());
    node.stop().await;

    let node = TestNode::open(folder.path()).await;
    assert_eq!(entry(&node).await, before);
    assert_eq!(node.get(&before).await, (200, script));
    assert_eq!(key(folder.path()), sessions, "visitors keep their identities");
    // In another shape of the same app, the gateway does not exist.
    node.deploy(&chain()).await.unwrap();
    assert_eq!(node.get("/_isomer/worker.js").await.0, 200, "`seam-entry` has a route for all paths");
    assert!(!node.get("/_isomer/worker.js").await.1.starts_with("import"));
    // Browsers that look for a new version of the worker get one that removes itself.
    let request = hyper::Request::get("/_isomer/worker.js").header("host", "shop.example");
    let mut client = Client::connect(node.address).await;
    let (status, script) = client.send(request.header("service-worker", "script")).await;
    assert!(status == 200 && script.contains("registration.unregister()"), "{script}");
    node.stop().await;
}
