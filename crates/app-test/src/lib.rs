//! `isomer test`: runs an app's test scripts, which send requests to the app in each of its shapes.
//!
//! | file | what it contains |
//! | --- | --- |
//! | `script` | a file of cases, which are requests and the expected responses; errors in the file, with their locations |
//! | `variables` | `${name}` in requests and expectations |
//! | `secrets` | the secrets that a script defines for the app |
//! | `stubs` | the responses that a script defines for external hosts |
//! | `client` | a small HTTP client, which opens a connection for each request and stores cookies |
//! | `app_process` | the app in one shape: a process that serves it, with an empty data directory |
//! | `checks` | compares a response with the expected one, and with the response of another shape |
//! | `diff` | the lines in which two texts differ |
//! | `script_run` | runs all cases of a script in one shape |
//! | `report` | the report of all runs, for people and as JSON |
//!
//! The app is run by the same program with `isomer run --test-mode`, so the tested code is the code that serves apps.
//! This crate depends on neither the engine nor the node.

#![forbid(unsafe_code)]

mod app_process;
mod checks;
mod client;
mod diff;
mod report;
mod script;
mod script_run;
mod secrets;
mod stubs;
mod variables;

pub use app_process::{AppProcess, AppProcessSetup};
pub use checks::OtherShape;
pub use diff::ReportDetail;
pub use report::{ScriptRun, passed, report_json, report_text};
pub use script::{Script, TestCase, read_scripts};
pub use script_run::{ScriptResult, run_script};
pub use stubs::{HostStub, StubServer, parse_stub};
