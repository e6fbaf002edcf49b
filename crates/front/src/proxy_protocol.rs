//! The PROXY protocol, versions 1 and 2: a trusted proxy announces the client of a connection before the client's first
//! byte (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! The header is parsed by hand, because there are only two fixed formats, and because reading must stop exactly at the
//! end of the header. Only the client's address is used. The extensions of version 2 (TLVs) are skipped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::AsyncReadExt as _;

use crate::socket::Socket;

/// The first bytes of a version 2 header.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The first bytes of a version 1 header.
const KEYWORD: &[u8; 6] = b"PROXY ";

/// The maximum size of a version 1 header in bytes, including its CRLF. A connection with a longer header is closed.
const TEXT_BYTES_MAX: usize = 107;

/// The size in bytes of the fixed part of a version 2 header, which precedes the addresses.
const FIXED_BYTES: usize = 16;

/// The maximum size of a version 2 header in bytes, including extensions. A connection with a longer header is closed.
const HEADER_BYTES_MAX: usize = 4 << 10;

/// The client that a header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxiedClient {
    /// The client's address.
    Address(IpAddr),
    /// Either the proxy itself is the client, for example of a health check, or the proxy does not know the client.
    Proxy,
}

/// The reason why a PROXY header is not valid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("the connection does not begin with a PROXY header")]
    NoHeader,
    #[error("the PROXY header is longer than {}", isomer_display::size(.max))]
    TooLong { max: usize },
    #[error("malformed PROXY header: {0}")]
    Malformed(&'static str),
    #[error("the connection ended within a PROXY header")]
    Io(#[from] io::Error),
}

/// Reads the header from `socket`. Later reads from `socket` return the bytes after the header.
pub(crate) async fn read(socket: &mut Socket) -> Result<ProxiedClient, ProxyError> {
    let mut read = Vec::with_capacity(256);
    loop {
        if let Some((client, used)) = parse(&read)? {
            socket.unread(read.split_off(used));
            return Ok(client);
        }
        // `room` is not 0, because `parse` refuses headers of more than `HEADER_BYTES_MAX` bytes.
        let room = HEADER_BYTES_MAX - read.len();
        if (&mut *socket).take(room as u64).read_buf(&mut read).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Returns the client and the length of the header in bytes. Returns `None` if the header is not complete yet.
fn parse(bytes: &[u8]) -> Result<Option<(ProxiedClient, usize)>, ProxyError> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(one, other)| one == other);
    if begins(SIGNATURE) {
        if bytes.len() < FIXED_BYTES { Ok(None) } else { parse_binary(bytes) }
    } else if begins(KEYWORD) {
        let line = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
        match line.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => Ok(Some((parse_text(&line[..end])?, end + 2))),
            None if bytes.len() >= TEXT_BYTES_MAX => Err(ProxyError::TooLong { max: TEXT_BYTES_MAX }),
            None => Ok(None),
        }
    } else {
        Err(ProxyError::NoHeader)
    }
}

fn parse_binary(bytes: &[u8]) -> Result<Option<(ProxiedClient, usize)>, ProxyError> {
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if length > HEADER_BYTES_MAX {
        return Err(ProxyError::TooLong { max: HEADER_BYTES_MAX });
    }
    let Some(addresses) = bytes.get(FIXED_BYTES..length) else { return Ok(None) };
    let short = ProxyError::Malformed("the addresses are too short");
    let client = match (bytes[12], bytes[13] >> 4) {
        // LOCAL: a connection that the proxy makes for itself.
        (0x20, _) => ProxiedClient::Proxy,
        // PROXY over IPv4: two addresses of 4 bytes, two ports.
        (0x21, 1) => match addresses {
            [a, b, c, d, _, _, _, _, _, _, _, _, ..] => ProxiedClient::Address(Ipv4Addr::new(*a, *b, *c, *d).into()),
            _ => return Err(short),
        },
        // PROXY over IPv6: two addresses of 16 bytes, two ports.
        (0x21, 2) => match addresses.first_chunk::<36>().and_then(|all| all.first_chunk::<16>()) {
            Some(address) => ProxiedClient::Address(Ipv6Addr::from(*address).into()),
            None => return Err(short),
        },
        // PROXY over a Unix socket or an unspecified protocol.
        (0x21, 0 | 3) => ProxiedClient::Proxy,
        _ => return Err(ProxyError::Malformed("unknown version, command or family")),
    };
    Ok(Some((client, length)))
}

