//! Composes the components of a group so that calls over fused seams are reported to the host.

use std::borrow::Cow;

use isomer_ids::ComponentName;
use isomer_plan::PlannedGroup;

use crate::composition::{self, Composer, Composition, HostImport, ImportOwner};
use crate::encoding;
use crate::error::SeamError;
use crate::generate::probe::{self, PROBE};
use crate::plan::Components;
use crate::probes::{self, ProbedFunction, Probes, UnprobedComponent};

/// A composition whose components report calls over fused seams to the host.
#[derive(Debug, Clone)]
pub struct ProbedComposition {
    /// The composition. If any component is probed, the composition also imports `isomer:probe/probe@1.0.0`, under this
    /// name.
    pub composition: Composition,
    /// The functions whose calls are reported, indexed by the number under which they are reported.
    pub functions: Vec<ProbedFunction>,
    /// The components that are composed unchanged although other components call them.
    pub unprobed: Vec<UnprobedComponent>,
}

/// Composes the components of a group like [`compose`](composition::compose()), but rewrites each component that other
/// components of the group call, so that it reports the start and the end of these calls to the host. The module
/// `probes` explains how. The names of all exports, and of all imports except the import of the probes, are those of
/// the plain composition.
///
/// If the result has no `functions`, its bytes are those of the plain composition.
///
/// # Errors
/// The errors of [`compose`](composition::compose()).
pub fn compose_probed(group: &PlannedGroup, components: &Components) -> Result<ProbedComposition, SeamError> {
    if group.links.is_empty() {
        let composition = composition::compose(group, components)?;
        return Ok(ProbedComposition { composition, functions: vec![], unprobed: vec![] });
    }
    let mut parts = composition::parts(group, components)?;
    let Probes { functions, unprobed, mut components } = probes::probe(group, &parts);
    let mut owners = Vec::with_capacity(components.len());
    for part in &mut parts {
        if let Some(bytes) = components.remove(part.name) {
            part.bytes = Cow::Owned(bytes);
            owners.push(part.name.clone());
        }
    }
    let composition = composition::compose_parts(group, &parts, owners)?;
    Ok(ProbedComposition { composition, functions, unprobed })
}

impl Composer {
    /// Makes the composition import the functions that its probes call, and returns this import. `probed` contains the
    /// components that have probes.
    pub(crate) fn import_probe(&mut self, probed: Vec<ComponentName>) -> HostImport {
        let ty =
            encoding::instance_type(&probe::probe(), |_| unreachable!("`isomer:probe/probe` uses no other interface"));
        let ty = self.output.instance_type(&ty);
        self.probe = Some((self.output.import(PROBE, ty), probed.clone()));
        HostImport { name: PROBE.to_owned(), interface: PROBE.to_owned(), owner: ImportOwner::Shared(probed) }
    }
}
