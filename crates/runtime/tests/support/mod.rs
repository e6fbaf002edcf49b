//! Guests that are written as text. Each is a component whose handler is one function of a core module.
//!
//! The guests do not read their request. A guest that succeeds returns an error instead of a response, and a guest that
//! finds something wrong traps, so that a test can distinguish the two cases.

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
use isomer_runtime::{
    Account, AccountLimits, Failure, Graph, Group, GroupHandle, GroupSettings, GuestRequest, HttpHandlerExport, Import,
    InterfaceOwner,
};
use isomer_telemetry::{DiscardEvents, RequestId, SpanContext, TraceContext, Tracer};
use wasmtime::component::Component;

/// An engine whose slot counters are checked. When it is dropped, the test fails if the pool was ever full although the
/// runtime's counters showed free slots.
pub(crate) struct TestEngine(Engine);

/// Waits until `condition` returns true, but at most for the time `at_most`.
pub(crate) async fn until(at_most: Duration, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() && began.elapsed() < at_most {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Returns an engine whose pool has room for about `instances` instances.
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

/// The limits of a guest and of its instances.
pub(crate) struct Bounds {
    pub(crate) account: Arc<Account>,
    pub(crate) memory_bytes: usize,
    pub(crate) requests_per_instance_max: u32,
    pub(crate) instances_max: usize,
    /// The number of bytes charged for the engine's own data of an instance. 0 if only the guest's memory is measured.
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

/// Returns a component whose handler is the function `handle` (two parameters, no result) of a core module with the
/// definitions `fields`.
pub(crate) fn component(fields: &str) -> Vec<u8> {
    handler(&format!("(core module $m {fields}) (core instance $i (instantiate $m))"))
}

/// Returns a component whose handler is the function `handle` (two parameters, no result) of the core instance `$i`.
/// The text `inside` must define `$i`.
pub(crate) fn handler(inside: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "wasi:http/types@0.2.6" (instance $types {TYPES}))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $out))
            {inside}
            ;; Texts of an error would lie in it; the one that is given has none.
            (core module $memory (memory (export "memory") 0))
            (core instance $memory (instantiate $memory))
            (core func $set (canon lower (func $types "[static]response-outparam.set") (memory (core memory $memory "memory"))))
            (core module $answering
                (import "" "handle" (func $handle (param i32 i32)))
                (import "" "set" (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
                (func (export "handle") (param i32 i32)
                    (call $handle (local.get 0) (local.get 1))
                    ;; `err`, and of its 39 cases number 36: `loop-detected`.
                    (call $set (local.get 1) (i32.const 1) (i32.const 36)
                        (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
            (core instance $answering (instantiate $answering
                (with "" (instance (export "handle" (func $i "handle")) (export "set" (func $set))))))
            (func $handle (param "request" (own $request)) (param "response-out" (own $out))
                (canon lift (core func $answering "handle")))
            (instance $handler (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@0.2.6" (instance $handler)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The part of `wasi:http/types` that a handler needs to return an error.
const TYPES: &str = r#"
    (export "incoming-request" (type (sub resource)))
    (export "outgoing-response" (type $response (sub resource)))
    (export "response-outparam" (type $out (sub resource)))
    (type $dns' (record (field "rcode" (option string)) (field "info-code" (option u16))))
    (export "DNS-error-payload" (type $dns (eq $dns')))
    (type $tls' (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
    (export "TLS-alert-received-payload" (type $tls (eq $tls')))
    (type $field' (record (field "field-name" (option string)) (field "field-size" (option u32))))
    (export "field-size-payload" (type $field (eq $field')))
    (type $code' (variant
        (case "DNS-timeout") (case "DNS-error" $dns) (case "destination-not-found") (case "destination-unavailable")
        (case "destination-IP-prohibited") (case "destination-IP-unroutable") (case "connection-refused")
        (case "connection-terminated") (case "connection-timeout") (case "connection-read-timeout")
        (case "connection-write-timeout") (case "connection-limit-reached") (case "TLS-protocol-error")
        (case "TLS-certificate-error") (case "TLS-alert-received" $tls) (case "HTTP-request-denied")
        (case "HTTP-request-length-required") (case "HTTP-request-body-size" (option u64))
        (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid") (case "HTTP-request-URI-too-long")
        (case "HTTP-request-header-section-size" (option u32)) (case "HTTP-request-header-size" (option $field))
        (case "HTTP-request-trailer-section-size" (option u32)) (case "HTTP-request-trailer-size" $field)
        (case "HTTP-response-incomplete") (case "HTTP-response-header-section-size" (option u32))
        (case "HTTP-response-header-size" $field) (case "HTTP-response-body-size" (option u64))
        (case "HTTP-response-trailer-section-size" (option u32)) (case "HTTP-response-trailer-size" $field)
        (case "HTTP-response-transfer-coding" (option string)) (case "HTTP-response-content-coding" (option string))
        (case "HTTP-response-timeout") (case "HTTP-upgrade-failed") (case "HTTP-protocol-error") (case "loop-detected")
        (case "configuration-error") (case "internal-error" (option string))))
    (export "error-code" (type $code (eq $code')))
    (export "[static]response-outparam.set" (func
        (param "param" (own $out)) (param "response" (result (own $response) (error $code)))))"#;

pub(crate) fn group(engine: &Engine, component: &[u8], bounds: &Bounds) -> Result<GroupHandle, GroupError> {
    let slots = Slots::count(component).unwrap();
    let code = Code::from(Component::from_binary(engine.wasmtime(), component).unwrap());
    let interface = |name: &str| Import {
        name: name.to_owned(),
        interface: name.to_owned(),
        owner: InterfaceOwner::Shared(vec!["guest".into()]),
    };
    let export = "wasi:http/incoming-handler@0.2.6".to_owned();
    let settings = GroupSettings {
        metrics: Arc::default(),
        owners: vec![OwnerSettings { component: "guest".into(), ..OwnerSettings::default() }],
        sink: Arc::new(DiscardEvents),
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
        has_fused_seams: false,
    };
    let handlers = [HttpHandlerExport { interface: export.clone(), export }];
    let imports = [interface("wasi:http/types@0.2.6")];
    let group = Group::new(engine, &code, &imports, &handlers, &[], settings)?;
    Ok(Graph::new(isomer_ids::PlanDigest::default(), vec![group], Tracer::default()).group(0))
}

/// Returns a group whose guest is a core module with the definitions `fields`.
pub(crate) fn guest(engine: &Engine, fields: &str, bounds: &Bounds) -> GroupHandle {
    group(engine, &component(fields), bounds).unwrap()
}

/// Sends a request whose deadline is `allowed` from now. Returns `Ok` if the guest has run to its end.
///
/// # Errors
/// If the guest was refused, trapped or stopped.
pub(crate) async fn ask(group: &GroupHandle, allowed: Duration) -> Result<(), Failure> {
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    let request = GuestRequest {
        http: http::Request::builder().uri("http://guest.test/").body(body).unwrap(),
        id: RequestId::from_raw(1).unwrap(),
        span: SpanContext::unrecorded(TraceContext::start(RequestId::random().into())),
        deadline: Instant::now() + allowed,
        allowed,
        stream_allowed: allowed,
        handler: 0,
        component: "guest".into(),
        buffer_bytes: 0,
    };
    match group.handle(request).await {
        Ok(_) => panic!("such a guest sends no response"),
        Err(Failure::Handler { code, .. }) if code.ends_with("LoopDetected") => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// A deadline that is late enough for every test that does not measure time.
pub(crate) const LONG: Duration = Duration::from_secs(60);
