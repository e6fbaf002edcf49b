//! The dashboard: its pages as embedded files, and the sessions of the browsers that show them.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`dashboard`] | the responses to a browser: files, and the start and end of a session |
//! | [`sessions`] | one-time codes and sessions, as a state machine without clock or randomness |
//! | `secret` | random texts that are stored only as digests |
//! | `request_origin` | finding out which page made a browser send a request |
//! | `files` | the embedded files, compressed, with their headers |
//!
//! The pages are plain ES modules in `assets/`; there is no build step. They contain no data: a page reads everything
//! through the admin API, with the rights of its session. So the files need no authentication.
//!
//! # How a browser gets a session
//!
//! 1. The owner of a token creates a one-time code, with the same rights as the token, and opens the address
//!    `/?code=…` in a browser.
//! 2. The page sends the code to [`SESSION_PATH`] and removes it from the address. The response sets a cookie that
//!    scripts cannot read, and contains a key that the page keeps in the browser's local storage.
//! 3. Each request for data carries both. Cookies are shared by all ports of a host, so an app on another port of
//!    `127.0.0.1` receives the cookie; but it does not receive the key, which belongs to one origin.
//!
//! The query of the address contains the code. The code is useless after it was used, and after five minutes.

#![forbid(unsafe_code)]

pub mod dashboard;
mod files;
mod request_origin;
mod secret;
pub mod sessions;

pub use dashboard::{CODE_FIELD, Dashboard, KEY_FIELD, SESSION_PATH, SessionRefusal};
pub use secret::NoRandomness;
pub use sessions::{CODE_LIFETIME, SESSION_LIFETIME, SessionRights, Sessions};
