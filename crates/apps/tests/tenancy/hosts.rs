//! Tests of which tenant and app a request is for.

use isomer_api::{AppState, Quota};

use crate::world::{TestTenancy, name_in, named, patterns};

#[tokio::test(flavor = "multi_thread")]
async fn each_host_name_has_its_app() {
    let world = TestTenancy::of(&["a", "b"], |_| {}).await;
    world.deploy("a", "shop", &["shop.example", "*.shop.example"], &named("a's shop")).await;
    // Two tenants may have apps with the same name. A host name that is more specific than a tenant's pattern may
    // belong to another tenant.
    world.deploy("b", "shop", &["b.example", "deep.eu.shop.example"], &named("b's shop")).await;
    world.put("b", "wide", &["*.eu.shop.example"], &named("b's wide"));
    for (host, name) in [
        ("shop.example", "a's shop"),
        ("www.shop.example", "a's shop"),
        ("x.y.shop.example", "a's shop"),
        ("SHOP.example:8080", "a's shop"),
        ("b.example", "b's shop"),
        ("deep.eu.shop.example", "b's shop"),
        ("other.eu.shop.example", "b's wide"),
    ] {
        assert_eq!(name_in(&world.get(host, "/").await), name, "{host}");
    }
    for host in ["example", "bshop.example", "c.example", "127.0.0.1"] {
        let response = world.get(host, "/").await;
        assert_eq!(response.status, 404, "{host}: {}", response.text());
        assert_eq!(response.header("content-type"), "application/problem+json");
    }
    world.deploy("b", "rest", &["*"], &named("b's rest")).await;
    assert_eq!(name_in(&world.get("127.0.0.1", "/").await), "b's rest");
    let counts = world.tenancy.counts();
    assert_eq!((counts.tenants, counts.apps, counts.loaded, counts.loads), (2, 4, 4, 1));
    assert_eq!(counts.requests, 8, "requests without an app are not counted for a tenant");
}

#[tokio::test(flavor = "multi_thread")]
async fn host_names_are_added_and_removed_with_their_app() {
    let world = TestTenancy::of(&["a", "b"], |_| {}).await;
    world.deploy("a", "one", &["one.example", "both.example"], &named("one")).await;
    world.deploy("a", "one", &["one.example", "new.example"], &named("one again")).await;
    assert_eq!(world.get("both.example", "/").await.status, 404);
    assert_eq!(name_in(&world.get("new.example", "/").await), "one again");
    let (tenant, one) = ("a".parse().unwrap(), "one".parse().unwrap());
    world.tenancy.set_hosts(&tenant, &one, &patterns(&["other.example"])).unwrap();
    assert_eq!(world.get("one.example", "/").await.status, 404);
    assert_eq!(name_in(&world.get("other.example", "/").await), "one again");
    // After the app was removed, another tenant may use its host name.
    world.tenancy.remove(&tenant, &one).expect("the app served requests");
    assert_eq!(world.get("other.example", "/").await.status, 404);
    assert_eq!(world.tenancy.state(&tenant, &one), None);
    world.deploy("b", "two", &["other.example"], &named("two")).await;
    assert!(world.tenancy.remove(&tenant, &one).is_none());
    assert_eq!(name_in(&world.get("other.example", "/").await), "two");
    // Removing a tenant also removes all its apps.
    world.put("b", "three", &["three.example"], &named("three"));
    world.tenancy.remove_tenant(&"b".parse().unwrap());
    for host in ["other.example", "three.example"] {
        assert_eq!(world.get(host, "/").await.status, 404);
    }
    let counts = world.tenancy.counts();
    assert_eq!((counts.tenants, counts.apps, counts.loaded), (1, 0, 0));
    assert_eq!(counts.requests, 3, "requests of removed apps are still counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_app_refuses_requests_and_resumes() {
    let world = TestTenancy::of(&["a"], |_| {}).await;
    world.deploy("a", "one", &["one.example"], &named("first")).await;
    let (tenant, one) = ("a".parse().unwrap(), "one".parse().unwrap());
    assert_eq!(world.tenancy.state(&tenant, &one), Some(AppState::Loaded));
    let retired = world.tenancy.stop(&tenant, &one).unwrap().expect("the app served requests");
    let response = world.get("one.example", "/").await;
    assert_eq!((response.status.as_u16(), response.header("content-type")), (503, "application/problem+json"));
    assert!(response.text().contains("stopped"), "{}", response.text());
    assert_eq!(world.tenancy.state(&tenant, &one), Some(AppState::Stopped));
    crate::harness::until("the stopped app leaves memory", async || retired.is_drained().then_some(())).await;
    // A revision that is deployed while its app is stopped does not serve requests.
    world.deploy("a", "one", &["one.example"], &named("second")).await;
    assert_eq!(world.get("one.example", "/").await.status, 503);
    world.tenancy.resume(&tenant, &one).unwrap();
    assert_eq!(world.tenancy.state(&tenant, &one), Some(AppState::Idle));
    assert_eq!(name_in(&world.get("one.example", "/").await), "second");
    assert_eq!(world.tenancy.counts().loaded, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_tenant_at_its_quota_is_refused() {
    let world = TestTenancy::of(&["a", "b"], |_| {}).await;
    world.deploy("a", "one", &["one.example"], &named("one")).await;
    world.deploy("b", "two", &["two.example"], &named("two")).await;
    world.tenant("a", |quotas| (quotas.requests_per_second, quotas.requests_burst) = (0, 1));
    assert_eq!(name_in(&world.get("one.example", "/").await), "one");
    let refused = world.get("one.example", "/").await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.text().contains("request-rate"), "{}", refused.text());
    assert_eq!(name_in(&world.get("two.example", "/").await), "two");
    world.tenant("a", |quotas| quotas.cpu_ms_per_second = 0);
    assert_eq!(world.get("one.example", "/").await.status, 429);
    world.tenant("a", |quotas| quotas.requests_concurrent = 0);
    assert_eq!(world.get("one.example", "/").await.status, 429);
    let usage = world.usage("a");
    let refused = [Quota::RequestRate, Quota::Cpu, Quota::ConcurrentRequests].map(|quota| usage.refused.get(&quota));
    assert_eq!(refused, [Some(&1), Some(&1), Some(&1)], "{usage:?}");
    assert!(usage.cpu_us > 0 && usage.requests == 4 && usage.requests_now == 0, "{usage:?}");
    assert!(world.usage("b").refused.is_empty());
    world.tenant("a", |_| {});
    assert_eq!(name_in(&world.get("one.example", "/").await), "one");
}
