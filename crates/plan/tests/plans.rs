//! Snapshots of plans of a shop, in several shapes, with grants.

mod support;

use isomer_plan::{Arrangement, ArrangementDifference, ImportBinding, PlanOptions, PlanOutline, SeamMode, plan_with};
use support::{Planned, component, name};

const HANDLER: &str =
    "wasi:http/handler@0.3.0 { handle: async func(request: request) -> result<response, error-code> }";
const STD: [&str; 3] = ["wasi:cli/environment@0.2.6", "wasi:io/streams@0.2.6", "wasi:filesystem/preopens@0.2.6"];

const SHOP: &str = r#"
[app]
name = "shop"
version = "1.2.0"

[components.frontend]
wasm = "frontend.wasm"
routes = ["/...", "/cart"]
limits = { request_deadline = "5s" }

[components.catalog]
wasm = "catalog.wasm"

[components.cart]
wasm = "cart.wasm"
grants = { kv = ["carts"], config = { CURRENCY = "EUR" } }

[components.orders]
wasm = "orders.wasm"
grants = { sql = ["orders"], dirs = [{ host = "data", guest = "/data", write = true }] }

[shapes.split]
groups.web = ["frontend", "cart"]
groups.back = ["orders", "catalog"]

[shapes.careful]
groups.all = ["frontend", "catalog", "cart", "orders"]
isolate = ["catalog"]
"#;

const CATALOG: &str =
    "shop:catalog/products@0.1.0 { list: func() -> list<product>; get: func(id: string) -> option<product> }";
const CART: &str = "shop:cart/carts { add: async func(user: string, item: item) }";
const ORDERS: &str = "shop:orders/orders { place: async func(order: order) -> u64 }";

