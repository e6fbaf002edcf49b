//! The shop's products and ads. Products can be found by ID, by words, and by shared categories.
//!
//! All data is compiled into the program; no function of this crate does I/O.

mod ads;
mod products;
mod recommend;
mod search;

pub use ads::pick_ads;
pub use products::{all_products, product};
pub use recommend::recommend;
pub use search::search;
