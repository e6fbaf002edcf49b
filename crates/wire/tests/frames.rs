//! Tests of frames: parsing reverses encoding, in whatever pieces the frame arrives; the error names the invalid field;
//! no input makes a reader panic or exceed its limits. `ISOMER_LONG=1` runs a hundred times as many random frames.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::{Duration, Instant};

use isomer_ids::PlanDigest;
use isomer_wire::frame::{FrameHead, REASON_BYTES_MAX, REMAINING_US_MAX};
use isomer_wire::image::IMAGE_BYTES_MAX;
use isomer_wire::{
    Call, CallContext, CallError, CallFailure, CallHead, CallResult, FrameError, FrameReader, FunctionKey, ReplyHead,
    ReplyStatus,
};
use proptest::prelude::*;

const LIMIT: usize = 1 << 20;

fn request() -> CallHead {
    CallHead {
        function: FunctionKey([1; 16]),
        remaining: Duration::from_micros(1_234_567),
        request: 42,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        plan: PlanDigest([2; 16]),
        image_bytes: 5,
    }
}

fn encoded(request: &CallHead, image: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    request.encode(&mut frame).unwrap();
    assert_eq!(frame.len(), request.head_bytes());
    frame.extend_from_slice(image);
    frame
}

fn frame() -> Vec<u8> {
    encoded(&request(), b"image")
}

