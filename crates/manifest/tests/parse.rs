//! Tests of the app that a manifest is parsed into.

use std::path::{Path, PathBuf};
use std::time::Duration;

use isomer_diagnostics::{Renderer, SourceFile};
use isomer_manifest::{
    App, ComponentSource, DirGrant, Grants, MONOLITH, OutboundHost, Parsed, Reuse, Route, Sampling, SecretSource, parse,
};

fn parsed(text: &str) -> Parsed {
    parse(&SourceFile::new("isomer.toml", text))
        .unwrap_or_else(|found| panic!("{}", Renderer::plain().diagnostics(&found)))
}

fn full() -> Parsed {
    parsed(include_str!("full.toml"))
}

#[test]
fn every_key_is_parsed() {
    let Parsed { app, warnings } = full();
    assert_eq!(warnings, []);
    assert_eq!((app.name.as_str(), app.version.to_string().as_str()), ("shop", "1.4.0-beta.1"));
    assert_eq!(app.health.map(|path| path.value).as_deref(), Some("/static/health"));

    let frontend = &app.components["frontend"];
    assert_eq!(frontend.source.value, ComponentSource::Cargo("components/frontend".into()));
    let routes: Vec<_> = frontend.routes.iter().map(|route| route.value.clone()).collect();
    assert_eq!(routes, [Route::Prefix(String::new()), Route::Prefix("/static".into())]);
    assert_eq!((frontend.concurrency, frontend.reuse, frontend.isolate), (4, Some(Reuse::Times(100)), false));
    assert!(frontend.compress);
    assert_eq!(frontend.limits.stream_max, Some(Duration::from_secs(7200)));
    assert_eq!(frontend.limits.stream_idle, None);
    assert_eq!(frontend.links["shop:parts/greeter@1.0.0"].value, "greeter");
    assert_eq!(frontend.grants.config["CURRENCY"], "EUR");
    assert_eq!(frontend.grants.config["BANNER"], "Ünïcode — ok");
    let hosts: Vec<_> = frontend.grants.http.iter().map(|host| host.value.clone()).collect();
    let host = |host: &str, port, private| OutboundHost { host: host.into(), port, private, authority: None };
    assert_eq!(
        hosts,
        [
            host("api.example.com", None, false),
            host("*.example.org", Some(443), false),
            host("db.internal", Some(8080), true)
        ]
    );

    let cart = &app.components["cart"];
    assert_eq!(cart.source.value, ComponentSource::Wasm("prebuilt/cart.wasm".into()));
    assert!(cart.isolate);
    let idempotent: Vec<_> = cart.idempotent.iter().map(|name| name.value.as_str()).collect();
    assert_eq!(idempotent, ["shop:parts/cart", "shop:parts/orders@1.0.0.list"]);
    assert_eq!(cart.grants.kv.iter().map(|store| store.value.as_str()).collect::<Vec<_>>(), ["carts", "sessions"]);
    assert_eq!(cart.grants.sql[0].value, "orders");
    assert_eq!(
        cart.grants.secrets.iter().map(|name| name.value.as_str()).collect::<Vec<_>>(),
        ["payment-key", "SIGNING_KEY"]
    );
    let directory = |host: &str, guest: &str, write| DirGrant { host: host.into(), guest: guest.into(), write };
    assert_eq!(
        cart.grants.dirs.iter().map(|dir| dir.value.clone()).collect::<Vec<_>>(),
        [directory("data", "/data", true), directory("/usr/share/shop", "/share", false)]
    );
    assert_eq!(cart.limits.memory_bytes, Some(64 << 20));
    assert_eq!(cart.limits.request_deadline, Some(Duration::from_secs(30)));
    assert_eq!(
        (cart.limits.stream_max(), cart.limits.stream_idle()),
        (Duration::from_secs(5400), Duration::from_secs(300))
    );
    assert_eq!(cart.limits.body_bytes, Some(10_000_000));
    assert!(!cart.compress);

    let inputs = Some(vec![PathBuf::from("js/src"), PathBuf::from("js/*.json")]);
    let command = ComponentSource::Command { command: "npm run build".into(), wasm: "js/greeter.wasm".into(), inputs };
    assert_eq!(app.components["greeter"].source.value, command);

    assert_eq!(app.shapes.keys().collect::<Vec<_>>(), ["guarded", "micro", MONOLITH, "split", "split-tab", "tab"]);
    assert_eq!(app.shapes[MONOLITH].groups[MONOLITH].len(), 3);
    let split = &app.shapes["split"];
    assert_eq!(split.groups["back"].iter().map(|name| name.value.as_str()).collect::<Vec<_>>(), ["cart", "greeter"]);
    assert_eq!(split.isolate[0].value, "greeter");
    let tab = &app.shapes["tab"];
    assert_eq!((&tab.groups, tab.isolate.len()), (&app.shapes[MONOLITH].groups, 0));
    let client = tab.browser.as_ref().expect("the shape has a browser group");
    assert_eq!((client.name.value.as_str(), client.components.len()), ("client", 2));
    let split_tab = &app.shapes["split-tab"];
    assert_eq!(split_tab.groups.keys().collect::<Vec<_>>(), ["back", "front"]);
    assert_eq!(split_tab.groups["front"], split_tab.browser.as_ref().expect("there is a browser group").components);
    assert_eq!((&split.browser, &app.shapes[MONOLITH].browser), (&None, &None));
    let guarded = &app.shapes["guarded"];
    assert_eq!((&guarded.groups, guarded.isolate.len()), (&app.shapes[MONOLITH].groups, 3));
    let micro = &app.shapes["micro"];
    assert_eq!(micro.groups.keys().collect::<Vec<_>>(), ["cart", "frontend", "greeter"]);
    assert!(micro.groups.iter().all(|(group, members)| members.len() == 1 && members[0].value == group.as_str()));

    let [list, all] = app.components["cart"].exposed.as_slice() else { panic!("the component exposes two entries") };
    assert_eq!((list.functions.value.as_str(), &list.session), ("shop:parts/orders.list", &None));
    let session = all.session.as_ref().map(|session| session.value.as_str());
    assert_eq!((all.functions.value.as_str(), session), ("shop:parts/cart", Some("session-id")));
    assert_eq!(app.session.as_ref().map(|session| session.cookie.value.as_str()), Some("shop_session"));

    assert_eq!(app.secrets["payment-key"], SecretSource::Env("PAYMENT_KEY".into()));
    assert_eq!(app.secrets["SIGNING_KEY"], SecretSource::File("keys/signing.pem".into()));
    assert_eq!(app.sql["orders"].migrations, Some(PathBuf::from("migrations/orders")));
    assert_eq!(app.sql["orders"].statement_timeout(), Duration::from_millis(500));
    let slow = Some(Duration::from_millis(250));
    assert_eq!(app.sampling, Sampling { fraction: Some(0.25), per_second_max: Some(20), slow });
}

