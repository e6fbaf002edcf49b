//! A call that crosses a seam, and its result.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use isomer_ids::PlanDigest;

use crate::failure::CallFailure;
use crate::function::FunctionKey;

/// The context of a call. Calls that the callee makes inherit it.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The time at which the call fails if it has no result. On the wire, the remaining time is sent instead.
    pub deadline: Instant,
    /// The id of the request that the call belongs to, as it is logged; never 0.
    pub request: u64,
    /// The W3C trace context (`traceparent`), validated where the request arrived.
    pub traceparent: Option<Arc<str>>,
    /// The digest of the plan that the caller was started with. All calls of a request must use the same plan.
    pub plan: PlanDigest,
}

/// A call across a seam.
#[derive(Debug, Clone)]
pub struct Call {
    /// The key of the function to call.
    pub function: FunctionKey,
    /// The deadline, the request, the trace and the plan of the call.
    pub context: CallContext,
    /// Whether the function is idempotent. If not, a lost call that may have run is not repeated. Only the caller knows
    /// this value; it is not sent.
    pub is_idempotent: bool,
    /// The image of the arguments: the bytes that they occupy in the memory of a component.
    pub image: Vec<u8>,
}

/// The image of a call's result, or the reason why the call failed.
pub type CallResult = Result<Vec<u8>, CallFailure>;

/// Executes calls, in a group of this process or by sending them to a peer. Dropping the future cancels the call.
pub trait Callee: Send + Sync + 'static {
    /// Executes the call and returns its result. Returns at the call's deadline at the latest.
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = CallResult> + Send>>;
}
