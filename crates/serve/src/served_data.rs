//! The operations of the admin API on the stores and the shapes of the app of this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use isomer_admin::{AdminReply, ShapeApi, StoreApi};
use isomer_advice::{GroupPlacement, InvalidShape, advise, arrangement_of, compare, shapes};
use isomer_api::{
    ApiProblem, KvDeleteRequest, KvKeyPage, KvKeysQuery, KvSetRequest, KvValue, ProblemKind, ShapeAdvice,
    ShapeComparison, ShapeInfo, ShapeRequest, SqlChanges, SqlRows, SqlSchema, SqlStatement, StoreInfo, StoreKind,
};
use isomer_apps::AppData;
use isomer_ids::{AppName, StoreName, TenantName};
use isomer_manifest::App;
use isomer_plan::Arrangement;
use serde_json::Value;

use crate::served_app::{ServedApp, blocking, not_started};
use crate::served_manifest::ServedManifest;

impl ServedApp {
    /// Returns the stores of the app.
    fn data_of(&self, tenant: &TenantName, app: &AppName, kind: StoreKind, store: &str) -> Result<AppData, ApiProblem> {
        self.check(tenant, app)?;
        let manifest = self.manifest()?;
        if let Some(data) = &manifest.data {
            return Ok(data.clone());
        }
        let group = groups_of_stores(&manifest.app, &self.plan_value()?).remove(&(kind, store.to_owned()));
        let group = group.ok_or_else(|| ApiProblem::not_found("store", store))?;
        let why =
            format!("the store `{store}` is open in the process of group `{group}`, which does not show its data");
        Err(ApiProblem::new(ProblemKind::Conflict, why).hint("run the app in the shape `monolith` to look at its data"))
    }

    fn all_stores(&self, tenant: &TenantName, app: &AppName) -> Result<Vec<StoreInfo>, ApiProblem> {
        self.check(tenant, app)?;
        let manifest = self.manifest()?;
        if let Some(data) = &manifest.data {
            return data.stores();
        }
        let mut stores = BTreeMap::new();
        for ((kind, name), group) in groups_of_stores(&manifest.app, &self.plan_value()?) {
            let components = components_of(&manifest.app, kind, &name);
            let info = StoreInfo { kind, name, bytes: 0, components, group: Some(group), writable: false };
            stores.insert((info.kind, info.name.clone()), info);
        }
        Ok(stores.into_values().collect())
    }

    /// Returns the manifest of the app, and the arrangement of the revision that serves requests.
    fn arrangement(&self) -> Result<(Arc<ServedManifest>, Arrangement), ApiProblem> {
        let failed = || ApiProblem::new(ProblemKind::Failed, "the plan of the app cannot be read");
        Ok((self.manifest()?, arrangement_of(&self.plan_value()?).ok_or_else(failed)?))
    }
}

/// Returns the group that has opened each store.
fn groups_of_stores(app: &App, plan: &Value) -> BTreeMap<(StoreKind, String), String> {
    let Some(arrangement) = arrangement_of(plan) else { return BTreeMap::new() };
    let places = arrangement.places();
    let mut groups = BTreeMap::new();
    for (name, component) in &app.components {
        let Some(place) = places.get(name.as_str()) else { continue };
        let kv = component.grants.kv.iter().map(|store| (StoreKind::Kv, store.value.to_string()));
        let sql = component.grants.sql.iter().map(|store| (StoreKind::Sql, store.value.to_string()));
        groups.extend(kv.chain(sql).map(|store| (store, place.process.clone())));
    }
    groups
}

/// Returns the components that are granted the store.
fn components_of(app: &App, kind: StoreKind, store: &str) -> Vec<String> {
    let is_granted = |component: &isomer_manifest::Component| {
        let names = if kind == StoreKind::Kv { &component.grants.kv } else { &component.grants.sql };
        names.iter().any(|name| name.value.as_str() == store)
    };
    let granted = app.components.iter().filter(|(_, component)| is_granted(component));
    granted.map(|(name, _)| name.to_string()).collect()
}

impl StoreApi for ServedApp {
    fn stores(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<Vec<StoreInfo>> {
        blocking(move || self.all_stores(&tenant, &app))
    }

    fn kv_keys(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        store: StoreName,
        query: KvKeysQuery,
    ) -> AdminReply<KvKeyPage> {
        Box::pin(async move {
            self.data_of(&tenant, &app, StoreKind::Kv, store.as_str())?.kv_keys(store.as_str(), query).await
        })
    }

    fn kv_value(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        store: StoreName,
        key: String,
    ) -> AdminReply<KvValue> {
        Box::pin(async move {
            self.data_of(&tenant, &app, StoreKind::Kv, store.as_str())?.kv_value(store.as_str(), key).await
        })
    }

    fn sql_schema(self: Arc<Self>, tenant: TenantName, app: AppName, store: StoreName) -> AdminReply<SqlSchema> {
        Box::pin(async move {
            self.data_of(&tenant, &app, StoreKind::Sql, store.as_str())?.sql_schema(store.as_str()).await
        })
    }

    fn sql_query(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        store: StoreName,
        statement: SqlStatement,
    ) -> AdminReply<SqlRows> {
        Box::pin(async move {
            self.data_of(&tenant, &app, StoreKind::Sql, store.as_str())?.sql_query(store.as_str(), statement).await
        })
    }

    fn set_kv(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        store: StoreName,
        request: KvSetRequest,
    ) -> AdminReply<()> {
        Box::pin(async move {
            self.data_of(&tenant, &app, StoreKind::Kv, store.as_str())?.set_kv(store.as_str(), request).await
        })
    }

    fn delete_kv(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        store: StoreName,
        request: KvDeleteRequest,
    ) -> AdminReply<()> {
        Box::pin(async move {
            self.data_of(&tenant, &app, StoreKind::Kv, store.as_str())?.delete_kv(store.as_str(), request.key).await
        })
    }

    fn execute_sql(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        store: StoreName,
        statement: SqlStatement,
    ) -> AdminReply<SqlChanges> {
        Box::pin(async move {
            self.data_of(&tenant, &app, StoreKind::Sql, store.as_str())?.execute_sql(store.as_str(), statement).await
        })
    }
}

impl ShapeApi for ServedApp {
    fn shapes(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<Vec<ShapeInfo>> {
        Box::pin(async move {
            self.check(&tenant, &app)?;
            let (manifest, current) = self.arrangement()?;
            Ok(shapes(&manifest.app, &current.shape, GroupPlacement::OwnProcesses))
        })
    }

    fn compare_shape(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        shape: ShapeRequest,
    ) -> AdminReply<ShapeComparison> {
        Box::pin(async move {
            self.check(&tenant, &app)?;
            let (manifest, current) = self.arrangement()?;
            let traffic = self.traffic();
            let invalid = |InvalidShape(why)| ApiProblem::new(ProblemKind::BadRequest, why);
            compare(&manifest.app, &current, &shape, &traffic, GroupPlacement::OwnProcesses).map_err(invalid)
        })
    }

    fn advice(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<ShapeAdvice> {
        Box::pin(async move {
            self.check(&tenant, &app)?;
            let (_, current) = self.arrangement()?;
            Ok(advise(&current, &self.traffic(), GroupPlacement::OwnProcesses))
        })
    }
}

impl ServedApp {
    fn manifest(&self) -> Result<Arc<ServedManifest>, ApiProblem> {
        self.served_manifest().ok_or_else(not_started)
    }
}
