//! Generates the components that connect a seam that is not fused: stubs and skeletons.
//!
//! ```text
//! caller ──import──► stub ──isomer:link/wire──► host … host ──isomer:link/dispatch──► skeleton ──import──► callee
//!        canonical ABI    image of arguments                 image of arguments                canonical ABI
//! ```
//!
//! A stub is a component that exports the functions that the caller imports. When such a function is called, the
//! canonical ABI writes all arguments into the stub's memory one after the other. These bytes are the *image* that
//! [`isomer_wire::image`] describes, and are sent as they are. On the other side, the image is copied into the memory
//! of a skeleton, to the address that it had in the stub. The skeleton calls the component's function with these
//! arguments. Results are returned in the same way. The host never interprets the values, and there is no codec: both
//! sides are a few kilobytes of code, generated from the types of the functions.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`mod@stub`], [`mod@skeleton`] | the two kinds of generated components: how a call passes through each |
//! | [`writer`] | the functions of a stub |
//! | [`task`] | `async func`s in a stub |
//! | [`check`], [`utf8`] | validation of images |
//! | [`arena`] | the memory of stubs and skeletons: the allocator that makes images, and zeroing |
//! | [`flat`] | conversion between values in memory and flat core values |
//! | [`types`] | the types that cross a seam: structure, layout, flattening |
//! | [`function`] | a function that crosses a seam: the addresses of its arguments and its result |
//! | [`part`] | the component around the core module |
//! | [`probe`] | `isomer:probe`, as this crate's model of interfaces (see the module `probes`) |
//! | [`mod@wire`] | `isomer:link`, as this crate's model of interfaces |
//! | [`module`] | writing a core module |

mod arena;
mod check;
mod flat;
mod function;
pub(crate) mod module;
mod part;
pub(crate) mod probe;
mod skeleton;
mod stub;
mod task;
mod types;
mod utf8;
mod wire;
mod writer;

pub(crate) use function::parameters;
pub(crate) use part::{GeneratedPart, TYPES, function_name};
pub(crate) use skeleton::{DISPATCH_FUNCTIONS, REFUSAL, generate as skeleton};
pub(crate) use stub::generate as stub;
pub(crate) use types::Types;
pub(crate) use wire::{WIRE, wire};
