//! Calls each function of a generated package in every mode, and checks the results.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use isomer_wire::{Call, CallContext, Callee, FunctionKey};

use super::image;
use super::package::{Function, Package};
use super::values::{Value, ValueMaker};
use crate::fleet::{Fleet, Running, Subject, Transport, deadline};
use crate::random::Random;

/// The modes in which the relay calls the callee.
pub(crate) const MODES: [Mode; 4] = [
    Mode { name: "fused", shape: "fused", transport: Transport::Unix, entered: "inside" },
    Mode { name: "isolated", shape: "isolated", transport: Transport::Unix, entered: "inside" },
    Mode { name: "remote over a Unix socket", shape: "remote", transport: Transport::Unix, entered: "before" },
    Mode { name: "remote over TCP", shape: "remote", transport: Transport::Tcp, entered: "before" },
];

/// The number of concurrent calls of one function.
const AT_ONCE: usize = 4;

/// A mode in which the relay calls the callee, with the shape and transport that result in this mode.
#[derive(Debug)]
pub(crate) struct Mode {
    name: &'static str,
    shape: &'static str,
    transport: Transport,
    /// The group of the relay, which the test calls.
    entered: &'static str,
}

const MANIFEST: &str = r#"
[app]
name = "generated"
version = "0.1.0"

[components.driver]
wasm = "driver.wasm"
[components.relay]
wasm = "relay.wasm"
[components.callee]
wasm = "callee.wasm"

[shapes.fused.groups]
outside = ["driver"]
inside = ["relay", "callee"]

[shapes.isolated]
isolate = ["callee"]
[shapes.isolated.groups]
outside = ["driver"]
inside = ["relay", "callee"]

[shapes.remote.groups]
outside = ["driver"]
before = ["relay"]
behind = ["callee"]
"#;

/// A call to make: a function and its arguments.
struct Trial<'a> {
    function: &'a Function,
    arguments: Vec<Value>,
}

/// Calls each function of a package with `values` sets of arguments in every mode. Returns the number of calls in each
/// mode.
///
/// # Panics
/// If a result is not as expected. The message contains `replay`, which says how to repeat the run.
pub(crate) async fn check(package: &Package, values: usize, random: &mut Random, replay: &str) -> usize {
    let components = ["driver", "relay", "callee"];
    let subject = Subject {
        app: Subject::app(MANIFEST),
        dir: std::env::temp_dir(),
        components: components.map(|name| (name.parse().expect("a name"), package.component(name))).into(),
    };
    let mut trials = vec![];
    for function in &package.functions {
        for _ in 0..values {
            let mut maker = ValueMaker::new(random);
            trials.push(Trial { function, arguments: function.parameters.iter().map(|ty| maker.make(ty)).collect() });
        }
    }
    let mut first: Option<Vec<Vec<u8>>> = None;
    for mode in &MODES {
        let results = results(&subject, mode, &trials, &package.name, replay).await;
        // The encoded results of all modes are compared byte by byte, because every mode uses the same layout of
        // values.
        let first = first.get_or_insert_with(|| results.clone());
        for ((trial, result), first) in trials.iter().zip(&results).zip(first) {
            let same = result == first;
            assert!(
                same,
                "{}",
                failure_message(
                    &package.name,
                    trial,
                    mode,
                    replay,
                    "the result's image differs from that of the first mode"
                )
            );
        }
    }
    trials.len()
}

/// Makes all calls in one mode and checks their results. Returns the encoded results.
async fn results(subject: &Subject, mode: &Mode, trials: &[Trial<'_>], package: &str, replay: &str) -> Vec<Vec<u8>> {
    let Mode { shape, transport, entered, .. } = *mode;
    let running = Running { shape, transport, fresh: false, is_probed: false, without: &["outside"] };
    let fleet = Fleet::start(subject, running).await;
    let skeletons = fleet.plan.groups.iter().flat_map(|group| &group.skeletons);
    let skeleton = skeletons.into_iter().find(|skeleton| skeleton.component.as_str() == "relay");
    let functions = &skeleton.expect("the driver calls the relay").functions;
    let key = |name: &str| functions.iter().find(|it| it.function == name).expect("the function is called").key;
    let callee = fleet.callee(entered);
    let plan_digest = fleet.plan_digest;
    let calls =
        trials.iter().map(|trial| {
            let (callee, key) = (callee.clone(), key(&trial.function.name));
            async move {
                call(callee, key, plan_digest, image::arguments(&trial.function.parameters, &trial.arguments)).await
            }
        });
    let results: Vec<_> = stream::iter(calls).buffered(AT_ONCE).collect().await;
    let mut images = vec![];
    for (trial, result) in trials.iter().zip(results) {
        let wrong = |what: &str| -> ! {
            let log = fleet.troubles().join("\n");
            panic!("{}\n{log}", failure_message(package, trial, mode, replay, what))
        };
        let image = result.unwrap_or_else(|failure| wrong(&format!("the call fails: {failure}")));
        match (trial.function.result(), trial.function.expected_result(&trial.arguments)) {
            (Some(ty), Some(expected)) => match image::read(&ty, &image) {
                Ok(value) if value == expected => {
                    let sent = image::arguments(&trial.function.parameters, &trial.arguments);
                    if let Some(what) = foreign(&image, &image::result(&ty, &expected), &sent) {
                        wrong(&format!("the image holds the right value, and {what}"));
                    }
                }
                Ok(value) => wrong(&format!("the result is {value:?}\ninstead of {expected:?}")),
                Err(reason) => wrong(&format!("the result is no image: {reason}")),
            },
            _ if image.is_empty() => {}
            _ => wrong(&format!("a function without a result returns {} bytes", image.len())),
        }
        images.push(image);
    }
    fleet.stop().await;
    images
}

async fn call(
    callee: Arc<dyn Callee>,
    function: FunctionKey,
    plan: isomer_ids::PlanDigest,
    image: Vec<u8>,
) -> isomer_wire::call::CallResult {
    let context = CallContext { deadline: deadline(), request: 1, traceparent: None, plan };
    callee.call(Call { function, context, is_idempotent: false, image }).await
}

/// Finds a byte in an encoded result that is neither expected nor a byte that the caller has sent. Padding may contain
/// bytes of the arguments, but no other data, in particular no data of an earlier call.
fn foreign(found: &[u8], expected: &[u8], sent: &[u8]) -> Option<String> {
    if found.len() != expected.len() {
        return Some(format!("has {} bytes instead of {}", found.len(), expected.len()));
    }
    let allowed =
        |at: &usize| found[*at] == expected[*at] || (expected[*at] == 0 && sent.get(*at) == Some(&found[*at]));
    let at = (0..found.len()).find(|at| !allowed(at))?;
    let around = |image: &[u8]| format!("{:02x?}", &image[at.saturating_sub(8)..(at + 24).min(image.len())]);
    Some(format!("byte {at} of {} is foreign: {} where {} is expected", found.len(), around(found), around(expected)))
}

/// Returns the message for a failed call: the function, the mode, and how to repeat the call.
fn failure_message(package: &str, trial: &Trial<'_>, mode: &Mode, replay: &str, what: &str) -> String {
    let mut arguments = format!("{:?}", trial.arguments);
    if let Some((cut, _)) = arguments.char_indices().nth(2_000) {
        arguments.truncate(cut);
        arguments.push('…');
    }
    format!(
        "{package}, {}: {what}\nmode: {}\nrelay: {:?}, callee: {:?}\narguments: {arguments}\nagain: {replay}",
        trial.function.declaration(),
        mode.name,
        trial.function.relay,
        trial.function.callee,
    )
}
