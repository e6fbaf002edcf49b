//! Passes requests and calls to instances, and their responses and results back.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `request` | a request on its way to a guest |
//! | `exchange` | one request in one instance: calling the handler, the deadline, interpreting the outcome |
//! | `body` | the body of the response, which drives the rest of the guest's work while it is read |
//! | `instance_pool` | which instance serves a request, how many there may be, when one is dropped |
//! | `exclusive` | requests and calls that each have their own instance |
//! | `shared_instances`, `shared_instance`, `in_flight_requests` | several requests at once in one instance (`concurrency = N`): the pool, the task of one instance, its state |
//! | `waiting` | the count of requests that wait for an instance |

mod body;
mod exchange;
mod exclusive;
mod in_flight_requests;
mod instance_pool;
mod request;
mod shared_instance;
mod shared_instances;
mod waiting;

pub use body::ResponseBody;
pub(crate) use exclusive::ExclusiveInstances;
pub(crate) use instance_pool::PoolLimits;
pub use request::GuestRequest;
pub(crate) use shared_instances::SharedInstances;
