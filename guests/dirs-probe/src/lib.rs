//! Uses files through `std::fs` (WASI 0.2) and through WASI 0.3. The query's `path` names the file or folder.
//!
//! | path of the request | operation | body of the response |
//! | --- | --- | --- |
//! | `/read` | reads the file | the file |
//! | `/write` | replaces the content of the file with the request's body | `done` |
//! | `/append` | appends the request's body to the file | `done` |
//! | `/remove` | removes the file | `done` |
//! | `/make-dir` | creates the folder | `done` |
//! | `/rename?to=T` | renames the file to T | `done` |
//! | `/link?to=T` | creates a symbolic link to T | `done` |
//! | `/list` | lists the folder | the sorted names, one per line |
//! | `/fill?bytes=N` | writes to the file, at most N bytes, until a write fails | the number of bytes written |
//! | `/rest?bytes=N` | does the same as `/fill`, in pieces of only 1000 bytes | the number of bytes written |
//! | `/nest?levels=N` | creates nested folders, at most N, until that fails | the number of folders, and the error |
//! | `/hold-dirs?count=N` | starts at most N listings of the folder by WASI 0.3 | the number of listings |
//!
//! `/read-3`, `/list-3`, `/fill-3` and `/nest-3` are the same operations by WASI 0.3. `/check/read/FILE` reads `/FILE`,
//! `/check/append/FILE` appends to it, and `/check/append-and-fail/FILE` appends to it and then fails. These three need
//! no query, so that they can be paths of health checks.
//!
//! The status is 403 if permission is denied, 404 if the file does not exist, and 500 for any other error. The body of
//! an error has its kind and its message.

use std::fs;
use std::io::{self, ErrorKind, Write as _};

use guest_support::{HandlerResult, body_bytes, path, query, query_number, respond};
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip3::http::types::Request;

wasip3::http::service::export!(DirsProbe);

struct DirsProbe;

impl wasip3::exports::http::handler::Guest for DirsProbe {
    async fn handle(request: Request) -> HandlerResult {
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
        "/fill" => fill(&file, query_number(&request, "bytes", 0)),
        "/fill-3" => fill_3(&file, query_number(&request, "bytes", 0)).await,
        "/rest" => fill_rest(&file, query_number(&request, "bytes", 0)),
        "/read-3" => read_3(&file).await,
        "/list-3" => list_3(&file).await,
        "/hold-dirs" => hold_dirs(&file, query_number(&request, "count", 0)).await,
        "/nest" => nest(file, query_number(&request, "levels", 0)),
        "/nest-3" => nest_3(&file, query_number(&request, "levels", 0)).await,
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
        check if check.starts_with("/check/") => self::check(&check["/check/".len()..]),
        other => Err(io::Error::other(format!("no such path {other}"))),
    }
}

fn check(what: &str) -> io::Result<Vec<u8>> {
    let (how, file) = what.split_once('/').unwrap_or_default();
    let file = format!("/{file}");
    if how == "read" {
        return fs::read(file);
    }
    fs::OpenOptions::new().append(true).create(true).open(file)?.write_all(b"checked\n")?;
    if how == "append" { Ok(b"done\n".to_vec()) } else { Err(io::Error::other("the check fails on purpose")) }
}

const PIECE: usize = 100_000;

fn fill(file: &str, bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = fs::File::create(file)?;
    let mut written = 0;
    while written < bytes {
        match file.write(&[7; PIECE]) {
            Ok(more) => written += more as u64,
            Err(_) => break,
        }
    }
    Ok(written.to_string().into_bytes())
}

/// Writes pieces of only a thousand bytes, so that a quota is used almost completely.
fn fill_rest(file: &str, bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = fs::File::create(file)?;
    let mut written = 0;
    while written < bytes {
        match file.write(&[7; 1000]) {
            Ok(more) => written += more as u64,
            Err(_) => break,
        }
    }
    Ok(written.to_string().into_bytes())
}

async fn read_3(file: &str) -> io::Result<Vec<u8>> {
    let (dir, rest) = preopen(file)?;
    let file =
        dir.open_at(PathFlags::empty(), rest, OpenFlags::empty(), DescriptorFlags::READ).await.map_err(failed)?;
    let (stream, result) = file.read_via_stream(0);
    let bytes = stream.collect().await;
    result.await.map_err(failed)?;
    Ok(bytes)
}

