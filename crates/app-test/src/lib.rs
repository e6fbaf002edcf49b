//! `isomer test`: running an app's own scripts of requests against the app, in each of its shapes.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `script` | a file of cases: requests and the expected responses; mistakes in the file, with places |
//! | `variables` | `${name}` in requests and expectations |
//! | `secrets` | secrets that a script gives the app |
//! | `stubs` | responses that a script defines for hosts on the internet |
//! | `client` | a small HTTP client: a connection for each request, cookies kept |
//! | `app_process` | the app in one shape: a process that serves it, with an empty data directory |
//! | `checks` | compares a response with the expected one, and with that of another shape |
//! | `diff` | the lines in which two texts differ |
//! | `script_run` | a script in one shape, from the first case to the last |
//! | `report` | the report of all runs, for people and as JSON |
//!
//! The same program runs the app, with `isomer run --test-mode`, so the tested code is the code that will serve. This
//! crate knows neither the engine nor the node.

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
pub use diff::ReportDetail;
pub use report::{ScriptRun, passed, report_json, report_text};
pub use script::{Script, TestCase, read_scripts};
pub use script_run::{ScriptResult, run_script};
pub use stubs::{HostStub, StubServer, parse_stub};