fn read<H: FrameHead>(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<(H, Vec<u8>), FrameError> {
    let mut reader = FrameReader::new(LIMIT);
    for piece in pieces {
        reader.push(piece.as_ref())?;
    }
    reader.finish()
}

fn replied(answer: CallResult) -> Vec<u8> {
    let (reply, body) = ReplyHead::of(answer);
    [&reply.encode()[..], &body].concat()
}

fn answered(frame: &[u8]) -> Result<CallResult, FrameError> {
    let (reply, body) = read::<ReplyHead>([frame])?;
    reply.into_result(body)
}

prop_compose! {
    fn requests()(
        function in any::<[u8; 16]>(), us in 0..=REMAINING_US_MAX, request in 1..=u64::MAX,
        traceparent in proptest::option::of("[!-~]{1,128}"),
        plan in any::<[u8; 16]>(), image in prop::collection::vec(any::<u8>(), 0..300),
    ) -> (CallHead, Vec<u8>) {
        let remaining = Duration::from_micros(us);
        let traceparent = traceparent.map(Into::into);
        let function = FunctionKey(function);
        let image_bytes = image.len() as u32;
        (CallHead { function, remaining, request, traceparent, plan: PlanDigest(plan), image_bytes }, image)
    }
}

fn answers() -> impl Strategy<Value = CallResult> {
    let errors = proptest::sample::select(vec![
        CallError::Unreachable,
        CallError::Deadline,
        CallError::Overloaded,
        CallError::Refused,
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Ok),
        (".{0,100}", proptest::option::of(errors.clone()))
            .prop_map(|(reason, lost)| Err(CallFailure::Trap { reason, lost })),
        (errors, ".{0,100}", any::<bool>()).prop_map(|(error, reason, not_run)| Err(CallFailure::Lost {
            error,
            reason,
            not_run
        })),
    ]
}

proptest! {
    #[test]
    fn calls_are_parsed_in_any_pieces((request, image) in requests(), size in 1_usize..200) {
        let frame = encoded(&request, &image);
        let got = read::<CallHead>(frame.chunks(size)).unwrap();
        prop_assert_eq!(got, (request, image));
    }

    #[test]
    fn replies_are_parsed_in_any_pieces(answer in answers(), size in 1_usize..200) {
        let frame = replied(answer.clone());
        let (reply, body) = read::<ReplyHead>(frame.chunks(size)).unwrap();
        prop_assert_eq!(reply.into_result(body).unwrap(), answer);
    }

    #[test]
    fn a_truncated_call_is_not_a_frame((request, image) in requests(), cut in any::<prop::sample::Index>()) {
        let frame = encoded(&request, &image);
        let part = &frame[..cut.index(frame.len())];
        let field = if part.len() < request.head_bytes() { "head" } else { "image" };
        match read::<CallHead>([part]) {
            Err(FrameError::Truncated { field: found, missing }) => {
                prop_assert_eq!(found, field);
                prop_assert!(missing > 0 && missing <= frame.len() - part.len());
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

/// Each field of a call's head has the offset that is documented in `docs/reference/wire.md`.
#[test]
fn the_layout_of_a_call_is_as_documented() {
    let frame = frame();
    assert_eq!(frame[0], 2, "version");
    assert_eq!(frame[1], 0, "flags");
    assert_eq!(frame[2..4], 55_u16.to_le_bytes(), "the size of the trace context");
    assert_eq!(frame[4..8], 5_u32.to_le_bytes(), "the size of the image");
    assert_eq!(frame[8..16], 1_234_567_u64.to_le_bytes(), "the remaining time in µs");
    assert_eq!(frame[16..32], [1; 16], "function");
    assert_eq!(frame[32..48], [2; 16], "plan");
    assert_eq!(frame[48..56], 42_u64.to_le_bytes(), "request");
    assert_eq!(&frame[56..111], b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(&frame[111..], b"image");
}

#[test]
fn the_layout_of_a_reply_is_as_documented() {
    assert_eq!(replied(Ok(b"image".to_vec())), b"\x02\x00\x00\x00\x05\x00\x00\x00image");
    assert_eq!(replied(Err(CallFailure::trap("oh"))), b"\x02\x01\x00\x00\x02\x00\x00\x00oh");
    let lost = Some(CallError::Refused);
    assert_eq!(replied(Err(CallFailure::Trap { reason: "oh".into(), lost })), b"\x02\x01\x04\x00\x02\x00\x00\x00oh");
    assert_eq!(replied(Err(CallFailure::overloaded("no"))), b"\x02\x02\x03\x01\x02\x00\x00\x00no");
    assert_eq!(replied(Err(CallFailure::deadline("no"))), b"\x02\x02\x02\x00\x02\x00\x00\x00no");
}

#[test]
fn each_invalid_field_of_a_call_is_named() {
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = frame();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        read::<CallHead>([frame]).unwrap_err()
    };
    assert_eq!(with(0, &[3]), FrameError::Version { found: 3 });
    assert_eq!(with(0, &[1]), FrameError::Version { found: 1 });
    assert_eq!(with(1, &[1]), FrameError::Flags { found: 1 });
    assert_eq!(with(2, &[129]), FrameError::TraceparentTooLong { bytes: 129 });
    assert_eq!(with(3, &[1]), FrameError::TraceparentTooLong { bytes: 256 + 55 });
    let too_large = (LIMIT as u32 + 1).to_le_bytes();
    assert_eq!(with(4, &too_large), FrameError::ImageTooLarge { bytes: LIMIT + 1, bytes_max: LIMIT });
    assert_eq!(with(4, &[0xff; 4]), FrameError::ImageTooLarge { bytes: u32::MAX as usize, bytes_max: LIMIT });
    assert_eq!(with(8, &[0xff; 8]), FrameError::Remaining { us: u64::MAX });
    assert_eq!(with(48, &[0; 8]), FrameError::Request);
    assert_eq!(with(56, b" "), FrameError::Traceparent);
    assert_eq!(with(64, b"\xff"), FrameError::Traceparent);
    assert_eq!(with(4, &4_u32.to_le_bytes()), FrameError::Trailing { bytes: 1 });
    assert_eq!(with(4, &6_u32.to_le_bytes()), FrameError::Truncated { field: "image", missing: 1 });
    // A frame of another version is refused after its first byte.
    assert_eq!(read::<CallHead>([[9]]).unwrap_err(), FrameError::Version { found: 9 });
    let nothing = read::<CallHead>([[]; 0]).unwrap_err();
    assert_eq!(nothing, FrameError::Truncated { field: "head", missing: 56 });
}

#[test]
fn each_invalid_field_of_a_reply_is_named() {
    let refused = |head: [u8; 4], bytes: u32| answered(&[&head[..], &bytes.to_le_bytes()].concat()).unwrap_err();
    assert_eq!(refused([3, 0, 0, 0], 0), FrameError::Version { found: 3 });
    assert_eq!(refused([2, 3, 0, 0], 0), FrameError::Status { found: 3 });
    assert_eq!(refused([2, 0, 1, 0], 0), FrameError::Error { found: 1 });
    assert_eq!(refused([2, 1, 5, 0], 0), FrameError::Error { found: 5 });
    assert_eq!(refused([2, 2, 5, 0], 0), FrameError::Error { found: 5 });
    assert_eq!(refused([2, 2, 0, 0], 0), FrameError::Error { found: 0 });
    assert_eq!(refused([2, 0, 0, 1], 0), FrameError::NotRun { found: 1 });
    assert_eq!(refused([2, 1, 1, 1], 0), FrameError::NotRun { found: 1 });
    assert_eq!(refused([2, 2, 1, 2], 0), FrameError::NotRun { found: 2 });
    let too_long = REASON_BYTES_MAX + 1;
    assert_eq!(refused([2, 1, 0, 0], too_long as u32), FrameError::ReasonTooLong { bytes: too_long });
    assert_eq!(refused([2, 2, 1, 0], u32::MAX), FrameError::ReasonTooLong { bytes: u32::MAX as usize });
    let too_large = FrameError::ImageTooLarge { bytes: u32::MAX as usize, bytes_max: LIMIT };
    assert_eq!(refused([2, 0, 0, 0], u32::MAX), too_large);
    assert_eq!(refused([2, 1, 0, 0], 7), FrameError::Truncated { field: "reason", missing: 7 });
    assert_eq!(answered(b"\x02\x01\x00\x00\x01\x00\x00\x00\xff").unwrap_err(), FrameError::Reason);
    assert_eq!(answered(b"\x02\x00\x00\x00\x01\x00\x00\x00ab").unwrap_err(), FrameError::Trailing { bytes: 1 });
}

#[test]
fn calls_that_would_be_refused_are_not_sent() {
    let now = Instant::now();
    let context = CallContext {
        deadline: now + Duration::from_secs(1 << 20),
        request: 1,
        traceparent: None,
        plan: PlanDigest([0; 16]),
    };
    let call = Call { function: FunctionKey([0; 16]), context, is_idempotent: false, image: Vec::new() };
    // A remaining time of more than a day is reduced to a day.
    assert_eq!(CallHead::of(&call, now).unwrap().remaining, Duration::from_micros(REMAINING_US_MAX));
    let with = |change: &dyn Fn(&mut Call)| {
        let mut changed = call.clone();
        change(&mut changed);
        CallHead::of(&changed, now).unwrap_err()
    };
    assert_eq!(with(&|call| call.context.request = 0), FrameError::Request);
    let long: String = "t".repeat(129);
    assert_eq!(
        with(&|call| call.context.traceparent = Some(long.as_str().into())),
        FrameError::TraceparentTooLong { bytes: 129 }
    );
    assert_eq!(with(&|call| call.context.traceparent = Some("é".into())), FrameError::Traceparent);
    let bytes = IMAGE_BYTES_MAX as usize + 1;
    let too_large = FrameError::ImageTooLarge { bytes, bytes_max: IMAGE_BYTES_MAX as usize };
    assert_eq!(with(&|call| call.image = vec![0; bytes]), too_large);
    let mut request = request();
    request.remaining = Duration::MAX;
    let mut frame = vec![7];
    assert_eq!(request.encode(&mut frame), Err(FrameError::Remaining { us: u64::MAX }));
    assert_eq!(frame, [7]);
}

#[test]
fn long_reasons_are_cut_between_characters() {
    let reason = "é".repeat(REASON_BYTES_MAX);
    match answered(&replied(Err(CallFailure::trap(reason.clone())))).unwrap() {
        Err(CallFailure::Trap { reason: cut, .. }) => {
            assert!(cut.len() == REASON_BYTES_MAX && reason.starts_with(&cut))
        }
        other => panic!("{other:?}"),
    }
    let odd = format!("a{reason}");
    match answered(&replied(Err(CallFailure::overloaded(odd)))).unwrap() {
        Err(CallFailure::Lost { reason, .. }) => assert_eq!(reason.len(), REASON_BYTES_MAX - 1),
        other => panic!("{other:?}"),
    }
    match answered(&replied(Ok(vec![0; IMAGE_BYTES_MAX as usize + 1]))).unwrap() {
        Err(CallFailure::Lost { error, not_run, .. }) => assert_eq!((error, not_run), (CallError::Refused, false)),
        other => panic!("{other:?}"),
    }
}

/// A random number generator (SplitMix64). A failed test can be reproduced with its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Returns `frame` with some bytes changed, cut, repeated or inserted; or random bytes.
    fn mangled(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.below(4) {
            let at = self.below(frame.len());
            match self.below(6) {
                0 if !frame.is_empty() => frame[at] ^= 1 << self.below(8),
                1 if !frame.is_empty() => frame[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                2 => frame.truncate(at),
                3 => frame.splice(at..at, vec![self.next() as u8; 1 + self.below(9)]).for_each(drop),
                4 => frame.extend_from_within(at..),
                5 if self.below(8) == 0 => {
                    let size = self.below(300);
                    frame = (0..size).map(|_| self.next() as u8).collect();
                }
                _ => {}
            }
        }
        frame
    }
}

/// Parses a frame in random pieces, and checks that the reader ends and never holds more than the body's limit.
fn survives<H: FrameHead>(random: &mut Random, frame: &[u8]) -> Option<(H, Vec<u8>)> {
    let mut reader = FrameReader::<H>::new(LIMIT);
    let mut rest = frame;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + random.below(rest.len()));
        reader.push(piece).ok()?;
        rest = after;
    }
    let (head, body) = reader.finish().ok()?;
    assert!(body.len() == head.body_bytes() && body.len() <= LIMIT);
    assert!(body.capacity() <= frame.len().max(1 << 20) * 2);
    Some((head, body))
}

#[test]
fn random_frames_are_frames_or_errors() {
    let is_long = std::env::var_os("ISOMER_LONG").is_some();
    let rounds = if is_long { 5_000_000 } else { 50_000 };
    let seed = std::env::var("ISOMER_SEED").ok().and_then(|seed| seed.parse().ok());
    let first: u64 = seed.unwrap_or(0x1507_2026);
    let mut taken = 0;
    for seed in first..first + if seed.is_some() { 1 } else { rounds } {
        let outcome = std::panic::catch_unwind(|| {
            let mut random = Random(seed);
            let bytes = random.mangled(frame());
            let mut is_taken = false;
            if let Some((head, body)) = survives::<CallHead>(&mut random, &bytes) {
                // The reader accepts only frames that the encoder could have produced.
                assert_eq!(encoded(&head, &body), bytes);
                is_taken = true;
            }
            let reason = CallFailure::unreachable("gone for good", seed.is_multiple_of(2));
            let answer = if seed.is_multiple_of(3) { Ok(b"image".to_vec()) } else { Err(reason) };
            let bytes = random.mangled(replied(answer));
            if let Some((head, body)) = survives::<ReplyHead>(&mut random, &bytes) {
                assert_eq!([&head.encode()[..], &body].concat(), bytes);
                assert!(head.status == ReplyStatus::Ok || body.len() <= REASON_BYTES_MAX);
                let _ = head.into_result(body);
                is_taken = true;
            }
            is_taken
        });
        taken += usize::from(outcome.unwrap_or_else(|_| panic!("replay with ISOMER_SEED={seed}")));
    }
    // If all frames consisted of random bytes, the first byte of each would be refused, and no other byte would be
    // tested. So enough frames must have been accepted.
    assert!(seed.is_some() || taken > 1000, "{taken}");
}
