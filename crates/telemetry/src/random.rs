//! Random numbers for the ids of requests, traces and spans.

use std::cell::RefCell;

/// The number of bytes that a thread requests from the system's generator in one call. Most requests then make no
/// system call for their ids.
const BATCH_BYTES: usize = 1024;

/// Random bytes of one thread. The first `used` bytes were already returned.
struct Batch {
    bytes: [u8; BATCH_BYTES],
    used: usize,
}

/// Returns a number from the system's generator. The call is cheap, and the number cannot be predicted from earlier
/// ones.
pub(crate) fn random_u64() -> u64 {
    thread_local! {
        static BATCH: RefCell<Batch> = const { RefCell::new(Batch { bytes: [0; BATCH_BYTES], used: BATCH_BYTES }) };
    }
    BATCH.with_borrow_mut(|batch| {
        if batch.used == BATCH_BYTES {
            getrandom::fill(&mut batch.bytes).expect("the system has random numbers");
            batch.used = 0;
        }
        let bytes = batch.bytes[batch.used..].first_chunk().copied().expect("the batch size is a multiple of 8 bytes");
        batch.used += size_of::<u64>();
        u64::from_ne_bytes(bytes)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_cannot_be_derived_from_earlier_ones() {
        // 1000 numbers need several batches.
        let numbers: Vec<u64> = (0..1000).map(|_| random_u64()).collect();
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len());
        // If the numbers came from SplitMix64, the next one could be predicted: this generator adds a constant to its
        // state for each number, and mixes the bits of the state. Undoing the mixing reveals the constant, which is the
        // difference of two consecutive states.
        let unmixed = |mixed: u64| {
            let inverse = |mut z: u64, shift: u32| {
                let seen = z;
                for _ in 0..64 / shift {
                    z = seen ^ (z >> shift);
                }
                z
            };
            let z = inverse(mixed, 31).wrapping_mul(0x3196_42b2_d24d_8ec3);
            inverse(inverse(z, 27).wrapping_mul(0x96de_1b17_3f11_9089), 30)
        };
        let steps: BTreeSet<u64> =
            numbers.windows(2).map(|pair| unmixed(pair[1]).wrapping_sub(unmixed(pair[0]))).collect();
        assert_eq!(steps.len(), numbers.len() - 1, "the difference of two numbers predicts the next one");
    }
}
