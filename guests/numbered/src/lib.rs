//! Responds with a number that is stored both in its code and in its data: `code=N data=N`, and ` nonce=X` if the query
//! has a `nonce`.
//!
//! Benchmarks replace these two numbers in the compiled component. In this way they make any number of distinct
//! components from one build, and a response shows which component has sent it.

use std::hint::black_box;

use guest_support::{HandlerResult, query, respond_stream};
use wasip3::http::types::Request;
use wasip3::wit_bindgen::spawn_local;
use wasip3::wit_stream;

wasip3::http::service::export!(Numbered);

struct Numbered;

/// The number of this component in its code, in the lower 24 bits. Benchmarks replace it in copies of the component.
/// The upper eight bits are set so that the constant's encoding has the maximum length.
const IN_CODE: u32 = 0x5a00_0000 | 12_648_430;

/// The number of this component in its data. Benchmarks replace it in copies of the component. They find it by the text
/// before it.
static IN_DATA: &[u8; 24] = b"isomer-numbered-12648430";

impl wasip3::exports::http::handler::Guest for Numbered {
    async fn handle(request: Request) -> HandlerResult {
        let nonce = query(&request, "nonce").map(|nonce| format!(" nonce={nonce}")).unwrap_or_default();
        let text = format!("code={} data={}{nonce}\n", in_code(), in_data());
        let (mut writer, reader) = wit_stream::new();
        let response = respond_stream(200, reader);
        spawn_local(async move {
            // A client that has disconnected needs no response.
            let _unread = writer.write_all(text.into_bytes()).await;
        });
        response
    }
}

#[inline(never)]
fn in_code() -> u32 {
    black_box(IN_CODE) & 0x00ff_ffff
}

#[inline(never)]
fn in_data() -> u32 {
    let digits = &black_box(IN_DATA)[16..];
    digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}
