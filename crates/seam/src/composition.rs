//! Composes the components of a group into one component.
//!
//! The components are nested unchanged (in a probed composition, with additional functions), so backtraces still contain
//! the names of their functions. Their imports are connected to exports of other components, to imports of the
//! composition, or, for interfaces that contain only types, to the types themselves. This module makes no decision: the
//! plan states which imports are shared and which belong to one component.

use std::borrow::Cow;
use std::collections::HashMap;

use isomer_ids::ComponentName;
use isomer_plan::{ImportBinding, InterfaceId, PlannedGroup};

use crate::encoding;
use crate::error::SeamError;
use crate::generate::probe::PROBE;
use crate::host_imports::HostImports;
use crate::output::{Item, Output};
use crate::plan::Components;
use crate::reader;
use crate::world::{Interface, TypeOrigin, World};

/// The component that a group was composed into, with the owners of its imports and exports.
#[derive(Debug, Clone)]
pub struct Composition {
    /// The component in the binary format.
    pub bytes: Vec<u8>,
    /// The imports of the composition, which the host must provide.
    pub imports: Vec<HostImport>,
    /// The exported HTTP handlers, one for each component with routes.
    pub exports: Vec<HandlerExport>,
    /// The exported skeletons, one for each component that receives calls from outside of the group.
    pub skeletons: Vec<SkeletonExport>,
}

/// An import of a composition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostImport {
    /// The name of the import in the composition: the id of the interface, or a label.
    pub name: String,
    /// The id of the interface with its version: `wasi:cli/environment@0.2.6`.
    pub interface: String,
    /// The components that the import belongs to.
    pub owner: ImportOwner,
}

/// The owner of an import of a composition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportOwner {
    /// The import belongs to one component, whose grants decide what the import can reach.
    Component(ComponentName),
    /// The components that share the import. Either its functions reach only what their handles refer to, or all of the
    /// components have the same grants.
    Shared(Vec<ComponentName>),
}

/// An HTTP handler that a composition exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerExport {
    /// The name of the export in the composition.
    pub name: String,
    /// The id of the interface with its version: `wasi:http/handler@0.3.0`.
    pub interface: String,
    /// The component that exports the handler.
    pub component: ComponentName,
}

/// A skeleton that a composition exports, as an instance of `isomer:link/dispatch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkeletonExport {
    /// The name of the export in the composition.
    pub name: String,
    /// The component that the skeleton calls.
    pub component: ComponentName,
}

/// Composes the components of a group into one component. If the group has one component and no seams, returns this
/// component unchanged.
///
/// Generates a stub for each component that makes calls out of the group. The stub imports `isomer:link/wire` under a
/// label of its owner. Generates a skeleton for each component that receives calls from outside of the group. The
/// module `generate` explains both.
///
/// # Errors
/// If the bytes of a component are missing or invalid, if the group does not state what provides an import, or if the
/// components do not fit together. A plan that was made from the [`component_type`](crate::component_type)s of the same
/// components leaves one possible error: the components do not fit together, because they disagree about a type that
/// handles refer to.
pub fn compose(group: &PlannedGroup, components: &Components) -> Result<Composition, SeamError> {
    if let [only] = group.components.as_slice()
        && group.stubs.is_empty()
        && group.skeletons.is_empty()
    {
        return Ok(single(group, only, bytes_of(components, only)?));
    }
    compose_parts(group, &parts(group, components)?, vec![])
}

fn bytes_of<'a>(components: &'a Components, name: &ComponentName) -> Result<&'a [u8], SeamError> {
    components.get(name).map(AsRef::as_ref).ok_or_else(|| SeamError::MissingComponent(name.clone()))
}

/// Reads the components of a group, in the group's order.
pub(crate) fn parts<'a>(
    group: &'a PlannedGroup,
    components: &'a Components,
) -> Result<Vec<ComposedPart<'a>>, SeamError> {
    let part = |name: &'a ComponentName| {
        let bytes = bytes_of(components, name)?;
        let world = reader::world(bytes)
            .map_err(|source| SeamError::Component { component: name.clone(), source: Box::new(source) })?;
        Ok(ComposedPart { name, bytes: Cow::Borrowed(bytes), world })
    };
    group.components.iter().map(part).collect()
}

