//! The admin API: who may ask, what is asked, over HTTP on a listener of its own.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`admin`] | what a node must be able to do for its admins |
//!
//! This crate does not know how an app is deployed or run: a node implements [`Admin`].

#![forbid(unsafe_code)]

pub mod admin;

pub use admin::{Admin, Body, LogLines, Reply};
