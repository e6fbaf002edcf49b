//! The products of the shop and what can be asked about them: by id, by words, by what they go with; and its ads.
//!
//! All of it is data in the program; nothing here does I/O.

mod ads;
mod products;
mod recommend;
mod search;

pub use ads::pick_ads;
pub use products::{all_products, product};
pub use recommend::recommend;
pub use search::search;
