//! The shop's products and the queries for them: by ID, by words, and by shared categories; and the shop's ads.
//!
//! All data is compiled into the program; nothing here does I/O.

mod ads;
mod products;
mod recommend;
mod search;

pub use ads::pick_ads;
pub use products::{all_products, product};
pub use recommend::recommend;
pub use search::search;
