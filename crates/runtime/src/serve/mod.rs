//! Passes requests and calls to instances, and returns their responses and results.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `request` | a request that is passed to a guest |
//! | `exchange` | one request in one instance: calling the handler, the deadline, interpreting the outcome |
//! | `body` | the body of the response, which runs the rest of the guest's work while it is read |
//! | `instance_pool` | which instance serves a request, the maximum number of instances, when an instance is dropped |
//! | `exclusive` | requests and calls that each have their own instance |
//! | `shared_instances`, `shared_instance`, `in_flight_requests` | several requests at the same time in one instance (`concurrency = N`): the pool, the task of one instance, its state |
//! | `replacement` | how often a plain instance is replaced with a probed one |
//! | `waiting` | the count of requests that wait for an instance |

mod body;
mod exchange;
mod exclusive;
mod in_flight_requests;
mod instance_pool;
mod replacement;
mod request;
mod shared_instance;
mod shared_instances;
mod waiting;

pub use body::ResponseBody;
pub(crate) use exclusive::ExclusiveInstances;
pub use instance_pool::InstanceCounts;
pub(crate) use instance_pool::PoolLimits;
pub use request::GuestRequest;
pub(crate) use shared_instances::SharedInstances;
