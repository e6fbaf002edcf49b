//! The host's state of one running instance: the data of its wasmtime store.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `data` | [`Guest`], the data itself |
//! | `template` | the data that all instances of a group share, and the grants of each component |
//! | `memory_limiter`, `host_credit` | the memory of an instance, and the host memory for the instance |
//! | `handles`, `tasks` | the host memory for handles, tasks and streams |
//! | `scope`, `signals` | the current request: its identity, its deadline, its response |
//! | `concurrent_requests`, `call_origin` | the requests that an instance serves at the same time; for which of them the guest calls a host function |
//! | `probed_calls`, `fused_calls` | calls over fused seams in a probed composition, until they end; their spans and metrics |
//! | `in_flight_calls`, `call_results` | calls across seams, from their start until the guest takes their results |
//! | `provider_states` | what capabilities keep for the instance |
//! | [`output`], [`denials`] | what guests print, and which accesses they were denied |
//! | `outbound_hooks`, `outbound_span` | outgoing HTTP requests, as wasmtime's implementation sends them; their spans |

mod call_origin;
mod call_results;
mod concurrent_requests;
mod data;
pub mod denials;
mod fused_calls;
mod handles;
mod host_credit;
pub(crate) mod in_flight_calls;
mod memory_limiter;
mod outbound_hooks;
mod outbound_span;
pub mod output;
mod probed_calls;
mod provider_states;
pub(crate) mod scope;
pub(crate) mod signals;
pub(crate) mod tasks;
mod template;

pub(crate) use call_origin::{CallOrigin, attribute_output};
pub use call_origin::{current_request, current_span};
pub(crate) use call_results::PendingResult;
pub(crate) use concurrent_requests::ConcurrentRequest;
pub use data::Guest;
pub(crate) use data::owner_context;
pub use denials::Denials;
pub(crate) use fused_calls::{StartingCall, end_fused_call};
pub(crate) use handles::{FIELD_BYTES, FIELDS_BYTES_MAX, HANDLE_BYTES, fields_bytes};
pub(crate) use in_flight_calls::InFlightCalls;
pub use scope::GroupFunction;
pub(crate) use scope::{CallableGroups, GroupsInUse, RequestScope, TimeLimit};
pub(crate) use signals::ResponseSignals;
pub(crate) use template::GroupTemplate;
pub use template::{Outbound, Outgoing, OwnerSettings};

pub use crate::folders::Directory;
