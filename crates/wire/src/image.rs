//! The image of a call: its arguments, or its result, as they lie in memory by the canonical ABI.
//!
//! An image begins at [`BASE`] in the memory of the stub or skeleton that made it and is lowered to the same address on the
//! other side, so pointers in it are right without anybody having looked at them. At its *root* lies the tuple of the function's
//! parameters (or its result), and behind it the blocks that it points to: strings and lists, in the order in which the
//! canonical ABI lowers them (depth first), without overlap.
//!
//! | what | root | blocks |
//! | --- | --- | --- |
//! | parameters that flatten to at most 16 core values | [`BASE`] | from [`BLOCKS`] |
//! | more parameters (the canonical ABI spills them) | [`BLOCKS`] | behind the root |
//! | a result | [`BASE`] | behind the root |
//!
//! An image without blocks ends with its root; a function without parameters, or without a result, has an empty one.

/// The version of everything here; part of every function's key, so sides of different versions never meet.
pub const VERSION: u8 = 1;

/// Where images begin. What lies below is scratch of the generated code. A multiple of 16.
pub const BASE: u32 = 64;

/// Where the blocks of unspilled parameters begin: 16 flattened values of 8 bytes behind [`BASE`].
pub const BLOCKS: u32 = BASE + 128;

/// The most bytes of one image. The generated code's arena ends here: lowering more traps.
pub const IMAGE_BYTES_MAX: u32 = 16 << 20;
