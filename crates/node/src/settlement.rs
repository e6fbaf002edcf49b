//! Recording changes, and settling changes with an unknown outcome: the disk failed and cannot be read, or the node
//! itself failed.
//!
//! Every change of an app, a tenant or a secret goes through [`Node::record`] or [`Node::try_record`]. If its outcome
//! is unknown, neither outcome is assumed until the state can be read again: apps serve as before, the app or tenant
//! stays locked, and files that either outcome needs are not removed. After the state was read, the node's memory is
//! updated to agree with it, as when a node opens.

use std::sync::{Arc, Weak};
use std::time::Duration;

use isomer_api::ApiProblem;
use isomer_capabilities::outbound::InvalidHostRule;
use isomer_ids::{AppName, TenantName};
use isomer_state::{StateError, Tenant};

use crate::intents::ChangeTarget;
use crate::node::Node;
use crate::problems;
use crate::replacements;

/// The interval between two attempts to read the state.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// Why a change is not known to be recorded.
pub(crate) enum RecordError {
    /// The change was not recorded.
    Refused(StateError),
    /// The change may have been recorded.
    Unknown(ApiProblem),
}

impl Node {
    /// Records a change, on a thread that may block.
    ///
    /// # Errors
    /// When the change was not recorded, or may have been recorded. In the second case, the caller must call
    /// [`Node::settle_later`].
    pub(crate) async fn try_record<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Self) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, RecordError> {
        let node = self.clone();
        match self.blocking(move || Ok(change(&node))).await {
            Ok(Ok(recorded)) => Ok(recorded),
            Ok(Err(error @ StateError::Unsettled { .. })) => Err(RecordError::Unknown(problems::of_state(error))),
            Ok(Err(error)) => Err(RecordError::Refused(error)),
            // The change panicked, before or after it was recorded.
            Err(problem) => Err(RecordError::Unknown(problem)),
        }
    }

    /// Records a change of `subject`. `right` is the lock of the target: if the outcome is unknown, the lock is held
    /// until the outcome is known.
    ///
    /// # Errors
    /// When the change was not recorded, or may have been recorded.
    pub(crate) async fn record<T: Send + 'static, R: Send + Sync + 'static>(
        self: &Arc<Self>,
        subject: &ChangeTarget,
        right: &Arc<R>,
        change: impl FnOnce(&Self) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, ApiProblem> {
        let recorded = self.try_record(change).await;
        self.charge(&subject.tenant);
        recorded.map_err(|unrecorded| match unrecorded {
            RecordError::Refused(error) => self.state_refusal(error),
            RecordError::Unknown(problem) => {
                self.settle_later(subject.clone(), right.clone(), |_| ());
                problem
            }
        })
    }

    /// Waits until the state can be read, calls `first` on a thread that may block, and makes the memory agree with the
    /// state. Drops `right` and the result of `first` afterwards.
    pub(crate) fn settle_later<T: Send + 'static>(
        self: &Arc<Self>,
        subject: ChangeTarget,
        right: impl Send + 'static,
        first: impl FnOnce(&Self) -> T + Send + 'static,
    ) {
        tracing::error!(
            "a change of {subject} has an unknown outcome; it is settled when the node's state can be read"
        );
        tokio::spawn(settle(Arc::downgrade(self), subject, right, first));
    }

    /// Applies the recorded quotas of a tenant to its apps.
    pub(crate) fn take_tenant(&self, name: &TenantName, tenant: &Tenant) -> Result<(), InvalidHostRule> {
        self.tenancy.set_tenant(name, &tenant.quotas)?;
        self.resources.add(name, &self.tenancy);
        self.charge(name);
        Ok(())
    }

    /// Removes a tenant from memory, with its apps and uploads.
    pub(crate) fn unload_tenant(&self, name: &TenantName) {
        self.tenancy.remove_tenant(name);
        self.uploads.forget(name);
    }

    /// Makes the next requests of a tenant's apps load the apps again: apps in memory, or being loaded, still have the
    /// secrets with which they were started.
    pub(crate) fn reload_apps(&self, tenant: &TenantName) {
        self.tenancy.inputs_changed(tenant);
        for (app, _) in self.state.apps_of(tenant) {
            // If the tenancy does not know the app, the app is not in memory.
            let _ = self.tenancy.unload(tenant, &app);
        }
    }

    /// Makes a suspended app serve again after its stores were found to be completely replaced, unless an admin has
    /// stopped the app.
    pub(crate) fn resume_suspended(&self, tenant: &TenantName, app: &AppName) {
        if self.suspended.remove(tenant, app) && self.state.app(tenant, app).is_ok_and(|app| !app.stopped) {
            // If the tenancy does not know the app, there is nothing to resume.
            let _ = self.tenancy.resume(tenant, app);
        }
    }

    async fn settle_app(self: &Arc<Self>, tenant: &TenantName, app: &AppName) {
        self.charge(tenant);
        let Ok(recorded) = self.state.app(tenant, app) else {
            drop(self.tenancy.remove(tenant, app));
            return;
        };
        let (node, key) = (self.clone(), (tenant.clone(), app.clone()));
        let is_pending = self.blocking(move || Ok(replacements::is_pending(&node.dir, &node.state, &key.0, &key.1)));
        // If this is unknown, the app is suspended, as when a node opens: half replaced stores must not be written.
        let is_pending = is_pending.await.unwrap_or(true);
        if is_pending {
            self.suspended.insert(tenant, app);
        }
        let is_stopped = recorded.stopped || is_pending;
        let put = self.tenancy.put(tenant, app, &recorded.current().revision, &recorded.hosts, is_stopped);
        if let Err(error) = put {
            tracing::error!(%tenant, %app, %error, "cannot serve an app");
        }
    }

    fn settle_tenant(&self, name: &TenantName) {
        match self.state.tenant(name) {
            Ok(tenant) => {
                if let Err(error) = self.take_tenant(name, &tenant) {
                    tracing::error!(tenant = %name, %error, "a tenant keeps its previous quotas");
                }
            }
            Err(_) => self.unload_tenant(name),
        }
        self.reload_apps(name);
    }
}

async fn settle<T: Send + 'static>(
    node: Weak<Node>,
    subject: ChangeTarget,
    right: impl Send + 'static,
    first: impl FnOnce(&Node) -> T + Send + 'static,
) {
    let node = loop {
        tokio::time::sleep(TRY_EVERY).await;
        // If the node was dropped, the next node that opens the directory settles the change.
        let Some(node) = node.upgrade() else { return };
        let reading = node.clone();
        if node.blocking(move || Ok(reading.state.reread())).await.is_ok_and(|read| read.is_ok()) {
            break node;
        }
    };
    let settling = node.clone();
    let kept = node.blocking(move || Ok(first(&settling))).await;
    match &subject.app {
        Some(app) => node.settle_app(&subject.tenant, app).await,
        None => node.settle_tenant(&subject.tenant),
    }
    if let Err(problem) = node.finish_removal(&subject).await {
        tracing::error!(%problem, "the removal of {subject} cannot be finished; it is tried again later");
    }
    if node.state.tenant(&subject.tenant).is_err() {
        node.resources.remove(&subject.tenant);
    }
    tracing::warn!("the change of {subject} is settled");
    drop((kept, right));
}
