//! Calls the functions of `wasi:keyvalue@0.2.0-draft` that differ from `draft2`. Guests that were built for other hosts
//! may use this draft.
//!
//! The query's `store` (default `default`) and `key` select the entry; a value is the request's body. Paths and
//! responses are those of the guest `kv-probe`: `/get`, `/set`, `/list-all`, `/increment?delta=N`,
//! `/get-many?keys=a,b`.

use guest_support::{HandlerResult, body_bytes, path, query, query_number, respond};
use wasip3::http::types::Request;

wit_bindgen::generate!({
    inline: "package guest:kv-probe-draft; world imports { include wasi:keyvalue/imports@0.2.0-draft; }",
    path: ["../../crates/wit/wit/wasi-keyvalue-0.2.0-draft"],
    world: "guest:kv-probe-draft/imports",
    generate_all,
});

use wasi::keyvalue::{
    atomics, batch,
    store::{self, Error},
};

wasip3::http::service::export!(KvProbe);

struct KvProbe;

impl wasip3::exports::http::handler::Guest for KvProbe {
    async fn handle(request: Request) -> HandlerResult {
        let (status, text) = probe(request).await.unwrap_or_else(|error| match error {
            Error::AccessDenied => (403, b"access-denied\n".to_vec()),
            Error::NoSuchStore => (404, b"no-such-store\n".to_vec()),
            Error::Other(text) => (500, format!("other: {text}\n").into_bytes()),
        });
        respond(status, text)
    }
}

async fn probe(request: Request) -> Result<(u16, Vec<u8>), Error> {
    let bucket = store::open(&query(&request, "store").unwrap_or_else(|| "default".to_owned()))?;
    let key = query(&request, "key").unwrap_or_default();
    match path(&request).as_str() {
        "/get" => Ok(bucket.get(&key)?.map_or_else(|| (404, b"none\n".to_vec()), |value| (200, value))),
        "/set" => {
            bucket.set(&key, &body_bytes(request).await)?;
            Ok((200, b"set\n".to_vec()))
        }
        "/list-all" => {
            let mut text = String::new();
            let mut cursor = None;
            loop {
                let page = bucket.list_keys(cursor)?;
                text.extend(page.keys.into_iter().map(|key| key + "\n"));
                cursor = page.cursor;
                if cursor.is_none() {
                    return Ok((200, text.into_bytes()));
                }
            }
        }
        "/increment" => {
            let sum = atomics::increment(&bucket, &key, query_number(&request, "delta", 1))?;
            Ok((200, format!("{sum}\n").into_bytes()))
        }
        "/get-many" => {
            let keys: Vec<String> = query(&request, "keys").unwrap_or_default().split(',').map(str::to_owned).collect();
            let lines = keys.iter().zip(batch::get_many(&bucket, &keys)?).map(|(key, pair)| match pair {
                Some((key, value)) => format!("{key}={}\n", String::from_utf8_lossy(&value)),
                None => format!("{key}\n"),
            });
            Ok((200, lines.collect::<String>().into_bytes()))
        }
        _ => Ok((404, b"no such path\n".to_vec())),
    }
}
