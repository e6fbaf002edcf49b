//! A connection whose bytes the test writes and reads itself, for requests that no HTTP library can send.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::within;

/// A TCP connection without an HTTP client.
pub(crate) struct RawConnection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl RawConnection {
    /// Connects to `address`.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the node listens");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream, read: Vec::new() }
    }

    /// Sends `bytes` unchanged. The test fails if the connection is closed.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes).await.expect("the node reads");
    }

    /// Sends `bytes` unchanged.
    ///
    /// # Errors
    /// If the node has closed the connection.
    pub(crate) async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within("write", self.stream.write_all(bytes.as_ref())).await
    }

    /// Reads until the text `end` was received. Returns the received text up to and including `end`.
    pub(crate) async fn read_to(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = find(&self.read, end.as_bytes()) {
                let rest = self.read.split_off(at + end.len());
                let text = std::mem::replace(&mut self.read, rest);
                return String::from_utf8(text).expect("the response is text");
            }
            let come = within("more bytes", self.stream.read_buf(&mut self.read)).await.expect("the node sends");
            assert!(come > 0, "closed before {end:?} came: {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// Reads until the node closes the connection. Returns all received bytes as text.
    pub(crate) async fn read_all(&mut self) -> String {
        String::from_utf8(self.read_bytes().await).expect("the response is text")
    }

    /// Reads until the node closes the connection. Returns all received bytes.
    pub(crate) async fn read_bytes(&mut self) -> Vec<u8> {
        loop {
            match within("the connection's end", self.stream.read_buf(&mut self.read)).await {
                Ok(0) => break,
                Ok(_) => {}
                // The node has closed the connection before it has read everything that the test has sent.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error}"),
            }
        }
        std::mem::take(&mut self.read)
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
