//! Plans an app from the bytes of its components: reads their types and calls the planner. Needs no engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_manifest::App;
use isomer_plan::{Plan, PlanOptions};

use crate::component_type;
use crate::error::SeamError;

/// The bytes of an app's components, by name.
pub type Components = BTreeMap<ComponentName, Arc<[u8]>>;

/// The reasons why an app cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The bytes of a component cannot be read.
    #[error("cannot read component `{component}`")]
    Component {
        /// The component.
        component: ComponentName,
        /// The error in the component's bytes.
        source: SeamError,
    },
    /// The plan refuses the app. Contains all problems, with their places in the manifest.
    #[error("the app cannot run as it is")]
    Refused(Vec<Diagnostic>),
}

/// Reads the types of an app's components and plans the app in one of its shapes.
///
/// # Errors
/// If the bytes of a component cannot be read, or the plan refuses the app.
pub fn plan(app: &App, components: &Components, shape: &str) -> Result<Plan, PlanError> {
    plan_with(app, components, shape, PlanOptions::default())
}

/// [`plan`] with options that only tests set.
///
/// # Errors
/// As for [`plan`].
pub fn plan_with(app: &App, components: &Components, shape: &str, options: PlanOptions) -> Result<Plan, PlanError> {
    let mut types = BTreeMap::new();
    for (name, bytes) in components {
        let ty = component_type(bytes).map_err(|source| PlanError::Component { component: name.clone(), source })?;
        types.insert(name.clone(), ty);
    }
    isomer_plan::plan_with(app, &types, shape, options).map_err(PlanError::Refused)
}
