//! Tests of comparisons and advice, with recorded traffic of the example shop.

use std::collections::BTreeMap;

use isomer_advice::{GroupPlacement, Traffic, compare, shapes};
use isomer_api::{AdviceKind, Confidence, MetricKind, MetricReport, MetricsReport, SeriesReport, ShapeRequest};
use isomer_diagnostics::SourceFile;
use isomer_manifest::App;
use isomer_plan::{ArrangedComposition, ArrangedSeam, Arrangement, SeamMode};

/// Returns advice for an app whose groups are processes.
fn advise(current: &Arrangement, traffic: &Traffic) -> isomer_api::ShapeAdvice {
    isomer_advice::advise(current, traffic, GroupPlacement::OwnProcesses)
}

const OWN: GroupPlacement = GroupPlacement::OwnProcesses;

const MANIFEST: &str = r#"
[app]
name = "shop"
version = "1.0.0"

[components.front]
wasm = "front.wasm"
routes = ["/..."]

[components.cart]
wasm = "cart.wasm"
grants = { kv = ["carts"] }

[components.mail]
wasm = "mail.wasm"

[shapes.split]
groups.web = ["front", "cart"]
groups.back = ["mail"]

[shapes.a-tab.groups]
client = { components = ["front"], place = "browser" }
web = ["front", "cart"]
back = ["mail"]

[shapes.careful]
groups.all = ["front", "cart", "mail"]
isolate = ["mail"]
"#;

fn app() -> App {
    isomer_manifest::parse(&SourceFile::new("isomer.toml", MANIFEST.to_owned())).expect("the manifest is right").app
}

/// Returns the arrangement in which `front` calls `cart` and `mail`, with these modes.
fn arrangement(cart: SeamMode, mail: SeamMode) -> Arrangement {
    let seam = |exporter: &str, mode| ArrangedSeam {
        importer: "front".to_owned(),
        interface: format!("shop:{exporter}/{exporter}@0.1.0"),
        exporter: exporter.to_owned(),
        mode,
        can_part: true,
    };
    let composition = |components: &[&str]| ArrangedComposition {
        process: "monolith".to_owned(),
        components: components.iter().map(ToString::to_string).collect(),
    };
    Arrangement {
        shape: "monolith".to_owned(),
        compositions: vec![composition(&["cart", "front", "mail"])],
        seams: vec![seam("cart", cart), seam("mail", mail)],
    }
}

/// The recorded calls of one seam: callee, mode, outcome, calls, mean duration in microseconds.
type Calls<'a> = (&'a str, &'a str, &'a str, u64, f64);

/// Returns the metrics of `requests` requests that took `request_us` on average, with these calls of `front`.
fn report(requests: u64, request_us: f64, calls: &[Calls<'_>]) -> MetricsReport {
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
        pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let series = |labels, count: u64, mean_us: f64| SeriesReport {
        labels,
        value: mean_us * f64::from(u32::try_from(count).expect("the count is small")) / 1e6,
        counts: vec![0, count],
        exemplars: Vec::new(),
    };
    let metric = |name: &str, series| MetricReport {
        name: name.to_owned(),
        kind: MetricKind::Histogram,
        unit: "seconds".to_owned(),
        help: String::new(),
        bounds: vec![0.001],
        series,
    };
    let call = |(callee, mode, outcome, count, mean_us): &Calls<'_>| {
        let is_fused = *mode == "fused";
        let interface = format!("shop:{callee}/{callee}");
        let labels = labels(&[
            ("app", "shop"),
            ("caller", if is_fused { "" } else { "front" }),
            ("callee", callee),
            ("interface", &interface),
            ("mode", mode),
            ("sampled", if is_fused { "true" } else { "false" }),
            ("outcome", outcome),
        ]);
        series(labels, *count, *mean_us)
    };
    let served = labels(&[("app", "shop"), ("component", "front")]);
    let refused = labels(&[("app", "shop"), ("component", "")]);
    let other = labels(&[("app", "other"), ("component", "front")]);
    let requests = vec![series(served, requests, request_us), series(refused, 7, 1.0), series(other, 9999, 1.0)];
    MetricsReport {
        at_ms: 0,
        started_ms: None,
        metrics: vec![
            metric("http.server.request.duration", requests),
            metric("rpc.client.call.duration", calls.iter().map(call).collect()),
        ],
    }
}

