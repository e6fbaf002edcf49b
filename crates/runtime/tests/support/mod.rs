//! Guests written by hand: each a component whose handler is one function of a core module.
//!
//! They neither read their request nor give a response. A guest that returns is seen as one without a response, and one that found
//! something wrong traps: that is enough to say what it saw.

#![allow(clippy::unwrap_used, dead_code, reason = "helpers of several test binaries")]

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use isomer_runtime::code::Code;
use isomer_runtime::engine::{Engine, PoolSizes, Slots};
use isomer_runtime::group::GroupError;
use isomer_runtime::guest::OwnerSettings;
use isomer_runtime::output::{OutputSink, Stream};
use isomer_runtime::{
    Account, AccountLimits, Failure, Graph, Group, GroupHandle, GroupSettings, Handler, Import, Owner, Request,
    RequestId,
};
use wasmtime::component::Component;

struct Nowhere;

impl OutputSink for Nowhere {
    fn line(&self, _: &str, _: Stream, _: Option<RequestId>, _: &[u8]) {}
    fn broken(&self, _: &str, _: RequestId, _: &Failure) {}
    fn call_failed(&self, _: &str, _: Option<RequestId>, _: &Failure) {}
    fn denied(&self, _: &str, _: &str) {}
}

/// An engine whose pool must never be full while the runtime counts it as not full: the test fails at its end if it was.
pub(crate) struct TestEngine(Engine);

/// An engine with room for about `instances`.
pub(crate) fn engine(instances: u32) -> TestEngine {
    TestEngine(Engine::new(PoolSizes::new(instances)).unwrap())
}

impl Deref for TestEngine {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.0
    }
}

impl Drop for TestEngine {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.0.pool_miscounts(), 0, "the slots of the engine's pool were miscounted");
        }
    }
}

/// How a guest runs.
pub(crate) struct Bounds {
    pub(crate) account: Arc<Account>,
    pub(crate) memory_bytes: usize,
    pub(crate) requests_per_instance_max: u32,
    pub(crate) instances_max: usize,
    /// What the engine keeps of an instance. 0 where what is counted is the guests' own memory.
    pub(crate) state_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            account: Account::unlimited(),
            memory_bytes: 64 << 20,
            requests_per_instance_max: 100,
            instances_max: 16,
            state_bytes: 0,
        }
    }
}

pub(crate) fn account(memory_bytes: u64, cpu_per_second: Duration) -> Arc<Account> {
    Account::new("tenant".into(), AccountLimits { memory_bytes, cpu_per_second })
}

/// A component whose handler is the function `handle` (two numbers, no result) of the module with these `fields`.
pub(crate) fn component(fields: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "wasi:http/types@0.2.6" (instance $types
                (export "incoming-request" (type (sub resource)))
                (export "response-outparam" (type (sub resource)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $out))
            (core module $m {fields})
            (core instance $i (instantiate $m))
            (func $handle (param "request" (own $request)) (param "response-out" (own $out))
                (canon lift (core func $i "handle")))
            (instance $handler (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@0.2.6" (instance $handler)))"#
    );
    wat::parse_str(text).unwrap()
}

pub(crate) fn group(engine: &Engine, component: &[u8], bounds: &Bounds) -> Result<GroupHandle, GroupError> {
    let slots = Slots::count(component).unwrap();
    let code = Code::from(Component::from_binary(engine.wasmtime(), component).unwrap());
    let interface = |name: &str| Import {
        name: name.to_owned(),
        interface: name.to_owned(),
        owner: Owner::Shared(vec!["guest".into()]),
    };
    let export = "wasi:http/incoming-handler@0.2.6".to_owned();
    let settings = GroupSettings {
        owners: vec![OwnerSettings { component: "guest".into(), ..OwnerSettings::default() }],
        sink: Arc::new(Nowhere),
        account: bounds.account.clone(),
        slots,
        state_bytes: bounds.state_bytes,
        memory_bytes: bounds.memory_bytes,
        concurrency: 1,
        instances_max: bounds.instances_max,
        requests_per_instance_max: bounds.requests_per_instance_max,
        instance_age_max: Duration::from_secs(600),
        stubs: Vec::new(),
        skeletons: Vec::new(),
    };
    let handlers = [Handler { interface: export.clone(), export }];
    let imports = [interface("wasi:http/types@0.2.6")];
    let group = Group::new(engine, &code, &imports, &handlers, &[], settings)?;
    Ok(Graph::new([0; 16], vec![group]).group(0))
}

/// A group of the module with these `fields`.
pub(crate) fn guest(engine: &Engine, fields: &str, bounds: &Bounds) -> GroupHandle {
    group(engine, &component(fields), bounds).unwrap()
}

/// What becomes of a request. `Ok` where the guest came to its end.
pub(crate) async fn ask(group: &GroupHandle, allowed: Duration) -> Result<(), Failure> {
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request {
        http: http::Request::builder().uri("http://guest.test/").body(body).unwrap(),
        id: RequestId::from_raw(1).unwrap(),
        deadline: Instant::now() + allowed,
        allowed,
        handler: 0,
        component: "guest".into(),
        buffer_bytes: 0,
    };
    match group.handle(request).await {
        Ok(_) => panic!("such a guest gives no response"),
        Err(Failure::NoResponse) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Enough for anything that is not about time.
pub(crate) const LONG: Duration = Duration::from_secs(60);
