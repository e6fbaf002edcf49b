//! Making a container image from a shipped program.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_console::CliError;
use isomer_parcel::image::{ImageSettings, write_image};

use super::output::{DATA, output_path, write_file};
use super::program::Program;

/// The options of [`ship_image`].
pub(crate) struct ImageOptions<'a> {
    pub(crate) program: &'a Path,
    /// The file to write; `None` for the app's name with `.tar`.
    pub(crate) output: Option<&'a Path>,
    pub(crate) port: u16,
}

/// An image that was written.
pub(crate) struct ShippedImage {
    pub(crate) file: PathBuf,
    pub(crate) bytes: u64,
    /// The name and the tag of the image.
    pub(crate) name: String,
    /// The digest of the image's manifest.
    pub(crate) digest: String,
}

/// Writes an image with the program.
///
/// # Errors
/// If the file is not a shipped program, if the program needs shared libraries, or if the image cannot be written.
pub(crate) fn ship_image(options: &ImageOptions<'_>) -> Result<ShippedImage, CliError> {
    let Program { app, file: program } = Program::open(options.program)?;
    if !program.base.is_static() {
        return Err(CliError::failed(
            format!(
                "`{}` needs shared libraries, which an image without a base image does not have",
                options.program.display()
            ),
            "make the program with a statically linked runtime, such as `isomer-runtime` of the release tarball: isomer ship exe --base FILE",
        ));
    }
    let tag: String = app.version.to_string().replace('+', "-");
    let file = output_path(options.output, &format!("{}.tar", app.name))?;
    let label = |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_owned());
    let settings = ImageSettings {
        name: app.name.clone(),
        tag: tag.clone(),
        machine: program.base.machine(),
        port: options.port,
        labels: [
            label("title", &app.name),
            label("version", &app.version.to_string()),
            ("dev.isomer.release".to_owned(), program.index.digest.to_string()),
        ]
        .into(),
    };
    let digest = write_file(&file, DATA, |out| write_image(&settings, &program.bytes, out), |_| Ok(()))?;
    let bytes = std::fs::metadata(&file).with_context(|| format!("cannot read `{}`", file.display()))?.len();
    Ok(ShippedImage { file, bytes, name: format!("{}:{tag}", app.name), digest })
}
