//! The imports of a composition from the host. An import of a component either gets a name of its own in the
//! composition, its label, or is merged with imports of other components. Imports that are merged are *shared*.
//!
//! The shared imports of an interface can differ, because tools remove the parts of an interface that a component does
//! not use, and because components are built against different versions. The merged import has all their functions and
//! types, and the highest of the compatible versions. If two components define an interface in contradictory ways, both
//! definitions are imported.

use std::collections::{BTreeMap, HashMap};

use isomer_ids::ComponentName;
use isomer_plan::InterfaceId;

use crate::error::SeamError;
use crate::world::{Interface, TypeDefinition};

/// One import of the composition. If `interface` uses a type of another interface, it refers to the other interface by
/// the `key` of that interface's entry.
#[derive(Debug)]
pub(crate) struct HostEntry {
    /// Identifies the entry in references from other interfaces. Stays the same if the import is merged with an import
    /// of another version of the interface, which can change `name` and `id`.
    pub(crate) key: String,
    /// The name of the import in the composition.
    pub(crate) name: String,
    /// The id of the interface that the host provides.
    pub(crate) id: InterfaceId,
    pub(crate) interface: Interface,
    pub(crate) labelled: bool,
    /// The components that have the import.
    pub(crate) owners: Vec<ComponentName>,
}

/// All imports of a composition.
#[derive(Debug, Default)]
pub(crate) struct HostImports {
    entries: Vec<HostEntry>,
    /// For each import of a component, the index of its entry in `entries`. The key is the component and the name of
    /// its import.
    by_import: HashMap<(ComponentName, String), usize>,
}

impl HostImports {
    /// Adds an import that belongs to one component, under a label.
    pub(crate) fn add_labelled(&mut self, owner: &ComponentName, id: InterfaceId, interface: &Interface, label: &str) {
        let interface_with_keys = self.with_keys(owner, interface);
        self.by_import.insert((owner.clone(), interface.name.clone()), self.entries.len());
        self.entries.push(HostEntry {
            key: format!("label {label}"),
            name: label.to_owned(),
            id,
            interface: interface_with_keys,
            labelled: true,
            owners: vec![owner.clone()],
        });
    }

    /// Adds an import that components of the group share, and merges it with an existing import if possible.
    pub(crate) fn add_shared(
        &mut self,
        owner: &ComponentName,
        id: InterfaceId,
        interface: &Interface,
    ) -> Result<(), SeamError> {
        let original = interface.name.clone();
        let interface = self.with_shared_types(owner, interface)?;
        let place = self.place_shared(owner, id, interface);
        self.by_import.insert((owner.clone(), original), place);
        Ok(())
    }

    /// Returns a copy of `original` in which each type that comes from another interface refers to a shared entry. If
    /// the component imports the other interface under a label, a shared entry is added that contains only the types of
    /// this import. This works because equal value types are the same type wherever they are defined. It does not work
    /// for resources.
    fn with_shared_types(&mut self, owner: &ComponentName, original: &Interface) -> Result<Interface, SeamError> {
        let mut interface = self.with_keys(owner, original);
        for (_, definition) in &mut interface.types {
            let TypeDefinition::Use(origin) = definition else { continue };
            let Some(used) = self.entries.iter().find(|entry| entry.key == origin.interface && entry.labelled) else {
                continue;
            };
            if used.interface.types.iter().any(|(_, definition)| *definition == TypeDefinition::Resource) {
                return Err(SeamError::SharedUsesLabelled {
                    interface: original.name.clone(),
                    uses: used.id.to_string(),
                });
            }
            let types = Interface { functions: BTreeMap::new(), ..used.interface.clone() };
            let place = self.place_shared(owner, used.id.clone(), types);
            origin.interface = self.entries[place].key.clone();
        }
        Ok(interface)
    }

    /// Merges `interface`, which `owner` imports, into a shared entry with a compatible version and no contradictory
    /// definition. If there is none, adds a shared entry. Returns the index of the entry.
    fn place_shared(&mut self, owner: &ComponentName, id: InterfaceId, interface: Interface) -> usize {
        let place = self.entries.iter().position(|entry| {
            !entry.labelled && entry.id.is_compatible_with(&id) && merged(&entry.interface, &interface).is_some()
        });
        match place {
            Some(place) => {
                let entry = &mut self.entries[place];
                entry.interface =
                    merged(&entry.interface, &interface).expect("the interfaces were merged without a conflict");
                if !entry.owners.contains(owner) {
                    entry.owners.push(owner.clone());
                }
                if id.version > entry.id.version {
                    entry.name = id.to_string();
                    entry.id = id;
                }
                place
            }
            None => {
                let same_track = self.entries.iter().filter(|entry| entry.id.is_compatible_with(&id)).count();
                self.entries.push(HostEntry {
                    key: format!("{} {same_track}", id.track()),
                    name: id.to_string(),
                    id,
                    interface,
                    labelled: false,
                    owners: vec![owner.clone()],
                });
                self.entries.len() - 1
            }
        }
    }

    /// Returns the key of the [`HostEntry`] for what `owner` imports as `import`; `None` if there is no such entry.
    pub(crate) fn key(&self, owner: &ComponentName, import: &str) -> Option<&str> {
        self.by_import.get(&(owner.clone(), import.to_owned())).map(|place| self.entries[*place].key.as_str())
    }

    /// Returns all entries in an order in which each entry comes after the entries whose types it uses.
    ///
    /// # Errors
    /// If two entries have the same name or use each other's types.
    pub(crate) fn into_order(self) -> Result<Vec<HostEntry>, SeamError> {
        let mut waiting = self.entries;
        let mut ordered: Vec<HostEntry> = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            let ready = waiting.iter().position(|entry| {
                entry.interface.uses().all(|origin| {
                    origin.interface == entry.key || ordered.iter().any(|done| done.key == origin.interface)
                })
            });
            let Some(ready) = ready else {
                return Err(SeamError::SharedConflict { interface: waiting[0].name.clone() });
            };
            let entry = waiting.remove(ready);
            if ordered.iter().any(|done| done.name == entry.name) {
                return Err(SeamError::SharedConflict { interface: entry.name });
            }
            ordered.push(entry);
        }
        Ok(ordered)
    }

    /// Returns a copy of the interface in which each used type refers to an entry of this table.
    fn with_keys(&self, owner: &ComponentName, interface: &Interface) -> Interface {
        let mut interface = interface.clone();
        for (_, definition) in &mut interface.types {
            if let TypeDefinition::Use(origin) = definition
                && let Some(key) = self.key(owner, &origin.interface)
            {
                origin.interface = key.to_owned();
            }
        }
        interface
    }
}

/// Returns the union of two definitions of one interface. Returns `None` if they contradict each other.
fn merged(left: &Interface, right: &Interface) -> Option<Interface> {
    let mut merged = left.clone();
    for (name, definition) in &right.types {
        match merged.definition(name) {
            Some(known) if known != definition => return None,
            Some(_) => {}
            None => merged.types.push((name.clone(), definition.clone())),
        }
    }
    for (name, function) in &right.functions {
        match merged.functions.get(name) {
            Some(known) if known != function => return None,
            Some(_) => {}
            None => {
                merged.functions.insert(name.clone(), function.clone());
            }
        }
    }
    Some(merged)
}
