//! A WASI 0.3 HTTP handler that prints a lot. `/stdout?bytes=N&line=M` and `/stderr?bytes=N&line=M` write N bytes of
//! `x` with a newline after every M bytes (0: no newline), then respond `wrote=N`. `/text?line=T` writes the line T to
//! stdout and to stderr.

use guest_support::{HandlerResult, path, query, query_number, respond};
use wasip3::http::types::Request;

wasip3::http::service::export!(OutputFlood);

struct OutputFlood;

const CHUNK_BYTES: usize = 16 * 1024;

impl wasip3::exports::http::handler::Guest for OutputFlood {
    async fn handle(request: Request) -> HandlerResult {
        let bytes = query_number(&request, "bytes", 1024) as usize;
        let line = query_number(&request, "line", 0) as usize;
        let result = match path(&request).as_str() {
            "/stdout" => flood(&mut std::io::stdout().lock(), bytes, line),
            "/stderr" => flood(&mut std::io::stderr().lock(), bytes, line),
            "/text" => {
                let text = query(&request, "line").unwrap_or_default();
                println!("{text}");
                eprintln!("{text}");
                Ok(())
            }
            _ => return respond(404, "no such path\n"),
        };
        match result {
            Ok(()) => respond(200, format!("wrote={bytes}\n")),
            Err(error) => respond(500, format!("{error}\n")),
        }
    }
}

fn flood(output: &mut dyn std::io::Write, bytes: usize, line: usize) -> std::io::Result<()> {
    let mut column = 0;
    let mut left = bytes;
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    while left > 0 {
        chunk.clear();
        for _ in 0..left.min(CHUNK_BYTES) {
            if line > 0 && column == line {
                chunk.push(b'\n');
                column = 0;
            } else {
                chunk.push(b'x');
                column += 1;
            }
        }
        output.write_all(&chunk)?;
        left -= chunk.len();
    }
    output.flush()
}
