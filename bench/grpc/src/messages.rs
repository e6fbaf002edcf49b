//! The protobuf messages, written as prost would generate them from a `.proto` file.

use isomer_bench_workload::{Digest, answers};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AddRequest {
    #[prost(uint32, tag = "1")]
    pub a: u32,
    #[prost(uint32, tag = "2")]
    pub b: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AddReply {
    #[prost(uint32, tag = "1")]
    pub sum: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Bytes {
    #[prost(bytes = "vec", tag = "1")]
    pub bytes: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LookupRequest {
    #[prost(string, tag = "1")]
    pub key: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Item {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(uint32, tag = "3")]
    pub price_cents: u32,
    #[prost(string, repeated, tag = "4")]
    pub tags: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AllRequest {
    #[prost(uint32, tag = "1")]
    pub count: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Items {
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<Item>,
}

impl From<answers::Item> for Item {
    fn from(answers::Item { id, name, price_cents, tags }: answers::Item) -> Self {
        Self { id, name, price_cents, tags }
    }
}

impl Item {
    pub(crate) fn add_to(&self, digest: &mut Digest) {
        digest.item(self.id, &self.name, self.price_cents, self.tags.iter().map(String::as_str));
    }
}
