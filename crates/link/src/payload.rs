//! The bytes of one frame on their way into a connection: its head and its body, without joining what is large.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::writing::OnItsWay;

/// Bodies up to this many bytes are copied behind their head: one piece is cheaper than two.
const JOINED_BYTES_MAX: usize = 4 << 10;

/// A frame's bytes.
#[derive(Debug)]
pub(crate) struct Payload {
    head: Bytes,
    body: Bytes,
    on_its_way: Option<OnItsWay>,
}

impl Payload {
    /// A frame of `body` behind what `encode` writes, which has `head_bytes`.
    pub(crate) fn new(head_bytes: usize, body: Bytes, encode: impl FnOnce(&mut Vec<u8>)) -> Self {
        let is_joined = body.len() <= JOINED_BYTES_MAX;
        let mut head = Vec::with_capacity(head_bytes + if is_joined { body.len() } else { 0 });
        encode(&mut head);
        if is_joined {
            head.extend_from_slice(&body);
            Self { head: head.into(), body: Bytes::new(), on_its_way: None }
        } else {
            Self { head: head.into(), body, on_its_way: None }
        }
    }

    /// The same, and `on_its_way` with it until it is written or thrown away.
    pub(crate) fn with(self, on_its_way: OnItsWay) -> Self {
        Self { on_its_way: Some(on_its_way), ..self }
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
        if let Some(on_its_way) = &self.on_its_way {
            on_its_way.wrote(count);
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = [&self.head, &self.body];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        slices.iter_mut().zip(parts).map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }
}
