//! A client of a node's admin API over TCP, with the operations that benchmarks and the soak use.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use isomer_api::{
    ApiProblem, AppInfo, DeployReport, MissingParts, NodeStatus, ProblemKind, Release, RevisionInfo, RollbackRequest,
    SwapRequest, TenantChange, TenantInfo, routes,
};
use isomer_ids::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bundle::{Bundle, part};
use crate::http::{Connection, Response, request};

/// The maximum time for a response. A deployment compiles the app, which takes long on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// The maximum idle time of a connection that is reused. A connection that has been idle for longer is dropped, because
/// the node may have closed it.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// A client of one node's admin API. Clones share connections.
#[derive(Clone)]
pub struct Admin {
    address: SocketAddr,
    token: String,
    idle: Arc<Mutex<Vec<(Instant, Connection)>>>,
}

impl Admin {
    /// Creates a client of the admin API at `address` that authenticates with `token`.
    #[must_use]
    pub fn new(address: SocketAddr, token: impl Into<String>) -> Self {
        Self { address, token: token.into(), idle: Arc::default() }
    }

    /// Returns the status of the node.
    ///
    /// # Errors
    /// If there is no response: the error of the connection. If the node refuses the request: the [`ApiProblem`] of the
    /// response.
    pub async fn status(&self) -> Result<NodeStatus> {
        self.get(routes::STATUS).await
    }

    /// Returns all apps of the node.
    ///
    /// # Errors
    /// The errors of [`Admin::status`].
    pub async fn apps(&self) -> Result<Vec<AppInfo>> {
        self.get(routes::APPS).await
    }

    /// Creates a tenant, or changes the quotas and host names of an existing one.
    ///
    /// # Errors
    /// The errors of [`Admin::status`].
    pub async fn set_tenant(&self, tenant: &str, change: &TenantChange) -> Result<TenantInfo> {
        self.json("PUT", &at(routes::TENANT, tenant, ""), change).await
    }

    /// Returns one tenant.
    ///
    /// # Errors
    /// The errors of [`Admin::status`].
    pub async fn tenant(&self, tenant: &str) -> Result<TenantInfo> {
        self.get(&at(routes::TENANT, tenant, "")).await
    }

    /// Removes a tenant.
    ///
    /// # Errors
    /// The errors of [`Admin::status`].
    pub async fn remove_tenant(&self, tenant: &str) -> Result<()> {
        self.call("DELETE", &at(routes::TENANT, tenant, ""), &[], b"").await.map(drop)
    }

    /// Uploads the parts that the node does not have, then deploys the release.
    ///
    /// # Errors
    /// The errors of [`Admin::status`].
    pub async fn deploy(&self, tenant: &str, app: &str, bundle: &Bundle) -> Result<DeployReport> {
        let missing: MissingParts = self.json("POST", routes::MISSING, &bundle.release).await?;
        for digest in &missing.digests {
            let bytes = bundle
                .parts
                .get(digest)
                .with_context(|| format!("the node requests part `{digest}`, which is not in the release"))?;
            self.put_blob(digest, bytes).await?;
        }
        self.deploy_known(tenant, app, &bundle.release).await
    }

    /// Deploys a release. The node must already have its parts.
    ///
    /// # Errors
    /// The errors of [`Admin::status`].
    pub async fn deploy_known(&self, tenant: &str, app: &str, release: &Release) -> Result<DeployReport> {
        self.json("POST", &at(routes::DEPLOY, tenant, app), release).await
    }

    /// Rolls an app back to an earlier revision.
    ///
    /// # Errors
    /// The errors of [`Admin::status`].
    pub async fn rollback(&self, tenant: &str, app: &str, rollback: &RollbackRequest) -> Result<DeployReport> {
        self.json("POST", &at(routes::ROLLBACK, tenant, app), rollback).await
    }

    /// Replaces one component of an app.
    ///
    /// # Errors
    /// The errors of [`Admin::status`].
    pub async fn swap(&self, tenant: &str, app: &str, component: &str, bytes: &[u8]) -> Result<DeployReport> {
        let part = part(bytes);
        self.put_blob(&part.digest, bytes).await?;
        let swap = SwapRequest { components: [(component.to_owned(), part)].into(), message: None };
        self.json("POST", &at(routes::SWAP, tenant, app), &swap).await
    }

    /// Returns an app's revisions, newest first.
    ///
    /// # Errors
    /// The errors of [`Admin::status`].
    pub async fn revisions(&self, tenant: &str, app: &str) -> Result<Vec<RevisionInfo>> {
        self.get(&at(routes::REVISIONS, tenant, app)).await
    }

    /// Stops an app.
    ///
    /// # Errors
    /// The errors of [`Admin::status`].
    pub async fn stop(&self, tenant: &str, app: &str) -> Result<AppInfo> {
        read(&self.call("POST", &at(routes::STOP, tenant, app), &[], b"").await?)
    }

    /// Starts an app that was stopped.
    ///
    /// # Errors
    /// The errors of [`Admin::status`].
    pub async fn start(&self, tenant: &str, app: &str) -> Result<AppInfo> {
        read(&self.call("POST", &at(routes::START, tenant, app), &[], b"").await?)
    }

    /// Removes an app and its data.
    ///
    /// # Errors
    /// The errors of [`Admin::status`].
    pub async fn remove(&self, tenant: &str, app: &str) -> Result<()> {
        let path = format!("{}?data=true", at(routes::APP, tenant, app));
        self.call("DELETE", &path, &[], b"").await.map(drop)
    }

    async fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let path = routes::BLOB.replace("{digest}", digest.as_str());
        self.call("PUT", &path, &[("content-type", "application/octet-stream")], bytes).await.map(drop)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        read(&self.call("GET", path, &[], b"").await?)
    }

    async fn json<T: DeserializeOwned>(&self, method: &str, path: &str, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_vec(body)?;
        read(&self.call(method, path, &[("content-type", "application/json")], &body).await?)
    }

    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response> {
        let bearer = format!("Bearer {}", self.token);
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        let host = self.address.to_string();
        let request = request(method, path, &host, &headers, body);
        let mut connection = self.lend();
        let response = connection.send(&request, PATIENCE).await.with_context(|| format!("{method} {path} failed"))?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), connection));
        if (200..300).contains(&response.status) {
            return Ok(response);
        }
        let problem = serde_json::from_slice::<ApiProblem>(&response.body).unwrap_or_else(|_| {
            ApiProblem::new(ProblemKind::Failed, format!("status {}: {}", response.status, response.text()))
        });
        let detail = problem.detail.clone().unwrap_or_default();
        Err(anyhow::Error::new(problem).context(format!("{method} {path} was refused ({}) {detail}", response.status)))
    }

    fn lend(&self) -> Connection {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, _)| since.elapsed() < IDLE_MAX);
        idle.pop().map_or_else(|| Connection::new(self.address), |(_, connection)| connection)
    }
}

fn at(route: &str, tenant: &str, app: &str) -> String {
    route.replace("{tenant}", tenant).replace("{app}", app)
}

fn read<T: DeserializeOwned>(response: &Response) -> Result<T> {
    serde_json::from_slice(&response.body)
        .with_context(|| format!("cannot parse the response of the admin API: {}", response.text()))
}
