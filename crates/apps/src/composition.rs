//! A group's composition and its compiled code. Groups with the same content are composed and compiled only once.
//!
//! The cache finds a group's code by a key, which is a hash of the components' bytes, the plan's decisions and the
//! engine's settings. The cache stores metadata next to the code, so that the code can be used without composing the
//! group again.

use std::collections::BTreeMap;
use std::sync::Arc;

use isomer_ids::ComponentName;
use isomer_plan::PlannedGroup;
use isomer_runtime::code::{Code, CodeCache, CodeError, Key};
use isomer_runtime::engine::{Engine, Footprint, Slots, SlotsError};
use isomer_runtime::{HttpHandlerExport, Import, InterfaceOwner};
use isomer_seam::{Components, Composition};
use serde::{Deserialize, Serialize};

use crate::error::RevisionError;
use crate::progress::Progress;

/// The version of the composition. Increment it with each change of the program after which the same plan and
/// components result in a different composition.
const COMPOSED_AS: &[u8] = b"6";

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
        cache: &CodeCache,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<Self, RevisionError> {
        let decisions = serde_json::to_vec(group).expect("a planned group is plain data");
        let mut ingredients = vec![env!("CARGO_PKG_VERSION").as_bytes(), COMPOSED_AS, decisions.as_slice()];
        ingredients.extend(group.components.iter().filter_map(|name| digests.get(name)).map(AsRef::as_ref));
        let key = Key::new(engine, ingredients);
        // Use the metadata only together with the code: after an interrupted write or a clean-up, the cache may contain
        // metadata without code.
        if let Some(note) = cache.note(&key).and_then(|note| serde_json::from_slice(&note).ok())
            && let Some(code) = cache.load(engine, &key)
        {
            return Ok(Self { key, note, code, compiled: false });
        }
        progress(Progress::Compose(&group.name));
        let (note, bytes) = compose(group, components)?;
        progress(Progress::Compile(&group.name));
        let written = serde_json::to_vec(&note).expect("a note is plain data");
        let code = cache.compile(engine, &key, &bytes, &written)?;
        Ok(Self { key, note, code, compiled: true })
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
    let Footprint { slots, state_bytes, .. } = Footprint::measure(&bytes).map_err(|error| match error {
        SlotsError::Invalid(source) => RevisionError::Code(CodeError::Compile { source }),
        source => RevisionError::TooLarge { group: group.name.clone(), source },
    })?;
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
