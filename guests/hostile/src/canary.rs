//! Leaves a pattern in memory, and searches memory for the pattern that another guest may have left.

use core::arch::wasm32::{memory_grow, memory_size};
use std::hint::black_box;

use guest_support::{HandlerResult, respond};

const PAGE_BYTES: usize = 64 * 1024;

/// The pattern with every bit inverted, so that no component's data contains the pattern itself.
const INVERTED: [u8; 16] =
    [0x8c, 0x96, 0x91, 0x9b, 0x96, 0x91, 0x98, 0xdf, 0x8b, 0x97, 0x96, 0x8c, 0xdf, 0x9d, 0x9e, 0x9b];

/// Returns the pattern. It is computed, so that it is not stored in the component.
pub fn pattern() -> [u8; 16] {
    black_box(INVERTED).map(|byte| !byte)
}

/// Returns the pattern as hexadecimal digits, for keys, file names and log lines.
pub fn mark() -> String {
    pattern().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fills `bytes` of memory and a part of the stack with the pattern. The memory stays allocated.
pub fn stain(bytes: usize) {
    let pattern = pattern();
    let block: Vec<u8> = pattern.iter().copied().cycle().take(bytes).collect();
    black_box(block.leak());
    stain_stack(64, pattern);
}

#[inline(never)]
fn stain_stack(depth: u32, pattern: [u8; 16]) {
    let frame = black_box([pattern; 16]);
    if depth > 0 {
        stain_stack(depth - 1, pattern);
    }
    black_box(frame);
}

/// Grows the memory by at most `bytes` and reads all memory. Responds with `found=N`, the number of words that are a
/// part of the pattern, and `dirty=N`, the number of words that are not zero in the memory that was added.
pub fn look(bytes: usize) -> HandlerResult {
    let before = memory_size::<0>() * PAGE_BYTES;
    // If growing by `bytes` is refused, the memory grows by less.
    let mut pages = bytes / PAGE_BYTES;
    while pages > 0 && memory_grow::<0>(pages) == usize::MAX {
        pages /= 2;
    }
    let end = memory_size::<0>() * PAGE_BYTES;
    // The comparison inverts each word and not the pattern. Otherwise the search would find its own copy of the
    // pattern.
    let pattern = u128::from_ne_bytes(INVERTED);
    let (mut found, mut dirty) = (0_u64, 0_u64);
    for address in (0..end).step_by(8) {
        let word = read(address);
        if word == 0 {
            continue;
        }
        dirty += u64::from(address >= before);
        // The pattern may be at any offset, so each word is compared with all rotations of the pattern.
        let is_pattern = (0..16).any(|bytes| pattern.rotate_right(8 * bytes) as u64 == !word);
        found += u64::from(is_pattern);
    }
    respond(200, format!("found={found} dirty={dirty} grown={}\n", end - before))
}

/// Reads eight bytes of this instance's own memory.
#[inline(always)]
fn read(address: usize) -> u64 {
    // SAFETY: every aligned word below `memory.size` can be read, and any bytes are a valid `u64`. No other code writes
    // at the same time, because there is only one thread.
    unsafe { core::ptr::with_exposed_provenance::<u64>(address).read_volatile() }
}
