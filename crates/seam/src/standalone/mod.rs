//! Composes an app into one component with only standard imports, for hosts that know nothing of this project.
//!
//! The imports of the app's components are not labelled here, because such a host provides only the names of standard
//! interfaces. What a node provides under a component's grants is provided inside of the composition:
//!
//! ```text
//! cart ──► open ──► gate "cart" ──► stores ──► wasi:filesystem
//! cart ──► wasi:config, isomer:secrets, wasi:logging ──► platform of `cart` ──► wasi:cli/stderr, …
//! cart ──► wasi:cli/environment (constants)      cart ──► wasi:filesystem/preopens (an empty list)
//! cart ──► wasi:http/client (refuses requests)
//! ```
//!
//! - **stores** is one instance, so that components can pass its handles to each other. It cannot tell who calls. So each
//!   component calls `open`, the only function that needs no handle, through a *gate* (`gate`) that puts the component's
//!   name in front of the store's name.
//! - **platform** has no handles, so each component has an instance of its own with its own settings.
//! - constants and settings are generated components without code of their own (`constants`).

mod constants;
mod gate;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use isomer_ids::ComponentName;
use isomer_plan::{InterfaceId, PlannedGroup, StandaloneImport, StandalonePlan, Supply};

use self::constants::{NO_CLIENT, NO_OUTGOING_HANDLER};
use crate::composition::{self, ComposedPart, Composer, HostImport, HostKeys};
use crate::error::SeamError;
use crate::host_imports::HostImports;
use crate::output::Item;
use crate::plan::Components;
use crate::reader;

/// The interface through which providers read their settings.
const SETTINGS: &str = "isomer:parcel/settings@0.1.0";

/// The components that provide what a plain host does not, and their settings.
#[derive(Debug, Clone, Default)]
pub struct Providers {
    /// The provider of stores, and its settings. Needed if the plan has an import with [`Supply::Stores`].
    pub stores: Option<(Vec<u8>, Vec<u8>)>,
    /// The provider of configuration, secrets, logging and telemetry. Needed if the plan has an import with
    /// [`Supply::Platform`].
    pub platform: Option<Vec<u8>>,
    /// The settings of the platform provider's instance of each component.
    pub platform_settings: BTreeMap<ComponentName, Vec<u8>>,
    /// The environment variables of each component.
    pub environment: BTreeMap<ComponentName, BTreeMap<String, String>>,
}

/// An app as one component.
#[derive(Debug, Clone)]
pub struct Standalone {
    /// The component in the binary format.
    pub bytes: Vec<u8>,
    /// The interfaces that the component imports.
    pub imports: Vec<String>,
    /// The HTTP handler that the component exports.
    pub handler: String,
}

/// Composes an app and the providers that its plan needs into one component. Its imports are standard interfaces under
/// their own names, and it exports the HTTP handler of the app under its own name.
///
/// # Errors
/// The errors of [`compose`](composition::compose()), and an error if a needed provider is missing.
pub fn compose_standalone(
    plan: &StandalonePlan,
    components: &Components,
    providers: &Providers,
) -> Result<Standalone, SeamError> {
    let group = &plan.group;
    let parts = composition::parts(group, components)?;
    let stores = part(group, "stores-provider", providers.stores.as_ref().map(|(bytes, _)| bytes.as_slice()))?;
    let platform = part(group, "platform-provider", providers.platform.as_deref())?;

    let mut host = HostImports::default();
    let mut keys = Vec::new();
    for part in &parts {
        for interface in &part.world.imports {
            let import = plan.imports.iter().find(|import| is_import(import, part.name, &interface.name));
            if let Some(import) = import.filter(|import| import.supply == Supply::Host) {
                host.add_shared(part.name, import.interface.clone(), interface)?;
                keys.push((part.name.clone(), interface.name.clone()));
            }
        }
    }
    for (name, bytes) in [&stores, &platform].into_iter().flatten() {
        let world = read(name, bytes)?;
        for interface in world.imports.iter().filter(|interface| interface.name != SETTINGS) {
            let id = interface.name.parse::<InterfaceId>().map_err(|_| unmet(name, &interface.name))?;
            host.add_shared(name, id, interface)?;
            keys.push((name.clone(), interface.name.clone()));
        }
    }
    let keys: HostKeys = keys
        .into_iter()
        .map(|(owner, import)| {
            let key = host.key(&owner, &import).expect("the import was just added").to_owned();
            ((owner, import), key)
        })
        .collect();
    let (composer, imports) = composition::import_entries(host)?;
    let mut building = Building { plan, providers, keys, composer, constants: HashMap::new() };

    if let Some((name, bytes)) = &stores {
        let settings = providers.stores.as_ref().map(|(_, settings)| settings.as_slice()).unwrap_or_default();
        building.instantiate_provider(name, name, bytes, settings)?;
    }
    for part in &parts {
        building.supply(part, stores.as_ref(), platform.as_ref())?;
        building.composer.instantiate(group, part, &building.keys)?;
    }
    let handler = building.export_handler(group)?;
    let bytes = building.composer.output.finish();
    reader::validate(&bytes).map_err(|source| SeamError::Misfit { group: group.name.clone(), source })?;
    Ok(Standalone { bytes, imports: imports.into_iter().map(|import: HostImport| import.name).collect(), handler })
}

