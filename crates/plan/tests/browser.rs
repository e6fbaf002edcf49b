//! Plans of shapes with a browser group: what a tab runs, which functions of the server it may call, and every reason to
//! refuse such a shape, as users see it.

mod support;

use isomer_plan::{Arrangement, ComponentType, Plan, PlanOutline, SeamMode, ValueClass, plan};
use support::{Planned, component, interface, name};

const HANDLER: &str = "wasi:http/handler@0.3.0";
const CART: &str = "shop:shop/cart@0.1.0 { get: async func(session-id: string) -> list<u8>; \
                    put: async func(count: u32, session-id: string) }";
const CATALOG: &str = "shop:shop/catalog@0.1.0 { list: func() -> list<string> }";

/// A shop: `frontend` shows pages, `cart` keeps carts in a store, and `catalog` needs nothing.
fn parts() -> Vec<(&'static str, ComponentType)> {
    vec![
        ("frontend", component(&[CART, CATALOG, "wasi:config/store@0.2.0-rc.1"], &[HANDLER])),
        ("cart", component(&["wasi:keyvalue/store@0.2.0-draft2"], &[CART])),
        ("catalog", component(&[], &[CATALOG])),
    ]
}

const SHOP: &str = r#"
[components.frontend]
wasm = "frontend.wasm"
routes = ["/..."]
grants = { config = { BANNER = "hello" } }

[components.catalog]
wasm = "catalog.wasm"

[session]
cookie = "shop-session"

[components.cart]
wasm = "cart.wasm"
grants = { kv = ["carts"] }
"#;

const EXPOSED: &str = "exposed = [{ functions = \"shop:shop/cart\", session = \"session-id\" }]\n";

/// Returns a shape `tab` whose browser group has these components.
fn tab(components: &[&str]) -> String {
    format!("\n[shapes.tab.groups]\nclient = {{ components = {components:?}, place = \"browser\" }}\n")
}

fn shop(lines: &str, group: &[&str]) -> Planned {
    Planned::new(&format!("{SHOP}{lines}{}", tab(group)), &parts())
}

fn json(plan: &Plan) -> serde_json::Value {
    serde_json::to_value(plan).expect("a plan is JSON")
}

#[test]
fn the_server_runs_all_components_as_without_a_browser_group() {
    let planned = shop(EXPOSED, &["frontend", "catalog"]);
    let (tab, monolith) = (planned.plan("tab"), planned.plan("monolith"));
    assert_eq!(tab.seams, monolith.seams);
    assert_eq!((&tab.access, &tab.reuse), (&monolith.access, &monolith.reuse));
    let [group] = tab.groups.as_slice() else { panic!("the server runs one composition") };
    let mut without = group.clone();
    without.skeletons.clear();
    assert_eq!([without], monolith.groups.as_slice());
    let [skeleton] = group.skeletons.as_slice() else { panic!("only the cart is called from tabs") };
    assert_eq!(skeleton.component, name("cart"));
    let functions: Vec<_> = skeleton.functions.iter().map(|function| function.function.as_str()).collect();
    assert_eq!(functions, ["get", "put"]);
    assert_eq!(monolith.browser, None);
}

#[test]
fn a_tab_calls_the_functions_that_the_server_exposes() {
    let plan = shop(EXPOSED, &["frontend", "catalog"]).plan("tab");
    insta::assert_snapshot!("explained", plan.explain());
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&json(&plan)["browser"]).expect("it is JSON"));
    let browser = plan.browser.as_ref().expect("the shape has a browser group");
    assert_eq!(
        browser.summary("tab"),
        "in shape tab, each tab also runs catalog + frontend, and may call 2 functions on the server (cart)\n"
    );
    let keys: Vec<_> = browser.functions().map(|(_, function)| function.key).collect();
    let called: Vec<_> = browser.group.stubs.iter().flat_map(|stub| stub.functions.iter().map(|it| it.key)).collect();
    let answered: Vec<_> = plan
        .groups
        .iter()
        .flat_map(|group| &group.skeletons)
        .flat_map(|it| it.functions.iter().map(|it| it.key))
        .collect();
    assert_eq!((&keys, &keys), (&called, &answered));
    assert!(browser.group.stubs[0].functions.iter().all(|function| function.mode == SeamMode::Remote));
}

#[test]
fn the_server_side_is_compared_like_any_shape() {
    let planned = shop(EXPOSED, &["frontend", "catalog"]);
    let (tab, monolith) = (Arrangement::of(&planned.plan("tab")), Arrangement::of(&planned.plan("monolith")));
    assert_eq!((&tab.compositions, &tab.seams), (&monolith.compositions, &monolith.seams));
    let (other, problems) = monolith.in_shape(&planned.app, "tab", &planned.app.shapes["tab"]);
    assert_eq!((other, problems.as_slice()), (tab.clone(), [].as_slice()));
    let outline: PlanOutline = serde_json::from_value(json(&planned.plan("tab"))).expect("a plan contains an outline");
    assert_eq!(Arrangement::from(outline), tab);
}

