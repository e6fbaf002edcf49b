//! The probed code of a group, which is linked while the group serves requests.
//!
//! Probed code is linked with the imports of the plain code, and with the probes. So no metadata of the probed code can
//! give a component access to more than the plain code has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_telemetry::SpanContext;

use super::linker::linker;
use super::stub::SeamStub;
use super::{Group, GroupError, HttpHandlerExport, fitting, linked};
use crate::code::Code;
use crate::failure::Failure;
use crate::guest::CallableGroups;
use crate::instance::{LinkedCode, Skeleton};
use crate::lanes::MeteredFuture;
use crate::pool::Slots;
use crate::wasi::{Import, InterfaceOwner, PROBE_INTERFACE, Provider, SeamProbes};

/// The probed code of a group.
pub struct ProbedCode {
    /// The compiled code.
    pub code: Code,
    /// The functions that report their calls.
    pub probes: SeamProbes,
    /// The slots of the engine's pool that one instance takes; see
    /// [`GroupSettings::slots`](super::GroupSettings::slots).
    pub slots: Slots,
    /// The number of bytes on the host's heap that the engine needs for one instance.
    pub state_bytes: usize,
}

/// The probed code of a group, linked with the group's imports, but not in use yet.
pub struct LinkedProbedCode(Arc<LinkedCode>);

/// The inputs for linking probed code: those with which the plain code was linked.
pub(super) struct ProbingInputs {
    imports: Vec<Import>,
    handlers: Vec<HttpHandlerExport>,
    providers: Vec<Arc<dyn Provider>>,
    stubs: Vec<SeamStub>,
    /// The names of the exports of the skeletons.
    skeletons: Vec<String>,
}

impl ProbingInputs {
    pub(super) fn new(
        imports: &[Import],
        handlers: &[HttpHandlerExport],
        providers: &[Arc<dyn Provider>],
        stubs: &[SeamStub],
        skeletons: &[Skeleton],
    ) -> Self {
        Self {
            imports: imports.to_vec(),
            handlers: handlers.to_vec(),
            providers: providers.to_vec(),
            stubs: stubs.to_vec(),
            skeletons: skeletons.iter().map(|skeleton| skeleton.export.clone()).collect(),
        }
    }
}

impl Group {
    /// Returns whether the group's probed code must be made now, because `span` is the first sampled span for which the
    /// group works.
    pub(crate) fn wants_probed_code(&self, span: Option<&SpanContext>) -> bool {
        self.probing.is_some() && span.is_some_and(SpanContext::is_sampled) && self.maker.probed.request()
    }

    /// Returns whether the group's probed code must be made now, because requests are expected to be sampled.
    pub(crate) fn expects_probed_code(&self) -> bool {
        self.probing.is_some() && self.maker.probed.request()
    }

    /// Links the group's probed code. Returns `None` if the group has no fused seams.
    ///
    /// # Errors
    /// If the code does not fit the group.
    pub(crate) fn link_probed_code<G: CallableGroups>(
        &self,
        probed: ProbedCode,
    ) -> Result<Option<LinkedProbedCode>, GroupError> {
        let Some(probing) = &self.probing else { return Ok(None) };
        let ProbedCode { code, probes, slots, state_bytes } = probed;
        let maker = &self.maker;
        let (slots, _) = fitting(&maker.engine, &code, slots, &self.account)?;
        let names: Vec<_> = maker.template.owners.iter().map(|owner| owner.component.clone()).collect();
        let mut imports = probing.imports.clone();
        imports.push(Import {
            name: PROBE_INTERFACE.to_owned(),
            interface: PROBE_INTERFACE.to_owned(),
            owner: InterfaceOwner::Shared(names.clone()),
        });
        let mut providers = probing.providers.clone();
        providers.push(Arc::new(probes));
        let linker = linker::<G>(&maker.engine, &imports, &names, &providers, probing.stubs.clone())?;
        let exports = probing.skeletons.iter().map(String::as_str);
        let linked = linked(&code, &linker, &probing.handlers, exports, (slots, state_bytes))?;
        Ok(Some(LinkedProbedCode(Arc::new(LinkedCode { is_probed: true, ..linked }))))
    }

    /// Creates one instance of the probed code within the time `allowed`. Then sampled requests and calls run the probed
    /// code. The instance is kept for the first of them if the group's pool has room for it.
    ///
    /// # Errors
    /// If the instance cannot be created. The probed code is not used in this case, because each sampled request would
    /// wait for an instance in vain.
    pub(crate) async fn start_probed_code(&self, code: LinkedProbedCode, allowed: Duration) -> Result<(), Failure> {
        let LinkedProbedCode(code) = code;
        let (maker, started) = (self.maker.clone(), code.clone());
        let deadline = Instant::now() + allowed;
        let start = Box::pin(async move { maker.make(Some(&started), deadline, None).await });
        let instance = MeteredFuture::new(&self.account, start).await?;
        self.maker.probed.set(code);
        // Instances that serve several requests at a time are not created in advance, but those for calls are.
        if let Some(exclusive) = self.exclusive().next() {
            exclusive.add(instance);
        }
        Ok(())
    }

    /// Removes the group's probed code, if it has any. The next sampled request makes it be made again.
    pub(crate) fn remove_probed_code(&self) {
        self.maker.probed.remove();
    }

    /// Returns the time at which a sampled request last used the group's probed code; `None` if there is no such code.
    pub(crate) fn probed_code_used(&self) -> Option<u64> {
        self.maker.probed.used()
    }
}
