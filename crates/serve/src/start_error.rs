//! Errors of planning or starting an app, with hints. Used for an app in this process and for one group of a shape.

use std::path::Path;

use isomer_apps::AppCapabilityError;
use isomer_apps::RevisionError;
use isomer_apps::member::MemberError;
use isomer_apps::shipped_code::groups_without_code;
use isomer_apps::tenancy::TenancyError;
use isomer_capabilities::secrets::SecretError;
use isomer_capabilities::sql::{SqlOpenError, snapshot_name};
use isomer_capabilities::{CapabilityError, DataDir};
use isomer_console::CliError;
use isomer_diagnostics::{Diagnostic, Hinted, SourceFile};
use isomer_manifest::App;
use isomer_runtime::code::{CodeError, Key};
use isomer_seam::Components;

/// The hint for findings about an app that has no manifest.
const NO_MANIFEST: &str =
    "create an app with a manifest: `isomer new`; a component that runs from its file has no manifest";

/// Converts a [`RevisionError`] into a [`CliError`]. If `source`, the manifest, is set, the plan's findings show their
/// place in it.
pub(crate) fn revision_error(error: RevisionError, source: Option<&SourceFile>) -> CliError {
    match error {
        RevisionError::Plan(findings) => match source {
            Some(source) => CliError::findings(findings, source),
            None => CliError::Findings(findings.into_iter().map(|finding| finding.hint(NO_MANIFEST)).collect()),
        },
        RevisionError::Component { source: ref reason, .. } | RevisionError::Compose { source: ref reason, .. } => {
            let hint = reason.hint();
            CliError::hinted(error, hint)
        }
        RevisionError::NotShipped { .. } => CliError::hinted(
            error,
            [
                "a shipped program contains the code of one shape, and for a browser group the config keys are fixed: ship it with another `--shape` or `--config`",
                "if the runtime was built from other sources than `isomer`, build both again: isomer ship exe --base FILE",
            ],
        ),
        RevisionError::Code(CodeError::Shipped { .. }) => CliError::hinted(
            error,
            ["copy the program again from where it was made, or make it again: isomer ship exe"],
        ),
        RevisionError::Code(CodeError::Incompatible { .. }) => CliError::hinted(
            error,
            [
                "run it on a newer processor: `--version` prints the oldest one that it runs on",
                "or make the program for older processors (isomer ship exe --cpu), or with the runtime of this version (--base)",
            ],
        ),
        error => error.into(),
    }
}

/// Checks that the program has the code of its app for this shape: `has` tells whether it has the code with a key.
///
/// # Errors
/// If the app cannot be planned, or if code is missing.
pub fn check_shipped_code(
    app: &App,
    components: &Components,
    shape: &str,
    has: &dyn Fn(&Key) -> bool,
) -> Result<(), CliError> {
    let missing = groups_without_code(app, components, shape, has);
    match missing.map_err(|error| revision_error(error, None))?.into_iter().next() {
        Some(group) => Err(revision_error(RevisionError::NotShipped { group }, None)),
        None => Ok(()),
    }
}

/// The context for errors of an app's start: the app, with the manifest and the files that the error messages name.
#[derive(Clone, Copy)]
pub(crate) struct StartAttempt<'a> {
    /// The app as its manifest describes it.
    pub(crate) app: &'a App,
    /// The folder against which relative paths in the manifest are resolved.
    pub(crate) dir: &'a Path,
    /// The manifest, or `None` for a component without a manifest.
    pub(crate) source: Option<&'a SourceFile>,
    /// The data directory.
    pub(crate) data: &'a DataDir,
}

impl StartAttempt<'_> {
    /// Converts a [`TenancyError`] of an app in this process into a [`CliError`].
    pub(crate) fn failed(self, error: TenancyError) -> CliError {
        match error {
            TenancyError::Capabilities(error) | TenancyError::Revision(RevisionError::Capabilities(error)) => {
                self.capability_error(error)
            }
            TenancyError::Revision(error) => revision_error(error, self.source),
            error => error.into(),
        }
    }

    /// Converts a [`SecretError`] into a [`CliError`].
    pub(crate) fn secret_failed(self, error: SecretError) -> CliError {
        self.capability_error(CapabilityError::Secret(error).into())
    }

    /// Converts a [`MemberError`] into a [`CliError`].
    pub(crate) fn member_failed(self, error: MemberError) -> CliError {
        match error {
            MemberError::Revision(error) => self.failed(TenancyError::Revision(error)),
            MemberError::Start(error) => self.failed(error),
            MemberError::Link(error) => {
                let hint = error.hint();
                CliError::hinted(error, hint)
            }
            error => error.into(),
        }
    }

    /// Converts an [`AppCapabilityError`] into a [`CliError`]. An unset environment variable gets a hint. If a granted
    /// folder is missing, the manifest or a flag is wrong, so the error shows the grant. If applied migrations of a
    /// store were edited, renamed or removed, a hint states how to start with an empty store.
    fn capability_error(self, error: AppCapabilityError) -> CliError {
        if let Some(variable) = unset_variable(&error) {
            let hint = format!(
                "start again with {variable}=… before the command, or write {variable}=… into .env in the app's folder (for a shipped program: in the working directory)"
            );
            return Hinted::new(error, hint).into();
        }
        match &error {
            AppCapabilityError::Directory { component, path, source } if is_missing(source) => {
                let finding = Diagnostic::error(format!(
                    "component `{component}` is granted the folder `{}`, which does not exist",
                    path.display()
                ))
                .code("missing-folder");
                let dirs = self
                    .app
                    .components
                    .get(component)
                    .map(|component| component.grants.dirs.as_slice())
                    .unwrap_or_default();
                let at = dirs.iter().find(|grant| self.dir.join(&grant.value.host) == *path).map(|grant| grant.span);
                match self.source {
                    Some(source) => {
                        let hint = format!(
                            "create the folder: mkdir -p {}; or correct `host`, which is relative to isomer.toml",
                            path.display()
                        );
                        CliError::findings(vec![finding.at(at.unwrap_or_default(), "").hint(hint)], source)
                    }
                    None => CliError::Findings(vec![finding.hint("name an existing folder: --dir HOST::GUEST")]),
                }
            }
            AppCapabilityError::Capability(CapabilityError::Sql(
                SqlOpenError::MigrationChanged { store, .. }
                | SqlOpenError::MigrationMissing { store, .. }
                | SqlOpenError::MigrationOutOfOrder { store, .. },
            )) => {
                let files = self.data.sql().join(snapshot_name(store));
                let hint =
                    format!("or, if the store's data may be lost, start with an empty store: rm {}*", files.display());
                Hinted::new(error, hint).into()
            }
            _ => error.into(),
        }
    }
}

/// Returns the name of the environment variable if the error is that a secret's variable is not set.
fn unset_variable(error: &AppCapabilityError) -> Option<&str> {
    match error {
        AppCapabilityError::Capability(CapabilityError::Secret(SecretError::Unset { variable, .. })) => Some(variable),
        _ => None,
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}
