//! The types that the shop's logic, pages and components share, and the arithmetic of [`Money`] and of dates. The types
//! are the records and variants of `boutique:shop/types`, generated from the WIT.
//!
//! Nothing in this crate does I/O or depends on a service.

mod date;
mod money;

pub use date::Date;
pub use generated::boutique::shop::types::*;
pub use money::MoneyError;

// Generated code is not documented, and not linted.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "vocabulary",
        additional_derives: [PartialEq, Eq],
    });
}
