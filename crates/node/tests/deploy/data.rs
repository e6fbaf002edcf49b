//! Tests of reading the stores of a node's apps through the admin API, while the apps serve requests.

use isomer_admin::{Admin as _, ShapeApi as _, StoreApi as _};
use isomer_api::{KvKeysQuery, KvSetRequest, ProblemKind, ShapeRequest, SqlCell, SqlStatement, StoreKind};
use isomer_ids::StoreName;

use crate::migrating_app::{notes, refused, with_migrations, write};
use crate::node::{TestNode, app, custom, shop, tenant};
use crate::reshape::chain;

fn name(store: &str) -> StoreName {
    StoreName::new(store).unwrap()
}

fn statement(text: &str) -> SqlStatement {
    SqlStatement { statement: text.to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_are_read_and_never_changed() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let (tenant, app) = shop();
    let api = || node.node.clone();
    let stores = || api().stores(tenant.clone(), app.clone());
    refused(stores(), ProblemKind::NotFound).await;
    node.deploy(&custom("kv-probe", "grants.kv = [\"default\"]", "").healthy_at("/increment")).await.unwrap();
    assert_eq!(node.get("/increment").await.0, 200);

    let listed = stores().await.unwrap();
    assert_eq!((listed.len(), listed[0].kind, listed[0].name.as_str()), (1, StoreKind::Kv, "default"));
    assert!(listed[0].bytes > 0 && !listed[0].writable && listed[0].group.is_none(), "{listed:?}");
    let query = KvKeysQuery::default;
    let keys = api().kv_keys(tenant.clone(), app.clone(), name("default"), query()).await.unwrap().keys;
    let [key] = keys.as_slice() else { panic!("{keys:?}") };
    let value = api().kv_value(tenant.clone(), app.clone(), name("default"), key.key.clone()).await.unwrap();
    assert_eq!((value.hex.as_str(), value.bytes), ("31", 1), "the number 1");
    assert_eq!(node.get("/increment").await, (200, "2\n".to_owned()), "the app still uses its store");

    let set = KvSetRequest { key: key.key.clone(), hex: "39".to_owned() };
    refused(api().set_kv(tenant.clone(), app.clone(), name("default"), set), ProblemKind::Forbidden).await;
    let execute = api().execute_sql(tenant.clone(), app.clone(), name("default"), statement("SELECT 1"));
    refused(execute, ProblemKind::Forbidden).await;
    refused(api().kv_keys(tenant.clone(), app.clone(), name("other"), query()), ProblemKind::NotFound).await;
    refused(api().kv_keys(tenant.clone(), crate::node::app("other"), name("default"), query()), ProblemKind::NotFound)
        .await;
    refused(api().kv_keys(crate::node::tenant("other"), app.clone(), name("default"), query()), ProblemKind::NotFound)
        .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_stores_are_read_by_statements_that_only_read() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let (tenant, app) = shop();
    let api = || node.node.clone();
    node.deploy(&with_migrations(1)).await.unwrap();
    let rows = |text: &str| api().sql_query(tenant.clone(), app.clone(), name("default"), statement(text));
    write(&node, "hello").await;
    let found = rows("SELECT text FROM note").await.unwrap();
    assert_eq!(
        (found.columns, found.rows.last()),
        (vec!["text".to_owned()], Some(&vec![SqlCell::Text("hello".to_owned())]))
    );
    refused(rows("DELETE FROM note"), ProblemKind::BadRequest).await;
    refused(rows("PRAGMA journal_mode = DELETE"), ProblemKind::BadRequest).await;
    assert_eq!(notes(&node).await.last().map(String::as_str), Some("hello"));
    let schema = api().sql_schema(tenant.clone(), app.clone(), name("default")).await.unwrap();
    assert!(schema.objects.iter().any(|object| object.name == "note" && object.columns.len() == 1), "{schema:?}");
    // An app that is not in memory has no open store, and reading opens it for a moment.
    api().stop(tenant.clone(), app.clone()).await.unwrap();
    assert_eq!(rows("SELECT text FROM note WHERE text = 'hello'").await.unwrap().rows.len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shapes_of_the_manifest_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    node.deploy(
        &custom("kv-probe", "grants.kv = [\"default\"]", "[shapes.apart]\nisolate = \"all\"\n")
            .healthy_at("/increment"),
    )
    .await
    .unwrap();
    let (own_tenant, own_app) = shop();
    let shapes = node.node.clone().shapes(own_tenant, own_app).await.unwrap();
    let names: Vec<_> = shapes.iter().map(|shape| (shape.name.as_str(), shape.current)).collect();
    assert_eq!(names, [("apart", false), ("monolith", true)]);
    refused(node.node.clone().shapes(tenant("other"), app("shop")), ProblemKind::NotFound).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shape_is_compared_with_groups_in_the_process_of_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    node.deploy(&chain()).await.unwrap();
    let (tenant, app) = shop();
    let compare = |shape: &str| {
        let request = ShapeRequest { shape: Some(shape.to_owned()), ..ShapeRequest::default() };
        node.node.clone().compare_shape(tenant.clone(), app.clone(), request)
    };
    let comparison = compare("micro").await.unwrap();
    let changes: Vec<_> = comparison.seams.iter().map(|seam| (seam.before.as_str(), seam.after.as_str())).collect();
    assert_eq!(changes, [("fused", "isolated"); 2], "{comparison:?}");
    assert_eq!((comparison.to.as_deref(), comparison.after.len()), (Some("micro"), 1));
    refused(compare("round"), ProblemKind::BadRequest).await;
    let advice = node.node.clone().advice(tenant.clone(), app.clone()).await.unwrap();
    assert!(advice.items.is_empty() && !advice.notes.is_empty(), "{advice:?}");
    node.stop().await;
}
