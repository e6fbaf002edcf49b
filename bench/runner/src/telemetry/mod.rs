//! What telemetry costs: requests with telemetry off, with one of a hundred requests sampled, and with all sampled; and
//! the store of traces after a simulated day. The cost of calls is measured in [`crate::seam`].

mod day;
mod requests;

pub(crate) use day::run as store;
pub(crate) use requests::{boutique, hello, with_mode};
