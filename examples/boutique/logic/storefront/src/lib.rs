//! The shop's HTTP surface: routes, cookies, forms, pages, pictures.
//!
//! It knows neither an HTTP server nor a component: a request's head and body come in as plain values, the services are
//! behind the [`Services`] trait, and a [`Response`] goes out. So the whole surface is tested on the host.

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
