//! Attempts to send, print or store more than the platform can handle, and to keep a receiver waiting.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::mem::forget;

use guest_support::{HandlerResult, body, body_bytes, respond, respond_stream};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types as files;
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::spawn_local;
use wasip3::{wit_future, wit_stream};

use crate::canary::mark;
use crate::isomer::sql::store as sql;
use crate::wasi::keyvalue::store as kv;

/// Prints lines forever.
pub fn output() -> HandlerResult {
    let (mut stdout, mut stderr) = (std::io::stdout().lock(), std::io::stderr().lock());
    let line = mark() + "\n";
    loop {
        let _ = stdout.write_all(line.as_bytes());
        let _ = stderr.write_all(line.as_bytes());
    }
}

/// Prints one line of `bytes` bytes with a single call of a host function.
pub fn large_output(bytes: usize) -> HandlerResult {
    let stdout = wasip2::cli::stdout::get_stdout();
    let written = stdout.write(&vec![b'x'; bytes]);
    respond(200, format!("{written:?}\n"))
}

/// Prints lines that imitate the platform's log lines, or contain terminal control sequences.
pub fn forged_lines() -> HandlerResult {
    let forged = [
        "{\"event\":\"failed\",\"component\":\"neighbour\",\"reason\":\"forged\",\"request\":\"0000000000000001\"}",
        "x\",\"event\":\"failed\",\"component\":\"neighbour\",\"y\":\"",
        "\u{1b}[2J\u{1b}]0;forged\u{7}",
        "\rforged: 12:00:00.000 neighbour | all is lost",
        "\u{202e}\u{2066}degrof\0\u{0}",
    ];
    for line in forged {
        println!("{line}");
        eprintln!("{line}");
    }
    let _ = std::io::stdout().write_all(b"\xff\xfe\xc0\x80 not UTF-8\n");
    respond(200, "printed\n")
}

/// Responds with as many header fields as the platform accepts, at most `count`. Prints their number.
pub fn headers(count: u64) -> HandlerResult {
    let fields = Fields::new();
    let mut taken = 0;
    while taken < count && fields.append(&format!("x-{taken}"), b"flood").is_ok() {
        taken += 1;
    }
    println!("fields={taken}");
    answer_with(fields)
}

/// Responds with one large header field.
pub fn large_header(bytes: usize) -> HandlerResult {
    let fields = Fields::new();
    match fields.append("x-large", &vec![b'a'; bytes]) {
        Ok(()) => answer_with(fields),
        Err(error) => respond(200, format!("{error:?}\n")),
    }
}

fn answer_with(fields: Fields) -> HandlerResult {
    let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (response, _sent) = Response::new(fields, None, trailers_reader);
    Ok::<_, ErrorCode>(response)
}

/// Responds with an endless body.
pub fn endless_body() -> HandlerResult {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        let piece = mark().into_bytes().repeat(2048);
        while writer.write_all(piece.clone()).await.is_empty() {}
    });
    respond_stream(200, reader)
}

/// Responds with the first byte of a body, and never sends the rest.
pub fn stuck_body() -> HandlerResult {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        let _unread = writer.write_all(b"1".to_vec()).await;
        wait_for(u64::MAX).await;
    });
    respond_stream(200, reader)
}

/// Keeps the request body open and never reads it.
pub async fn unread_body(request: Request) -> HandlerResult {
    let stream = body(request);
    wait_for(u64::MAX).await;
    forget(stream);
    respond(200, "not read\n")
}

/// Reads the request body one byte at a time, with pauses.
pub async fn slow_reader(request: Request) -> HandlerResult {
    let mut stream = body(request);
    let mut read = 0;
    while stream.next().await.is_some() {
        read += 1;
        wait_for(10_000_000).await;
    }
    respond(200, format!("read={read}\n"))
}

/// Stores new keys with large values until an operation fails. Responds with the error of that operation.
pub fn keys(bytes: usize) -> HandlerResult {
    let bucket = match kv::open("default") {
        Ok(bucket) => bucket,
        Err(error) => return respond(200, format!("{error:?}\n")),
    };
    let value = mark().into_bytes().repeat(bytes / 32);
    for number in 0_u64.. {
        if let Err(error) = bucket.set(&format!("flood-{number}"), &value) {
            return respond(200, format!("{error:?} after {number}\n"));
        }
    }
    respond(200, "no operation failed\n")
}

/// Tries forever to open a store that is not granted, under a name of `bytes` bytes.
pub fn long_names(bytes: usize) -> HandlerResult {
    let name = "n".repeat(bytes);
    loop {
        let _ = kv::open(&name);
    }
}

/// Stores one value of `bytes` bytes with a single call of a host function.
pub fn large_value(bytes: usize) -> HandlerResult {
    match kv::open("default").and_then(|bucket| bucket.set("large", &vec![b'x'; bytes])) {
        Ok(()) => respond(200, "set\n"),
        Err(error) => respond(200, format!("{error:?}\n")),
    }
}

/// Inserts rows until a statement fails. The request's body is the statement. Responds with the error of the failed
/// statement.
pub async fn rows(request: Request) -> HandlerResult {
    let statement = String::from_utf8_lossy(&body_bytes(request).await).into_owned();
    let connection = match sql::open("default".to_owned()).await {
        Ok(connection) => connection,
        Err(error) => return respond(200, format!("{error:?}\n")),
    };
    for number in 0_u64.. {
        if let Err(error) = connection.execute(statement.clone(), Vec::new()).await {
            return respond(200, format!("{error:?} after {number}\n"));
        }
    }
    respond(200, "no operation failed\n")
}

/// Creates nested folders until an operation fails. Each folder is opened from its parent, so that no path is long.
/// Responds with the error of the failed operation.
pub fn deep_folders(levels: u64) -> HandlerResult {
    let Some((mut folder, _)) = get_directories().into_iter().find(|(_, name)| name == "/data") else {
        return respond(200, "no folder is granted\n");
    };
    for level in 1..=levels {
        let made = match folder.create_directory_at("d") {
            Err(files::ErrorCode::Exist) => Ok(()),
            made => made,
        };
        let rights = files::DescriptorFlags::READ | files::DescriptorFlags::MUTATE_DIRECTORY;
        let opened =
            made.and_then(|()| folder.open_at(files::PathFlags::empty(), "d", files::OpenFlags::DIRECTORY, rights));
        match opened {
            Ok(next) => folder = next,
            Err(error) => return respond(200, format!("refused level {level}: {error:?}\n")),
        }
    }
    respond(200, format!("got {levels} levels\n"))
}

/// Creates many folders in one folder, so that measuring the size of that folder takes long. Then lets a file grow to
/// `bytes`. Responds with the errors of the failed operations.
pub fn fill_disk(folders: u64, bytes: u64) -> HandlerResult {
    let mut lines = String::new();
    for number in 0..folders {
        match fs::create_dir(format!("/data/{}-{number}", mark())) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                lines += &format!("refused folder {number}: {error}\n");
                break;
            }
            _ => {}
        }
    }
    let mut file = match fs::File::options().create(true).append(true).open(format!("/data/{}", mark())) {
        Ok(file) => file,
        Err(error) => return respond(200, lines + &format!("refused file: {error}\n")),
    };
    let block = mark().into_bytes().repeat(2048);
    let mut written = 0;
    while written < bytes {
        if let Err(error) = file.write_all(&block) {
            return respond(200, lines + &format!("refused after {written} bytes: {error}\n"));
        }
        written += block.len() as u64;
    }
    respond(200, lines + "got all bytes\n")
}
