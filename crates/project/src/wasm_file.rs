//! A component in a file, without a manifest: what it exports, and which command runs it.

use std::path::{Path, PathBuf};

use isomer_console::CliError;
use isomer_diagnostics::Hinted;
use isomer_plan::ComponentType;

/// The WASI version of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WasiVersion {
    /// WASI 0.2.
    P2,
    /// WASI 0.3.
    P3,
}

/// A file that contains a component.
pub struct WasmFile {
    /// The file's path, as the user wrote it.
    pub path: PathBuf,
    /// The content of the file.
    pub bytes: Vec<u8>,
    kind: Kind,
}

/// What a component can do, as its exports show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Command(WasiVersion),
    Http,
    Library,
}

impl WasmFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// If the file cannot be read or is not a component. The error states what the file is instead.
    pub fn open(path: &Path) -> Result<Self, CliError> {
        let cannot_read = |source: std::io::Error| {
            let error = anyhow::Error::new(source).context(format!("cannot read `{}`", path.display()));
            CliError::Usage(error)
        };
        let bytes = std::fs::read(path).map_err(cannot_read)?;
        let ty = isomer_seam::component_type(&bytes).map_err(|error| {
            let hint = error.hint();
            let named = NotAComponent { path: path.to_owned(), source: error };
            match hint {
                Some(hint) => CliError::Usage(Hinted::new(named, hint).into()),
                None => CliError::Usage(named.into()),
            }
        })?;
        Ok(Self { path: path.to_owned(), bytes, kind: kind(&ty) })
    }

    /// Returns the WASI version of a component that is a command.
    ///
    /// # Errors
    /// If the component is not a command. The hint states how to run the component.
    pub fn command(&self) -> Result<WasiVersion, CliError> {
        let file = self.path.display();
        match self.kind {
            Kind::Command(generation) => Ok(generation),
            Kind::Http => Err(CliError::usage(
                format!("`{file}` handles HTTP requests; it is not a command"),
                format!("isomer run {file}"),
            )),
            Kind::Library => Err(CliError::usage(
                format!("`{file}` is not a command: it does not export `wasi:cli/run`"),
                "run the component as part of an app: see `isomer new`",
            )),
        }
    }

    /// Checks that the component handles HTTP requests.
    ///
    /// # Errors
    /// If the component does not handle HTTP requests. The hint states how to run the component.
    pub fn check_http(&self) -> Result<(), CliError> {
        let file = self.path.display();
        match self.kind {
            Kind::Http => Ok(()),
            Kind::Command(_) => Err(CliError::usage(
                format!("`{file}` is a command; it does not handle HTTP requests"),
                format!("isomer exec {file}"),
            )),
            Kind::Library => Err(CliError::usage(
                format!(
                    "`{file}` does not handle HTTP requests: it exports neither `wasi:http/handler` nor `wasi:http/incoming-handler`"
                ),
                "run the component as part of an app: see `isomer new`",
            )),
        }
    }
}

/// The reason why a file cannot be run: it is not a component.
#[derive(Debug, thiserror::Error)]
#[error("cannot run `{}`", path.display())]
struct NotAComponent {
    path: PathBuf,
    source: isomer_seam::SeamError,
}

fn kind(ty: &ComponentType) -> Kind {
    let exports = |path: &str, minor: u64| {
        ty.exports.keys().any(|id| {
            id.path() == path && id.version.as_ref().is_some_and(|version| version.major == 0 && version.minor == minor)
        })
    };
    if exports("wasi:http/handler", 3) || exports("wasi:http/incoming-handler", 2) {
        Kind::Http
    } else if exports("wasi:cli/run", 3) {
        Kind::Command(WasiVersion::P3)
    } else if exports("wasi:cli/run", 2) {
        Kind::Command(WasiVersion::P2)
    } else {
        Kind::Library
    }
}