/// Composes the components of a group. The components in `probed` import the functions of the probes.
pub(crate) fn compose_parts(
    group: &PlannedGroup,
    parts: &[ComposedPart<'_>],
    probed: Vec<ComponentName>,
) -> Result<Composition, SeamError> {
    let (host, mut composer, mut imports) = import_from_host(group, parts)?;
    if !probed.is_empty() {
        imports.push(composer.import_probe(probed));
    }
    for part in parts {
        imports.extend(composer.add_stub(group, part)?);
        composer.instantiate(group, part, &host)?;
    }
    let exports = composer.export_handlers(group);
    let skeletons = composer.add_skeletons(group, parts)?;
    let bytes = composer.output.finish();
    reader::validate(&bytes).map_err(|source| SeamError::Misfit { group: group.name.clone(), source })?;
    Ok(Composition { bytes, imports, exports, skeletons })
}

fn single(group: &PlannedGroup, component: &ComponentName, bytes: &[u8]) -> Composition {
    let imports = group.imports.iter().map(|import| HostImport {
        name: import.interface.to_string(),
        interface: import.interface.to_string(),
        owner: ImportOwner::Component(component.clone()),
    });
    let exports = group.handlers.iter().map(|handler| HandlerExport {
        name: handler.interface.to_string(),
        interface: handler.interface.to_string(),
        component: component.clone(),
    });
    Composition { bytes: bytes.to_vec(), imports: imports.collect(), exports: exports.collect(), skeletons: vec![] }
}

pub(crate) struct ComposedPart<'a> {
    pub(crate) name: &'a ComponentName,
    pub(crate) bytes: Cow<'a, [u8]>,
    /// The imports and exports of the component without probes.
    pub(crate) world: World,
}

/// Maps an import of a component, by the component's name and the import's name, to its key in [`HostImports`].
pub(crate) type HostKeys = HashMap<(ComponentName, String), String>;

