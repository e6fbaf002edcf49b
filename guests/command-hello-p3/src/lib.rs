//! A WASI 0.3 command. It prints its arguments, and does what its options select: `--stdin` copies stdin to stdout,
//! `--file PATH` prints a file, `--write PATH` writes a file, `--fail` fails, and `--exit N` exits with that code.

use wasip3::cli::{environment, exit, stderr, stdin, stdout};
use wasip3::wit_stream;

wasip3::cli::command::export!(Command);

struct Command;

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let arguments: Vec<String> = environment::get_arguments().into_iter().skip(1).collect();
        let mut output = b"hello from a 0.3 command\n".to_vec();
        let mut result = Ok(());
        let mut code = None;
        let mut words = arguments.iter();
        while let Some(argument) = words.next() {
            match argument.as_str() {
                "--exit" => code = words.next().and_then(|code| code.parse().ok()),
                "--stdin" => {
                    let (input, _done) = stdin::read_via_stream();
                    output.extend(input.collect().await);
                }
                "--file" => {
                    let read = std::fs::read(words.next().expect("a path"));
                    output.extend(read.unwrap_or_else(|error| format!("file: {error}\n").into_bytes()));
                }
                "--write" => {
                    let written = std::fs::write(words.next().expect("a path"), "written\n");
                    output.extend(
                        written.map_or_else(|error| format!("write: {error}\n"), |()| "ok\n".to_owned()).into_bytes(),
                    );
                }
                "--fail" => result = Err(()),
                word => output.extend(format!("argument {word}\n").into_bytes()),
            }
        }
        let (mut writer, reader) = wit_stream::new();
        let written = stdout::write_via_stream(reader);
        let unread = writer.write_all(output).await;
        drop(writer);
        written.await.map_err(|_| ())?;
        if !unread.is_empty() {
            return Err(());
        }
        let (mut writer, reader) = wit_stream::new();
        let written = stderr::write_via_stream(reader);
        writer.write_all(format!("command-hello-p3 ends with {result:?}\n").into_bytes()).await;
        drop(writer);
        written.await.map_err(|_| ())?;
        if let Some(code) = code {
            exit::exit_with_code(code);
        }
        result
    }
}