/// A provider: a name that no component of the app has, and its bytes.
type Provider = (ComponentName, Vec<u8>);

fn part(group: &PlannedGroup, name: &str, bytes: Option<&[u8]>) -> Result<Option<Provider>, SeamError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let names = std::iter::once(name.to_owned()).chain((2..).map(|number| format!("{name}-{number}")));
    let free = names.filter_map(|name| ComponentName::new(&name).ok()).find(|name| !group.components.contains(name));
    Ok(Some((free.expect("numbers do not end"), bytes.to_vec())))
}

fn read(name: &ComponentName, bytes: &[u8]) -> Result<crate::world::World, SeamError> {
    reader::world(bytes).map_err(|source| SeamError::Component { component: name.clone(), source: Box::new(source) })
}

fn unmet(component: &ComponentName, interface: &str) -> SeamError {
    SeamError::Unmet { component: component.clone(), interface: interface.to_owned() }
}

fn is_import(import: &StandaloneImport, component: &ComponentName, interface: &str) -> bool {
    import.component == *component && import.interface.to_string() == interface
}

struct Building<'a> {
    plan: &'a StandalonePlan,
    providers: &'a Providers,
    keys: HostKeys,
    composer: Composer,
    /// The instances of generated components that have no state, by their text and the key of the types that they use.
    /// Hosts limit the number of instances.
    constants: HashMap<(String, Option<String>), u32>,
}