fn traffic(requests: u64, request_us: f64, calls: &[Calls<'_>]) -> Traffic {
    Traffic::of(&report(requests, request_us, calls), None, Some("shop"))
}

#[test]
fn remote_seams_that_are_called_often_should_be_fused() {
    let current = arrangement(SeamMode::Remote, SeamMode::Isolated);
    let calls = [("cart", "remote", "ok", 4000, 150.0), ("mail", "isolated", "ok", 200, 50.0)];
    let advice = advise(&current, &traffic(2000, 1000.0, &calls));
    assert_eq!((advice.requests, advice.request_us.map(f64::round)), (2000, Some(1000.0)));
    let [item] = advice.items.as_slice() else { panic!("{advice:?}") };
    assert_eq!((item.kind, item.component.as_str(), item.caller.as_deref()), (AdviceKind::Fuse, "cart", Some("front")));
    assert_eq!((item.cost_us_per_request * 100.0).round(), -18_898.0);
    assert_eq!(item.confidence, Confidence::High);
    assert!(item.evidence[0].contains("4000 times in 2000 requests: 2.00 remote calls per request"), "{item:?}");
    // The saving is bounded by the measured time of a call.
    let fast = [("cart", "remote", "ok", 2000, 20.0)];
    let advice = advise(&current, &traffic(2000, 1000.0, &fast));
    assert_eq!(advice.items[0].cost_us_per_request.round(), -20.0);
}

#[test]
fn there_is_no_advice_without_evidence() {
    let current = arrangement(SeamMode::Remote, SeamMode::Remote);
    let nothing = advise(&current, &Traffic::default());
    assert!(nothing.items.is_empty() && nothing.request_us.is_none());
    assert!(nothing.notes[0].contains("0 requests"), "{nothing:?}");
    let few = advise(&current, &traffic(99, 1000.0, &[("cart", "remote", "ok", 99, 150.0)]));
    assert!(few.items.is_empty() && few.notes[0].contains("99 requests"), "{few:?}");
    let rare = advise(&current, &traffic(5000, 1000.0, &[("cart", "remote", "ok", 99, 150.0)]));
    assert!(rare.items.is_empty() && rare.notes[0].contains("2 seams"), "{rare:?}");
    let low = advise(&current, &traffic(100, 1000.0, &[("cart", "remote", "ok", 100, 150.0)]));
    assert_eq!(low.items[0].confidence, Confidence::Low);
    // A call that is rare or cheap compared with the request is not worth a change.
    let cheap = advise(&current, &traffic(5000, 100_000.0, &[("cart", "remote", "ok", 5000, 150.0)]));
    assert!(cheap.items.is_empty(), "{cheap:?}");
}

#[test]
fn a_fused_component_that_traps_should_be_isolated() {
    let current = arrangement(SeamMode::Fused, SeamMode::Fused);
    let calls = [("mail", "fused", "ok", 1900, 50.0), ("mail", "fused", "trap", 100, 50.0)];
    let advice = advise(&current, &traffic(2000, 1000.0, &calls));
    let [item] = advice.items.as_slice() else { panic!("{advice:?}") };
    assert_eq!((item.kind, item.component.as_str()), (AdviceKind::Isolate, "mail"));
    assert_eq!((item.cost_us_per_request * 100.0).round(), 359.0);
    assert!(item.evidence.iter().any(|line| line.contains("5.0 %")), "{item:?}");
    assert!(item.evidence.iter().any(|line| line.contains("sampled requests")), "{item:?}");
    let rare = [("mail", "fused", "ok", 1991, 50.0), ("mail", "fused", "trap", 9, 50.0)];
    assert!(advise(&current, &traffic(2000, 1000.0, &rare)).items.is_empty());
    let mut pinned = current;
    pinned.seams[1].can_part = false;
    assert!(advise(&pinned, &traffic(2000, 1000.0, &calls)).items.is_empty(), "its handles cannot leave the store");
}

/// Returns the metric that counts the requests of the components' group, with and without measured fused calls.
fn runs(group: &str, measured: f64, unmeasured: f64) -> MetricReport {
    let series = |sampled: &str, value| SeriesReport {
        labels: [("app", "shop"), ("group", group), ("sampled", sampled)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        value,
        counts: Vec::new(),
        exemplars: Vec::new(),
    };
    MetricReport {
        name: "isomer.group.runs".to_owned(),
        kind: MetricKind::Counter,
        unit: "runs".to_owned(),
        help: String::new(),
        bounds: Vec::new(),
        series: vec![series("true", measured), series("false", unmeasured)],
    }
}

#[test]
fn the_number_of_fused_calls_is_estimated_from_the_sampled_requests() {
    let current = arrangement(SeamMode::Fused, SeamMode::Fused);
    let named = ShapeRequest { shape: Some("split".to_owned()), ..ShapeRequest::default() };
    // The fused calls of 250 of 1000 requests were measured. The group has the name of its process, or of a component.
    for group in ["monolith", "front"] {
        let mut report = report(1000, 1000.0, &[("mail", "fused", "ok", 500, 50.0)]);
        report.metrics.push(runs(group, 250.0, 750.0));
        let traffic = Traffic::of(&report, None, Some("shop"));
        let comparison = compare(&app(), &current, &named, &traffic, OWN).unwrap();
        let [seam] = comparison.seams.as_slice() else { panic!("{comparison:?}") };
        assert_eq!((seam.calls_per_request, seam.is_lower_bound, comparison.is_lower_bound), (Some(2.0), false, false));
        let advice = advise(&current, &traffic);
        assert!(advice.notes.iter().all(|note| !note.contains("measured only")), "{advice:?}");
    }
    // Without a measured request, the number of calls stays a lower bound.
    let mut report = report(1000, 1000.0, &[("mail", "fused", "ok", 500, 50.0)]);
    report.metrics.push(runs("monolith", 0.0, 1000.0));
    let traffic = Traffic::of(&report, None, Some("shop"));
    assert!(compare(&app(), &current, &named, &traffic, OWN).unwrap().is_lower_bound);
}

#[test]
fn traffic_before_a_change_of_the_shape_is_left_out() {
    let before = traffic(1000, 1000.0, &[("cart", "remote", "ok", 4000, 150.0)]);
    let calls = [("cart", "remote", "ok", 4100, 150.0), ("mail", "isolated", "ok", 200, 50.0)];
    let after = traffic(1100, 1000.0, &calls).since(&before);
    assert_eq!(after.requests, 100);
    assert_eq!(after.mean_request_us().map(f64::round), Some(1000.0));
    let calls: Vec<_> = after.seams.iter().map(|(key, seam)| (key.callee.as_str(), seam.calls)).collect();
    assert_eq!(calls, [("cart", 100), ("mail", 200)]);
    assert_eq!(before.clone().since(&before).requests, 0);
    // The series were removed, and have started again from zero.
    let restarted = traffic(100, 1000.0, &[("cart", "remote", "ok", 400, 150.0)]);
    assert_eq!(restarted.clone().since(&before), restarted);
}

#[test]
fn a_component_that_does_most_of_the_work_may_be_moved() {
    let current = arrangement(SeamMode::Fused, SeamMode::Isolated);
    let calls = [("mail", "isolated", "ok", 2000, 40_000.0)];
    let advice = advise(&current, &traffic(2000, 50_000.0, &calls));
    let [item] = advice.items.as_slice() else { panic!("{advice:?}") };
    assert_eq!((item.kind, item.component.as_str()), (AdviceKind::Move, "mail"));
    assert!(item.summary.contains("80 %") && item.cost_us_per_request > 90.0, "{item:?}");
    let short = [("mail", "isolated", "ok", 2000, 900.0)];
    assert!(advise(&current, &traffic(2000, 1000.0, &short)).items.iter().all(|item| item.kind != AdviceKind::Move));
}

#[test]
fn a_comparison_has_modes_costs_and_isolation() {
    let (app, current) = (app(), arrangement(SeamMode::Fused, SeamMode::Fused));
    let traffic = traffic(1000, 1000.0, &[("mail", "fused", "ok", 500, 50.0)]);
    let named = |name: &str| ShapeRequest { shape: Some(name.to_owned()), ..ShapeRequest::default() };
    let comparison = compare(&app, &current, &named("split"), &traffic, OWN).unwrap();
    assert_eq!((comparison.from.as_str(), comparison.to.as_deref()), ("monolith", Some("split")));
    let [seam] = comparison.seams.as_slice() else { panic!("{comparison:?}") };
    assert_eq!((seam.exporter.as_str(), seam.before.as_str(), seam.after.as_str()), ("mail", "fused", "remote"));
    assert_eq!((seam.calls_per_request, comparison.unchanged, comparison.unmeasured), (Some(0.5), 1, 0));
    assert!(seam.is_lower_bound && comparison.is_lower_bound, "fused calls are only measured in sampled requests");
    assert_eq!((comparison.cost_us_per_request.unwrap() * 1000.0).round(), 47_245.0);
    assert_eq!(comparison.after.len(), 2);
    let mail = comparison.isolation.iter().find(|change| change.component == "mail").unwrap();
    assert_eq!((mail.store_before, mail.store_after, mail.process_before, mail.process_after), (2, 0, 2, 0));
    let unmeasured = compare(&app, &current, &named("split"), &Traffic::default(), OWN).unwrap();
    assert_eq!((unmeasured.cost_us_per_request, unmeasured.unmeasured), (None, 1));
}

#[test]
fn calls_in_an_earlier_mode_do_not_count() {
    let (app, current) = (app(), arrangement(SeamMode::Isolated, SeamMode::Isolated));
    let calls = [("mail", "remote", "ok", 9000, 150.0), ("mail", "isolated", "ok", 500, 50.0)];
    let traffic = traffic(1000, 1000.0, &calls);
    let split = ShapeRequest { shape: Some("split".to_owned()), ..ShapeRequest::default() };
    let comparison = compare(&app, &current, &split, &traffic, OWN).unwrap();
    let mail = comparison.seams.iter().find(|seam| seam.exporter == "mail").unwrap();
    assert_eq!((mail.calls_per_request, mail.is_lower_bound, comparison.is_lower_bound), (Some(0.5), false, false));
    let advice = advise(&arrangement(SeamMode::Fused, SeamMode::Fused), &traffic);
    assert!(advice.items.is_empty() && advice.notes[0].contains("`mail`"), "{advice:?}");
}

#[test]
fn a_part_of_the_calls_is_no_reason_to_move_a_component() {
    let current = arrangement(SeamMode::Isolated, SeamMode::Fused);
    let advice = advise(&current, &traffic(2000, 50_000.0, &[("mail", "fused", "ok", 2000, 40_000.0)]));
    assert!(advice.items.is_empty(), "{advice:?}");
    assert!(advice.notes.iter().any(|note| note.contains("sampled requests")), "{advice:?}");
}

#[test]
fn groups_that_equal_a_shape_have_its_name() {
    let (app, current) = (app(), arrangement(SeamMode::Fused, SeamMode::Fused));
    let ask = |groups: &[(&str, &[&str])], isolate: &[&str]| {
        let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let groups = groups.iter().map(|(name, members)| ((*name).to_owned(), list(members))).collect();
        compare(&app, &current, &ShapeRequest { shape: None, groups, isolate: list(isolate) }, &Traffic::default(), OWN)
    };
    let to = |groups: &[(&str, &[&str])], isolate: &[&str]| ask(groups, isolate).unwrap().to;
    assert_eq!(to(&[("a", &["front", "cart"]), ("b", &["mail"])], &[]).as_deref(), Some("split"));
    assert_eq!(to(&[("a", &["front", "cart"])], &[]).as_deref(), Some("split"));
    assert_eq!(to(&[("a", &["front", "cart", "mail"])], &["mail"]).as_deref(), Some("careful"));
    assert_eq!(to(&[("a", &["front", "cart", "mail"])], &[]).as_deref(), Some("monolith"));
    assert_eq!(to(&[("a", &["front", "mail"])], &[]), None);
    for (groups, isolate) in [
        (vec![("a", &["not-there"][..])], vec![]),
        (vec![("a", &["cart"][..]), ("b", &["cart"][..])], vec![]),
        (vec![("A b", &["cart"][..])], vec![]),
        (vec![], vec!["unknown"]),
    ] {
        assert!(ask(&groups, &isolate).is_err(), "{groups:?}");
    }
    let unknown = ShapeRequest { shape: Some("other".to_owned()), ..ShapeRequest::default() };
    let error = compare(&app, &current, &unknown, &Traffic::default(), OWN).unwrap_err();
    assert!(error.0.contains("`other`") && error.0.contains("`split`"), "{error:?}");
}

#[test]
fn shapes_are_listed_with_their_processes() {
    let listed = shapes(&app(), "split", OWN);
    let names: Vec<_> = listed.iter().map(|shape| (shape.name.as_str(), shape.current)).collect();
    assert_eq!(names, [("a-tab", false), ("careful", false), ("monolith", false), ("split", true)]);
    let careful = &listed[1].processes[0].compositions;
    assert_eq!((careful.len(), listed[3].processes.len()), (2, 2));
}

#[test]
fn on_a_node_groups_share_a_process() {
    let (app, current) = (app(), arrangement(SeamMode::Fused, SeamMode::Fused));
    let split = ShapeRequest { shape: Some("split".to_owned()), ..ShapeRequest::default() };
    let comparison = compare(&app, &current, &split, &Traffic::default(), GroupPlacement::OneProcess).unwrap();
    assert_eq!((comparison.seams[0].after.as_str(), comparison.after.len()), ("isolated", 1));
    assert_eq!((comparison.after[0].compositions.len(), comparison.to.as_deref()), (2, Some("split")));
    let calls = [("mail", "isolated", "ok", 2000, 40_000.0)];
    let current = arrangement(SeamMode::Fused, SeamMode::Remote);
    let advice = isomer_advice::advise(&current, &traffic(2000, 50_000.0, &calls), GroupPlacement::OneProcess);
    assert!(advice.items.is_empty(), "{advice:?}");
    assert!(shapes(&app, "split", GroupPlacement::OneProcess).iter().all(|shape| shape.in_one_process));
}
