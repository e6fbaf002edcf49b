//! Connects a revision to the gateway of its app, so that the front door serves tabs.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use isomer_front::gateway::{
    AppGateway, BrowserParts, BrowserRevision, PublishedFunction, PublishedFunctions, SiteGateway, StaticFiles,
    TabConfig,
};
use isomer_front::{RouteTarget, StreamLimits};
use isomer_runtime::{Account, GroupHandle, HostMemory};
use isomer_wire::{Call, CallFailure, CallResult, Callee, FunctionKey};

use crate::error::RevisionError;
use crate::group_handler::{AppSite, GroupHandler};
use crate::package::PackedTabs;
use crate::seams::{LocalCallee, Peers};

/// The maximum size of the arguments of a call from a tab in bytes. Pages pass little data, and the arguments are
/// buffered.
const TAB_IMAGE_BYTES_MAX: usize = 1 << 20;

/// Executes the calls of tabs, in this process or in another process of the shape.
struct TabCallee {
    local: Arc<dyn Callee>,
    /// The account that is charged for the arguments of calls to other processes. A local callee charges them itself.
    account: Arc<Account>,
    /// The callees of the functions that run in other processes.
    remote: HashMap<FunctionKey, Arc<dyn Callee>>,
}

impl Callee for TabCallee {
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = CallResult> + Send>> {
        match self.remote.get(&call.function) {
            Some(callee) => {
                let Ok(memory) = self.account.charge_host_memory(call.image.len()) else {
                    return Box::pin(std::future::ready(Err(CallFailure::overloaded("no memory for the arguments"))));
                };
                let called = callee.call(call);
                Box::pin(async move {
                    let result = called.await;
                    drop(memory);
                    result
                })
            }
            None => self.local.call(call),
        }
    }
}

/// A browser group with what a revision provides for it.
pub(crate) struct TabSite<'a> {
    pub(crate) tabs: &'a PackedTabs,
    pub(crate) gateway: &'a Arc<AppGateway>,
    /// The callee of calls, except for functions of other processes.
    pub(crate) local: &'a Arc<LocalCallee>,
    /// The group whose account the requests are charged to.
    pub(crate) group: &'a GroupHandle,
    /// The callees in other processes.
    pub(crate) peers: &'a Peers,
    /// The maximum duration of a call, even if the manifest allows more.
    pub(crate) deadline_max: Duration,
}

impl TabSite<'_> {
    /// Makes `site` serve tabs, with the files and what is charged for them.
    ///
    /// # Errors
    /// If a function runs in another process whose address is not known.
    pub(crate) fn serving_tabs(
        &self,
        site: AppSite,
        (files, memory): (StaticFiles, HostMemory),
    ) -> Result<AppSite, RevisionError> {
        let Self { tabs, gateway, local, group, peers, deadline_max } = *self;
        let published = tabs.functions.iter().map(|function| PublishedFunction {
            key: function.key,
            component: function.component.as_str().into(),
            identity_offset: function.identity_offset,
            allowed: function.allowed.min(deadline_max),
        });
        let config: TabConfig =
            tabs.config.iter().map(|(component, values)| (component.to_string(), values.clone())).collect();
        let revision = Arc::new(BrowserRevision::new(BrowserParts {
            functions: PublishedFunctions::new(local.graph.plan(), published),
            callee: callee(tabs, local, group.account(), peers)?,
            files: Some(files),
            components: tabs.components.iter().map(ToString::to_string).collect(),
            config,
            cookie: tabs.cookie.clone(),
            image_bytes_max: TAB_IMAGE_BYTES_MAX,
            memory: Some(Box::new(memory)),
        }));
        let longest = tabs.functions.iter().map(|function| function.allowed.min(deadline_max)).max();
        let deadline = longest.unwrap_or_default();
        let target = RouteTarget {
            handler: GroupHandler::new(group.clone(), 0),
            component: tabs.group.as_str().into(),
            deadline,
            stream: StreamLimits { max: deadline, idle_max: deadline },
            compress: false,
            body_bytes_max: TAB_IMAGE_BYTES_MAX as u64,
        };
        Ok(site.serving_tabs(SiteGateway { app: gateway.clone(), revision }, &target))
    }
}

fn callee(
    tabs: &PackedTabs,
    local: &Arc<LocalCallee>,
    account: &Arc<Account>,
    peers: &Peers,
) -> Result<Arc<dyn Callee>, RevisionError> {
    let mut remote = HashMap::new();
    for function in &tabs.functions {
        if local.functions.contains_key(&function.key) {
            continue;
        }
        let no_peer =
            || RevisionError::NoPeer { component: function.component.clone(), process: function.process.clone() };
        remote.insert(function.key, peers.get(&function.process).ok_or_else(no_peer)?.clone());
    }
    if remote.is_empty() {
        return Ok(local.clone());
    }
    Ok(Arc::new(TabCallee { local: local.clone(), account: account.clone(), remote }))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::FutureExt as _;
    use isomer_ids::PlanDigest;
    use isomer_runtime::AccountLimits;
    use isomer_wire::{CallContext, CallError};

    use super::*;

    /// A callee that never returns.
    struct Waiting;

    impl Callee for Waiting {
        fn call(&self, _: Call) -> Pin<Box<dyn Future<Output = CallResult> + Send>> {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn arguments_of_calls_to_other_processes_are_charged_until_the_calls_end() {
        const KEY: FunctionKey = FunctionKey([1; 16]);
        let account = Account::new("t".into(), AccountLimits { memory_bytes: 1000, ..AccountLimits::UNLIMITED });
        let remote = HashMap::from([(KEY, Arc::new(Waiting) as Arc<dyn Callee>)]);
        let callee = TabCallee { local: Arc::new(Waiting), account, remote };
        let call = || {
            let context =
                CallContext { deadline: Instant::now(), request: 1, traceparent: None, plan: PlanDigest([1; 16]) };
            callee.call(Call { function: KEY, context, is_idempotent: false, image: vec![0; 600] })
        };
        let mut first = call();
        assert_eq!((&mut first).now_or_never(), None);
        let failure = call().now_or_never().expect("it returns at once").expect_err("there is no memory");
        assert_eq!(failure.lost(), Some(CallError::Overloaded));
        assert!(matches!(failure, CallFailure::Lost { not_run: true, .. }));
        drop(first);
        assert_eq!(call().now_or_never(), None);
    }
}
