//! The operations of the admin API on the stores and the shapes of apps.

use std::sync::Arc;
use std::time::Duration;

use isomer_admin::{AdminReply, AppApi as _, ShapeApi, StoreApi};
use isomer_advice::{GroupPlacement, InvalidShape, Traffic, advise, arrangement_of, compare, shapes};
use isomer_api::{
    ApiProblem, KvKeyPage, KvKeysQuery, KvValue, MetricsQuery, ProblemKind, ShapeAdvice, ShapeComparison, ShapeInfo,
    ShapeRequest, SqlRows, SqlSchema, SqlStatement, StoreInfo,
};
use isomer_apps::{AppData, metrics_report};
use isomer_capabilities::secrets::SecretValues;
use isomer_capabilities::{AppFiles, AppGrants, AppResources, GrantedBy, SESSION_KEY_FILE};
use isomer_ids::{AppName, StoreName, TenantName};
use isomer_manifest::App;
use serde_json::Value;

use crate::data_leases::DataLease;
use crate::node::Node;
use crate::problems;
use crate::revisions::record::RevisionRecord;
use crate::revisions::release::read_manifest;

/// The stores of an app, whose data is not removed while this value exists.
struct LeasedData {
    data: AppData,
    _lease: DataLease,
}

impl Node {
    /// Returns the stores of an app. Reading them is charged to the tenant. Blocks.
    fn data_of(&self, tenant: &TenantName, app: &AppName) -> Result<LeasedData, ApiProblem> {
        // The lease is taken before the manifest is read, because a removal waits for leases after the app is no longer
        // recorded.
        let lease = self.data_leases.lease(tenant, app);
        let grants = AppGrants::from(&self.manifest_of(tenant, app)?);
        let no_tenant = || ApiProblem::not_found("tenant", tenant);
        let data = self.dir.app(tenant.as_str(), app.as_str());
        let resources = AppResources {
            kv: data.join("kv"),
            sql: data.join("sql"),
            session_key: data.join(SESSION_KEY_FILE),
            files: AppFiles::Own { files: data.clone(), writable: data.join("dirs") },
            storage: self.tenancy.storage(tenant).ok_or_else(no_tenant)?,
            account: self.tenancy.account(tenant).ok_or_else(no_tenant)?,
            statement_time_max: self.tenancy.time_limits().statement.min(Duration::MAX),
            outbound: None,
            secrets: SecretValues::Given(std::collections::BTreeMap::new()),
            environment: Arc::default(),
            candidate: None,
            series: Arc::default(),
            granted_by: GrantedBy::Manifest,
        };
        let data = AppData::new(self.tenancy.stores().clone(), resources, grants);
        Ok(LeasedData { data, _lease: lease })
    }

    /// Returns the manifest of the revision in service. Blocks.
    fn manifest_of(&self, tenant: &TenantName, app: &AppName) -> Result<App, ApiProblem> {
        let revision = self.state.app(tenant, app).map_err(problems::of_state)?.current().revision.clone();
        let bytes = self.state.package(&revision).map_err(problems::of_state)?;
        let bytes = bytes.ok_or_else(|| ApiProblem::not_found("revision", &revision))?;
        Ok(read_manifest(&RevisionRecord::read(&bytes)?.release()?.manifest)?.0)
    }

    /// Returns the stores of an app, read on a blocking thread.
    async fn stores_of(self: Arc<Self>, tenant: TenantName, app: AppName) -> Result<LeasedData, ApiProblem> {
        let node = self.clone();
        self.blocking(move || node.data_of(&tenant, &app)).await
    }

    /// Returns the manifest and the plan of the revision in service.
    async fn shape_of(self: Arc<Self>, tenant: TenantName, app: AppName) -> Result<(App, Value), ApiProblem> {
        let (node, of) = (self.clone(), (tenant.clone(), app.clone()));
        let manifest = self.blocking(move || node.manifest_of(&of.0, &of.1)).await?;
        Ok((manifest, self.clone().plan(tenant, app).await?))
    }

