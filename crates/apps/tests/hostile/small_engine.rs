//! A node with one app in an engine that the test provides. The first request starts the first instance.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use isomer_apps::AppFront;
use isomer_apps::{AppCapabilities, NewPackage, Package, PackageOptions, Revision, RevisionError, StartOptions};
use isomer_capabilities::DataDir;
use isomer_front::Limits;
use isomer_observe::{Format, Log};
use isomer_runtime::code::CodeCache;
use isomer_runtime::engine::Engine;
use isomer_seam::Components;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::client::{Connection, TestResponse};
use crate::harness::front::TestFront;
use crate::harness::log::MemoryLog;
use crate::harness::{Counted, code_folder, parse, within};

/// A node that serves until it is dropped.
pub(crate) struct SmallNode {
    front: TestFront,
    memory: MemoryLog,
    _data: DataDir,
    _folder: TempDir,
    _counted: Counted,
}

/// Composes and compiles the app of `manifest`. `components` are the app's components, by name.
pub(crate) fn package(
    manifest: &str,
    components: &[(&str, Vec<u8>)],
    engine: &Engine,
) -> Result<NewPackage, RevisionError> {
    let app = parse(&format!("[app]\nname = \"test\"\nversion = \"0.1.0\"\n\n{manifest}"));
    let bytes = |name: &str| components.iter().find(|(of, _)| *of == name).expect("a given component").1.clone();
    let components: Components =
        app.components.keys().map(|name| (name.clone(), bytes(name.as_str()).into())).collect();
    let cache = CodeCache::open(&code_folder()).expect("a folder for compiled code").into();
    Package::make(&app, &components, &PackageOptions::default(), engine, &cache, &|_| {})
}

impl SmallNode {
    /// Starts a node that serves the app of `manifest`.
    pub(crate) async fn start(manifest: &str, components: &[(&str, Vec<u8>)], engine: &Engine) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = DataDir::open(&folder.path().join(".isomer")).expect("a data directory of its own");
        let memory = MemoryLog::default();
        let log = Log::start(memory.clone(), Format::Json, true).expect("the log starts");
        let NewPackage { package, code, .. } = package(manifest, components, engine).expect("the app can be made");
        let parts = AppCapabilities::open(package.grants(), folder.path(), &data, log.clone())
            .await
            .expect("an app without grants");
        let cache = CodeCache::open(&code_folder()).expect("a folder for compiled code").into();
        let mut options = StartOptions::default();
        options.instances_max = Some(1);
        options.requests_per_instance_max = Some(1);
        options.warm_up = false;
        let revision = Revision::start(&package, engine, &cache, &parts, &options, &|_| {}).await;
        let revision = revision.expect("nothing runs yet");
        drop(code);
        let door = Arc::new(ArcSwap::new(revision.site().clone()));
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let front = AppFront::listen(listen, Limits::default(), door, log).await.expect("port 0 is always free");
        Self { front: TestFront::serve(front), memory, _data: data, _folder: folder, _counted: Counted(engine.clone()) }
    }

    /// Sends a GET request over a new connection and reads the complete response.
    pub(crate) async fn get(&self, target: &str) -> TestResponse {
        within("connect", Connection::http1(self.front.address)).await.get(target).await
    }

    /// Waits for the event `failed` of the request `id` in the log. Returns the event.
    pub(crate) async fn failed(&self, id: &str) -> Value {
        let is_it = |event: &Value| event["event"] == "failed" && event["request"] == id;
        self.memory.event("an event `failed` in the log", 0, is_it).await
    }
}
