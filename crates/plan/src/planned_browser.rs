//! The part of a plan that describes what runs in the tabs of visitors.
//!
//! A browser group is an additional copy of its components: all components also run on the server. Its seams to
//! components that are not in the group are *tab seams*: their calls cross the network, from a tab that the server does
//! not trust.

use std::collections::BTreeMap;

use isomer_ids::ComponentName;
use isomer_wire::FunctionKey;
use serde::{Deserialize, Serialize};

use crate::interface::InterfaceId;
use crate::planned_group::{PlannedGroup, ResolvedImport};

/// What runs in the tabs of visitors, and which functions of the server a tab may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedBrowser {
    /// The composition that a tab runs. Its stubs call the functions of the tab seams.
    pub group: PlannedGroup,
    /// The tab seams, ordered by importer and interface.
    pub seams: Vec<TabSeam>,
    /// The names of the config values that the components of the group read, by component. The values are sent to the
    /// tab, so they are public.
    pub config: BTreeMap<ComponentName, Vec<String>>,
    /// The app's cookie that identifies a visitor. `None` if the manifest names none.
    pub session_cookie: Option<String>,
}

/// An import of a component in the browser group that a component on the server provides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TabSeam {
    /// The import and the export that provides it.
    #[serde(flatten)]
    pub link: ResolvedImport,
    /// The group on the server, that is the process, in which the exporter runs.
    pub process: String,
    /// How calls are sent.
    pub transport: Transport,
    /// The reason for the transport, as text for people.
    pub reason: String,
    /// The functions that a tab may call, ordered by name. These are the functions that the importer uses, and the
    /// exporter exposes all of them.
    pub functions: Vec<TabFunction>,
}

/// How the calls of a tab seam are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// One HTTP request for each call. Used for seams on which only the tab calls.
    Http,
}

/// A function of a component on the server that a tab may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TabFunction {
    /// The interface as the exporter exports it.
    pub interface: InterfaceId,
    /// The function's name.
    pub function: String,
    /// The key by which a call identifies the function. The exporter's skeleton on the server has the same key.
    pub key: FunctionKey,
    /// Whether the function is declared `async func`. If not, the tab's instance is blocked during the call.
    pub is_async: bool,
    /// Whether the function's error type can represent a call that was lost. If not, a lost call traps.
    pub catches: bool,
    /// Whether the manifest declares the function idempotent.
    pub idempotent: bool,
    /// The parameter that must be the identity of the tab's session. If it is `None`, anyone who can open the app's
    /// pages may call the function with any arguments.
    pub identity: Option<IdentityParameter>,
}

/// The parameter of a function that must be the identity of the tab's session. Its type is `string`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdentityParameter {
    /// The parameter's name.
    pub name: String,
    /// The offset in bytes, from the start of the image of the arguments, at which the image contains the address of the
    /// text (four bytes, little endian) and its length (four bytes). Addresses count from `isomer_wire::image::BASE`.
    pub offset: u32,
}

impl PlannedBrowser {
    /// Returns the functions that a tab may call, each with its seam. A function that several components of the group
    /// call is returned for each of them.
    pub fn functions(&self) -> impl Iterator<Item = (&TabSeam, &TabFunction)> {
        self.seams.iter().flat_map(|seam| seam.functions.iter().map(move |function| (seam, function)))
    }
}
