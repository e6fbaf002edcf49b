//! The bytes of one frame as they are passed to a connection: a head and a body, which are copied into one buffer only
//! if the body is small.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::response_progress::ResponseGuard;

/// The maximum size in bytes of a body that is copied after its head. Up to this size, writing one piece is cheaper
/// than writing two.
const JOINED_BYTES_MAX: usize = 4 << 10;

/// The bytes of a frame.
#[derive(Debug)]
pub(crate) struct Payload {
    head: Bytes,
    body: Bytes,
    guard: Option<ResponseGuard>,
}

impl Payload {
    /// Creates a frame of a head and `body`. `encode` appends the head, which has `head_bytes` bytes.
    pub(crate) fn new(head_bytes: usize, body: Bytes, encode: impl FnOnce(&mut Vec<u8>)) -> Self {
        let is_joined = body.len() <= JOINED_BYTES_MAX;
        let mut head = Vec::with_capacity(head_bytes + if is_joined { body.len() } else { 0 });
        encode(&mut head);
        if is_joined {
            head.extend_from_slice(&body);
            Self { head: head.into(), body: Bytes::new(), guard: None }
        } else {
            Self { head: head.into(), body, guard: None }
        }
    }

    /// Attaches `guard`, which is dropped when the frame is written or discarded.
    pub(crate) fn with(self, guard: ResponseGuard) -> Self {
        Self { guard: Some(guard), ..self }
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.head.len() + self.body.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.head.is_empty() { &self.body } else { &self.head }
    }

    fn advance(&mut self, count: usize) {
        let of_head = count.min(self.head.len());
        self.head.advance(of_head);
        self.body.advance(count - of_head);
        if let Some(guard) = &self.guard {
            guard.add_written(count);
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = [&self.head, &self.body];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        slices.iter_mut().zip(parts).map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }
}
