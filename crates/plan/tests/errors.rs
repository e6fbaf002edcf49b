//! Snapshots of every error and warning of the planner, as users see it.

mod support;

use isomer_plan::{ComponentType, ImportBinding, ValueClass};
use support::{Planned, component, interface, name};

const HANDLER: &str = "wasi:http/handler@0.3.0";

/// Returns a manifest with components that have only a source.
fn bare(names: &[&str]) -> String {
    names.iter().map(|name| format!("[components.{name}]\nwasm = \"{name}.wasm\"\n\n")).collect()
}

fn refused(snapshot: &str, manifest: &str, parts: &[(&str, ComponentType)]) {
    insta::assert_snapshot!(snapshot, Planned::new(manifest, parts).errors("monolith"));
}

fn warned(snapshot: &str, manifest: &str, parts: &[(&str, ComponentType)]) {
    let planned = Planned::new(manifest, parts);
    insta::assert_snapshot!(snapshot, planned.render(&planned.plan("monolith").warnings));
}

#[test]
fn an_import_that_nothing_provides() {
    let manifest = bare(&["cart", "catalog", "shop"]);
    let parts = |import: &str| {
        [
            ("cart", component(&[], &["shop:cart/cart@0.1.0"])),
            ("catalog", component(&[], &["shop:catalog/products@0.1.0"])),
            ("shop", component(&[import], &[])),
        ]
    };
    refused("unmet_near", &manifest, &parts("shop:catalog/product@0.1.0"));
    refused("unmet_version", &manifest, &parts("shop:catalog/products@0.2.0"));
    refused("unmet_far", &manifest, &parts("weather:today/forecast"));
    refused("unmet_platform_version", &manifest, &parts("wasi:cli/environment@0.3.0-rc-2025-09-16"));
    refused("unmet_platform_interface", &manifest, &parts("wasi:keyvalue/watch@0.2.0-draft"));
    refused("unmet_platform_package", &manifest, &parts("wasi:blobstore/blobstore@0.2.0-draft"));
}

#[test]
fn a_component_does_not_provide_its_own_import() {
    let own = component(&["shop:cart/cart"], &["shop:cart/cart"]);
    refused("unmet_own", &bare(&["cart"]), &[("cart", own)]);
}

#[test]
fn several_exporters_need_a_named_link() {
    let parts = [
        ("east", component(&[], &["shop:stock/stock"])),
        ("shop", component(&["shop:stock/stock"], &[])),
        ("west", component(&[], &["shop:stock/stock"])),
    ];
    refused("ambiguous", &bare(&["shop", "east", "west"]), &parts);

    let named = bare(&["shop", "east", "west"]) + "[components.shop.links]\n\"shop:stock/stock\" = \"west\"\n";
    let plan = Planned::new(&named, &parts).plan("monolith");
    assert_eq!(plan.seams[0].link.exporter, name("west"));
}

#[test]
fn a_named_link_overrides_the_platform() {
    let manifest = bare(&["api", "auth"]) + "[components.auth.links]\n\"wasi:http/handler\" = \"api\"\n";
    let parts = [("api", component(&[], &[HANDLER])), ("auth", component(&[HANDLER], &[HANDLER]))];
    let plan = Planned::new(&manifest, &parts).plan("monolith");
    assert_eq!((plan.seams.len(), &plan.seams[0].link.exporter), (1, &name("api")));
    assert!(plan.groups[0].imports.is_empty());
}

/// Returns the importer and the exporter of each seam.
fn seams(plan: &isomer_plan::Plan) -> Vec<(&str, &str)> {
    plan.seams.iter().map(|seam| (seam.link.importer.as_str(), seam.link.exporter.as_str())).collect()
}

/// Returns a manifest in which the components `outside` have routes, and the components `inside` do not.
fn routed(outside: &[&str], inside: &[&str]) -> String {
    let door = |name: &&str| format!("[components.{name}]\nwasm = \"{name}.wasm\"\nroutes = [\"/{name}/...\"]\n\n");
    outside.iter().map(door).collect::<String>() + &bare(inside)
}

