//! The programs that `isomer ship exe` writes: an app and its runtime in one file.
//!
//! A program that finds a payload in its own file is the app ([`run_shipped`]). Any Isomer program can be the base of such a
//! file: `isomer-runtime`, the program of this crate, which has neither a compiler nor commands, or `isomer` itself. The
//! format of the file belongs to `isomer-parcel`.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `own_payload` | finding and opening the payload of this program |
//! | `payload_code` | the compiled code in the payload |
//! | `release_files` | writing the files of the release into the data directory |
//! | `data_dir` | the default data directory |
//! | `name_services` | how a statically linked program looks up host names |
//! | `arguments` | the command line of a shipped program |
//! | `serve` | serving the app |

mod arguments;
mod data_dir;
mod name_services;
mod own_payload;
mod payload_code;
mod release_files;
mod serve;

use std::process::ExitCode;

use isomer_console::{CliError, Console};

use self::own_payload::OwnPayload;

/// Runs the app with which this program was shipped. Returns `None` if the program was not shipped with an app. Called first in
/// `main`, while the process has one thread.
pub fn run_shipped() -> Option<ExitCode> {
    name_services::use_built_in();
    let payload = own_payload::open()?;
    let console = Console::open();
    Some(match payload.and_then(|payload| run(payload, console)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => console.report(&error),
    })
}

fn run(payload: OwnPayload, console: Console) -> Result<(), CliError> {
    // The supervisor of a shape with several processes starts this program with these arguments.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "run") && arguments.next().is_some_and(|flag| flag == "--member") {
        return isomer_serve::run_member(Some(payload.code()));
    }
    serve::run(&payload, console)
}
