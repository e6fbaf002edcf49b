//! Plans an app from the bytes of its components: reads the components' types and calls the planner. Needs no engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_manifest::App;
use isomer_plan::{Plan, PlanOptions};

use crate::component_type;
use crate::error::SeamError;

/// The bytes of an app's components, by component name.
pub type Components = BTreeMap<ComponentName, Arc<[u8]>>;

/// The reasons why an app cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The bytes of a component cannot be read.
    #[error("cannot read component `{component}`")]
    Component {
        /// The name of the component.
        component: ComponentName,
        /// Why the bytes cannot be read.
        source: SeamError,
    },
    /// The plan refuses the app. Contains all problems, with their locations in the manifest.
    #[error("the app cannot run as it is")]
    Refused(Vec<Diagnostic>),
}

/// Reads the types of an app's components and plans the app in the shape with the name `shape`.
///
/// # Errors
/// If the bytes of a component cannot be read, or the plan refuses the app.
pub fn plan(app: &App, components: &Components, shape: &str) -> Result<Plan, PlanError> {
    plan_with(app, components, shape, PlanOptions::default())
}

/// Plans an app like [`plan`], with options that only tests set.
///
/// # Errors
/// The errors of [`plan`].
pub fn plan_with(app: &App, components: &Components, shape: &str, options: PlanOptions) -> Result<Plan, PlanError> {
    let mut types = BTreeMap::new();
    for (name, bytes) in components {
        let ty = component_type(bytes).map_err(|source| PlanError::Component { component: name.clone(), source })?;
        types.insert(name.clone(), ty);
    }
    isomer_plan::plan_with(app, &types, shape, options).map_err(PlanError::Refused)
}
