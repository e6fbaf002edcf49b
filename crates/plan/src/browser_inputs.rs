//! The decisions of a plan that planning and checking a browser group need.

use std::collections::BTreeMap;

use isomer_ids::ComponentName;
use isomer_manifest::{App, BrowserGroup, Shape};

use crate::exposed::Exposed;
use crate::idempotent::Idempotent;
use crate::links::Types;
use crate::options::PlanOptions;
use crate::placement::Placement;
use crate::planned_group::{PlannedHandler, ResolvedImport};

/// The decisions of the plan from which a browser group is planned and checked.
#[derive(Clone, Copy)]
pub(crate) struct BrowserInputs<'a> {
    pub(crate) app: &'a App,
    pub(crate) types: &'a Types,
    pub(crate) shape_name: &'a str,
    pub(crate) shape: &'a Shape,
    pub(crate) group: &'a BrowserGroup,
    pub(crate) links: &'a [ResolvedImport],
    pub(crate) places: &'a BTreeMap<ComponentName, Placement>,
    pub(crate) handlers: &'a BTreeMap<ComponentName, PlannedHandler>,
    pub(crate) idempotent: &'a Idempotent,
    pub(crate) exposed: &'a Exposed,
    pub(crate) options: PlanOptions,
}
