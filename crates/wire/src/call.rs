//! A call that crosses a seam, and its result.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use isomer_ids::PlanDigest;

use crate::failure::CallFailure;
use crate::function::FunctionKey;

/// The context of a call, which its own calls inherit.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The deadline of the result. On the wire, the remaining time is sent instead.
    pub deadline: Instant,
    /// The id of the request that the call belongs to, as in the log; never 0.
    pub request: u64,
    /// The W3C trace context (`traceparent`), validated where the request came in.
    pub traceparent: Option<Arc<str>>,
    /// The digest of the plan that the caller was started with. All calls of a request stay inside one plan.
    pub plan: PlanDigest,
}

/// A call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The function to call.
    pub function: FunctionKey,
    /// The context.
    pub context: CallContext,
    /// Whether the function is idempotent. If not, a lost call that may have run is not repeated. Known only to the
    /// caller, not sent.
    pub is_idempotent: bool,
    /// The image of the arguments.
    pub image: Vec<u8>,
}

/// The image of a call's result, or the failure.
pub type CallResult = Result<Vec<u8>, CallFailure>;

/// Executes calls: a group in this process, or a peer on a network. Dropping the future cancels the call.
pub trait Callee: Send + Sync + 'static {
    /// Executes the call. Always ends by the call's deadline.
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = CallResult> + Send>>;
}
