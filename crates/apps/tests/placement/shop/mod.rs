//! The shop of `examples/boutique` in every shape: in each shape, the same requests must have the same responses, byte
//! for byte.
//!
//! The responses of the monolith are the reference. This test does not contain the expected pages, because they may
//! change. It does contain how often each kind of response must occur, so that a shop that gives the same wrong
//! response to every request is detected.

mod play;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use isomer_toolchain::{BuildProgress, build_app};

use crate::fleet::{Running, Subject, Transport};
use crate::seed;
use play::{ComparedResponse, comparable, order_number, quoted};
pub(crate) use play::{difference, play, without_random};
use script::PlannedRequest;
pub(crate) use script::steps;

/// Builds the shop. Its manifest has additional shapes for this test.
pub(crate) fn boutique() -> Subject {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/boutique");
    let manifest = std::fs::read_to_string(dir.join("isomer.toml")).expect("the shop has a manifest");
    let all = quoted(&Subject::app(&manifest));
    let each: String = all.iter().map(|name| format!("{} = [{name}]\n", name.trim_matches('"'))).collect();
    let all = all.join(", ");
    let manifest = format!(
        "{manifest}\n\
         [shapes.test-payment]\nisolate = [\"payment\"]\n[shapes.test-payment.groups]\nwhole = [{all}]\n\
         [shapes.test-isolated]\nisolate = [{all}]\n[shapes.test-isolated.groups]\nwhole = [{all}]\n\
         [shapes.test-micro.groups]\n{each}"
    );
    let app = Subject::app(&manifest);
    let built = build_app(&app, &dir, &mut |_: BuildProgress<'_>| {})
        .unwrap_or_else(|error| panic!("{}", isomer_diagnostics::chain(&error)));
    let components = built.into_iter().map(|built| {
        let bytes = std::fs::read(&built.wasm_path).expect("the built component exists");
        (built.component, Arc::from(bytes))
    });
    Subject { app, dir, components: components.collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_responds_like_the_monolith() {
    let seed = seed::shown();
    let steps = script::steps(seed);
    let subject = boutique();
    let running = |shape, fresh| Running { shape, transport: Transport::Unix, fresh, is_probed: false, without: &[] };
    let monolith = play(&subject, running("monolith", false), &steps, seed).await;
    check_facts(&steps, &monolith);
    for shape in ["monolith", "test-payment", "test-isolated", "split", "test-micro", "tab"] {
        for fresh in [false, true] {
            if (shape, fresh) == ("monolith", false) {
                continue;
            }
            let began = Instant::now();
            let responses = play(&subject, running(shape, fresh), &steps, seed).await;
            println!("{} requests in shape `{shape}`, fresh: {fresh}, {} ms", steps.len(), began.elapsed().as_millis());
            let [monolith, responses] = [&monolith, &responses].map(|one| comparable(one, &subject.app, shape));
            if let Some(difference) = difference(&steps, &monolith, &responses) {
                let instances = if fresh { "fresh" } else { "reused" };
                panic!(
                    "shape `{shape}` with {instances} instances responds differently from the monolith:\n{difference}{}",
                    seed::again(seed)
                );
            }
        }
    }
}

/// The responses of probed code are those of the plain code, with new and with reused instances, and calls between fused
/// components are recorded.
#[tokio::test(flavor = "multi_thread")]
async fn the_probed_shop_responds_like_the_plain_one() {
    let seed = seed::shown();
    let steps = script::steps(seed);
    let subject = boutique();
    let running =
        |shape, fresh, is_probed| Running { shape, transport: Transport::Unix, fresh, is_probed, without: &[] };
    let plain = play(&subject, running("monolith", false, false), &steps, seed).await;
    for (shape, fresh) in [("monolith", false), ("monolith", true), ("split", false), ("tab", false)] {
        let responses = play(&subject, running(shape, fresh, true), &steps, seed).await;
        let [plain, responses] = [&plain, &responses].map(|one| comparable(one, &subject.app, shape));
        if let Some(difference) = difference(&steps, &plain, &responses) {
            panic!("the probed shop in shape `{shape}` responds differently:\n{difference}{}", seed::again(seed));
        }
    }
}

/// Checks facts about the responses that do not depend on the contents of the shop's pages.
fn check_facts(steps: &[PlannedRequest], responses: &[ComparedResponse]) {
    assert_eq!(steps.len(), responses.len());
    assert!(steps.len() >= 450, "only {} requests", steps.len());
    let mut statuses = BTreeMap::<u16, usize>::new();
    responses.iter().for_each(|response| *statuses.entry(response.status).or_default() += 1);
    for (status, least) in [(200, 200), (204, 3), (302, 150), (404, 20), (405, 9), (413, 4), (415, 3), (422, 40)] {
        let seen = statuses.get(&status).copied().unwrap_or(0);
        assert!(seen >= least, "only {seen} responses have status {status}, not {least}: {statuses:?}");
    }
    let pages = steps.iter().zip(responses);
    let placed =
        pages.filter(|(step, _)| step.places_order).map(|(_, response)| String::from_utf8_lossy(&response.body));
    let placed: Vec<_> = placed.map(|page| order_number(&page).expect("a page confirms the order")).collect();
    assert!(placed.len() >= 12, "only {} orders", placed.len());
    let different: BTreeSet<_> = placed.iter().collect();
    assert_eq!(different.len(), placed.len(), "two orders have the same number: {placed:?}");
    for (status, least) in [(200, 1_000), (404, 300), (405, 300), (422, 300)] {
        let pages =
            steps.iter().zip(responses).filter(|(step, response)| response.status == status && step.method != "HEAD");
        let bytes: usize = pages.clone().map(|(_, response)| response.body.len()).sum();
        assert!(bytes >= least * pages.count() / 2, "the pages of status {status} are almost empty");
    }
}

/// Checks that a different byte, header or status is detected, which the comparison of shapes relies on.
#[test]
fn a_differing_response_is_found() {
    let steps = &script::steps(1)[..2];
    let response = |status, header: &str, body: &str| ComparedResponse {
        status,
        headers: vec![("set-cookie".to_owned(), header.as_bytes().to_vec())],
        body: body.as_bytes().to_vec(),
    };
    let measure = [response(200, "a", "page"), response(200, "a", "page")];
    assert_eq!(difference(steps, &measure, &measure), None);
    for other in [
        response(200, "a", "pagE"),
        response(200, "a", "page "),
        response(200, "b", "page"),
        response(500, "a", "page"),
    ] {
        let found = difference(steps, &measure, &[measure[0].clone(), other]).expect("the responses differ");
        assert!(found.starts_with("request 1:"), "{found}");
    }
}