async fn list_3(file: &str) -> io::Result<Vec<u8>> {
    let (dir, rest) = preopen(file)?;
    let folder = open_folder(&dir, rest).await?;
    let (stream, result) = folder.read_directory();
    let mut names: Vec<String> = stream.collect().await.into_iter().map(|entry| entry.name + "\n").collect();
    result.await.map_err(failed)?;
    names.sort();
    Ok(names.concat().into_bytes())
}

async fn open_folder(dir: &Descriptor, path: String) -> io::Result<Descriptor> {
    let path = if path.is_empty() { ".".to_owned() } else { path };
    dir.open_at(PathFlags::empty(), path, OpenFlags::DIRECTORY, DescriptorFlags::READ).await.map_err(failed)
}

/// Starts listings of a folder, reads one name of each, and uses the folder while the listings are open.
async fn hold_dirs(file: &str, count: u64) -> io::Result<Vec<u8>> {
    let (dir, rest) = preopen(file)?;
    let folder = open_folder(&dir, rest).await?;
    let mut held = Vec::new();
    while (held.len() as u64) < count {
        let (mut stream, result) = folder.read_directory();
        if stream.next().await.is_none() {
            break;
        }
        held.push((stream, result));
    }
    folder.stat().await.map_err(failed)?;
    Ok(held.len().to_string().into_bytes())
}

async fn fill_3(file: &str, bytes: u64) -> io::Result<Vec<u8>> {
    let (dir, rest) = preopen(file)?;
    let (how, flags) = (OpenFlags::CREATE, DescriptorFlags::WRITE);
    let file = dir.open_at(PathFlags::empty(), rest, how, flags).await.map_err(failed)?;
    let (mut writer, reader) = wasip3::wit_stream::new();
    let result = file.write_via_stream(reader, 0);
    let mut written = 0;
    while written < bytes {
        let rest = writer.write_all(vec![7; PIECE]).await;
        written += (PIECE - rest.len()) as u64;
        if !rest.is_empty() {
            break;
        }
    }
    drop(writer);
    let ended = result.await;
    Ok(format!("{written}{}", if ended.is_ok() { "" } else { " refused" }).into_bytes())
}

fn nest(mut path: String, levels: u64) -> io::Result<Vec<u8>> {
    for made in 0..levels {
        path.push_str("/d");
        if let Err(error) = fs::create_dir(&path) {
            return Ok(format!("{made} {:?}", error.kind()).into_bytes());
        }
    }
    Ok(format!("{levels}").into_bytes())
}

async fn nest_3(path: &str, levels: u64) -> io::Result<Vec<u8>> {
    let (mut dir, _) = preopen(path)?;
    for made in 0..levels {
        if let Err(error) = dir.create_directory_at("d".to_owned()).await {
            return Ok(format!("{made} {error:?}").into_bytes());
        }
        let (how, flags) = (OpenFlags::DIRECTORY, DescriptorFlags::READ);
        dir = dir.open_at(PathFlags::empty(), "d".to_owned(), how, flags).await.map_err(failed)?;
    }
    Ok(format!("{levels}").into_bytes())
}

fn failed(error: ErrorCode) -> io::Error {
    io::Error::other(format!("{error:?}"))
}

/// Returns the granted folder that contains the file at `path`, and the path of the file in that folder.
fn preopen(path: &str) -> io::Result<(Descriptor, String)> {
    let found = wasip3::filesystem::preopens::get_directories().into_iter().find_map(|(dir, mount)| {
        let rest = path.strip_prefix(&mount)?.trim_start_matches('/').to_owned();
        Some((dir, rest))
    });
    found.ok_or(ErrorKind::NotFound.into())
}

/// Creates a symbolic link through `wasi:filesystem` 0.3, because the standard library's function is unstable.
fn symlink(target: &str, link: &str) -> io::Result<()> {
    let (dir, rest) = preopen(link)?;
    wasip3::wit_bindgen::block_on(dir.symlink_at(target.to_owned(), rest)).map_err(failed)
}