/// Parses a version 1 header. `line` does not include the CRLF.
fn parse_text(line: &[u8]) -> Result<ProxiedClient, ProxyError> {
    let malformed = || ProxyError::Malformed("not `PROXY TCP4|TCP6 SOURCE DESTINATION PORT PORT`");
    let line = std::str::from_utf8(line).map_err(|_| malformed())?;
    let words: Vec<&str> = line.split(' ').collect();
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(ProxiedClient::Proxy),
        ["PROXY", family @ ("TCP4" | "TCP6"), client, server, from, to] if is_port(from) && is_port(to) => {
            let address = |text: &str| text.parse::<IpAddr>().ok().filter(|it| it.is_ipv4() == (family == "TCP4"));
            let client = address(client).ok_or_else(malformed)?;
            address(server).ok_or_else(malformed)?;
            Ok(ProxiedClient::Address(client))
        }
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> ProxiedClient {
        ProxiedClient::Address(text.parse().expect("an address"))
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("a short body").to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, body].concat()
    }

    #[test]
    fn a_header_is_read_to_its_end_and_no_further() {
        let v4 = [[192, 0, 2, 1].as_slice(), &[10, 0, 0, 1], &[0x12, 0x34, 0, 80]].concat();
        let v6 = [[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9].as_slice(), &[0; 16], &[0; 4]].concat();
        let with_extension = [v4.as_slice(), &[4, 0, 1, 0]].concat();
        for (header, named) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n".to_vec(), client("192.0.2.1")),
            (b"PROXY TCP6 2001:db8::9 ::1 1 65535\r\n".to_vec(), client("2001:db8::9")),
            (b"PROXY UNKNOWN\r\n".to_vec(), ProxiedClient::Proxy),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), ProxiedClient::Proxy),
            (binary(0x21, 0x11, &v4), client("192.0.2.1")),
            (binary(0x21, 0x11, &with_extension), client("192.0.2.1")),
            (binary(0x21, 0x21, &v6), client("2001:db8::9")),
            (binary(0x20, 0x11, &v4), ProxiedClient::Proxy),
            (binary(0x20, 0, &[]), ProxiedClient::Proxy),
            (binary(0x21, 0, &[]), ProxiedClient::Proxy),
            (binary(0x21, 0x31, &[0; 216]), ProxiedClient::Proxy),
        ] {
            for length in 0..header.len() {
                assert!(matches!(parse(&header[..length]), Ok(None)), "{:?}", &header[..length]);
            }
            let more = [header.as_slice(), b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&more).expect("a header"), Some((named, header.len())));
        }
    }

    #[test]
    fn invalid_headers_are_refused() {
        let long = format!("PROXY UNKNOWN {}", "a".repeat(100));
        for bytes in [
            b"GET / HTTP/1.1\r\n".as_slice(),
            b"\x16\x03\x01",
            b"PROXX",
            b"\r\n\r\n\0\r\nQUIT\r",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 56324\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 +1 443\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 99999 443\r\n",
            b"PROXY TCP4 ::1 10.0.0.1 1 443\r\n",
            b"PROXY TCP6 192.0.2.1 ::1 1 443\r\n",
            b"PROXY TCP4  192.0.2.1 10.0.0.1 1 443\r\n",
            b"PROXY TCP5 192.0.2.1 10.0.0.1 1 443\r\n",
            b"PROXY \xff\r\n",
            long.as_bytes(),
            &binary(0x11, 0x11, &[0; 12]),
            &binary(0x22, 0x11, &[0; 12]),
            &binary(0x21, 0x41, &[0; 12]),
            &binary(0x21, 0x11, &[0; 11]),
            &binary(0x21, 0x21, &[0; 35]),
            &binary(0x21, 0x11, &[0; HEADER_BYTES_MAX]),
        ] {
            assert!(parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
