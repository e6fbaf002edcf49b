//! The gateway: the part of the front door that serves tabs, in which the components of a browser group run.
//!
//! A tab is a hostile peer: whatever a page, an extension or a program sends, only the functions that the plan publishes
//! run, and only for the session that sent the call. All decisions of the gateway are in this crate, as functions of
//! heads, bytes and times. It contains no HTTP server and no engine: `front` reads requests and sends responses, and a
//! [`Callee`](isomer_wire::Callee) executes calls.
//!
//! Sessions of visitors:
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`session`] | the token in the cookie, and the identity that is derived from it |
//! | [`ended_sessions`] | the sessions that have ended |
//! | [`cookies`] | cookies on their way to and from components |
//! | [`page_exchange`] | sessions in the requests and responses of the app's own routes |
//!
//! Requests of tabs:
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`endpoint`] | the paths of the gateway |
//! | [`app_gateway`] | what is kept from one revision to the next: sessions, rates, references to revisions |
//! | [`browser_revision`] | what one revision serves to tabs |
//! | [`request_origin`] | which page made a browser send a request |
//! | [`rate`] | limits for rates, in tables of bounded size |
//! | [`published`] | the functions that tabs may call, and the checks of a call |
//! | [`tab_logs`], [`tab_cookies`] | log lines and cookies that a tab sends |
//!
//! The browser's side:
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`static_files`] | the files that a browser loads |
//! | [`withdrawn_worker`] | the script that replaces a worker whose app is no longer served in tabs |
//! | `registration` | the script that registers the service worker, and the pages to which it is appended |
//! | `content_security_policy` | the sources that a page's policy needs for the script and the worker |
#![forbid(unsafe_code)]

pub mod app_gateway;
pub mod browser_revision;
mod content_security_policy;
pub mod cookies;
pub mod ended_sessions;
pub mod endpoint;
pub mod page_exchange;
pub mod published;
pub mod rate;
mod registration;
pub mod request_origin;
pub mod session;
pub mod static_files;
pub mod tab_cookies;
pub mod tab_logs;
pub mod withdrawn_worker;

pub use app_gateway::{AppGateway, GatewayClient, RequestTime};
pub use browser_revision::{BrowserParts, BrowserRevision, TabConfig};
pub use endpoint::{CALL_TYPE, NoEndpoint, TabEndpoint};
pub use page_exchange::{PageExchange, SiteGateway};
pub use published::{PublishedFunction, PublishedFunctions, WrongIdentity, public_failure};
pub use session::{Identity, KEY_BYTES, VisitorSession};
pub use static_files::{InvalidFiles, NewStaticFile, StaticFiles};
