//! Tests the stores of an app as the admin API shows them.

use isomer_capabilities::sql::SqlSettings;
use isomer_capabilities::{CapabilityLimits, ComponentGrants, DataDir};
use isomer_ids::{ComponentName, StoreName};
use serde_json::json;

use super::*;

fn data(dir: &std::path::Path) -> AppData {
    let data = DataDir::open(&dir.join("data")).unwrap();
    let store = |name: &str| vec![StoreName::new(name).unwrap()];
    let grants = ComponentGrants {
        kv: store("carts").into_iter().collect(),
        sql: store("orders").into_iter().collect(),
        ..ComponentGrants::default()
    };
    let components = BTreeMap::from([(ComponentName::new("cart").unwrap(), grants)]);
    let grants = AppGrants { components, ..AppGrants::default() };
    AppData::new(Engines::new(CapabilityLimits::default()), AppResources::of_process(dir, &data), grants)
}

#[tokio::test]
async fn stores_are_shown_and_never_created() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path());
    let sizes = |data: &AppData| {
        let stores = data.stores().unwrap();
        stores.iter().map(|store| (store.kind.as_str(), store.name.clone(), store.bytes > 0)).collect::<Vec<_>>()
    };
    let expected = |has_bytes| [("kv", "carts".to_owned(), has_bytes), ("sql", "orders".to_owned(), has_bytes)];
    assert_eq!(sizes(&data), expected(false));
    assert_eq!(data.kv_keys("carts", KvKeysQuery::default()).await.unwrap(), KvKeyPage::default());
    assert_eq!(data.sql_schema("orders").await.unwrap(), SqlSchema::default());
    for problem in [
        data.kv_keys("other", KvKeysQuery::default()).await.unwrap_err(),
        data.kv_value("carts", "a".to_owned()).await.unwrap_err(),
        data.sql_schema("carts").await.unwrap_err(),
    ] {
        assert_eq!(problem.kind, ProblemKind::NotFound, "{problem:?}");
    }
    let request = KvSetRequest { key: "a".to_owned(), hex: "00".to_owned() };
    assert_eq!(data.set_kv("carts", request).await.unwrap_err().kind, ProblemKind::Forbidden);
    assert_eq!(sizes(&data), expected(false));
}

#[tokio::test]
async fn keys_values_and_rows_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path()).writable(true);
    for hex in ["7b7d", "FF00"] {
        let request = KvSetRequest { key: format!("user/{hex}"), hex: hex.to_owned() };
        data.set_kv("carts", request).await.unwrap();
    }
    let query = KvKeysQuery { prefix: Some("user/7".to_owned()), ..KvKeysQuery::default() };
    let page = data.kv_keys("carts", query).await.unwrap();
    assert_eq!(page.keys, [KvKey { key: "user/7b7d".to_owned(), bytes: 2 }]);
    let value = data.kv_value("carts", "user/FF00".to_owned()).await.unwrap();
    assert_eq!((value.hex.as_str(), value.bytes, value.truncated), ("ff00", 2, false));
    data.delete_kv("carts", "user/FF00".to_owned()).await.unwrap();
    assert_eq!(data.kv_keys("carts", KvKeysQuery::default()).await.unwrap().keys.len(), 1);
    for hex in ["0", "xy", "0ä"] {
        let request = KvSetRequest { key: "a".to_owned(), hex: hex.to_owned() };
        assert_eq!(data.set_kv("carts", request).await.unwrap_err().kind, ProblemKind::BadRequest);
    }

    let stores = data.engines.sql(&data.resources);
    let store = stores.open("orders", SqlSettings::default()).await.unwrap();
    let statement = |text: &str| SqlStatement { statement: text.to_owned() };
    let create = "CREATE TABLE orders (id INTEGER PRIMARY KEY, mail TEXT NOT NULL, total REAL)";
    data.execute_sql("orders", statement(create)).await.unwrap();
    data.execute_sql("orders", statement("CREATE INDEX by_mail ON orders (mail)")).await.unwrap();
    let insert = "INSERT INTO orders VALUES (9007199254740993, 'a@b', 1.5)";
    assert_eq!(data.execute_sql("orders", statement(insert)).await.unwrap().changed, 1);
    let rows = data.sql_query("orders", statement("SELECT *, x'0aff', NULL FROM orders")).await.unwrap();
    let expected = json!([[{ "integer": "9007199254740993" }, "a@b", 1.5, { "hex": "0aff", "bytes": 2 }, null]]);
    assert_eq!((json!(rows.rows), rows.truncated), (expected, false));
    let problem = data.sql_query("orders", statement("DELETE FROM orders")).await.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::BadRequest);
    let schema = data.sql_schema("orders").await.unwrap();
    let names: Vec<_> = schema.objects.iter().map(|object| (object.kind.as_str(), object.name.as_str())).collect();
    assert_eq!(names, [("table", "orders"), ("index", "by_mail")]);
    let columns = &schema.objects[0].columns;
    assert_eq!((columns[0].primary_key, columns[1].not_null, columns[2].r#type.as_str()), (true, true, "REAL"));
    drop(store);
}

#[tokio::test]
async fn a_view_that_fails_hides_only_its_own_columns() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path()).writable(true);
    let stores = data.engines.sql(&data.resources);
    let store = stores.open("orders", SqlSettings::default()).await.unwrap();
    for statement in [
        "CREATE TABLE 'it''s' (a, b)",
        "CREATE VIRTUAL TABLE areas USING rtree(id, low, high)",
        "CREATE TABLE lost (a)",
        "CREATE VIEW broken AS SELECT * FROM lost",
        "DROP TABLE lost",
    ] {
        store.execute(statement.to_owned(), Vec::new()).await.unwrap();
    }
    let schema = data.sql_schema("orders").await.unwrap();
    let columns = |name: &str| {
        let object = schema.objects.iter().find(|object| object.name == name).unwrap();
        object.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!((columns("it's"), columns("areas")), (vec!["a", "b"], vec!["id", "low", "high"]));
    assert_eq!(columns("broken"), Vec::<&str>::new());
}

#[tokio::test]
async fn a_result_is_bounded_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path()).writable(true);
    let stores = data.engines.sql(&data.resources);
    let _store = stores.open("orders", SqlSettings::default()).await.unwrap();
    let blobs = vec!["x''"; 100].join(", ");
    let rows = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 1000)";
    for values in [blobs, "zeroblob(4096)".to_owned(), "replace(hex(zeroblob(2048)), '0', char(1))".to_owned()] {
        let statement = SqlStatement { statement: format!("{rows} SELECT {values} FROM c") };
        let found = data.sql_query("orders", statement).await.unwrap();
        assert!(found.truncated && serde_json::to_vec(&found).unwrap().len() <= RESULT_BYTES_MAX + 1024, "{values}");
    }
}
