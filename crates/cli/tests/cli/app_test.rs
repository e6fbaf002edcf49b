//! Tests of `isomer test`, which runs an app's test scripts in every shape.

use crate::support::{Workspace, assert_run};

const SHAPES: &str = "\n[shapes.apart]\nisolate = \"all\"\n\n[shapes.split]\ngroups = \"each\"\n";

/// Returns a workspace with the app `ping_pong` in three shapes, and a test script with `cases`.
fn workspace(cases: &str) -> Workspace {
    let workspace = Workspace::ping_pong(SHAPES);
    workspace.write("tests/games.toml", cases);
    workspace
}

#[test]
fn cases_pass_in_every_shape() {
    let workspace = workspace(
        r#"
        same_answers = true

        [[case]]
        name = "pong greets"
        request = "GET /greet?name=ada"
        expect.body = "pong to ada (count 1)\n"
        expect.headers.Content-Type = "text/plain; charset=utf-8"
        capture.greeted = "pong to ([a-z]+)"
        capture.kind = { header = "content-type", matches = "^[a-z]+" }

        [[case]]
        name = "what was captured is sent and expected"
        request = "GET /greet?name=${greeted}"
        headers = { accept = "${kind}/plain" }
        expect.matches = "^pong to ${greeted} \\(count \\d+\\)\\s$"
        expect.contains = ["${greeted}", "count"]
        expect.lacks = "refusal"

        [[case]]
        name = "bodies are sent"
        request = "POST /reverse"
        body = "1 ${greeted}"
        expect.body = "ada 1"

        [[case]]
        request = "POST /reverse"
        form = { a = "x y", n = 1 }
        expect.body = "1=n&y02%x=a"

        [[case]]
        request = "POST /reverse"
        json = ["${greeted}"]
        expect.body = "]\"ada\"["

        [[case]]
        name = "refusals are answers"
        request = "GET /greet?name="
        expect.status = 422
        expect.body = "empty name\n"

        [[case]]
        name = "traps too"
        request = "GET /trap"
        expect.status = 500

        [[case]]
        name = "time and chance are given"
        request = "GET /time-and-chance"
        expect.contains = " then "
        "#,
    );
    assert_run!(workspace, workspace.run(&["test"]));
}

const WRONG: &str = r#"
    [[case]]
    name = "three things are wrong"
    request = "GET /greet?name=ada"
    expect.status = 404
    expect.contains = "ping to"
    expect.headers = { x-none = "1", content-type = "text/html" }
    capture.id = "id=([0-9]+)"

    [[case]]
    name = "nothing was captured"
    request = "GET /orders/${id}"

    [[case]]
    name = "another body"
    request = "GET /greet?name=ada"
    expect.body = "pong to bob\n"
    expect.lacks = ["ada", "never"]
    expect.matches = "^count"

    [[case]]
    name = "no JSON"
    request = "POST /reverse"
    body = "}1 :\"a\"{"
    expect.json = { a = 2 }

    [[case]]
    name = "a trap"
    request = "GET /trap"
"#;

#[test]
fn mismatches_are_shown_with_their_cases() {
    let workspace = workspace(WRONG);
    let printed = workspace.run(&["test", "--shape", "monolith", "--shape", "split"]);
    // The log is not part of the snapshot, because other tests check the messages about a trap.
    let (report, log) = printed.split_once("\nlog of").unwrap();
    assert!(log.contains("pong::Guest") || log.contains("trap"), "{log}");
    assert_run!(workspace, report);
}

#[test]
fn the_report_as_json() {
    let workspace = workspace(WRONG);
    let output = workspace.command(&["test", "--shape", "apart", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["app"], &json["passed"]), (&"table-tennis".into(), &false.into()));
    let run = &json["runs"][0];
    assert_eq!((&run["file"], &run["shape"], &run["cases"]), (&"tests/games.toml".into(), &"apart".into(), &5.into()));
    let failed = run["failed"].as_array().unwrap();
    assert_eq!(failed.iter().map(|case| &case["line"]).collect::<Vec<_>>(), [4, 12, 16, 23, 29]);
    assert_eq!(failed[0]["problems"][0]["what"], "expected status 404, found 200");
    assert_eq!((&failed[1]["status"], &failed[4]["status"]), (&serde_json::Value::Null, &500.into()));
    assert!(!run["log"].as_array().unwrap().is_empty() && run["unanswered"].as_array().unwrap().is_empty(), "{run}");
    assert!(failed[0]["transcript"].as_array().unwrap().is_empty(), "only with --verbose");
}

#[test]
fn mistakes_in_scripts_are_reported_before_anything_runs() {
    let workspace = workspace(
        "[[case]]\nrequest = \"/greet\"\n\n[[case]]\nrequest = \"GET /${name}\"\n\n[[case]]\nrequest = \"GET /\"\nexpect.matches = \"(\"\n",
    );
    assert_run!(workspace, workspace.run(&["test"]));
}

