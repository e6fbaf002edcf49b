//! Identities: of a request, for the logs of this process, and of its trace, for whoever else takes part
//! (W3C Trace Context, level 1, section 3.2).

use std::cell::RefCell;

use http::HeaderValue;
use isomer_runtime::RequestId;

/// A new identity for a request. Its client is told, and cannot derive another one from it.
pub(crate) fn request_id() -> RequestId {
    loop {
        if let Some(id) = RequestId::from_raw(random()) {
            return id;
        }
    }
}

/// The `traceparent` to pass on: the caller's trace with this request as the parent, or a new trace if there is none that is valid.
pub(crate) fn traceparent(incoming: Option<&HeaderValue>, id: RequestId) -> HeaderValue {
    let mut text = [0_u8; LENGTH];
    text[..3].copy_from_slice(b"00-");
    match incoming.and_then(|value| parse(value.as_bytes())) {
        Some((trace, flags)) => {
            text[3..35].copy_from_slice(trace);
            text[53..].copy_from_slice(flags);
        }
        None => {
            hex(random() | 1, &mut text[3..19]);
            hex(random(), &mut text[19..35]);
            text[53..].copy_from_slice(b"00");
        }
    }
    text[35] = b'-';
    hex(id.get(), &mut text[36..52]);
    text[52] = b'-';
    HeaderValue::from_bytes(&text).expect("hexadecimal digits and dashes are a header value")
}

/// `00-<32 trace>-<16 parent>-<2 flags>`.
const LENGTH: usize = 55;

/// Trace id and flags of a valid header.
fn parse(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_hex = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == b'0');
    // Later versions may be longer, and are read as version 00 (section 3.2.4); `ff` is forbidden.
    let long_enough = value.len() == LENGTH || (value.len() > LENGTH && &value[..2] != b"00" && value[LENGTH] == b'-');
    if !long_enough || value[2] != b'-' || value[35] != b'-' || value[52] != b'-' {
        return None;
    }
    let (version, trace, parent, flags) = (&value[..2], &value[3..35], &value[36..52], &value[53..55]);
    let valid = [version, trace, parent, flags].into_iter().all(is_hex) && version != b"ff";
    (valid && !zero(trace) && !zero(parent)).then_some((trace, flags))
}

fn hex(number: u64, out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (index, digit) in out.iter_mut().enumerate() {
        *digit = DIGITS[(number >> (60 - 4 * index) & 0xf) as usize];
    }
}

/// Bytes of the system's generator that a thread takes at once, so that not every request has to ask the kernel.
const BATCH_BYTES: usize = 1024;

/// Random bytes that a thread has not used yet.
struct Batch {
    bytes: [u8; BATCH_BYTES],
    used: usize,
}

/// From the system's generator: cheap, and numbers that were seen say nothing about others.
fn random() -> u64 {
    thread_local! {
        static BATCH: RefCell<Batch> = const { RefCell::new(Batch { bytes: [0; BATCH_BYTES], used: BATCH_BYTES }) };
    }
    BATCH.with_borrow_mut(|batch| {
        if batch.used == BATCH_BYTES {
            getrandom::fill(&mut batch.bytes).expect("the system has random numbers");
            batch.used = 0;
        }
        let bytes = batch.bytes[batch.used..].first_chunk().copied().expect("a batch is a whole number of words");
        batch.used += size_of::<u64>();
        u64::from_ne_bytes(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_trace_is_continued() {
        let id = RequestId::from_raw(0xabc).unwrap();
        let incoming = HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let outgoing = traceparent(Some(&incoming), id);
        assert_eq!(outgoing, "00-0af7651916cd43dd8448eb211c80319c-0000000000000abc-01");
    }

    #[test]
    fn anything_else_starts_a_new_trace() {
        let id = RequestId::from_raw(1).unwrap();
        let zero_trace = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        let zero_parent = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", "0".repeat(16));
        let bad = [
            "",
            "00",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            &zero_trace,
            &zero_parent,
        ];
        for text in bad {
            let outgoing = traceparent(Some(&HeaderValue::from_str(text).unwrap()), id);
            let (trace, flags) = parse(outgoing.as_bytes()).expect("what we send is valid");
            assert_ne!(trace, b"0af7651916cd43dd8448eb211c80319c", "{text}");
            assert_eq!(flags, b"00");
        }
    }

    #[test]
    fn ids_do_not_follow_from_one_another() {
        use std::collections::BTreeSet;
        // More than a batch.
        let ids: Vec<u64> = (0..1000).map(|_| request_id().get()).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        // A generator that steps through a sequence gives its step away, however it mixes it.
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
        let steps: BTreeSet<u64> = ids.windows(2).map(|pair| unmixed(pair[1]).wrapping_sub(unmixed(pair[0]))).collect();
        assert_eq!(steps.len(), ids.len() - 1, "one id gives away the next");
    }

    #[test]
    fn a_later_version_is_read_as_the_first() {
        let later = HeaderValue::from_static("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more");
        let outgoing = traceparent(Some(&later), RequestId::from_raw(1).unwrap());
        assert!(outgoing.to_str().unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    }
}
