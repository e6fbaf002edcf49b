//! The plan: which components are placed together, what provides each import, and why.
//!
//! A plan is data and includes the reasons for its decisions. The same app, component types and shape give the same
//! plan, whatever the order of the entries in the manifest. The runtime follows the plan and makes no such decision.

use std::collections::BTreeMap;

use isomer_diagnostics::{Diagnostic, SourceFile};
use isomer_ids::ComponentName;
use serde::Serialize;

use crate::interface::{InterfaceId, ValueClass};
use crate::planned_browser::PlannedBrowser;
use crate::planned_group::{PlannedGroup, ResolvedImport, SeamMode};

/// All decisions about how an app runs in one of its shapes.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The app's name.
    pub app: String,
    /// The app's version.
    pub version: String,
    /// The name of the shape that was planned.
    pub shape: String,
    /// The compositions, ordered by name.
    pub groups: Vec<PlannedGroup>,
    /// The number of requests and calls that one instance serves, one after another, by the name of the group. A group
    /// that is not in the map has the platform's default.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reuse: BTreeMap<String, u32>,
    /// What runs in the tabs of visitors. `None` if the shape has no browser group. `groups` and `seams` describe only
    /// the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub browser: Option<PlannedBrowser>,
    /// Every import that another component of the app provides, ordered by importer and interface.
    pub seams: Vec<Seam>,
    /// The grants of each component, and the capabilities that it imports without a grant. Ordered by component.
    pub access: Vec<ComponentAccess>,
    /// Information about the plan that is neither an error nor a warning.
    pub notes: Vec<String>,
    /// Warnings about settings that are allowed but look like a mistake.
    pub warnings: Vec<Diagnostic>,
}

/// An import that another component provides, and how its calls run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seam {
    /// The import and the export that provides it.
    #[serde(flatten)]
    pub link: ResolvedImport,
    /// How the calls of the seam run.
    pub mode: SeamMode,
    /// The reason for the mode, as text for people.
    pub reason: String,
    /// The kind of values that calls pass.
    pub class: ValueClass,
    /// The functions of the imported interface that the importer uses.
    pub functions: Vec<String>,
}

/// The grants of one component, and the capabilities that it imports without a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentAccess {
    /// The component that has the grants.
    pub component: ComponentName,
    /// The grants as text, for example `kv carts` or `http api.example.com`.
    pub granted: Vec<String>,
    /// The capabilities that the component imports without a grant.
    pub without_grant: Vec<MissingGrant>,
}

/// A capability that is imported but not granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingGrant {
    /// The imported interface.
    pub interface: InterfaceId,
    /// What happens because the grant is missing, for example `opening a store fails`.
    pub consequence: String,
    /// A line for the manifest that grants the capability.
    pub grant: String,
}

impl Plan {
    /// Sets the file of the manifest in all diagnostics of the plan. The planner knows only positions in this file.
    #[must_use]
    pub fn in_source(mut self, source: &SourceFile) -> Self {
        for diagnostic in &mut self.warnings {
            *diagnostic = diagnostic.clone().in_source(source);
        }
        self
    }

    /// Returns the shape's groups by name, each with its compositions. Each group runs in its own process.
    #[must_use]
    pub fn processes(&self) -> BTreeMap<&str, Vec<&PlannedGroup>> {
        let mut processes = BTreeMap::<_, Vec<_>>::new();
        for group in &self.groups {
            processes.entry(group.process()).or_default().push(group);
        }
        processes
    }

    /// Returns the composition that contains the component.
    #[must_use]
    pub fn group_of(&self, component: &ComponentName) -> Option<&PlannedGroup> {
        self.groups.iter().find(|group| group.components.contains(component))
    }
}