#[test]
fn a_tab_calls_a_component_in_another_process_of_the_server() {
    let groups = "\n[shapes.tab.groups]\npages = [\"frontend\", \"catalog\"]\nservices = [\"cart\"]\n\
                  client = { components = [\"frontend\", \"catalog\"], place = \"browser\" }\n";
    let plan = Planned::new(&format!("{SHOP}{EXPOSED}{groups}"), &parts()).plan("tab");
    assert_eq!(plan.processes().into_keys().collect::<Vec<_>>(), ["pages", "services"]);
    assert_eq!(plan.browser.expect("the shape has a browser group").seams[0].process, "services");
    let [_, services] = plan.groups.as_slice() else { panic!("the server runs two compositions") };
    // The functions are called over the seam between the processes, and by tabs.
    assert_eq!(services.skeletons[0].functions.len(), 2);
}

#[test]
fn a_seam_needs_exposed_functions() {
    insta::assert_snapshot!("not_exposed", shop("", &["frontend", "catalog"]).errors("tab"));
    let one = "exposed = [{ functions = \"shop:shop/cart.get\", session = \"session-id\" }]\n";
    insta::assert_snapshot!("one_function_not_exposed", shop(one, &["frontend", "catalog"]).errors("tab"));
    insta::assert_snapshot!("not_exposed_and_could_move", shop(EXPOSED, &["frontend"]).errors("tab"));
}

#[test]
fn what_a_list_of_exposed_functions_must_contain() {
    let refused = |snapshot: &str, entries: &str| {
        let planned = shop(&format!("exposed = [{entries}]\n"), &["frontend", "catalog"]);
        // The lists are checked in every shape.
        insta::assert_snapshot!(snapshot, planned.errors("monolith"));
    };
    refused("exposed_unknown", "\"shop:shop/cart.got\"");
    refused("exposed_twice", "\"shop:shop/cart\", { functions = \"shop:shop/cart.get\", session = \"session-id\" }");
    refused("identity_misspelt", "{ functions = \"shop:shop/cart.get\", session = \"sesion-id\" }");
    refused("identity_of_another_type", "{ functions = \"shop:shop/cart.put\", session = \"count\" }");
    let mut parts = parts();
    parts[1].1.exports.insert(
        "shop:shop/cart@0.1.0".parse().expect("a name"),
        interface("shop:shop/cart@0.1.0 { get: async func(session-id: string) -> list<u8>; put: async func(count: u32, session-id: string); clear: func() }"),
    );
    let planned = Planned::new(&format!("{SHOP}{EXPOSED}{}", tab(&["frontend", "catalog"])), &parts);
    insta::assert_snapshot!("identity_in_some_functions", planned.errors("tab"));
}

#[test]
fn components_of_a_tab_need_nothing_from_the_server() {
    insta::assert_snapshot!("grant_in_browser", shop("", &["frontend", "catalog", "cart"]).errors("tab"));
    let without_grant = SHOP.replace("grants = { kv = [\"carts\"] }\n", "");
    let planned = Planned::new(&format!("{without_grant}{}", tab(&["frontend", "catalog", "cart"])), &parts());
    insta::assert_snapshot!("import_in_browser", planned.errors("tab"));
    insta::assert_snapshot!("no_route_in_browser", shop(EXPOSED, &["catalog"]).errors("tab"));
    let isolated = SHOP.replace("wasm = \"catalog.wasm\"\n", "wasm = \"catalog.wasm\"\nisolate = true\n");
    let planned = Planned::new(&format!("{isolated}{EXPOSED}{}", tab(&["frontend", "catalog"])), &parts());
    insta::assert_snapshot!("isolated_in_browser", planned.errors("tab"));
    let routes =
        SHOP.replace("routes = [\"/...\"]", "routes = [\"/...\", \"/_isomer/...\", \"/_isomer/x\", \"/_isomer2\"]");
    let planned = Planned::new(&format!("{routes}{EXPOSED}{}", tab(&["frontend", "catalog"])), &parts());
    insta::assert_snapshot!("reserved_route", planned.errors("tab"));
    planned.plan("monolith");
}

#[test]
fn values_that_cannot_leave_a_store_do_not_leave_a_tab() {
    let mut parts = parts();
    for (_, ty) in &mut parts {
        for found in ty.imports.values_mut().chain(ty.exports.values_mut()).filter(|it| it.id.interface == "cart") {
            found.class = ValueClass::Streaming { type_name: "stream<u8>".to_owned() };
        }
    }
    let planned = Planned::new(&format!("{SHOP}{EXPOSED}{}", tab(&["frontend", "catalog"])), &parts);
    insta::assert_snapshot!("stream_from_a_tab", planned.errors("tab"));
    planned.plan("monolith");
}

