//! Checks that a port is free. If it is not, finds the process that uses the port.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use super::Finding;

const ABOUT: &str = "port";

/// The value in `/proc/net/tcp` for the state of a listening socket.
const LISTEN: &str = "0A";

/// Checks that this process can listen on `address`.
pub(crate) fn free(address: SocketAddr) -> Finding {
    let hint = format!("listen elsewhere: --listen {}", SocketAddr::new(address.ip(), 0));
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(ABOUT, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let process = process_on(address.port()).unwrap_or_else(|| "another process".to_owned());
            Finding::warn(ABOUT, format!("{address} is used by {process}"), hint)
        }
        Err(error) => Finding::warn(ABOUT, format!("cannot listen on {address}: {error}"), hint),
    }
}

/// Returns the process that listens on `port`, for example `nginx (process 123)`. Processes of other users cannot be
/// found.
fn process_on(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inode = tables.iter().find_map(|table| listening_inode(table, port))?;
    let socket = format!("socket:[{inode}]");
    let has_socket = |process: &fs::DirEntry| {
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { return false };
        descriptors.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == &*socket))
    };
    let is_process = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit());
    let process = fs::read_dir("/proc").ok()?.flatten().filter(is_process).find(has_socket)?;
    let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
    Some(format!("{} (process {})", name.trim(), process.file_name().to_string_lossy()))
}

/// Returns the inode of the socket that listens on `port`. `table` is the text of `/proc/net/tcp` or `tcp6`.
fn listening_inode(table: &str, port: u16) -> Option<&str> {
    let port = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_it = columns.get(1)?.ends_with(&port) && *columns.get(3)? == LISTEN;
        is_it.then(|| columns.get(9).copied())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_port_is_reported_with_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let found = free(address);
        assert!(found.found.contains(&format!("(process {})", std::process::id())), "{}", found.found);
        drop(listener);
        assert_eq!(free(address).found, format!("{address} is free"));
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 11 1\n\
            \x20  1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22 1\n";
        assert_eq!(listening_inode(table, 8080), Some("22"));
        assert_eq!(listening_inode(table, 8081), None);
    }
}
