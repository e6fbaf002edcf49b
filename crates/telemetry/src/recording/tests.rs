//! Tests recordings through the public types.

use super::*;
use crate::{ActiveSpan, SamplingPolicy, SpanKind, SpanStatus, Tracer};

#[derive(Default)]
struct Memory(Mutex<Vec<TraceFragment>>);

impl TraceSink for Memory {
    fn record(&self, fragment: TraceFragment) {
        self.0.lock().unwrap().push(fragment);
    }
}

fn tracer(ratio: f64) -> (Tracer, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    let policy = SamplingPolicy { ratio, slow: Duration::MAX, ..SamplingPolicy::LOCAL };
    (Tracer::new(None, policy, memory.clone()), memory)
}

fn request(tracer: &Tracer) -> ActiveSpan {
    tracer.begin_request(None, false, RequestId::random(), "/", Instant::now())
}

#[test]
fn spans_are_children_of_the_span_that_caused_them() {
    let (tracer, memory) = tracer(1.0);
    let mut root = request(&tracer);
    root.rename("GET /");
    let mut call = root.context().begin("shop/cart.add", SpanKind::Client);
    call.set("rpc.method", "add");
    call.set("rpc.method", "remove");
    let read = call.context().begin("get", SpanKind::Client);
    assert!(read.context().is_sampled());
    drop((read, call));
    assert_eq!(memory.0.lock().unwrap().len(), 0, "the request has not ended");
    drop(root);
    let fragments = memory.0.lock().unwrap();
    let [fragment] = &fragments[..] else { panic!("one fragment: {fragments:?}") };
    let [read, call, root] = &fragment.spans[..] else { panic!("three spans: {fragment:?}") };
    assert_eq!((read.parent, call.parent, root.parent), (Some(call.id), Some(root.id), None));
    assert_eq!((root.name.as_str(), root.id), ("GET /", fragment.request.into()));
    assert_eq!(call.attribute("rpc.method"), Some(&"remove".into()));
    assert!(root.start_ns <= call.start_ns && call.end_ns() <= root.end_ns());
}

#[test]
fn a_span_has_the_properties_of_its_template_unless_it_replaces_them() {
    let (tracer, memory) = tracer(1.0);
    let root = request(&tracer);
    let template = SpanTemplate::new("shop/cart.add", SpanKind::Client);
    let template = Arc::new(template.component("home").with("rpc.method", "add").with("isomer.seam.mode", "isolated"));
    let subject = Arc::new(SpanTemplate::new("", SpanKind::Internal).component("cart").with("db.namespace", "carts"));
    drop(root.context().begin_from(&template));
    drop(root.context().begin_from(&template).on(&subject));
    let mut second = root.context().begin_from(&template);
    second.set("isomer.seam.mode", "remote");
    second.describe(|details| details.set("isomer.seam.argument_bytes", 7_usize));
    second.end();
    drop(root);
    let fragments = memory.0.lock().unwrap();
    let [first, on_subject, second, _] = &fragments[0].spans[..] else { panic!("four spans: {fragments:?}") };
    assert_eq!((on_subject.name.as_str(), on_subject.kind), ("shop/cart.add", SpanKind::Client));
    assert_eq!(on_subject.component, Some("cart".into()));
    assert_eq!((on_subject.attributes.len(), on_subject.attribute("db.namespace")), (3, Some(&"carts".into())));
    assert_eq!((first.name.as_str(), first.kind), ("shop/cart.add", SpanKind::Client));
    assert_eq!(first.component, Some("home".into()));
    assert_eq!(first.attribute("isomer.seam.mode"), Some(&"isolated".into()));
    assert_eq!((second.name.as_str(), second.attributes.len()), ("shop/cart.add", 3));
    assert_eq!(second.attribute("isomer.seam.mode"), Some(&"remote".into()));
    assert_eq!(second.attribute("isomer.seam.argument_bytes"), Some(&7_u64.into()));
}

#[test]
fn a_request_that_is_not_sampled_is_kept_if_it_fails() {
    let (tracer, memory) = tracer(0.0);
    let mut root = request(&tracer);
    root.describe(|_| panic!("the request is not kept"));
    drop(root);
    assert_eq!(memory.0.lock().unwrap().len(), 0);
    let root = request(&tracer);
    assert!(root.is_recording() && !root.context().is_sampled());
    root.context().begin("charge", SpanKind::Client).fail("a trap");
    drop(root);
    let fragments = memory.0.lock().unwrap();
    assert!(!fragments[0].is_sampled && fragments[0].spans[0].status == SpanStatus::Failed("a trap".into()));
}

