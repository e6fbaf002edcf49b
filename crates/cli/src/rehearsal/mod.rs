//! Playing an app's own requests against it in its shapes: what `isomer test` does.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `script` | a file of cases: what is sent, what is expected; its mistakes, with places |
//! | `variables` | `${name}` in what is sent and expected |
//! | `secrets` | secrets that a script gives the app |
//! | `stubs` | answers of hosts outside, as a script has them |
//! | `client` | a small HTTP client: a connection a request, cookies kept |
//! | `running` | the app in one shape: a process that runs it, with an empty data directory |
//! | `judge` | an answer against what was expected of it, and against that of another shape |
//! | `diff` | what differs, line by line |
//! | `play` | a script in one shape, from the first case to the last |
//! | `report` | what came out, for people and for programs |
//!
//! An app is run as `isomer run` runs it, by the same program, so what is tested is what will serve.

mod client;
pub(crate) mod diff;
mod judge;
pub(crate) mod play;
pub(crate) mod report;
pub(crate) mod running;
pub(crate) mod script;
pub(crate) mod secrets;
pub(crate) mod stubs;
mod variables;
