//! The shop's HTTP interface: routes, cookies, forms, pages, pictures.
//!
//! This crate depends neither on an HTTP server nor on a component: a request's head and body are plain values, the
//! services are behind the [`Services`] trait, and the result is a [`Response`]. So the whole crate is tested as native
//! code.

mod assets;
mod browse;
mod buy;
mod cookies;
mod failure;
mod forms;
mod http;
mod pages;
mod route;
mod services;
mod shop;
mod visitor;

pub use http::{BodyError, Head, Response};
pub use services::{Services, Unavailable};
pub use shop::{FORM_BYTES_MAX, handle};