impl Building<'_> {
    /// Instantiates a provider under the name `instance`. `name` is the name under which its imports were added.
    fn instantiate_provider(
        &mut self,
        name: &ComponentName,
        instance: &ComponentName,
        bytes: &[u8],
        settings: &[u8],
    ) -> Result<(), SeamError> {
        let settings = self.generated("settings", &constants::settings(settings), &[])?;
        let settings = self.composer.output.exported_instance(settings, SETTINGS);
        let part = ComposedPart { name: instance, bytes: Cow::Borrowed(bytes), world: read(name, bytes)? };
        self.composer.inside.insert((instance.clone(), SETTINGS.to_owned()), settings);
        for interface in &part.world.imports {
            if let Some(key) = self.keys.get(&(name.clone(), interface.name.clone())) {
                let index = self.composer.host_instances[key];
                self.composer.inside.insert((instance.clone(), interface.name.clone()), index);
            }
        }
        self.composer.instantiate(&self.plan.group, &part, &self.keys)
    }

    /// Adds an instance of a generated component, and returns its index.
    fn generated(&mut self, name: &str, text: &str, arguments: &[(&str, Item)]) -> Result<u32, SeamError> {
        let bytes = wat::parse_str(text).map_err(|error| SeamError::Generated(error.to_string()))?;
        let component = self.composer.nest(name, &bytes);
        Ok(self.composer.output.instantiate(name, component, arguments))
    }

    /// Provides the imports of one component that are met inside of the composition.
    fn supply(
        &mut self,
        part: &ComposedPart<'_>,
        stores: Option<&Provider>,
        platform: Option<&Provider>,
    ) -> Result<(), SeamError> {
        let mut own_platform = None;
        for interface in &part.world.imports {
            let name = interface.name.as_str();
            let Some(import) = self.plan.imports.iter().find(|import| is_import(import, part.name, name)) else {
                continue;
            };
            let id = import.interface.clone();
            let instance = match import.supply {
                Supply::Host => continue,
                // Equal value types are the same type wherever they are defined, so they need no provider.
                _ if interface.is_types_only() => continue,
                Supply::Stores => {
                    let provider = stores.ok_or_else(|| unmet(part.name, name))?;
                    self.store_instance(part.name, provider, &id)?
                }
                Supply::Platform => {
                    let provider = platform.ok_or_else(|| unmet(part.name, name))?;
                    let instance = match &own_platform {
                        Some(instance) => instance,
                        None => own_platform.insert(self.platform_of(part.name, provider)?),
                    };
                    let export = platform_export(&provider.1, &id).ok_or_else(|| unmet(part.name, name))?;
                    self.composer.exported(instance, &export).ok_or_else(|| unmet(part.name, name))?
                }
                Supply::Environment => self.environment_of(part.name)?,
                Supply::NoFolders => {
                    let origin = interface.uses().next().ok_or_else(|| unmet(part.name, name))?;
                    let key = self.keys.get(&(part.name.clone(), origin.interface.clone()));
                    let key = key.ok_or_else(|| unmet(part.name, name))?.clone();
                    self.no_folders(key, &origin.name)?
                }
                Supply::NoHttp => {
                    let request = interface.uses().find(|origin| origin.name.ends_with("request"));
                    let types = &request.ok_or_else(|| unmet(part.name, name))?.interface;
                    let key = self.keys.get(&(part.name.clone(), types.clone()));
                    let key = key.ok_or_else(|| unmet(part.name, name))?.clone();
                    self.no_http(key, if id.interface == "client" { &NO_CLIENT } else { &NO_OUTGOING_HANDLER })?
                }
            };
            self.composer.inside.insert((part.name.clone(), name.to_owned()), instance);
        }
        Ok(())
    }

    /// Returns the instance with the environment of a component. Components with equal environments share it.
    fn environment_of(&mut self, component: &ComponentName) -> Result<u32, SeamError> {
        let none = BTreeMap::new();
        let text = constants::environment(self.providers.environment.get(component).unwrap_or(&none));
        if let Some(instance) = self.constants.get(&(text.clone(), None)) {
            return Ok(*instance);
        }
        let generated = self.generated("environment", &text, &[])?;
        let instance = self.composer.output.exported_instance(generated, constants::ENVIRONMENT);
        self.constants.insert((text, None), instance);
        Ok(instance)
    }

    /// Returns an instance of `wasi:filesystem/preopens` without folders, for the imported types with this key.
    fn no_folders(&mut self, types: String, descriptor: &str) -> Result<u32, SeamError> {
        let constant = (descriptor.to_owned(), Some(types));
        if let Some(instance) = self.constants.get(&constant) {
            return Ok(*instance);
        }
        let types = self.composer.host_instances[constant.1.as_deref().unwrap_or_default()];
        let resource = self.composer.output.exported_type(types, descriptor);
        let arguments = [("descriptor", Item::Type(resource))];
        let generated = self.generated("no-folders", constants::NO_FOLDERS, &arguments)?;
        let list = self.composer.output.exported_function(generated, "get-directories");
        let items =
            [(descriptor.to_owned(), Item::Type(resource)), ("get-directories".to_owned(), Item::Function(list))];
        let instance = self.composer.output.instance_of("no-folders", &items);
        self.constants.insert(constant, instance);
        Ok(instance)
    }

    /// Returns an instance of an interface for outgoing requests that refuses all of them, for the imported types with this
    /// key.
    fn no_http(&mut self, types: String, refusal: &constants::NoHttp) -> Result<u32, SeamError> {
        let constant = (refusal.function.to_owned(), Some(types));
        if let Some(instance) = self.constants.get(&constant) {
            return Ok(*instance);
        }
        let types = self.composer.host_instances[constant.1.as_deref().unwrap_or_default()];
        let mut type_of = |name: &'static str| (name, Item::Type(self.composer.output.exported_type(types, name)));
        let payloads: Vec<_> = constants::HTTP_PAYLOADS.into_iter().map(&mut type_of).collect();
        let own: Vec<_> = refusal.types.iter().copied().map(&mut type_of).collect();
        let arguments: Vec<_> = payloads.into_iter().chain(own.iter().copied()).collect();
        let generated = self.generated("no-http", &refusal.component(), &arguments)?;
        let function = self.composer.output.exported_function(generated, refusal.function);
        let mut items: Vec<_> = own.into_iter().map(|(name, item)| (name.to_owned(), item)).collect();
        items.push((refusal.function.to_owned(), Item::Function(function)));
        let instance = self.composer.output.instance_of("no-http", &items);
        self.constants.insert(constant, instance);
        Ok(instance)
    }

    /// Returns the instance of the platform provider for one component, as the name of an instance in the composition.
    fn platform_of(&mut self, component: &ComponentName, provider: &Provider) -> Result<ComponentName, SeamError> {
        let (name, bytes) = provider;
        let settings = self.providers.platform_settings.get(component).ok_or_else(|| unmet(component, SETTINGS))?;
        let names = (1..).filter_map(|number| ComponentName::new(&format!("{name}-of-{number}")).ok());
        let mut free = names.filter(|name| !self.plan.group.components.contains(name));
        let instance = free.find(|name| !self.composer.instances.contains_key(name)).expect("numbers do not end");
        self.instantiate_provider(name, &instance, bytes, settings)?;
        Ok(instance)
    }

    /// Returns an instance of an interface of stores for a component. If stores are opened through the interface, it is the
    /// component's gate.
    fn store_instance(
        &mut self,
        component: &ComponentName,
        provider: &Provider,
        id: &InterfaceId,
    ) -> Result<u32, SeamError> {
        let world = read(&provider.0, &provider.1)?;
        let missing = || unmet(component, &id.to_string());
        let export = world.exports.iter().find_map(|interface| {
            let exported = interface.name.parse::<InterfaceId>().ok()?;
            (exported.path() == id.path() && id.is_compatible_with(&exported)).then_some((exported, interface))
        });
        let (export_id, export) = export.ok_or_else(missing)?;
        let instance = self.composer.exported(&provider.0, &export_id).ok_or_else(missing)?;
        if !export.functions.contains_key("open") {
            return Ok(instance);
        }
        let gate = gate::Gate::of(&export_id.to_string()).ok_or_else(missing)?;
        let output = &mut self.composer.output;
        let types: Vec<_> = gate.types().map(|name| (name.to_owned(), output.exported_type(instance, name))).collect();
        let functions: Vec<_> = gate.functions().map(|name| output.exported_function(instance, name)).collect();
        let names: Vec<_> = (0..functions.len()).map(|number| format!("function-{number}")).collect();
        let types = types.iter().map(|(name, index)| (name.as_str(), Item::Type(*index)));
        let functions = names.iter().zip(functions).map(|(name, index)| (name.as_str(), Item::Function(index)));
        let arguments: Vec<_> = types.chain(functions).collect();
        self.generated("gate", &gate.text(component.as_str()), &arguments)
    }

    fn export_handler(&mut self, group: &PlannedGroup) -> Result<String, SeamError> {
        let [handler] = group.handlers.as_slice() else {
            return Err(SeamError::Generated("the plan has not exactly one HTTP handler".to_owned()));
        };
        let name = handler.interface.to_string();
        let instance = self.composer.exported(&handler.component, &handler.interface);
        self.composer.output.export(&name, instance.ok_or_else(|| unmet(&handler.component, &name))?);
        Ok(name)
    }
}

/// Returns the export of the platform provider that provides `id`. The drafts of `wasi:config` differ only in their
/// names, and `wasi:logging` has the same functions with and without a version.
fn platform_export(provider: &[u8], id: &InterfaceId) -> Option<InterfaceId> {
    let path = match id.path().as_str() {
        "wasi:config/runtime" => "wasi:config/store".to_owned(),
        path => path.to_owned(),
    };
    let world = reader::world(provider).ok()?;
    world.exports.iter().filter_map(|interface| interface.name.parse::<InterfaceId>().ok()).find(|id| id.path() == path)
}
