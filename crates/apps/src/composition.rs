//! A group's composition and its compiled code. Groups with the same content are composed and compiled only once.
//!
//! The cache finds a group's code by a key, which is a hash of the components' bytes, the plan's decisions and the
//! engine's settings. The cache stores metadata next to the code, so that the code can be used without composing the
//! group again.
//!
//! A group with fused seams has a second composition, which is probed and has a key of its own (see `probing`).

use std::collections::BTreeMap;
use std::sync::Arc;

use isomer_display::excerpt::cut;
use isomer_ids::ComponentName;
use isomer_plan::PlannedGroup;
use isomer_runtime::code::{Code, CodeError, CodeSource, Key};
use isomer_runtime::engine::{Engine, Footprint, Slots, SlotsError};
use isomer_runtime::{HttpHandlerExport, Import, InterfaceOwner, ProbedFunction, SeamProbes};
use isomer_seam::{Components, Composition, ProbedComposition, UnprobedComponent};
use isomer_telemetry::metrics::SeriesGroup;
use serde::{Deserialize, Serialize};

use crate::error::RevisionError;
use crate::progress::Progress;

/// The version of the composition. Increment it with each change of the program after which the same plan and
/// components result in a different composition.
const COMPOSED_AS: &[u8] = b"6";

/// The version of the probes. Increment it when the program adds other probes to the same composition than before.
const PROBED_AS: &[u8] = b"probes 1";

/// The maximum number of functions of a group whose calls are recorded. The calls of further functions are not, so that
/// the spans and metrics of a group take a bounded amount of memory.
const PROBED_FUNCTIONS_MAX: usize = 1_000;

/// The maximum number of components that are known as callers of one function. The calls of further components are
/// recorded without a caller.
const PROBED_CALLERS_MAX: usize = 16;

/// The maximum length in bytes of a name in the spans of fused calls. Longer names are cut off.
const PROBED_NAME_BYTES_MAX: usize = 256;

/// The metadata that the cache stores next to a group's compiled code.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GroupMetadata {
    imports: Vec<StoredImport>,
    /// The export name and interface of each handler.
    handlers: Vec<(String, String)>,
    /// The component and export name of each skeleton.
    skeletons: Vec<(String, String)>,
    memories: u32,
    tables: u32,
    stacks: u32,
    /// The number of bytes that the engine itself needs for each instance.
    state_bytes: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredImport {
    name: String,
    interface: String,
    shared: bool,
    owners: Vec<String>,
}

/// The metadata of a group's probed code. The imports and exports are those of the plain code, and the probes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProbedMetadata {
    /// The probed functions, in the order of their numbers.
    functions: Vec<StoredFunction>,
    memories: u32,
    tables: u32,
    stacks: u32,
    state_bytes: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredFunction {
    callers: Vec<String>,
    callee: String,
    /// The interface, without its version.
    interface: String,
    function: String,
}

/// A group with its compiled code.
pub(crate) struct CompiledGroup {
    pub(crate) key: Key,
    pub(crate) note: GroupMetadata,
    pub(crate) code: Code,
    /// Whether the code was compiled; `false` if the code was found in the cache.
    pub(crate) compiled: bool,
}

impl CompiledGroup {
    /// Composes and compiles `group`, unless the group's code is in the cache.
    pub(crate) fn new(
        group: &PlannedGroup,
        components: &Components,
        digests: &BTreeMap<&ComponentName, impl AsRef<[u8]>>,
        engine: &Engine,
        cache: &CodeSource,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<Self, RevisionError> {
        let key = with_ingredients(group, digests, |ingredients| cache.key(engine, ingredients.iter().copied()));
        // Use the metadata only together with the code: after an interrupted write or a clean-up, the cache may contain
        // metadata without code.
        if let Some((note, code)) = cache.find(engine, &key)?
            && let Ok(note) = serde_json::from_slice(&note)
        {
            return Ok(Self { key, note, code, compiled: false });
        }
        if !cache.compiles() {
            return Err(RevisionError::NotShipped { group: group.name.clone() });
        }
        progress(Progress::Compose(&group.name));
        let (note, bytes) = compose(group, components)?;
        progress(Progress::Compile(&group.name));
        let written = serde_json::to_vec(&note).expect("a note is plain data");
        let code = cache.compile(engine, &key, &bytes, &written)?;
        Ok(Self { key, note, code, compiled: true })
    }
}

/// Calls `key` with the ingredients of the key of a group's plain code.
pub(crate) fn with_ingredients(
    group: &PlannedGroup,
    digests: &BTreeMap<&ComponentName, impl AsRef<[u8]>>,
    key: impl FnOnce(&[&[u8]]) -> Key,
) -> Key {
    let decisions = serde_json::to_vec(group).expect("a planned group is plain data");
    let mut ingredients = vec![env!("CARGO_PKG_VERSION").as_bytes(), COMPOSED_AS, decisions.as_slice()];
    ingredients.extend(group.components.iter().filter_map(|name| digests.get(name)).map(AsRef::as_ref));
    key(&ingredients)
}

/// Returns the key of the probed code of the group whose plain code has the key `plain`.
pub(crate) fn probed_key(plain: &Key) -> Key {
    plain.with([PROBED_AS])
}

/// Composes the components of a group with probes, and returns the metadata and the bytes of the composition. Returns
/// `None` if no function is called over a fused seam, or if none can be probed.
pub(crate) fn compose_probed(
    group: &PlannedGroup,
    components: &Components,
) -> Result<Option<(ProbedMetadata, Vec<u8>)>, RevisionError> {
    let composed = isomer_seam::compose_probed(group, components)
        .map_err(|source| RevisionError::Compose { group: group.name.clone(), source })?;
    let ProbedComposition { composition: Composition { bytes, .. }, functions, unprobed } = composed;
    for UnprobedComponent { component, reason } in unprobed {
        isomer_telemetry::debug!(%component, reason, "calls of a fused component will not be traced");
    }
    if functions.is_empty() {
        return Ok(None);
    }
    let Footprint { slots, state_bytes, .. } = footprint(group, &bytes)?;
    let functions = functions.into_iter().map(|function| StoredFunction {
        callers: function.callers.iter().map(ToString::to_string).collect(),
        callee: function.component.to_string(),
        interface: function.interface.split('@').next().unwrap_or_default().to_owned(),
        function: function.function,
    });
    let metadata = ProbedMetadata {
        functions: functions.collect(),
        memories: slots.memories,
        tables: slots.tables,
        stacks: slots.stacks,
        state_bytes,
    };
    Ok(Some((metadata, bytes)))
}

fn footprint(group: &PlannedGroup, composition: &[u8]) -> Result<Footprint, RevisionError> {
    Footprint::measure(composition).map_err(|error| match error {
        SlotsError::Invalid(source) => RevisionError::Code(CodeError::Compile { source }),
        source => RevisionError::TooLarge { group: group.name.clone(), source },
    })
}

impl ProbedMetadata {
    pub(crate) fn slots(&self) -> Slots {
        Slots { memories: self.memories, tables: self.tables, stacks: self.stacks }
    }