#[test]
fn spans_point_at_the_text() {
    let text = include_str!("full.toml");
    let Parsed { app, .. } = full();
    let at = |span: isomer_diagnostics::Span| &text[span.start..span.end];
    let cart = &app.components["cart"];
    assert_eq!(at(cart.at.span), "cart");
    assert_eq!(at(cart.source.span), "\"prebuilt/cart.wasm\"");
    assert_eq!(at(cart.routes[0].span), "\"/cart\"");
    assert_eq!(at(cart.grants.at.span), "grants");
    assert_eq!(at(cart.idempotent[0].span), "\"shop:parts/cart\"");
    assert_eq!(at(app.shapes["split"].groups["back"][1].span), "\"greeter\"");
    assert_eq!(at(app.shapes["split"].isolate[0].span), "\"greeter\"");
    let client = app.shapes["tab"].browser.as_ref().expect("the shape has a browser group");
    assert_eq!((at(client.name.span), at(client.components[1].span)), ("client", "\"greeter\""));
    assert_eq!(at(cart.exposed[0].functions.span), "\"shop:parts/orders.list\"");
    assert_eq!(at(app.session.as_ref().expect("there is a cookie").cookie.span), "\"shop_session\"");
    assert_eq!(at(cart.grants.kv[1].span), "\"sessions\"");
    assert_eq!(at(cart.limits.at.as_ref().expect("there are limits").span), "limits");
    assert_eq!(at(app.components["greeter"].grants.at.span), "greeter");
    assert_eq!(at(app.components["frontend"].grants.at.span), "grants");
    assert_eq!(at(app.components["frontend"].grants.http[2].span), "{ host = \"db.internal:8080\", private = true }");
    assert_eq!(at(app.components["frontend"].links["shop:parts/greeter@1.0.0"].span), "\"greeter\"");
}

#[test]
fn reuse_is_a_boolean_or_a_number() {
    let reuse = |line: &str| {
        let text = format!("[app]\nname = \"a\"\nversion = \"0.1.0\"\n[components.web]\nwasm = \"web.wasm\"\n{line}");
        parsed(&text).app.components["web"].reuse
    };
    assert_eq!(reuse(""), None);
    assert_eq!(reuse("reuse = true"), Some(Reuse::Unbounded));
    assert_eq!(reuse("reuse = false"), Some(Reuse::FRESH));
    assert_eq!(reuse("reuse = 7"), Some(Reuse::Times(7)));
    assert!(Reuse::FRESH < Reuse::Times(7) && Reuse::Times(u32::MAX) < Reuse::Unbounded);
}

#[test]
fn absent_keys_have_defaults() {
    let Parsed { app, warnings } =
        parsed("[app]\nname = \"a\"\nversion = \"0.1.0\"\n[components.web]\nwasm = \"web.wasm\"\n");
    assert_eq!(warnings, []);
    let web = &app.components["web"];
    assert_eq!((web.concurrency, web.reuse, web.isolate, web.routes.len()), (1, None, false, 0));
    assert_eq!(web.grants, Grants::default());
    assert_eq!(web.limits.memory_bytes(), 128 << 20);
    assert_eq!(web.limits.memory_bytes, None);
}

#[test]
fn the_order_and_the_notation_of_the_text_change_nothing() {
    let one = "[app]\nname = \"a\"\nversion = \"0.1.0\"\n[components.x]\nwasm = \"x\"\ngrants.kv = [\"s\"]\n[components.y]\nwasm = \"y\"\n";
    let other = "components.y.wasm = \"y\"\n[components.x.grants]\nkv = [\"s\"]\n[components.x]\nwasm = \"x\"\n[app]\nversion = \"0.1.0\"\nname = \"a\"\n";
    assert_eq!(parsed(one), parsed(other));
}

#[test]
fn a_single_component_is_an_app() {
    for (path, name) in
        [("target/My_Server.wasm", "my-server"), ("42.wasm", "app"), ("", "app"), ("hello.wasm", "hello")]
    {
        let app = App::single(Path::new(path), Grants::default());
        let component = &app.components[name];
        assert_eq!(component.source.value, ComponentSource::Wasm(path.into()));
        assert!(component.routes[0].value.matches("/any/path"));
        assert_eq!(app.shapes[MONOLITH].groups[MONOLITH][0].value, name);
    }
}
