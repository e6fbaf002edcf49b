//! The settings for an app's outgoing requests: which certificate authorities they trust.

use std::path::{Path, PathBuf};

use isomer_capabilities::outbound::OutboundNetwork;
use isomer_console::CliError;
use isomer_diagnostics::{Diagnostic, SourceFile};
use isomer_manifest::NodeSettings;

/// Returns settings that trust the public certificate authorities, and the authorities in the file that the environment
/// variable `SSL_CERT_FILE` names. Other programs also read this variable. If the file cannot be read, calls `warn` and
/// trusts only the public authorities, which are enough for most apps.
pub fn from_environment(warn: impl FnOnce(Diagnostic)) -> OutboundNetwork {
    let network = OutboundNetwork::default();
    let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from) else {
        return network;
    };
    match network.authorities().with_file(&path, &path) {
        Ok(trusted) => network.trusting(trusted),
        Err(error) => {
            let mut warning = Diagnostic::warning(error.to_string());
            if let Some(cause) = std::error::Error::source(&error) {
                warning = warning.note(cause.to_string());
            }
            warn(warning.hint("correct or unset the environment variable `SSL_CERT_FILE`; without the file, only public certificate authorities are trusted"));
            network
        }
    }
}

/// Makes `network` also trust the certificate authorities in the file that the node file `file` names. A relative path
/// is resolved against `dir`.
///
/// # Errors
/// If the file of certificate authorities cannot be read. The error shows the place in the node file.
pub fn with_authority(
    network: OutboundNetwork,
    file: &NodeSettings,
    dir: &Path,
    source: &SourceFile,
) -> Result<OutboundNetwork, CliError> {
    let Some(written) = &file.outbound_authority else { return Ok(network) };
    let trusted = network.authorities().with_file(&dir.join(&written.value), &written.value);
    let trusted = trusted.map_err(|error| {
        let finding = Diagnostic::error(error.to_string()).code("unreadable-file").at(written.span, "");
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let finding = cause.into_iter().fold(finding, Diagnostic::note);
        CliError::findings(vec![finding.hint("a relative path is resolved against the node file's folder")], source)
    })?;
    Ok(network.trusting(trusted))
}
