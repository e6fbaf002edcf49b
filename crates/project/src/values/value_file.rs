//! Reading files of values.

use std::collections::BTreeMap;
use std::path::Path;

use isomer_console::CliError;

use super::dotenv;
use crate::paths::shown;

/// The name of the file of variables in the app's folder that is read by default.
pub const ENV_FILE: &str = ".env";

/// The maximum size in bytes of a file of config values or variables.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Parses the variables in `text`, the text of the file `path`.
pub(super) fn parse_variables(path: &Path, text: &str) -> Result<BTreeMap<String, String>, CliError> {
    dotenv::parse(text).map_err(|error| {
        CliError::failed(
            format!("`{}`, {error}", shown(path)),
            "write `NAME=VALUE` lines; quote a value that begins or ends with blanks, contains `#` or spans several lines",
        )
    })
}

/// Reads a file of values, if it is not too large.
pub(super) fn read(path: &Path) -> Result<String, CliError> {
    let unreadable = |error| {
        CliError::Usage(anyhow::Error::new(error).context(format!("cannot read the file of values `{}`", shown(path))))
    };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        let hint = "name a smaller file";
        return Err(CliError::failed(format!("`{}` has more than {FILE_BYTES_MAX} bytes", shown(path)), hint));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}
