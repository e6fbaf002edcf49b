//! A call that crosses a seam, and what answers it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use isomer_ids::PlanDigest;

use crate::failure::CallFailure;
use crate::function::FunctionKey;

/// What goes with a call along the whole chain.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// When the answer must be there. On the wire it is the time that is left.
    pub deadline: Instant,
    /// The request that all this is about, as in the log; never 0.
    pub request: u64,
    /// The W3C trace context (`traceparent`), checked by whoever took the request in.
    pub traceparent: Option<Arc<str>>,
    /// The digest of the plan that the caller was started with. One request stays inside one plan.
    pub plan: PlanDigest,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which function.
    pub function: FunctionKey,
    /// Its context.
    pub context: CallContext,
    /// Whether it may run more than once, so that it is sent again where it was lost and may have run. The caller's own knowledge: a callee
    /// is not told.
    pub is_idempotent: bool,
    /// Its arguments.
    pub image: Vec<u8>,
}

/// The image of a call's result, or why there is none.
pub type CallResult = Result<Vec<u8>, CallFailure>;

/// Answers calls: a group in this process, or a peer behind a network. Dropping the future cancels the call.
pub trait Callee: Send + Sync + 'static {
    /// Makes the call. It ends by its deadline, whatever happens.
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = CallResult> + Send>>;
}
