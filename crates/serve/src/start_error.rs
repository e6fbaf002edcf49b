//! Errors of planning or starting an app, with hints: for an app in this process, and for one group of a shape.

use std::path::Path;

use isomer_apps::AppCapabilityError;
use isomer_apps::RevisionError;
use isomer_apps::member::MemberError;
use isomer_apps::tenancy::TenancyError;
use isomer_capabilities::secrets::SecretError;
use isomer_capabilities::sql::{SqlOpenError, snapshot_name};
use isomer_capabilities::{CapabilityError, DataDir};
use isomer_console::CliError;
use isomer_diagnostics::{Diagnostic, Hinted, SourceFile};
use isomer_manifest::App;

/// The hint that is added to findings about a manifest when the app has none.
const NO_MANIFEST: &str = "a component that is run from its file has no manifest: `isomer new` makes an app with one";

/// Turns the error of creating a revision into the command's error. Findings of the plan point into the manifest
/// `source`, if there is one.
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
        error => error.into(),
    }
}

/// The app that could not be started, for errors.
#[derive(Clone, Copy)]
pub(crate) struct StartAttempt<'a> {
    /// The app.
    pub(crate) app: &'a App,
    /// The folder in which relative paths start.
    pub(crate) dir: &'a Path,
    /// The manifest, if there is one.
    pub(crate) source: Option<&'a SourceFile>,
    /// The data directory.
    pub(crate) data: &'a DataDir,
}

impl StartAttempt<'_> {
    /// Turns the error of a start in this process into the command's error.
    pub(crate) fn failed(self, error: TenancyError) -> CliError {
        match error {
            TenancyError::Capabilities(error) | TenancyError::Revision(RevisionError::Capabilities(error)) => {
                self.without(error)
            }
            TenancyError::Revision(error) => revision_error(error, self.source),
            error => error.into(),
        }
    }

    /// Turns the error of a member's start into the command's error.
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

    /// Returns the error for a missing capability, with its place in the manifest or a hint. A missing folder that is
    /// granted is a mistake in the manifest (or in a flag). A store whose migrations were changed can be recreated if
    /// its data may be lost.
    fn without(self, error: AppCapabilityError) -> CliError {
        if let Some(variable) = of_parts(&error) {
            let hint = format!(
                "start again with {variable}=… in front of the command, or write {variable}=… into the app's .env"
            );
            return Hinted::new(error, hint).into();
        }
        match &error {
            AppCapabilityError::Directory { component, path, source } if is_not_there(source) => {
                let finding = Diagnostic::error(format!(
                    "component `{component}` is granted the folder `{}`, which does not exist",
                    path.display()
                ))
                .code("missing-folder");
                let dirs = self.app.components.get(component).map(|it| it.grants.dirs.as_slice()).unwrap_or_default();
                let at = dirs.iter().find(|grant| self.dir.join(&grant.value.host) == *path).map(|grant| grant.span);
                match self.source {
                    Some(source) => {
                        let hint = format!(
                            "create it: mkdir -p {}; or correct `host`, which is relative to isomer.toml",
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
                let hint = format!("or, if its data may be lost, start with an empty store: rm {}*", files.display());
                Hinted::new(error, hint).into()
            }
            _ => error.into(),
        }
    }
}

/// Returns the environment variable of a secret, if the error is that the variable is not set.
pub(crate) fn missing_variable(error: &TenancyError) -> Option<&str> {
    match error {
        TenancyError::Capabilities(error) | TenancyError::Revision(RevisionError::Capabilities(error)) => {
            of_parts(error)
        }
        _ => None,
    }
}

fn of_parts(error: &AppCapabilityError) -> Option<&str> {
    match error {
        AppCapabilityError::Capability(CapabilityError::Secret(SecretError::Unset { variable, .. })) => Some(variable),
        _ => None,
    }
}

fn is_not_there(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}
