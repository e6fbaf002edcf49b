//! Why an app was not started, with the way out: in this process, or as one group of a shape.

use std::path::Path;

use isomer_capabilities::secrets::SecretError;
use isomer_capabilities::sql::{SqlOpenError, snapshot_name};
use isomer_capabilities::{CapabilityError, DataDir};
use isomer_manifest::{App, Diagnostic, Hinted, SourceFile};
use isomer_node::RevisionError;
use isomer_node::member::MemberError;
use isomer_node::parts::PartsError;
use isomer_node::tenancy::TenancyError;

use crate::fail::Fail;

/// What was to be started.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) app: &'a App,
    /// Where relative paths start.
    pub(crate) dir: &'a Path,
    /// The manifest, if there is one.
    pub(crate) source: Option<&'a SourceFile>,
    pub(crate) data: &'a DataDir,
}

impl Attempt<'_> {
    /// Why the app was not started.
    pub(crate) fn failed(self, error: TenancyError) -> Fail {
        match error {
            TenancyError::Parts(error) | TenancyError::Revision(RevisionError::Parts(error)) => self.without(error),
            TenancyError::Revision(error) => Fail::revision(error, self.source),
            error => error.into(),
        }
    }

    /// Why a group was not started in a process of its own.
    pub(crate) fn member_failed(self, error: MemberError) -> Fail {
        match error {
            MemberError::Revision(error) => self.failed(TenancyError::Revision(error)),
            MemberError::Start(error) => self.failed(error),
            MemberError::Link(error) => {
                let hint = error.hint();
                Fail::hinted(error, hint)
            }
            error => error.into(),
        }
    }

    /// What is missing. A granted folder is the manifest's mistake (or a flag's); a store whose migrations were changed can be recreated, if its
    /// data may be lost.
    fn without(self, error: PartsError) -> Fail {
        if let Some(variable) = of_parts(&error) {
            let hint = format!(
                "start again with {variable}=… in front of the command, or write {variable}=… into the app's .env"
            );
            return Hinted::new(error, hint).into();
        }
        match &error {
            PartsError::Directory { component, path, source } if is_not_there(source) => {
                let finding = Diagnostic::error(format!(
                    "component `{component}` is granted the folder `{}`, which is not there",
                    path.display()
                ))
                .code("missing-folder");
                let dirs = self.app.components.get(component).map(|it| it.grants.dirs.as_slice()).unwrap_or_default();
                let at = dirs.iter().find(|grant| self.dir.join(&grant.value.host) == *path).map(|grant| grant.span);
                match self.source {
                    Some(source) => {
                        let hint = format!(
                            "make it: mkdir -p {}; or correct `host`, which is relative to isomer.toml",
                            path.display()
                        );
                        Fail::manifest(vec![finding.at(at.unwrap_or_default(), "").hint(hint)], source)
                    }
                    None => Fail::Manifest(vec![finding.hint("name a folder that is there: --dir HOST::GUEST")]),
                }
            }
            PartsError::Capability(CapabilityError::Sql(
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

/// The variable of the environment that a secret comes from and that is not set.
pub(crate) fn missing_variable(error: &TenancyError) -> Option<&str> {
    match error {
        TenancyError::Parts(error) | TenancyError::Revision(RevisionError::Parts(error)) => of_parts(error),
        _ => None,
    }
}

fn of_parts(error: &PartsError) -> Option<&str> {
    match error {
        PartsError::Capability(CapabilityError::Secret(SecretError::Unset { variable, .. })) => Some(variable),
        _ => None,
    }
}

fn is_not_there(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}
