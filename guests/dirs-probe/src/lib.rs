//! Files through `std::fs`; the query's `path` chooses.
//!
//! - `/read` → the file; `/write` (the body is the new text); `/append`; `/remove`; `/make-dir`;
//! - `/list` → names, sorted, one a line; `/link?to=T` makes a symbolic link to T; `/rename?to=T`.
//!
//! An error: 403 where permission is denied, 404 where nothing is there, else 500; the body is the kind and the text.

use std::fs;
use std::io::{self, ErrorKind, Write as _};

use guest_support::{Answer, body_bytes, path, query, respond};
use wasip3::http::types::Request;

wasip3::http::service::export!(DirsProbe);

struct DirsProbe;

impl wasip3::exports::http::handler::Guest for DirsProbe {
    async fn handle(request: Request) -> Answer {
        match probe(request).await {
            Ok(bytes) => respond(200, bytes),
            Err(error) => {
                let status = match error.kind() {
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => 403,
                    ErrorKind::NotFound => 404,
                    _ => 500,
                };
                respond(status, format!("{:?}: {error}\n", error.kind()))
            }
        }
    }
}

async fn probe(request: Request) -> io::Result<Vec<u8>> {
    let file = query(&request, "path").unwrap_or_default();
    let to = query(&request, "to").unwrap_or_default();
    let done = || b"done\n".to_vec();
    match path(&request).as_str() {
        "/read" => fs::read(file),
        "/write" => fs::write(file, body_bytes(request).await).map(|()| done()),
        "/append" => {
            let body = body_bytes(request).await;
            fs::OpenOptions::new().append(true).create(true).open(file)?.write_all(&body).map(|()| done())
        }
        "/remove" => fs::remove_file(file).map(|()| done()),
        "/make-dir" => fs::create_dir(file).map(|()| done()),
        "/rename" => fs::rename(file, to).map(|()| done()),
        "/link" => symlink(&to, &file).map(|()| done()),
        "/list" => {
            let names = fs::read_dir(file)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned() + "\n"));
            let mut names: Vec<String> = names.collect::<io::Result<_>>()?;
            names.sort();
            Ok(names.concat().into_bytes())
        }
        other => Err(io::Error::other(format!("no such path {other}"))),
    }
}

/// A symbolic link through `wasi:filesystem` 0.3: the standard library keeps its own unstable.
fn symlink(target: &str, link: &str) -> io::Result<()> {
    let (dir, rest) = wasip3::filesystem::preopens::get_directories()
        .into_iter()
        .find_map(|(dir, mount)| {
            let rest = link.strip_prefix(&mount)?.trim_start_matches('/').to_owned();
            Some((dir, rest))
        })
        .ok_or(ErrorKind::NotFound)?;
    wasip3::wit_bindgen::block_on(dir.symlink_at(target.to_owned(), rest))
        .map_err(|error| io::Error::other(format!("{error:?}")))
}