fn shop() -> Planned {
    let with_std = |more: &[&'static str]| [&STD, more].concat();
    Planned::new(
        SHOP,
        &[
            (
                "frontend",
                component(
                    &with_std(&[
                        "wasi:http/types@0.3.0",
                        // The exported interface has more functions than the imported one: tools remove unused
                        // functions from an import.
                        "shop:catalog/products@0.1.0 { list: func() -> list<product> }",
                        CART,
                        ORDERS,
                    ]),
                    &[HANDLER],
                ),
            ),
            (
                "catalog",
                component(
                    &with_std(&[]),
                    &[
                        "shop:catalog/products@0.1.4 { list: func() -> list<product>; get: func(id: string) -> option<product> }",
                    ],
                ),
            ),
            (
                "cart",
                component(
                    &with_std(&[
                        "wasi:keyvalue/store@0.2.0-draft",
                        "wasi:keyvalue/atomics@0.2.0-draft",
                        "wasi:config/store@0.2.0-rc.1",
                        CATALOG,
                    ]),
                    &[CART],
                ),
            ),
            (
                "orders",
                component(
                    &with_std(&["isomer:sql/store@0.1.0", "isomer:sql/types@0.1.0", "wasi:http/client@0.3.0"]),
                    &[ORDERS],
                ),
            ),
        ],
    )
}

#[test]
fn a_shop_in_one_group() {
    let shop = shop();
    let plan = shop.plan("monolith");
    insta::assert_snapshot!("monolith", plan.explain());
    insta::assert_snapshot!("monolith_warnings", shop.render(&plan.warnings));
}

#[test]
fn the_plan_as_json() {
    let shop = shop();
    let json = serde_json::to_string_pretty(&shop.plan("monolith").in_source(&shop.source)).expect("a plan is JSON");
    insta::assert_snapshot!("monolith_json", json);
}

#[test]
fn separate_groups_are_explained() {
    let shop = shop();
    let plan = shop.plan("split");
    insta::assert_snapshot!("split", plan.explain());
}

#[test]
fn an_isolated_component_is_explained() {
    let shop = shop();
    let plan = shop.plan("careful");
    insta::assert_snapshot!("careful", plan.explain());
    assert!(plan.seams.iter().all(|seam| (seam.mode == SeamMode::Isolated) == (seam.link.exporter == name("catalog"))));
}

#[test]
fn own_limits_isolate_a_component_without_routes() {
    let manifest = SHOP.replace("[components.catalog]", "[components.catalog]\nlimits = { memory = \"8MiB\" }");
    let shop = Planned { app: Planned::new(&manifest, &[]).app, ..shop() };
    let plan = shop.plan("monolith");
    assert_eq!(plan.group_of(&name("catalog")).expect("it has a group").isolated_from.as_deref(), Some("monolith"));
    let reasons: Vec<_> =
        plan.seams.iter().filter(|seam| seam.mode == SeamMode::Isolated).map(|seam| &seam.reason).collect();
    assert_eq!(reasons, ["`catalog` has its own limits and no routes"; 2]);
}

#[test]
fn an_http_component_without_a_manifest_has_no_warnings() {
    let app = isomer_manifest::App::single("hello.wasm".as_ref(), isomer_manifest::Grants::default());
    let std = [
        &STD[..],
        &["wasi:cli/exit@0.2.6", "wasi:cli/stdout@0.2.6", "wasi:sockets/tcp@0.2.6", "wasi:http/types@0.3.0"],
    ]
    .concat();
    let types = support::types(&[("hello", component(&std, &[HANDLER]))]);
    let plan = isomer_plan::plan(&app, &types, "monolith").expect("it is right");
    assert_eq!(plan.warnings, []);
    insta::assert_snapshot!("single", plan.explain());
}

#[test]
fn a_handler_of_wasi_0_2_gets_new_instances_unless_the_manifest_sets_reuse() {
    const OLD: &str = "wasi:http/incoming-handler@0.2.6";
    let parts = || {
        [
            ("new", component(&[], &[HANDLER])),
            ("old", component(&[], &[OLD])),
            ("middle", component(&[OLD], &[OLD])),
            ("tool", component(&["wasi:cli/environment@0.2.6"], &["shop:tool/tool"])),
        ]
    };
    let planned = |components: &[(&str, &str)]| {
        let line = |(name, line): &(&str, &str)| format!("[components.{name}]\nwasm = \"{name}.wasm\"\n{line}\n");
        let manifest: String = components.iter().map(line).collect();
        let used: Vec<_> = parts().into_iter().filter(|(name, _)| components.iter().any(|it| it.0 == *name)).collect();
        let plan = Planned::new(&manifest, &used).plan("monolith");
        (plan.reuse.get("monolith").copied(), plan.explain())
    };
    let routes = "routes = [\"/...\"]";
    let bound = |components: &[(&str, &str)]| planned(components).0;
    assert_eq!(bound(&[("new", routes)]), None);
    // If a component handles no HTTP requests, its WASI version does not matter.
    assert_eq!(bound(&[("new", routes), ("tool", "")]), None);
    assert_eq!(bound(&[("old", "routes = [\"/...\"]\nreuse = true")]), None);
    assert_eq!(bound(&[("old", "routes = [\"/...\"]\nreuse = 9")]), Some(9));
    assert_eq!(bound(&[("new", "routes = [\"/...\"]\nreuse = 9")]), Some(9));
    assert_eq!(bound(&[("new", "routes = [\"/...\"]\nreuse = false")]), Some(1));
    let (fresh, said) = planned(&[("old", routes)]);
    assert_eq!(fresh, Some(1));
    assert!(said.contains("old  serves /... (HTTP, WASI 0.2), a new instance for each request\n"), "{said}");
    assert!(!said.contains("notes"), "{said}");
    // A component of WASI 0.2 also prevents reuse if a middleware calls it, even if the middleware allows reuse.
    let behind = [("middle", "routes = [\"/...\"]\nreuse = true"), ("old", "")];
    let (fresh, said) = planned(&behind);
    assert_eq!(fresh, Some(1));
    assert!(said.contains("because old handles requests of WASI 0.2; to reuse instances, set reuse = true"), "{said}");
    let mixed = [("new", routes), ("old", "routes = [\"/old\"]")];
    assert_eq!(bound(&mixed), Some(1));
    assert_eq!(bound(&[mixed[0], ("old", "routes = [\"/old\"]\nreuse = 4")]), Some(4));
}

#[test]
fn deterministic_clocks_and_randomness_are_imported_under_labels() {
    let imports = [
        "wasi:clocks/wall-clock@0.2.6",
        "wasi:clocks/system-clock@0.3.0",
        "wasi:random/random@0.3.0",
        "wasi:random/insecure-seed@0.2.6",
        "wasi:clocks/monotonic-clock@0.3.0",
        "wasi:io/streams@0.2.6",
    ];
    let parts = [("left", component(&imports, &[])), ("right", component(&imports, &[]))];
    let planned = Planned::new("[components.left]\nwasm = \"l\"\n[components.right]\nwasm = \"r\"\n", &parts);
    let labelled = |options| {
        let plan = plan_with(&planned.app, &planned.types, "monolith", options).expect("it is right");
        let labelled =
            plan.groups[0].imports.iter().filter(|import| matches!(import.binding, ImportBinding::Labelled { .. }));
        labelled.map(|import| format!("{} {}", import.component, import.interface.path())).collect::<Vec<_>>()
    };
    assert_eq!(labelled(PlanOptions::default()), [""; 0]);
    let own = ["clocks/system-clock", "clocks/wall-clock", "random/insecure-seed", "random/random"];
    let expected = ["left", "right"].into_iter().flat_map(|part| own.map(|path| format!("{part} wasi:{path}")));
    assert_eq!(labelled(PlanOptions { deterministic: true }), expected.collect::<Vec<_>>());
}

#[test]
fn authority_is_labelled_and_handles_are_shared() {
    let plan = shop().plan("monolith");
    let bindings: Vec<_> = plan.groups[0]
        .imports
        .iter()
        .filter(|import| import.component == name("cart"))
        .map(|import| match &import.binding {
            ImportBinding::Labelled { label } => format!("{} as {label}", import.interface),
            other => format!("{} {other:?}", import.interface),
        })
        .collect();
    insta::assert_snapshot!("cart_bindings", bindings.join("\n"));
}

#[test]
fn cycles_of_calls_are_noted() {
    let manifest = r#"
[app]
name = "circle"
version = "0.1.0"
[components.front]
wasm = "front.wasm"
routes = ["/..."]
[components.catalog]
wasm = "catalog.wasm"
[components.payment]
wasm = "payment.wasm"
[shapes.guarded]
isolate = ["payment"]
"#;
    let pay = "shop:pay/charge@0.1.0";
    let list = "shop:list/products@0.1.0";
    let parts = [
        ("front", component(&[pay], &[HANDLER])),
        ("catalog", component(&[], &[list])),
        ("payment", component(&[list], &[pay])),
    ];
    let app = Planned::new(manifest, &parts);
    let notes =
        |shape: &str| app.plan(shape).notes.into_iter().filter(|note| note.contains("cycle")).collect::<Vec<_>>();
    assert!(notes("monolith").is_empty());
    assert_eq!(
        notes("guarded"),
        [
            "calls form a cycle: monolith → payment → monolith; a request may wait for a second instance of `monolith` while it holds one"
        ]
    );
}

#[test]
fn the_arrangement_of_another_shape_is_that_of_its_plan() {
    let shop = shop();
    for from in ["monolith", "split", "careful"] {
        let current = Arrangement::of(&shop.plan(from));
        for (to, shape) in &shop.app.shapes {
            let (other, problems) = current.in_shape(&shop.app, to, shape);
            assert_eq!(other, Arrangement::of(&shop.plan(to)), "{from} to {to}");
            assert!(problems.is_empty(), "{problems:?}");
            assert_eq!(Arrangement::of_manifest(&shop.app)[to], other.compositions);
        }
    }
}

#[test]
fn an_arrangement_is_read_from_a_plan_in_json() {
    let plan = shop().plan("careful");
    let json = serde_json::to_value(&plan).unwrap();
    let outline: PlanOutline = serde_json::from_value(json).unwrap();
    assert_eq!(Arrangement::from(outline), Arrangement::of(&plan));
}

#[test]
fn the_difference_of_two_shapes_has_modes_processes_and_isolation() {
    let shop = shop();
    let arrangement = |shape| Arrangement::of(&shop.plan(shape));
    let (monolith, split) = (arrangement("monolith"), arrangement("split"));
    assert!(ArrangementDifference::between(&split, &split).seams.is_empty());
    let difference = ArrangementDifference::between(&monolith, &split);
    insta::assert_snapshot!("difference_to_split", difference.explain(&monolith, &split));
    let back = ArrangementDifference::between(&split, &monolith);
    assert_eq!(back.seams.len(), difference.seams.len());
    assert!(back.seams.iter().zip(&difference.seams).all(|(back, there)| back.before == there.after));
    let cart = difference.isolation.iter().find(|isolation| isolation.component == "cart").unwrap();
    assert_eq!((cart.before.in_process, cart.after.in_process, cart.after.in_store), (3, 1, 1));
}

#[test]
fn groups_in_one_process_are_isolated() {
    let split = Arrangement::of(&shop().plan("split")).in_one_process("node");
    assert!(split.seams.iter().all(|seam| seam.mode != SeamMode::Remote));
    assert!(split.seams.iter().any(|seam| seam.mode == SeamMode::Isolated));
    assert!(split.compositions.len() == 2 && split.compositions.iter().all(|it| it.process == "node"));
}

#[test]
fn reasons_against_a_shape_are_found_without_types() {
    let shop = shop();
    let current = Arrangement::of(&shop.plan("monolith"));
    let mut pinned = current.clone();
    pinned.seams.iter_mut().for_each(|seam| seam.can_part = false);
    let (_, problems) = pinned.in_shape(&shop.app, "split", &shop.app.shapes["split"]);
    let remote = current.in_shape(&shop.app, "split", &shop.app.shapes["split"]).0;
    let count = remote.seams.iter().filter(|seam| seam.mode != SeamMode::Fused).count();
    assert_eq!(problems.len(), count);
}
