//! The image of a call: its arguments or its result, encoded in the memory layout of the canonical ABI.
//!
//! An image begins at [`BASE`] in the memory of the stub or skeleton that made it. It is copied to the same address on
//! the other side, so its pointers are valid without being rewritten. The *root* is the tuple of the function's
//! parameters (or its result). The root is followed by the blocks that it points to: strings and lists, in the order in
//! which the canonical ABI lowers them (depth first), without overlap.
//!
//! | what | root | blocks |
//! | --- | --- | --- |
//! | parameters that flatten to at most 16 core values | [`BASE`] | from [`BLOCKS`] |
//! | more parameters (the canonical ABI spills them) | [`BLOCKS`] | after the root |
//! | a result | [`BASE`] | after the root |
//!
//! An image without blocks ends with its root. If a function has no parameters, the image of its arguments is empty; if
//! it has no result, the image of its result is empty.

/// The version of the image layout. Every function's key depends on it, so sides with different versions cannot call
/// each other.
pub const VERSION: u8 = 1;

/// The address at which images begin, a multiple of 16. Generated code uses the memory below this address as scratch
/// space.
pub const BASE: u32 = 64;

/// The address at which the blocks of an image begin (the strings and lists that the parameters point to) if the
/// parameters flatten to at most 16 core values. Between [`BASE`] and this address, there is room for 16 flat values of
/// 8 bytes each.
pub const BLOCKS: u32 = BASE + 128;

/// The maximum size of an image in bytes. Generated code traps if it would write a larger image.
pub const IMAGE_BYTES_MAX: u32 = 16 << 20;
