//! The data that crosses a seam that is not fused: calls with their context and image, their results and failures.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`image`] | the layout of an image: its address and its maximum size |
//! | [`function`] | the keys of functions |
//! | [`call`] | a call with its context, and the trait of everything that executes calls |
//! | [`failure`] | the failures of calls |
//! | [`frame`] | frames on a network: limits, errors, parsing in pieces |
//! | `call_head`, `reply_head` | the heads of the two kinds of frames |
//!
//! This crate contains only types and rules: no engine, no socket, no clock. Generated code (`seam`), the engine's side
//! (`runtime`) and transports (`link`) share the definitions of this crate.
#![forbid(unsafe_code)]

pub mod call;
mod call_head;
pub mod failure;
pub mod frame;
pub mod function;
pub mod image;
mod reply_head;

pub use call::{Call, CallContext, CallResult, Callee};
pub use call_head::CallHead;
pub use failure::{CallError, CallFailure};
pub use frame::{FrameError, FrameReader};
pub use function::FunctionKey;
pub use reply_head::{ReplyHead, ReplyStatus};
