//! A WASI 0.2 command: prints its arguments and environment, copies stdin to stdout where told, ends with the exit code told.
//!
//! `command-hello [--stdin] [--env NAME] [--file PATH] [--exit N] [--trap] [WORD…]`

use std::io::{Read as _, Write as _};

fn main() {
    let mut arguments = std::env::args().skip(1);
    println!("hello from a 0.2 command");
    let mut code = 0_u8;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--stdin" => {
                let mut input = Vec::new();
                std::io::stdin().read_to_end(&mut input).expect("stdin can be read");
                std::io::stdout().write_all(&input).expect("stdout can be written");
            }
            "--env" => {
                let name = value();
                println!("{name}={}", std::env::var(&name).unwrap_or_else(|_| "nothing".to_owned()));
            }
            "--file" => match std::fs::read_to_string(value()) {
                Ok(text) => print!("{text}"),
                Err(error) => eprintln!("file: {error}"),
            },
            "--exit" => code = value().parse().expect("a number"),
            "--trap" => core::arch::wasm32::unreachable(),
            word => println!("argument {word}"),
        }
    }
    eprintln!("command-hello ends with {code}");
    std::io::stdout().flush().expect("stdout can be written");
    // `std::process::exit` knows only success and failure on this target.
    wasip2::cli::exit::exit_with_code(code);
}
