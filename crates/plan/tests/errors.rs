//! Every error and warning of planning, as people see it.

mod support;

use isomer_plan::{Class, ComponentType};
use support::{Planned, component, interface, name};

const HANDLER: &str = "wasi:http/handler@0.3.0";

/// Components without more than a source.
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
fn an_import_that_nothing_meets() {
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
fn its_own_export_meets_no_import() {
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
fn a_named_link_meets_even_an_interface_of_the_platform() {
    let manifest = bare(&["api", "auth"]) + "[components.auth.links]\n\"wasi:http/handler\" = \"api\"\n";
    let parts = [("api", component(&[], &[HANDLER])), ("auth", component(&[HANDLER], &[HANDLER]))];
    let plan = Planned::new(&manifest, &parts).plan("monolith");
    assert_eq!((plan.seams.len(), &plan.seams[0].link.exporter), (1, &name("api")));
    assert!(plan.groups[0].imports.is_empty());
}

#[test]
fn named_links_that_lead_nowhere() {
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
fn functions_that_differ_are_named() {
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
    // The same signature, but a type behind it differs.
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
fn imports_and_exports_that_no_component_may_have() {
    let mut odd = component(&["isomer:link/wire"], &["isomer:link/dispatch"]);
    odd.world_imports = vec!["log".to_owned()];
    refused("reserved", &bare(&["odd"]), &[("odd", odd)]);
}

#[test]
fn a_store_has_one_home() {
    let manifest = "
[components.cart]
wasm = \"cart.wasm\"
grants = { kv = [\"carts\"], sql = [\"shop\"] }

[components.orders]
wasm = \"orders.wasm\"
grants = { kv = [\"orders\", \"carts\"], sql = [\"shop\"] }
";
    let both = component(&["wasi:keyvalue/store@0.2.0-draft", "isomer:sql/store@0.1.0"], &[]);
    refused("two_homes", manifest, &[("cart", both.clone()), ("orders", both)]);
}

#[test]
fn routes_that_collide_or_lead_nowhere() {
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
fn what_cannot_cross_is_refused_with_its_type() {
    let with_class = |class: Class| {
        let mut exporter = component(&[], &["shop:files/files"]);
        let mut importer = component(&["shop:files/files"], &[]);
        for ty in exporter.exports.values_mut().chain(importer.imports.values_mut()) {
            ty.class = class.clone();
        }
        [("files", exporter), ("shop", importer)]
    };
    let isolated = bare(&["shop", "files"]).replace("files.wasm\"", "files.wasm\"\nisolate = true");
    let remote = bare(&["shop", "files"]) + "[shapes.apart]\ngroups.one = [\"shop\"]\ngroups.two = [\"files\"]\n";
    refused("isolated_pinned", &isolated, &with_class(Class::Pinned { type_name: "cursor".to_owned() }));
    let streaming = with_class(Class::Streaming { type_name: "stream<u8>".to_owned() });
    insta::assert_snapshot!("remote_streaming", Planned::new(&remote, &streaming).errors("apart"));
}

#[test]
fn handles_of_a_store_pass_only_between_equals() {
    let manifest = bare(&["cart", "helper"]).replace("cart.wasm\"", "cart.wasm\"\ngrants = { kv = [\"carts\"] }");
    let kv = "wasi:keyvalue/store@0.2.0-draft";
    let passing = |mut ty: ComponentType| {
        for ty in ty.imports.values_mut().chain(ty.exports.values_mut()).filter(|ty| ty.id.namespace == "shop") {
            ty.carries.insert((interface(kv).id, "bucket".to_owned()));
            ty.class = Class::Pinned { type_name: "bucket".to_owned() };
        }
        ty
    };
    let cart = passing(component(&[kv, "shop:help/help"], &[]));
    let helper = passing(component(&[kv], &["shop:help/help"]));
    refused("unequal_grants", &manifest, &[("cart", cart.clone()), ("helper", helper.clone())]);

    // Nobody is granted anything: nothing could be widened, so the import is shared.
    let plan = Planned::new(&bare(&["cart", "helper"]), &[("cart", cart), ("helper", helper)]).plan("monolith");
    assert!(plan.groups[0].imports.iter().all(|import| import.binding == isomer_plan::Binding::Family));
}

#[test]
fn a_shape_that_is_not_there() {
    let manifest = bare(&["shop"]) + "[shapes.split]\ngroups.one = [\"shop\"]\n";
    let planned = Planned::new(&manifest, &[("shop", component(&[], &[]))]);
    insta::assert_snapshot!("unknown_shape", planned.errors("spilt"));
}

#[test]
fn a_component_that_is_not_built() {
    refused("unknown_type", &bare(&["shop"]), &[]);
}