#[test]
fn an_app_without_scripts_gets_an_example() {
    let workspace = Workspace::ping_pong("");
    assert_run!(workspace, workspace.run(&["test"]));
}

#[test]
fn an_app_that_does_not_start_reports_why() {
    let secret = "grants = { secrets = [\"key\"] }\n\n[secrets]\nkey = { env = \"ISOMER_TEST_NO_SUCH_VARIABLE\" }\n";
    let workspace = Workspace::ping_pong(secret);
    workspace.write("tests/any.toml", "[[case]]\nrequest = \"GET /\"\n");
    assert_run!(workspace, workspace.run(&["test"]));
}

const PROBES: &str = "[app]\nname = \"probes\"\nversion = \"1.0.0\"\n\n\
    [components.fetch]\nwasm = \"fetch.wasm\"\nroutes = [\"/...\"]\ngrants.http = [\"api.example\", \"pay.example:8443\"]\n\n\
    [components.secret]\nwasm = \"secret.wasm\"\nroutes = [\"/secret\"]\ngrants.secrets = [\"key\", \"salt\"]\n\n\
    [secrets]\nkey = { env = \"ISOMER_TEST_NO_SUCH_VARIABLE\" }\nsalt = { file = \"salt.txt\" }\n\n\
    [shapes.split]\ngroups = { one = [\"fetch\", \"secret\"] }\n";

/// Returns a workspace with an app that sends requests and has secrets, and a test script with `cases`.
fn probes(cases: &str) -> Workspace {
    let workspace = Workspace::with_manifest(PROBES);
    workspace.guest("fetch-probe", "fetch.wasm");
    workspace.guest("secret-probe", "secret.wasm");
    workspace.write("salt.txt", "of the app\n");
    workspace.write("tests/probes.toml", cases);
    workspace
}

#[test]
fn a_script_has_secrets_and_stubs() {
    let workspace = probes(
        r#"
        secrets.key = "of the script"

        [[stub]]
        host = "api.example"
        request = "GET /rates"
        json = { eur = 1 }

        [[stub]]
        host = "pay.example:8443"
        status = 402
        headers = { x-reason = "poor" }
        body = "no money"

        [[case]]
        request = "GET /secret?name=key"
        expect.body = "of the script"

        [[case]]
        request = "GET /secret?name=salt"
        expect.body = "of the app"

        [[case]]
        request = "GET /?url=https://api.example/rates?of=eur"
        expect.json = { eur = 1 }

        [[case]]
        request = "POST /?method=POST&url=https://pay.example:8443/charge"
        body = "12 EUR"
        expect.status = 402
        expect.body = "no money"

        [[case]]
        name = "what is not granted is not reached, stub or not"
        request = "GET /?url=http://pay.example/charge"
        expect.status = 502
        expect.contains = "HttpRequestDenied"
        "#,
    );
    let ran = workspace.run(&["test"]);
    assert!(ran.starts_with("exit code: 0\n"), "{ran}");
}

#[test]
fn requests_without_a_stub_and_whole_bodies_are_shown() {
    let long: String = (0..60).map(|number| format!("line {number}\n")).collect();
    let workspace = probes(&format!(
        "secrets = {{ key = \"k\" }}\n[[stub]]\nhost = \"api.example\"\nrequest = \"GET /long\"\nbody = {long:?}\n\
         [[case]]\nrequest = \"GET /?url=http://api.example/long\"\nexpect.body = \"short\"\n\
         [[case]]\nrequest = \"GET /?url=http://api.example/other\"\n"
    ));
    let ran = workspace.run(&["test", "--shape", "monolith"]);
    assert!(
        ran.starts_with("exit code: 1\n") && ran.contains("requests without a stub\n  GET /other of api.example\n"),
        "{ran}"
    );
    assert!(ran.contains("+ line 0\n") && !ran.contains("line 59") && !ran.contains("received"), "{ran}");
    let ran = workspace.run(&["test", "--shape", "monolith", "--verbose"]);
    assert!(ran.contains("+ line 59\n"), "{ran}");
    assert!(ran.contains("  sent\n    GET /?url=http://api.example/long\n"), "{ran}");
    assert!(ran.contains("  received\n    404\n"), "{ran}");
}

#[test]
fn the_deterministic_clock_differs_between_cases_and_randomness_within_one() {
    let workspace = workspace(
        r#"
        same_answers = true

        [[case]]
        request = "GET /time-and-chance"
        expect.matches = "^1767225601\\.000000000 1767225601\\.000000000 "
        capture.first = "([0-9a-f]{12,16}) "
        capture.again = "then \\S+ \\S+ \\[[^\\]]*\\] ([0-9a-f]+) "

        [[case]]
        request = "GET /time-and-chance"
        expect.matches = "^1767225602\\.000000000 "
        expect.lacks = ["${first}", "${again}"]
        "#,
    );
    let ran = workspace.run(&["test"]);
    assert!(ran.starts_with("exit code: 0\n"), "{ran}");
}
