//! The exports of a component that is added. If a component exports an interface of the platform, it provides the interface
//! to the other components in place of the platform: it would answer their requests for secrets, and see their data.

use isomer_console::{CliError, Console, FAILED};
use isomer_ids::ComponentName;
use isomer_plan::{ComponentType, InterfaceId, is_of_platform};

/// The exports by which the platform calls a component. No other component imports them from it.
const ENTRY_POINTS: [&str; 3] = ["wasi:http/handler", "wasi:http/incoming-handler", "wasi:cli/run"];

/// The exports of a component.
pub(super) struct Exports {
    /// All of them.
    pub(super) all: Vec<String>,
    /// Those that the platform provides without the component.
    pub(super) of_platform: Vec<String>,
}

impl Exports {
    pub(super) fn of(ty: &ComponentType) -> Self {
        let is_entry_point = |id: &InterfaceId| ENTRY_POINTS.contains(&id.path().as_str());
        let of_platform = ty.exports.keys().filter(|id| is_of_platform(id) && !is_entry_point(id));
        Self {
            all: ty.exports.keys().map(ToString::to_string).collect(),
            of_platform: of_platform.map(ToString::to_string).collect(),
        }
    }

    /// Asks the user to confirm each interface of the platform that is not in `allowed`. `yes` does not confirm them, because
    /// it is about the component's own grants.
    ///
    /// # Errors
    /// If the user does not confirm, or cannot be asked.
    pub(super) fn confirm(
        &self,
        name: &ComponentName,
        allowed: &[String],
        yes: bool,
        console: &Console,
    ) -> Result<(), CliError> {
        if let Some(unknown) = allowed.iter().find(|id| !self.of_platform.contains(id)) {
            return Err(CliError::usage(
                format!("component `{name}` exports no interface `{unknown}` of the platform"),
                "remove `--allow-export`, or correct the name",
            ));
        }
        let open: Vec<&String> = self.of_platform.iter().filter(|id| !allowed.contains(id)).collect();
        if open.is_empty() {
            return Ok(());
        }
        if yes || !console.is_interactive() {
            let list = open.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
            let flags = open.iter().map(|id| format!(" --allow-export {id}")).collect::<String>();
            return Err(CliError::failed(
                format!("component `{name}` would provide {list} to the other components in place of the platform"),
                format!("if you trust the component with the calls of all others, add{flags}"),
            ));
        }
        for id in open {
            let question =
                format!("{name} would provide {id} to the other components in place of the platform. Allow this?");
            if console.confirm(&question) != Some(true) {
                return Err(CliError::ExitCode(FAILED));
            }
        }
        Ok(())
    }
}