#[test]
fn an_identity_needs_a_cookie() {
    let without = SHOP.replace("[session]\ncookie = \"shop-session\"\n", "");
    let planned = Planned::new(&format!("{without}{EXPOSED}{}", tab(&["frontend", "catalog"])), &parts());
    insta::assert_snapshot!("no_session_cookie", planned.errors("tab"));
    planned.plan("monolith");
}

#[test]
fn slow_and_public_functions_are_pointed_out() {
    let exposed =
        SHOP.replace("wasm = \"catalog.wasm\"\n", "wasm = \"catalog.wasm\"\nexposed = [\"shop:shop/catalog\"]\n");
    let planned = Planned::new(&format!("{exposed}{EXPOSED}{}", tab(&["frontend"])), &parts());
    insta::assert_snapshot!("tab_warnings", planned.render(&planned.plan("tab").warnings));
    // The functions are not callable in a shape without a browser group.
    assert!(planned.plan("monolith").warnings.is_empty());
    assert!(planned.plan("monolith").groups[0].skeletons.is_empty());
}

#[test]
fn the_order_of_the_group_does_not_matter() {
    let one = shop(EXPOSED, &["frontend", "catalog"]);
    let other = shop(EXPOSED, &["catalog", "frontend"]);
    assert_eq!(json(&one.plan("tab")), json(&other.plan("tab")));
}

/// Whatever a manifest exposes, and whatever a tab runs: a tab can call only functions that are exposed and used, the
/// server has skeletons for these functions only, and no component with a store runs in a tab.
#[test]
fn a_tab_can_call_only_what_is_exposed_and_used() {
    let entries = [
        "\"shop:shop/cart.get\"",
        "{ functions = \"shop:shop/cart.put\", session = \"session-id\" }",
        "\"shop:shop/catalog\"",
        "\"shop:shop/stock.add\"",
    ];
    const STOCK: &str = "shop:shop/stock@0.1.0 { add: async func(); remove: async func() }";
    const USED: &str = "shop:shop/stock@0.1.0 { add: async func() }";
    let mut planned_ones = 0;
    for exposed in 0..16_u32 {
        for placed in 0..16_u32 {
            let chosen = |component: &str| {
                let entries = entries
                    .iter()
                    .enumerate()
                    .filter(|(at, entry)| exposed >> at & 1 == 1 && entry.contains(component));
                entries.map(|(_, entry)| *entry).collect::<Vec<_>>().join(", ")
            };
            let names = ["frontend", "cart", "catalog", "stock"];
            let group: Vec<_> =
                names.into_iter().enumerate().filter(|(at, _)| placed >> at & 1 == 1).map(|(_, name)| name).collect();
            if group.is_empty() {
                continue;
            }
            let manifest = format!(
                "[session]\ncookie = \"s\"\n[components.frontend]\nwasm = \"f\"\nroutes = [\"/...\"]\n\
                 [components.cart]\nwasm = \"c\"\ngrants.kv = [\"carts\"]\nexposed = [{}]\n\
                 [components.catalog]\nwasm = \"l\"\nexposed = [{}]\n\
                 [components.stock]\nwasm = \"s\"\nexposed = [{}]\n{}",
                chosen("cart"),
                chosen("catalog"),
                chosen("stock"),
                tab(&group)
            );
            let mut parts = parts();
            parts[0].1 = component(&[CART, CATALOG, USED], &[HANDLER]);
            parts.push(("stock", component(&[], &[STOCK])));
            let shop = Planned::new(&manifest, &parts);
            let Ok(plan) = plan(&shop.app, &shop.types, "tab") else { continue };
            planned_ones += 1;
            let browser = plan.browser.as_ref().expect("the shape has a browser group");
            let mut callable: Vec<_> = browser.functions().map(|(_, function)| function.key).collect();
            let mut answered: Vec<_> = plan
                .groups
                .iter()
                .flat_map(|group| &group.skeletons)
                .flat_map(|skeleton| skeleton.functions.iter().map(|function| function.key))
                .collect();
            callable.sort();
            answered.sort();
            assert_eq!(callable, answered);
            for (seam, function) in browser.functions() {
                let entry = format!("{}.{}", function.interface.path(), function.function);
                let listed = shop.app.components[&seam.link.exporter].exposed.iter().any(|listed| {
                    listed.functions.value == entry || listed.functions.value == function.interface.path()
                });
                assert!(listed && entry != "shop:shop/stock.remove", "{entry}");
            }
            assert!(!browser.group.components.contains(&name("cart")));
            assert!(browser.group.components.contains(&name("frontend")));
        }
    }
    // `cart` must be exposed completely; `catalog` and `stock` must be in the group or exposed.
    assert_eq!(planned_ones, 9);
}
