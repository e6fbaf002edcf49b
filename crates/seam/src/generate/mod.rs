//! Generated parts of seams that are not fused: stubs and skeletons.
//!
//! ```text
//! caller ──import──► stub ──isomer:link/wire──► host … host ──isomer:link/dispatch──► skeleton ──import──► callee
//!        canonical ABI    image of arguments                 image of arguments                canonical ABI
//! ```
//!
//! The host never walks values. A stub is a component that exports what the caller imports; when it is called, the canonical
//! ABI lays all arguments into its memory one behind the other, as the *image* that [`isomer_wire::image`] describes. The
//! image is the message. On the other side it is lowered to the same address in the memory of a skeleton, which calls the
//! component's function with it. Results go the same way back. No codec: both sides are a few kilobytes of code, made from the types
//! of the functions.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`stub`], [`skeleton`] | the two kinds of parts: the way of a call through each |
//! | [`task`] | the stub's way of an `async func` |
//! | [`check`], [`utf8`] | is this an image? |
//! | [`arena`] | their memory: the allocator that makes images, and zeroing |
//! | [`flat`] | values in memory ⇄ the flat core values that functions take and give |
//! | [`types`] | the types that cross: structure, layout, flattening |
//! | [`function`] | one function that crosses: where its arguments and its result lie |
//! | [`part`] | the component around the core module |
//! | [`wire`] | `isomer:link`, as this crate's model of interfaces |
//! | [`module`] | writing a core module |

mod arena;
mod check;
mod flat;
mod function;
mod module;
mod part;
mod skeleton;
mod stub;
mod task;
mod types;
mod utf8;
mod wire;
mod writer;

pub(crate) use part::{GeneratedPart, TYPES, function_name};
pub(crate) use skeleton::{DISPATCH_FUNCTIONS, REFUSAL, generate as skeleton};
pub(crate) use stub::generate as stub;
pub(crate) use wire::{WIRE, wire};