    pub(crate) fn state_bytes(&self) -> usize {
        self.state_bytes
    }

    /// Returns the probes, whose calls are measured in `series`.
    pub(crate) fn probes(&self, series: &Arc<SeriesGroup>) -> SeamProbes {
        let name = |name: &String| cut(name, PROBED_NAME_BYTES_MAX).into();
        let function = |stored: &StoredFunction| ProbedFunction {
            callers: stored.callers.iter().take(PROBED_CALLERS_MAX).map(name).collect(),
            callee: name(&stored.callee),
            interface: name(&stored.interface),
            function: name(&stored.function),
        };
        SeamProbes::new(self.functions.iter().take(PROBED_FUNCTIONS_MAX).map(function), series)
    }
}

/// Composes the components of a group, and returns the metadata and the bytes of the composition.
pub(crate) fn compose(
    group: &PlannedGroup,
    components: &Components,
) -> Result<(GroupMetadata, Vec<u8>), RevisionError> {
    let composition = isomer_seam::compose(group, components)
        .map_err(|source| RevisionError::Compose { group: group.name.clone(), source })?;
    let Composition { bytes, imports, exports, skeletons } = composition;
    let Footprint { slots, state_bytes, .. } = footprint(group, &bytes)?;
    let imports = imports.into_iter().map(|import| {
        let (shared, owners) = match import.owner {
            isomer_seam::ImportOwner::Component(name) => (false, vec![name.to_string()]),
            isomer_seam::ImportOwner::Shared(names) => (true, names.iter().map(ToString::to_string).collect()),
        };
        StoredImport { name: import.name, interface: import.interface, shared, owners }
    });
    let note = GroupMetadata {
        imports: imports.collect(),
        handlers: exports.into_iter().map(|export| (export.name, export.interface)).collect(),
        skeletons: skeletons.into_iter().map(|export| (export.component.to_string(), export.name)).collect(),
        memories: slots.memories,
        tables: slots.tables,
        stacks: slots.stacks,
        state_bytes,
    };
    Ok((note, bytes))
}

impl GroupMetadata {
    pub(crate) fn slots(&self) -> Slots {
        Slots { memories: self.memories, tables: self.tables, stacks: self.stacks }
    }

    pub(crate) fn state_bytes(&self) -> usize {
        self.state_bytes
    }

    pub(crate) fn imports(&self) -> Vec<Import> {
        let import = |import: &StoredImport| {
            let mut owners = import.owners.iter().map(|name| Arc::<str>::from(name.as_str()));
            let owner = match (import.shared, owners.next()) {
                (false, Some(owner)) => InterfaceOwner::Component(owner),
                (_, first) => InterfaceOwner::Shared(first.into_iter().chain(owners).collect()),
            };
            Import { name: import.name.clone(), interface: import.interface.clone(), owner }
        };
        self.imports.iter().map(import).collect()
    }

    pub(crate) fn handlers(&self) -> Vec<HttpHandlerExport> {
        let handler = |(export, interface): &(String, String)| HttpHandlerExport {
            export: export.clone(),
            interface: interface.clone(),
        };
        self.handlers.iter().map(handler).collect()
    }

    /// Returns the name of the export through which `component` is called.
    pub(crate) fn skeleton(&self, component: &ComponentName) -> Option<&str> {
        let found = self.skeletons.iter().find(|(name, _)| name == component.as_str());
        found.map(|(_, export)| export.as_str())
    }
}
