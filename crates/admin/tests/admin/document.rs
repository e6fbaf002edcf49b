//! Tests of the OpenAPI document: it describes all operations that are served, the server returns it, and all its paths
//! are in `isomer_api::routes`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::served::Served;

const METHODS: [&str; 4] = ["get", "put", "post", "delete"];

/// Returns the method and path of each operation in the OpenAPI document.
pub(crate) fn operations() -> Vec<(String, String)> {
    with_ids().into_iter().map(|(_, method, path)| (method, path)).collect()
}

/// Returns the name, method and path of each operation in the OpenAPI document.
pub(crate) fn with_ids() -> Vec<(String, String, String)> {
    let document = isomer_admin::openapi::document();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in METHODS.iter().filter(|method| methods.get(**method).is_some()) {
            let id = methods[method]["operationId"].as_str().unwrap().to_owned();
            operations.push((id, method.to_ascii_uppercase(), path.clone()));
        }
    }
    operations
}

#[test]
fn the_generated_pages_are_up_to_date() {
    let document = format!("{:#}\n", isomer_admin::openapi::document());
    for (file, generated) in [("admin-api.openapi.json", document), ("admin-api-operations.md", operations_page())] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(file);
        if std::env::var_os("ISOMER_BLESS").is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == generated,
            "`docs/reference/{file}` differs from what the program generates; write it with `ISOMER_BLESS=1 cargo test -p isomer-admin`"
        );
    }
}

/// Returns the documentation page with the table of all operations.
fn operations_page() -> String {
    let document = isomer_admin::openapi::document();
    let mut page = "# Admin API operations\n\nGenerated from the [OpenAPI document](admin-api.openapi.json), which has all parameters \
                    and types. [Admin API](admin-api.md) explains tokens, errors and limits.\n\n\
                    | operation | request | what it does | token |\n| --- | --- | --- | --- |\n"
        .to_owned();
    for (id, method, path) in with_ids() {
        let operation = &document["paths"][&path][method.to_ascii_lowercase()];
        let cell = |key: &str| operation[key].as_str().unwrap_or_default().replace('|', "\\|").replace('\n', " ");
        let (summary, token) = (cell("summary"), cell("description"));
        writeln!(page, "| `{id}` | `{method} {path}` | {summary} | {token} |").unwrap();
    }
    page
}

/// Returns each route in the source of `isomer_api::routes`: its path, and the methods in its comment.
fn routes() -> Vec<(String, BTreeSet<String>)> {
    let source = include_str!("../../../api/src/routes.rs");
    let mut routes = Vec::new();
    let mut words = String::new();
    for line in source.lines() {
        if let Some(about) = line.strip_prefix("///") {
            words.push_str(about);
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            let path = rest.split('"').nth(1).unwrap().to_owned();
            let named = METHODS.iter().map(|method| method.to_ascii_uppercase());
            routes.push((
                path,
                named
                    .filter(|method| words.contains(&format!("`{method}`")) || words.contains(&format!("`{method} ")))
                    .collect(),
            ));
            words.clear();
        }
    }
    routes
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let routes = routes();
    assert!(routes.len() > 10, "{routes:?}");
    let agreed: BTreeSet<(String, String)> = routes
        .into_iter()
        .flat_map(|(path, methods)| methods.into_iter().map(move |method| (method, path.clone())))
        .collect();
    assert_eq!(operations().into_iter().collect::<BTreeSet<_>>(), agreed);
}

/// Every operation in the document is served: the server does not respond that the path or method does not exist.
#[tokio::test]
async fn every_documented_operation_is_served() {
    let served = Served::tcp().await;
    for (method, path) in operations() {
        // The names in this path are invalid, so the operation itself refuses the request.
        let asked = path.replace("{digest}", "x").replace(['{', '}'], "%20");
        let answered = served.ask(&method, &asked, "").await;
        let title = answered.body;
        assert!(!title.contains("has no path") && !title.contains("does not support"), "{method} {path}: {title}");
    }
    let document = served.ask("GET", "/v1/openapi.json", "").await;
    assert_eq!(document.json(), isomer_admin::openapi::document());
}

#[test]
fn every_reference_is_defined() {
    fn walk<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| walk(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let document = isomer_admin::openapi::document();
    let mut references = Vec::new();
    walk(&document, &mut references);
    assert!(references.len() > 30, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let ids: Vec<&str> = METHODS
        .iter()
        .flat_map(|method| {
            document["paths"]
                .as_object()
                .unwrap()
                .values()
                .filter_map(move |path| path[*method]["operationId"].as_str())
        })
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "two operations have the same name: {ids:?}");
}
