//! Reading a program that `isomer ship exe` wrote.

use std::path::Path;

use isomer_console::CliError;
use isomer_diagnostics::SourceFile;
use isomer_manifest::{App, MANIFEST_FILE};
use isomer_parcel::exe::{ProgramError, VerifiedProgram};

/// A shipped program.
pub(crate) struct Program {
    pub(crate) app: App,
    pub(crate) file: VerifiedProgram,
}

impl Program {
    /// Reads the program at `path`, and verifies its payload.
    ///
    /// # Errors
    /// If the file is not a shipped program, or was damaged.
    pub(crate) fn open(path: &Path) -> Result<Self, CliError> {
        let file = VerifiedProgram::read(path).map_err(|error| {
            let text = match &error {
                ProgramError::Payload(error) => isomer_diagnostics::chain(error),
                error => error.to_string(),
            };
            CliError::failed(
                format!("`{}` is not a program that `isomer ship exe` wrote: {text}", path.display()),
                "make the program first: isomer ship exe APP",
            )
        })?;
        let index = &file.index;
        let source = SourceFile::new(MANIFEST_FILE, index.release.manifest.as_str());
        let app = isomer_manifest::parse(&source).map_err(CliError::Findings)?.app;
        Ok(Self { app, file })
    }
}
