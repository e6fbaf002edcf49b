//! A WASI 0.2 command that prints its arguments, and does what its options select, for example copies stdin to stdout
//! or exits with a given code.
//!
//! `command-hello [--stdin] [--name] [--env NAME] [--all-env] [--file PATH] [--connect ADDRESS] [--exit N] [--trap]
//! [WORD…]`

use std::io::{Read as _, Write as _};
use std::net::SocketAddrV4;

use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

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
            "--name" => println!("name {}", std::env::args().next().unwrap_or_default()),
            "--all-env" => std::env::vars().for_each(|(name, value)| println!("all {name}={value}")),
            "--env" => {
                let name = value();
                println!("{name}={}", std::env::var(&name).unwrap_or_else(|_| "nothing".to_owned()));
            }
            "--file" => match std::fs::read_to_string(value()) {
                Ok(text) => print!("{text}"),
                Err(error) => eprintln!("file: {error}"),
            },
            "--connect" => match connect(value().parse().expect("an IPv4 address and port")) {
                Ok(received) => print!("{received}"),
                Err(error) => eprintln!("connect: {error}"),
            },
            "--exit" => code = value().parse().expect("a number"),
            "--trap" => core::arch::wasm32::unreachable(),
            word => println!("argument {word}"),
        }
    }
    eprintln!("command-hello ends with {code}");
    std::io::stdout().flush().expect("stdout can be written");
    // On this target, `std::process::exit` only supports the codes 0 and 1.
    wasip2::cli::exit::exit_with_code(code);
}

/// Returns the text that the server at `address` sends until it closes the connection. Uses the WASI bindings, because
/// some C libraries for guests have no sockets.
fn connect(address: SocketAddrV4) -> Result<String, ErrorCode> {
    let [a, b, c, d] = address.ip().octets();
    let peer = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) });
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), peer)?;
    socket.subscribe().block();
    let (input, _output) = socket.finish_connect()?;
    let mut received = Vec::new();
    while let Ok(bytes) = input.blocking_read(4096) {
        received.extend(bytes);
    }
    Ok(String::from_utf8_lossy(&received).into_owned())
}