/// Adds all imports that the host provides to a new composition, after merging the shared imports.
fn import_from_host(
    group: &PlannedGroup,
    parts: &[ComposedPart<'_>],
) -> Result<(HostKeys, Composer, Vec<HostImport>), SeamError> {
    let mut host = HostImports::default();
    let mut keys = Vec::new();
    for part in parts {
        for interface in &part.world.imports {
            let Some(binding) = group
                .imports
                .iter()
                .find(|import| import.component == *part.name && import.interface.to_string() == interface.name)
            else {
                continue;
            };
            match &binding.binding {
                ImportBinding::Labelled { label } => {
                    host.add_labelled(part.name, binding.interface.clone(), interface, label);
                }
                ImportBinding::Shared | ImportBinding::Family => {
                    host.add_shared(part.name, binding.interface.clone(), interface)?;
                }
            }
            keys.push((part.name.clone(), interface.name.clone()));
        }
    }
    let keys = keys
        .into_iter()
        .map(|(owner, import)| {
            let key = host.key(&owner, &import).expect("the import was just added").to_owned();
            ((owner, import), key)
        })
        .collect();
    let (composer, imports) = import_entries(host)?;
    Ok((keys, composer, imports))
}

/// Adds the imports of a new composition.
pub(crate) fn import_entries(host: HostImports) -> Result<(Composer, Vec<HostImport>), SeamError> {
    let mut composer = Composer::default();
    let mut imports = Vec::new();
    for entry in host.into_order()? {
        let Composer { output, host_instances, host_types, .. } = &mut composer;
        for origin in entry.interface.uses() {
            host_types
                .entry((origin.interface.clone(), origin.name.clone()))
                .or_insert_with(|| output.exported_type(host_instances[&origin.interface], &origin.name));
        }
        let used = |origin: &TypeOrigin| host_types[&(origin.interface.clone(), origin.name.clone())];
        let ty = output.instance_type(&encoding::instance_type(&entry.interface, used));
        let instance = output.import(&entry.name, ty);
        host_instances.insert(entry.key, instance);
        imports.push(HostImport {
            name: entry.name,
            interface: entry.id.to_string(),
            owner: match entry.owners.as_slice() {
                [owner] if entry.labelled => ImportOwner::Component(owner.clone()),
                _ => ImportOwner::Shared(entry.owners),
            },
        });
    }
    Ok((composer, imports))
}

#[derive(Default)]
pub(crate) struct Composer {
    pub(crate) output: Output,
    /// The indices of imported instances, by their key in [`HostImports`].
    pub(crate) host_instances: HashMap<String, u32>,
    /// The indices of the instances that the composition itself provides for imports of components, by component and
    /// import.
    pub(crate) inside: HashMap<(ComponentName, String), u32>,
    /// The indices of the types that an imported instance exports and another import uses, by the instance's key and
    /// the type's name.
    host_types: HashMap<(String, String), u32>,
    /// The indices of nested components, by their bytes. Components with equal bytes are nested once.
    nested: HashMap<Vec<u8>, u32>,
    /// The index of the imported instance with the probe functions, and the components that import it. `None` if the
    /// composition is plain.
    pub(crate) probe: Option<(u32, Vec<ComponentName>)>,
    /// The indices of the components' instances.
    pub(crate) instances: HashMap<ComponentName, u32>,
    /// The indices of the functions of each component's stub, by interface and function name.
    pub(crate) stubs: HashMap<ComponentName, HashMap<(String, String), u32>>,
    /// The indices of instances that components export, by component and interface.
    exported: HashMap<(ComponentName, String), u32>,
}

impl Composer {
    pub(crate) fn instantiate(
        &mut self,
        group: &PlannedGroup,
        part: &ComposedPart<'_>,
        host: &HostKeys,
    ) -> Result<(), SeamError> {
        let unmet = |name: &str| SeamError::Unmet { component: part.name.clone(), interface: name.to_owned() };
        if let Some(name) = part.world.loose_imports.first() {
            return Err(unmet(name));
        }
        let mut arguments: Vec<(&str, u32)> = Vec::with_capacity(part.world.imports.len());
        for interface in &part.world.imports {
            let name = interface.name.as_str();
            let link = group
                .links
                .iter()
                .find(|link| link.importer == *part.name && link.import.to_string() == interface.name);
            let instance = if let Some(link) = link {
                self.exported(&link.exporter, &link.export).ok_or_else(|| unmet(name))?
            } else if let Some(instance) = self.inside.get(&(part.name.clone(), interface.name.clone())) {
                *instance
            } else if let Some(instance) = self.stub_instance(part, interface, &arguments) {
                instance
            } else if let Some(key) = host.get(&(part.name.clone(), interface.name.clone())) {
                self.host_instances[key]
            } else if interface.is_types_only() {
                self.bare_types(interface, &arguments)
            } else {
                return Err(unmet(name));
            };
            arguments.push((name, instance));
        }
        if let Some((probe, probed)) = &self.probe
            && probed.contains(part.name)
        {
            arguments.push((PROBE, *probe));
        }
        let component = self.nest(part.name.as_str(), &part.bytes);
        let arguments: Vec<_> = arguments.into_iter().map(|(name, index)| (name, Item::Instance(index))).collect();
        let instance = self.output.instantiate(part.name.as_str(), component, &arguments);
        self.instances.insert(part.name.clone(), instance);
        Ok(())
    }

    /// Nests a component, unless one with equal bytes is nested already. Returns the index of the nested component.
    pub(crate) fn nest(&mut self, name: &str, bytes: &[u8]) -> u32 {
        if let Some(component) = self.nested.get(bytes) {
            return *component;
        }
        let component = self.output.nest(name, bytes);
        self.nested.insert(bytes.to_vec(), component);
        component
    }

    /// Adds an instance that contains only the types of `interface`, and returns its index.
    fn bare_types(&mut self, interface: &Interface, arguments: &[(&str, u32)]) -> u32 {
        let types = self.types_of(interface, arguments);
        self.output.instance_of(&interface.name, &types)
    }

    /// Defines the types of `interface` and returns their names and indices. `arguments` are the instances that the
    /// component imports before `interface`.
    pub(crate) fn types_of(&mut self, interface: &Interface, arguments: &[(&str, u32)]) -> Vec<(String, Item)> {
        let types = encoding::bare_types(&mut self.output, interface, |output, origin| {
            let (_, instance) = arguments
                .iter()
                .find(|(name, _)| *name == origin.interface)
                .expect("an interface is imported after the interfaces whose types it uses");
            output.exported_type(*instance, &origin.name)
        });
        types.into_iter().map(|(name, index)| (name, Item::Type(index))).collect()
    }

    /// Returns the index of the instance that `exporter` exports as `export`. Returns `None` if `exporter` is not
    /// instantiated yet.
    pub(crate) fn exported(&mut self, exporter: &ComponentName, export: &InterfaceId) -> Option<u32> {
        let name = export.to_string();
        let instance = *self.instances.get(exporter)?;
        let Composer { output, exported, .. } = self;
        Some(
            *exported
                .entry((exporter.clone(), name.clone()))
                .or_insert_with(|| output.exported_instance(instance, &name)),
        )
    }

    fn export_handlers(&mut self, group: &PlannedGroup) -> Vec<HandlerExport> {
        let mut exports = Vec::new();
        for handler in &group.handlers {
            let instance = self.exported(&handler.component, &handler.interface).expect("every part is instantiated");
            let name = format!("{}-http-handler", handler.component);
            self.output.export(&name, instance);
            exports.push(HandlerExport {
                name,
                interface: handler.interface.to_string(),
                component: handler.component.clone(),
            });
        }
        exports
    }
}