#[test]
fn a_component_of_the_app_takes_precedence_over_the_platform() {
    // A middleware calls the HTTP handler of another component. It needs no grant for these calls.
    let parts = [("api", component(&[], &[HANDLER])), ("zone", component(&[HANDLER], &[HANDLER]))];
    let plan = Planned::new(&routed(&["zone"], &["api"]), &parts).plan("monolith");
    assert_eq!(seams(&plan), [("zone", "api")]);
    assert!(plan.groups[0].imports.is_empty());
    assert_eq!(plan.warnings, []);
    // An adapter imports an interface from the platform, and exports the same interface to other components.
    let config = "wasi:config/store@0.2.0-rc.1";
    let parts = [("adapter", component(&[config], &[config])), ("shop", component(&[config], &[]))];
    let plan = Planned::new(&bare(&["adapter", "shop"]), &parts).plan("monolith");
    assert_eq!(seams(&plan), [("shop", "adapter")]);
    let of_host: Vec<_> = plan.groups[0].imports.iter().map(|import| import.component.as_str()).collect();
    assert_eq!(of_host, ["adapter"]);
}

#[test]
fn handlers_are_linked_from_the_front_door_inwards() {
    // Both components import and export a handler. The import of the component with routes (`door`) is linked to the
    // export of the other component (`inside`). The import of `inside` is linked to the host.
    for (door, inside) in [("one", "two"), ("two", "one")] {
        let parts = ["one", "two"].map(|part| (part, component(&[HANDLER], &[HANDLER])));
        let plan = Planned::new(&routed(&[door], &[inside]), &parts).plan("monolith");
        assert_eq!(seams(&plan), [(door, inside)]);
        assert_eq!(plan.groups[0].imports[0].component, name(inside));
    }
    // If two other components export a handler, the manifest must name the one to which the import of `auth` is linked.
    // For `cache`, it need not name one: `auth` imports from `cache`, so only `app` remains.
    let parts = [
        ("app", component(&[], &[HANDLER])),
        ("auth", component(&[HANDLER], &[HANDLER])),
        ("cache", component(&[HANDLER], &[HANDLER])),
    ];
    let manifest = routed(&["auth"], &["app", "cache"]);
    let refused = Planned::new(&manifest, &parts).errors("monolith");
    assert!(
        refused.contains("component `auth` imports `wasi:http/handler@0.3.0`, which 2 components export"),
        "{refused}"
    );
    let named = manifest + "[components.auth.links]\n\"wasi:http/handler\" = \"cache\"\n";
    let plan = Planned::new(&named, &parts).plan("monolith");
    assert_eq!(seams(&plan), [("auth", "cache"), ("cache", "app")]);
}

#[test]
fn the_platform_provides_the_drafts_of_config() {
    let drafts = ["wasi:config/store@0.2.0-draft", "wasi:config/runtime@0.2.0-draft", "wasi:config/store@0.2.0-rc.1"];
    let manifest = bare(&["shop"]) + "grants = { config = { COLOUR = \"red\" } }\n";
    let plan = Planned::new(&manifest, &[("shop", component(&drafts, &[]))]).plan("monolith");
    assert_eq!(plan.groups[0].imports.len(), 3);
    assert_eq!(plan.warnings, []);
}

#[test]
fn named_links_without_an_export_or_import() {
    let parts = [
        ("east", component(&[], &["shop:stock/stock@2.0.0"])),
        ("shop", component(&["shop:stock/stock@1.0.0", "shop:cart/cart"], &[])),
        ("west", component(&[], &["shop:stock/stock@1.2.0", "shop:cart/cart"])),
    ];
    let link = |line: &str| bare(&["shop", "east", "west"]) + "[components.shop.links]\n" + line;
    refused("link_wrong_target", &link("\"shop:stock/stock\" = \"east\"\n"), &parts);
    refused("link_unknown_import", &link("\"shop:stock/stocks\" = \"west\"\n"), &parts);
}

#[test]
fn functions_that_differ_are_listed() {
    let mut importer = component(
        &[
            "shop:catalog/products@0.1.0 { list: func() -> list<product>; get: func(id: string) -> product; buy: func(id: string); drop: func() }",
        ],
        &[],
    );
    let mut exporter = component(
        &[],
        &[
            "shop:catalog/products@0.1.2 { list: func() -> list<product>; get: func(id: string) -> option<product>; buy: func(id: string) }",
        ],
    );
    let (id, newer) = ("shop:catalog/products@0.1.0", "shop:catalog/products@0.1.2");
    let import = importer.imports.get_mut(&id.parse().expect("a name")).expect("it is there");
    import.types.insert("product".to_owned(), "record { id: string }".to_owned());
    let export = exporter.exports.get_mut(&newer.parse().expect("a name")).expect("it is there");
    export.types.insert("product".to_owned(), "record { id: string, price: money }".to_owned());
    // The signatures are equal, but a type that they refer to differs.
    export.functions.get_mut("list").expect("it is there").hash.0 = [9; 16];
    refused("mismatch", &bare(&["shop", "catalog"]), &[("shop", importer), ("catalog", exporter)]);
}

