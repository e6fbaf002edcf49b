//! Calls every function of `wasi:keyvalue@0.2.0-draft2`. The query's `store` (default `default`) names the store, and
//! `key` names the key; a value is the request's body.
//!
//! | path of the request | operation | response |
//! | --- | --- | --- |
//! | `/get` | reads the value | the value, or 404 |
//! | `/set`, `/delete` | changes the value, or deletes the key | `set`, `deleted` |
//! | `/exists` | checks whether the key exists | `true` or `false` |
//! | `/list?cursor=C` | lists one page of keys | one key per line, then `cursor=C` if there are more keys |
//! | `/list-all` | lists all pages of keys | one key per line |
//! | `/increment?delta=N` | adds N to the number | the new number |
//! | `/swap?times=N` | reads with a `cas` handle, appends the body and swaps, at most N times (default 1) until a swap succeeds | `swapped after N`, or 409 |
//! | `/stale-swap` | creates a `cas` handle, sets the key, and swaps with the handle | 409 with the value of the new handle |
//! | `/get-many?keys=a,b` | reads several values | a line `key=value`, or `key` without a value, for each key |
//! | `/set-many` | sets the values in the body, which has lines `key=value` | `set N` |
//! | `/delete-many?keys=a,b` | deletes several keys | `deleted` |
//!
//! Errors of the store: 403 `access-denied`, 404 `no-such-store`, 500 `other: …`.

use guest_support::{HandlerResult, body_bytes, path, query, query_number, respond};
use wasip3::http::types::Request;

wit_bindgen::generate!({
    inline: "package guest:kv-probe; world imports { include wasi:keyvalue/imports@0.2.0-draft2; }",
    path: ["../../crates/wit/wit/wasi-keyvalue-0.2.0-draft2"],
    world: "guest:kv-probe/imports",
    generate_all,
});

use wasi::keyvalue::{
    atomics::{self, Cas, CasError},
    batch,
    store::{self, Bucket, Error},
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
    let keys: Vec<String> = query(&request, "keys").unwrap_or_default().split(',').map(str::to_owned).collect();
    let ok = |text: String| Ok((200, text.into_bytes()));
    match path(&request).as_str() {
        "/get" => Ok(bucket.get(&key)?.map_or_else(|| (404, b"none\n".to_vec()), |value| (200, value))),
        "/set" => {
            bucket.set(&key, &body_bytes(request).await)?;
            ok("set\n".to_owned())
        }
        "/delete" => {
            bucket.delete(&key)?;
            ok("deleted\n".to_owned())
        }
        "/exists" => ok(format!("{}\n", bucket.exists(&key)?)),
        "/list" => {
            let page = bucket.list_keys(query(&request, "cursor").as_deref())?;
            let cursor = page.cursor.map(|cursor| format!("cursor={cursor}"));
            ok(page.keys.into_iter().chain(cursor).map(|line| line + "\n").collect())
        }
        "/list-all" => ok(all_keys(&bucket)?.into_iter().map(|line| line + "\n").collect()),
        "/increment" => {
            let delta = query(&request, "delta").and_then(|delta| delta.parse().ok()).unwrap_or(1);
            ok(format!("{}\n", atomics::increment(&bucket, &key, delta)?))
        }
        "/swap" => {
            let times = query_number(&request, "times", 1);
            swap(&bucket, &key, &body_bytes(request).await, times)
        }
        "/stale-swap" => {
            let handle = Cas::new(&bucket, &key)?;
            bucket.set(&key, b"from another")?;
            match atomics::swap(handle, b"from the stale handle") {
                Ok(()) => ok("swapped\n".to_owned()),
                Err(CasError::StoreError(error)) => Err(error),
                Err(CasError::CasFailed(fresh)) => Ok((409, fresh.current()?.unwrap_or_default())),
            }
        }
        "/get-many" => {
            let lines = keys.iter().zip(batch::get_many(&bucket, &keys)?).map(|(key, pair)| match pair {
                Some((key, value)) => format!("{key}={}\n", String::from_utf8_lossy(&value)),
                None => format!("{key}\n"),
            });
            ok(lines.collect())
        }
        "/set-many" => {
            let text = String::from_utf8_lossy(&body_bytes(request).await).into_owned();
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            let pairs: Vec<_> = pairs.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).collect();
            batch::set_many(&bucket, &pairs)?;
            ok(format!("set {}\n", pairs.len()))
        }
        "/delete-many" => {
            batch::delete_many(&bucket, &keys)?;
            ok("deleted\n".to_owned())
        }
        _ => Ok((404, b"no such path\n".to_vec())),
    }
}

fn all_keys(bucket: &Bucket) -> Result<Vec<String>, Error> {
    let mut keys = Vec::new();
    let mut cursor = None;
    loop {
        let page = bucket.list_keys(cursor.as_deref())?;
        keys.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(keys);
        }
    }
}

fn swap(bucket: &Bucket, key: &str, addition: &[u8], times: u64) -> Result<(u16, Vec<u8>), Error> {
    let mut handle = Cas::new(bucket, key)?;
    for attempt in 1..=times {
        let mut value = handle.current()?.unwrap_or_default();
        value.extend_from_slice(addition);
        match atomics::swap(handle, &value) {
            Ok(()) => return Ok((200, format!("swapped after {attempt}\n").into_bytes())),
            Err(CasError::StoreError(error)) => return Err(error),
            Err(CasError::CasFailed(fresh)) => handle = fresh,
        }
    }
    Ok((409, b"not swapped\n".to_vec()))
}
