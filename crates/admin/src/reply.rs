//! The future result of an operation, which all interfaces of this crate share.

use futures::future::BoxFuture;
use isomer_api::ApiProblem;

/// The future result of an operation. The operation must not start before the first poll, so that the audit log can
/// record the start of the operation before it happens. Dropping the future after the first poll, for example because
/// the client disconnects, must not cancel the operation.
pub type AdminReply<T> = BoxFuture<'static, Result<T, ApiProblem>>;
