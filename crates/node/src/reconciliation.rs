//! Recording changes in the node's state, and determining unknown outcomes.
//!
//! Every change of an app, a tenant or a secret is recorded by [`Node::record`] or [`Node::try_record`]. If the disk
//! fails, or the node itself fails, it can be unknown whether a change was recorded. Until the node can read its state
//! again, it assumes neither outcome: apps serve as before the change, the app or tenant stays locked, and the node
//! removes no file that may still be needed. As soon as the state can be read, the node brings its memory in line with
//! the state, as it does when it opens.

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

/// The time until the first attempt to read the node's state from disk after a failure. It doubles after each attempt,
/// up to [`TRY_EVERY_MAX`].
const FIRST_TRY_AFTER: Duration = Duration::from_millis(10);

/// The maximum interval between two attempts to read the node's state from disk after a failure.
const TRY_EVERY_MAX: Duration = Duration::from_millis(500);

/// The reason why a change was not recorded, or why it is unknown whether the change was recorded.
pub(crate) enum RecordError {
    /// The change was not recorded.
    Refused(StateError),
    /// It is unknown whether the change was recorded.
    Unknown(ApiProblem),
}

impl Node {
    /// Runs `change` on a blocking thread. `change` records a change in the node's state.
    ///
    /// # Errors
    /// If the change was not recorded, or if it is unknown whether it was. In the second case, the caller must call
    /// [`Node::reconcile_later`].
    pub(crate) async fn try_record<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Self) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, RecordError> {
        let node = self.clone();
        match self.blocking(move || Ok(change(&node))).await {
            Ok(Ok(recorded)) => Ok(recorded),
            Ok(Err(error @ StateError::Unsettled { .. })) => Err(RecordError::Unknown(problems::of_state(error))),
            Ok(Err(error)) => Err(RecordError::Refused(error)),
            // `change` panicked, so it is unknown whether the change was committed.
            Err(problem) => Err(RecordError::Unknown(problem)),
        }
    }

    /// Runs `change`, which records a change of `subject` in the node's state. `lock` is the caller's lock on
    /// `subject`. If it is unknown whether the change was recorded, a background task finds out, and holds the lock
    /// until then.
    ///
    /// # Errors
    /// If the change was not recorded, or if it is unknown whether it was.
    pub(crate) async fn record<T: Send + 'static, R: Send + Sync + 'static>(
        self: &Arc<Self>,
        subject: &ChangeTarget,
        lock: &Arc<R>,
        change: impl FnOnce(&Self) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, ApiProblem> {
        let recorded = self.try_record(change).await;
        self.charge(&subject.tenant);
        recorded.map_err(|unrecorded| match unrecorded {
            RecordError::Refused(error) => self.state_refusal(error),
            RecordError::Unknown(problem) => {
                self.reconcile_later(subject.clone(), lock.clone(), |_| ());
                problem
            }
        })
    }

    /// Starts a task that waits until the node's state can be read, calls `first` on a blocking thread, and brings the
    /// node's memory in line with the state. Then the task drops `lock` and the result of `first`.
    pub(crate) fn reconcile_later<T: Send + 'static>(
        self: &Arc<Self>,
        subject: ChangeTarget,
        lock: impl Send + 'static,
        first: impl FnOnce(&Self) -> T + Send + 'static,
    ) {
        tracing::error!(
            "it is unknown whether a change of {subject} was recorded; the node determines this when it can read its state again"
        );
        tokio::spawn(reconcile(Arc::downgrade(self), subject, lock, first));
    }

    /// Applies the recorded quotas of a tenant, and adds the tenant to memory if it is new.
    pub(crate) fn take_tenant(&self, name: &TenantName, tenant: &Tenant) -> Result<(), InvalidHostRule> {
        self.tenancy.set_tenant(name, &tenant.quotas)?;
        self.resources.add(name, &self.tenancy);
        self.charge(name);
        Ok(())
    }

    /// Removes a tenant from memory, with its apps and its list of uploads.
    pub(crate) fn unload_tenant(&self, name: &TenantName) {
        self.tenancy.remove_tenant(name);
        self.uploads.forget(name);
    }

    /// Makes the next request to each of the tenant's apps load the app again. Must be called after a change of the
    /// tenant's secrets, because apps that are in memory, or are being loaded, have the previous values.
    pub(crate) fn reload_apps(&self, tenant: &TenantName) {
        self.tenancy.inputs_changed(tenant);
        for (app, _) in self.state.apps_of(tenant) {
            // The tenancy returns an error if it does not know the app. Then the app is not in memory.
            let _ = self.tenancy.unload(tenant, &app);
        }
    }

    /// Makes a suspended app serve again, unless an admin has stopped the app. Must be called only after all the app's
    /// stores are completely replaced.
    pub(crate) fn resume_suspended(&self, tenant: &TenantName, app: &AppName) {
        if self.suspended.remove(tenant, app) && self.state.app(tenant, app).is_ok_and(|app| !app.stopped) {
            // The tenancy returns an error if it does not know the app. Then there is nothing to resume.
            let _ = self.tenancy.resume(tenant, app);
        }
    }

    async fn reconcile_app(self: &Arc<Self>, tenant: &TenantName, app: &AppName) {
        self.charge(tenant);
        let Ok(recorded) = self.state.app(tenant, app) else {
            drop(self.tenancy.remove(tenant, app));
            return;
        };
        let (node, key) = (self.clone(), (tenant.clone(), app.clone()));
        let is_pending = self.blocking(move || Ok(replacements::is_pending(&node.dir, &node.state, &key.0, &key.1)));
        // If the node cannot read whether a replacement of the app's stores is pending, it assumes that one is, and
        // suspends the app, because the app must not write to stores that may be only partly replaced. A node that
        // opens does the same.
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

    fn reconcile_tenant(&self, name: &TenantName) {
        match self.state.tenant(name) {
            Ok(tenant) => {
                if let Err(error) = self.take_tenant(name, &tenant) {
                    tracing::error!(tenant = %name, %error, "cannot apply a tenant's recorded quotas; the previous quotas stay in effect");
                }
            }
            Err(_) => self.unload_tenant(name),
        }
        self.reload_apps(name);
    }
}

async fn reconcile<T: Send + 'static>(
    node: Weak<Node>,
    subject: ChangeTarget,
    lock: impl Send + 'static,
    first: impl FnOnce(&Node) -> T + Send + 'static,
) {
    let mut pause = FIRST_TRY_AFTER;
    let node = loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(TRY_EVERY_MAX);
        // If the node was dropped, the next process that opens the data directory determines the outcome.
        let Some(node) = node.upgrade() else { return };
        let reading = node.clone();
        if node.blocking(move || Ok(reading.state.reread())).await.is_ok_and(|read| read.is_ok()) {
            break node;
        }
    };
    let node_for_first = node.clone();
    let kept = node.blocking(move || Ok(first(&node_for_first))).await;
    match &subject.app {
        Some(app) => node.reconcile_app(&subject.tenant, app).await,
        None => node.reconcile_tenant(&subject.tenant),
    }
    if let Err(problem) = node.finish_removal(&subject).await {
        tracing::error!(%problem, "cannot finish the removal of {subject}; the node tries again later");
    }
    if node.state.tenant(&subject.tenant).is_err() {
        node.resources.remove(&subject.tenant);
    }
    tracing::warn!("the node has read its state from disk again, and applied the recorded state of {subject}");
    drop((kept, lock));
}