#[test]
fn a_cycle_in_a_group_is_printed() {
    let parts = [
        ("cart", component(&["a:a/shop"], &["a:a/cart"])),
        ("catalog", component(&["a:a/cart"], &["a:a/catalog"])),
        ("front", component(&["a:a/cart"], &[])),
        ("shop", component(&["a:a/catalog"], &["a:a/shop"])),
    ];
    refused("cycle", &bare(&["shop", "front", "catalog", "cart"]), &parts);
}

#[test]
fn reserved_imports_and_exports() {
    let mut odd = component(&["isomer:link/wire", "isomer:probe/probe@1.0.0"], &["isomer:link/dispatch"]);
    odd.world_imports = vec!["log".to_owned()];
    refused("reserved", &bare(&["odd"]), &[("odd", odd)]);
}

const APART: &str = "
[shapes.apart.groups]
one = [\"cart\"]
two = [\"orders\"]

[shapes.beside]
groups.one = [\"cart\", \"orders\"]
isolate = \"all\"
";

#[test]
fn a_store_is_opened_by_one_process() {
    let manifest = "
[components.cart]
wasm = \"cart.wasm\"
grants = { kv = [\"carts\"], sql = [\"shop\"], dirs = [{ host = \"files/./in\", guest = \"/in\" }] }

[components.orders]
wasm = \"orders.wasm\"
grants = { kv = [\"orders\", \"carts\"], sql = [\"shop\"], dirs = [{ host = \"x/../files\", guest = \"/f\", write = true }] }
";
    let both = component(
        &["wasi:keyvalue/store@0.2.0-draft", "isomer:sql/store@0.1.0", "wasi:filesystem/preopens@0.2.6"],
        &[],
    );
    let parts = [("cart", both.clone()), ("orders", both)];
    let planned = Planned::new(&(manifest.to_owned() + APART), &parts);
    insta::assert_snapshot!("stores_in_two_processes", planned.errors("apart"));
    // Several components of one process can use a store, because the process opens it once.
    for shape in ["monolith", "beside"] {
        let notes = planned.plan(shape).notes;
        let shared: Vec<_> = notes.iter().filter(|note| note.contains("is shared by")).collect();
        assert_eq!(
            shared,
            [
                "the key-value store `carts` is shared by `cart`, `orders`: they must run in one process",
                "the SQL store `shop` is shared by `cart`, `orders`: they must run in one process"
            ]
        );
    }
    // A folder that components may only read can be granted in several processes.
    let read = manifest.replace(", write = true", "").replace("kv = [\"carts\"], sql = [\"shop\"], ", "");
    Planned::new(&(read + APART), &parts).plan("apart");
}

#[test]
fn routes_are_served_by_one_process() {
    let manifest = "
[components.cart]
wasm = \"cart.wasm\"
routes = [\"/cart/...\"]

[components.orders]
wasm = \"orders.wasm\"
routes = [\"/orders\", \"/...\"]
";
    let http = || component(&[], &[HANDLER]);
    let planned = Planned::new(&(manifest.to_owned() + APART), &[("cart", http()), ("orders", http())]);
    insta::assert_snapshot!("two_front_doors", planned.errors("apart"));
    assert_eq!(planned.plan("beside").groups.len(), 2);
}

#[test]
fn functions_declared_idempotent_must_be_exported() {
    let manifest = |functions: &str| {
        bare(&["catalog", "shop"]).replace("catalog.wasm\"", &format!("catalog.wasm\"\nidempotent = [{functions}]"))
    };
    let products = "shop:catalog/products@1.0.0 { get: func(id: string); list: func() }";
    let parts = || {
        [
            ("catalog", component(&[], &[products, "shop:catalog/search { find: func() }"])),
            ("shop", component(&[products, "shop:catalog/search { find: func() }"], &[])),
        ]
    };
    refused("idempotent_near", &manifest("\"shop:catalog/products.gets\""), &parts());
    refused("idempotent_far", &manifest("\"weather\""), &parts());
    refused(
        "idempotent_nothing",
        &manifest("\"weather\"").replace("catalog", "zoo"),
        &[("zoo", component(&[], &[])), ("shop", component(&[], &[]))],
    );

    let apart = "\n[shapes.apart]\ngroups = \"each\"\n";
    let declared = |functions: &str| -> Vec<String> {
        let plan = Planned::new(&(manifest(functions) + apart), &parts()).plan("apart");
        let stub = &plan.group_of(&name("shop")).expect("it is placed").stubs[0];
        let idempotent = stub.functions.iter().filter(|function| function.idempotent);
        idempotent.map(|function| function.function.clone()).collect()
    };
    assert_eq!(declared(""), [""; 0]);
    assert_eq!(declared("\"shop:catalog/products\""), ["get", "list"]);
    assert_eq!(declared("\"shop:catalog/products@1.0.0.get\", \"shop:catalog/search\""), ["get", "find"]);
    assert_eq!(declared("\"shop:catalog/products.list\", \"shop:catalog/products@1.0.0.list\""), ["list"]);
}

#[test]
fn routes_that_collide_or_have_no_handler() {
    let manifest = "
[components.admin]
wasm = \"admin.wasm\"
routes = [\"/admin/...\", \"/cart\"]

[components.shop]
wasm = \"shop.wasm\"
routes = [\"/cart\", \"/admin/...\", \"/admin\"]

[components.worker]
wasm = \"worker.wasm\"
routes = [\"/work\"]
";
    let http = || component(&[], &[HANDLER]);
    let worker = component(&[], &["wasi:http/handler@0.3.0-rc-2025-09-16"]);
    refused(
        "routes_of_a_command",
        "[components.tool]\nwasm = \"tool.wasm\"\nroutes = [\"/...\"]\n",
        &[("tool", component(&[], &["wasi:cli/run@0.2.6"]))],
    );
    refused("routes", manifest, &[("admin", http()), ("shop", http()), ("worker", worker)]);
}

#[test]
fn grants_and_routes_that_are_probably_forgotten() {
    let manifest = "
[components.cart]
wasm = \"cart.wasm\"
grants = { sql = [\"carts\"], config = { A = \"1\" }, http = [\"example.com\"], dirs = [{ host = \"d\", guest = \"/d\" }] }

[components.front]
wasm = \"front.wasm\"
";
    let cart = component(
        &["wasi:keyvalue/batch@0.2.0-draft2", "wasi:keyvalue/store@0.2.0-draft2", "isomer:secrets/store@0.1.0"],
        &[],
    );
    let front =
        component(&["wasi:config/store@0.2.0-rc.1", "isomer:sql/store@0.1.0"], &["wasi:http/incoming-handler@0.2.3"]);
    warned("forgotten", manifest, &[("cart", cart), ("front", front)]);
}

#[test]
fn types_that_cannot_cross_are_refused() {
    let with_class = |class: ValueClass| {
        let mut exporter = component(&[], &["shop:files/files"]);
        let mut importer = component(&["shop:files/files"], &[]);
        for ty in exporter.exports.values_mut().chain(importer.imports.values_mut()) {
            ty.class = class.clone();
        }
        [("files", exporter), ("shop", importer)]
    };
    let isolated = bare(&["shop", "files"]).replace("files.wasm\"", "files.wasm\"\nisolate = true");
    let remote = bare(&["shop", "files"]) + "[shapes.apart]\ngroups.one = [\"shop\"]\ngroups.two = [\"files\"]\n";
    refused("isolated_pinned", &isolated, &with_class(ValueClass::Pinned { type_name: "cursor".to_owned() }));
    let streaming = with_class(ValueClass::Streaming { type_name: "stream<u8>".to_owned() });
    insta::assert_snapshot!("remote_streaming", Planned::new(&remote, &streaming).errors("apart"));
    let experimental = with_class(ValueClass::Experimental { type_name: "list<u8, 4>".to_owned() });
    insta::assert_snapshot!("remote_experimental", Planned::new(&remote, &experimental).errors("apart"));
}

const KV: &str = "wasi:keyvalue/store@0.2.0-draft";

/// Returns the component type with a change: its interfaces in the namespace `shop` pass handles of buckets.
fn passing(mut ty: ComponentType) -> ComponentType {
    for ty in ty.imports.values_mut().chain(ty.exports.values_mut()).filter(|ty| ty.id.namespace == "shop") {
        ty.carries.insert((interface(KV).id, "bucket".to_owned()));
        ty.class = ValueClass::Pinned { type_name: "bucket".to_owned() };
    }
    ty
}

#[test]
fn handles_of_a_store_pass_only_between_components_with_equal_grants() {
    let manifest = bare(&["cart", "helper"]).replace("cart.wasm\"", "cart.wasm\"\ngrants = { kv = [\"carts\"] }");
    let cart = passing(component(&[KV, "shop:help/help"], &[]));
    let helper = passing(component(&[KV], &["shop:help/help"]));
    refused("unequal_grants", &manifest, &[("cart", cart.clone()), ("helper", helper.clone())]);

    // Neither component has a grant, so sharing the import gives no component more authority.
    let plan = Planned::new(&bare(&["cart", "helper"]), &[("cart", cart), ("helper", helper)]).plan("monolith");
    assert!(plan.groups[0].imports.iter().all(|import| import.binding == ImportBinding::Family));
}

#[test]
fn components_that_pass_handles_share_an_import_with_no_others() {
    let manifest = bare(&["alone", "blog", "cart", "drafts", "shelf"])
        .replace("cart.wasm\"", "cart.wasm\"\ngrants = { kv = [\"carts\"] }")
        .replace("shelf.wasm\"", "shelf.wasm\"\ngrants = { kv = [\"carts\"] }")
        .replace("alone.wasm\"", "alone.wasm\"\ngrants = { kv = [\"mine\"] }");
    let mut parts = vec![
        ("alone", component(&[KV, "all:alone/greet"], &["all:alone/visit"])),
        ("blog", passing(component(&[KV, "shop:blog/drafts"], &["all:alone/greet"]))),
        ("cart", passing(component(&[KV, "shop:shelf/shelf", "all:alone/visit"], &[]))),
        ("drafts", passing(component(&[KV], &["shop:blog/drafts"]))),
        ("shelf", passing(component(&[KV], &["shop:shelf/shelf"]))),
    ];
    let planned = Planned::new(&manifest, &parts);
    let plan = planned.plan("monolith");
    let binding = |component: &str| {
        let group = plan.group_of(&name(component)).expect("it is placed");
        let import = group.imports.iter().find(|import| import.component == name(component)).expect("it imports");
        (group.name.clone(), import.binding == ImportBinding::Family)
    };
    // Two pairs of components pass handles, with different grants, so the pairs cannot share one import. A component
    // that passes no handles has its own import.
    assert_eq!(binding("alone"), ("monolith".to_owned(), false));
    assert_eq!([binding("blog"), binding("drafts")], [("monolith".to_owned(), true), ("monolith".to_owned(), true)]);
    assert_eq!([binding("cart"), binding("shelf")], [("cart".to_owned(), true), ("cart".to_owned(), true)]);
    insta::assert_snapshot!("flows_apart", plan.explain());

    // If all grants are equal, no component is isolated.
    let equal = manifest
        .replace("blog.wasm\"", "blog.wasm\"\ngrants = { kv = [\"carts\"] }")
        .replace("drafts.wasm\"", "drafts.wasm\"\ngrants = { kv = [\"carts\"] }");
    assert_eq!(Planned::new(&equal, &parts).plan("monolith").groups.len(), 1);

    // If a seam's values cannot cross between wasmtime stores, isolating the components is an error.
    let visit = "all:alone/visit".parse().expect("a name");
    parts[2].1.imports.get_mut(&visit).expect("it is there").class =
        ValueClass::Streaming { type_name: "stream<u8>".to_owned() };
    refused("flows_that_cannot_part", &manifest, &parts);
}

#[test]
fn an_unknown_shape() {
    let manifest = bare(&["shop"]) + "[shapes.split]\ngroups.one = [\"shop\"]\n";
    let planned = Planned::new(&manifest, &[("shop", component(&[], &[]))]);
    insta::assert_snapshot!("unknown_shape", planned.errors("spilt"));
}

#[test]
fn a_component_that_is_not_built() {
    refused("unknown_type", &bare(&["shop"]), &[]);
}