#[test]
fn an_operation_that_is_cancelled_has_failed() {
    let (tracer, memory) = tracer(0.0);
    let root = request(&tracer);
    root.context().begin("get", SpanKind::Client).fails_unless_ended("cancelled").end();
    drop(root.context().begin("set", SpanKind::Client).fails_unless_ended("cancelled"));
    root.context().begin("wait", SpanKind::Internal).fails_unless_ended("cancelled").discard();
    drop(root);
    let fragments = memory.0.lock().unwrap();
    let [get, set, _] = &fragments[0].spans[..] else { panic!("three spans: {fragments:?}") };
    assert_eq!((&get.status, &set.status), (&SpanStatus::Ok, &SpanStatus::Failed("cancelled".into())));
}

#[test]
fn a_slow_request_is_kept() {
    let (tracer, memory) = tracer(0.0);
    tracer.set_policy(SamplingPolicy { ratio: 0.0, slow: Duration::ZERO, ..SamplingPolicy::LOCAL });
    drop(request(&tracer));
    assert_eq!(memory.0.lock().unwrap().len(), 1);
}

#[test]
fn the_sampled_flag_of_a_client_counts_only_if_the_client_is_trusted() {
    let header = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let incoming = TraceContext::parse(header);
    let (tracer, _) = tracer(0.0);
    let begin = |is_trusted| {
        tracer.begin_request(incoming, is_trusted, RequestId::random(), "/", Instant::now()).context().trace()
    };
    assert!(begin(true).flags.is_sampled() && !begin(false).flags.is_sampled());
    assert_eq!(begin(false).trace_id, incoming.unwrap().trace_id);
    let off = Tracer::default().begin_request(incoming, false, RequestId::random(), "/", Instant::now());
    assert!(!off.is_recording() && !off.context().trace().flags.is_sampled());
    let child = off.context().begin("get", SpanKind::Client);
    assert_eq!(child.context().trace(), off.context().trace());
}

#[test]
fn spans_are_bounded() {
    let (tracer, memory) = tracer(1.0);
    let root = request(&tracer);
    for _ in 0..SPANS_PER_REQUEST_MAX + 5 {
        drop(root.context().begin("x".repeat(5000), SpanKind::Internal));
    }
    drop(root);
    let fragments = memory.0.lock().unwrap();
    assert_eq!((fragments[0].spans.len(), fragments[0].spans_dropped), (SPANS_PER_REQUEST_MAX + 1, 5));
    assert_eq!(tracer.spans_dropped(), 5);
    assert!(fragments[0].spans.iter().all(|span| span.name.as_str().len() <= 1024));
    assert_eq!(tracer.bytes_in_use(), 0);
}

/// An account with a limit in bytes, and the bytes that are charged to it.
struct Account(usize, AtomicUsize);

impl SpanMemory for Account {
    fn charge(&self, bytes: usize) -> bool {
        let add = |charged: usize| Some(charged + bytes).filter(|charged| *charged <= self.0);
        self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    fn release(&self, bytes: usize) {
        self.1.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[test]
fn spans_are_charged_while_the_request_runs_and_dropped_without_memory() {
    let (tracer, memory) = tracer(1.0);
    let account = Arc::new(Account(4 * CHARGE_STEP_BYTES, AtomicUsize::new(0)));
    tracer.charge_to(account.clone());
    let root = request(&tracer);
    drop(root.context().begin("get", SpanKind::Client));
    assert_eq!(account.1.load(Ordering::Relaxed), 0, "the first span is not charged");
    drop(root.context().begin("get", SpanKind::Client));
    assert_eq!(account.1.load(Ordering::Relaxed), CHARGE_STEP_BYTES);
    for _ in 0..100 {
        drop(root.context().begin("get", SpanKind::Client));
    }
    assert_eq!(account.1.load(Ordering::Relaxed), 4 * CHARGE_STEP_BYTES);
    drop(root);
    assert_eq!(account.1.load(Ordering::Relaxed), 0);
    let fragments = memory.0.lock().unwrap();
    let [fragment] = &fragments[..] else { panic!("one fragment: {fragments:?}") };
    assert_eq!(fragment.spans.len() as u64 + fragment.spans_dropped, 103);
    assert!(fragment.spans_dropped > 0 && tracer.spans_dropped() == fragment.spans_dropped);
    assert_eq!(fragment.spans.last().unwrap().id, fragment.request.into(), "the first span is kept");
}