    /// Returns the traffic of an app since the node started the app in its current shape.
    async fn traffic_of(self: Arc<Self>, tenant: &TenantName, app: &AppName) -> Result<Traffic, ApiProblem> {
        let (node, of) = (self.clone(), (tenant.clone(), app.clone()));
        self.blocking(move || Ok(node.shape_traffic.current(&of.0, &of.1, node.all_traffic_of(&of.0, &of.1)))).await
    }

    /// Returns the traffic of an app since the node started.
    pub(crate) fn all_traffic_of(&self, tenant: &TenantName, app: &AppName) -> Traffic {
        let query =
            MetricsQuery { tenant: Some(tenant.clone()), app: Some(app.to_string()), ..MetricsQuery::default() };
        Traffic::of(&metrics_report(self.tenancy.metrics(), &query), None, None)
    }
}

fn no_plan() -> ApiProblem {
    ApiProblem::new(ProblemKind::Failed, "the plan of the app cannot be read")
}

impl StoreApi for Node {
    fn stores(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<Vec<StoreInfo>> {
        Box::pin(async move {
            let node = self.clone();
            self.blocking(move || node.data_of(&tenant, &app)?.data.stores()).await
        })
    }

    fn kv_keys(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        store: StoreName,
        query: KvKeysQuery,
    ) -> AdminReply<KvKeyPage> {
        Box::pin(async move { self.stores_of(tenant, app).await?.data.kv_keys(store.as_str(), query).await })
    }

    fn kv_value(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        store: StoreName,
        key: String,
    ) -> AdminReply<KvValue> {
        Box::pin(async move { self.stores_of(tenant, app).await?.data.kv_value(store.as_str(), key).await })
    }

    fn sql_schema(self: Arc<Self>, tenant: TenantName, app: AppName, store: StoreName) -> AdminReply<SqlSchema> {
        Box::pin(async move { self.stores_of(tenant, app).await?.data.sql_schema(store.as_str()).await })
    }

    fn sql_query(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        store: StoreName,
        statement: SqlStatement,
    ) -> AdminReply<SqlRows> {
        Box::pin(async move { self.stores_of(tenant, app).await?.data.sql_query(store.as_str(), statement).await })
    }
}

impl ShapeApi for Node {
    fn shapes(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<Vec<ShapeInfo>> {
        Box::pin(async move {
            let node = self.clone();
            let release = move || {
                let current = node.state.app(&tenant, &app).map_err(problems::of_state)?.current().revision.clone();
                let bytes = node.state.package(&current).map_err(problems::of_state)?;
                let bytes = bytes.ok_or_else(|| ApiProblem::not_found("revision", &current))?;
                let release = RevisionRecord::read(&bytes)?.release()?;
                Ok(shapes(&read_manifest(&release.manifest)?.0, &release.shape, GroupPlacement::OneProcess))
            };
            self.blocking(release).await
        })
    }

    fn compare_shape(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        shape: ShapeRequest,
    ) -> AdminReply<ShapeComparison> {
        Box::pin(async move {
            let (manifest, plan) = self.clone().shape_of(tenant.clone(), app.clone()).await?;
            let current = arrangement_of(&plan).ok_or_else(no_plan)?;
            let traffic = self.traffic_of(&tenant, &app).await?;
            let invalid = |InvalidShape(why)| ApiProblem::new(ProblemKind::BadRequest, why);
            compare(&manifest, &current, &shape, &traffic, GroupPlacement::OneProcess).map_err(invalid)
        })
    }

    fn advice(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<ShapeAdvice> {
        Box::pin(async move {
            let (_, plan) = self.clone().shape_of(tenant.clone(), app.clone()).await?;
            let current = arrangement_of(&plan).ok_or_else(no_plan)?;
            Ok(advise(&current, &self.traffic_of(&tenant, &app).await?, GroupPlacement::OneProcess))
        })
    }
}
