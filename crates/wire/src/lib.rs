//! What crosses a seam that is not fused: who is called, in what context, with which image, and how it can fail.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`image`] | the layout of an image: where it begins, how large it may be |
//! | [`function`] | how both sides name a function |
//! | [`call`] | a call with its context, and the trait of whatever answers calls |
//! | [`failure`] | why a call has no answer |
//! | [`frame`] | both kinds of frame on a network: limits, errors, reading in pieces |
//! | [`request`], [`reply`] | the heads of the two |
//!
//! Types and rules only: no engine, no socket, no clock. Generated code (`seam`), the engine's room (`runtime`) and transports
//! (`link`) agree here.
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
