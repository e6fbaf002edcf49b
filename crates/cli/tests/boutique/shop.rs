//! Runs the shop as a process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

pub(crate) const PRODUCTS: [&str; 9] = [
    "0PUK6V6EV0",
    "1YMWWN1N4O",
    "2ZYFJ3GM2N",
    "66VCHSJNUP",
    "6E92ZMYYFZ",
    "9SIQT8TOJO",
    "L9ECAV7KIM",
    "LS4PSXUNUM",
    "OLJCESPC7Z",
];

/// A process that serves the shop. Dropping it kills the process.
pub(crate) struct Shop {
    process: Child,
    address: SocketAddr,
    data: PathBuf,
    shape: &'static str,
    /// The group and the process id of each member, if the shape has several processes.
    members: Vec<(String, u64)>,
}

impl Shop {
    /// Builds the components if they are not up to date, starts the shop, and waits until it is ready.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_in("monolith", data)
    }

    /// Starts the shop in the shape `shape`, and waits until it is ready.
    pub(crate) fn start_in(shape: &'static str, data: &Path) -> Self {
        let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/boutique");
        let mut process = Command::new(env!("CARGO_BIN_EXE_isomer"))
            .args(["run", "--shape", shape, "--json", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .arg(app)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            let status = process.wait();
            panic!("the shop did not start ({status:?}): {line}")
        });
        assert_eq!(ready["event"], "ready");
        let address = ready["url"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
        let members = ready["processes"].as_array().into_iter().flatten();
        let members = members.map(|it| (it["group"].as_str().unwrap().to_owned(), it["pid"].as_u64().unwrap()));
        let members = members.collect();
        Self { process, address, data: data.to_owned(), shape, members }
    }

    /// Sends SIGKILL to the member of a group.
    pub(crate) fn kill_group(&self, group: &str) {
        let (_, pid) = self.members.iter().find(|(name, _)| name == group).expect("there is such a group");
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    }

    /// Returns the number of members.
    pub(crate) fn members(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the shop with SIGTERM, as a service manager does, and starts it again with the same data.
    pub(crate) fn restart(self) -> Self {
        let (shape, data) = (self.shape, self.data.clone());
        assert!(self.stop().success());
        Self::start_in(shape, &data)
    }

    /// Sends SIGTERM and returns the exit status.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.process.wait().unwrap()
    }

    /// Kills the shop with SIGKILL, so that it cannot finish any write, and starts it again with the same data.
    pub(crate) fn kill_and_start(mut self) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        Self::start_in(self.shape, &self.data)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the number of the order that `page` confirms, from the link to the order's page.
pub(crate) fn order_id(page: &str) -> String {
    let (_, after) = page.split_once("/orders/").expect("the page links to the order");
    after.chars().take_while(|character| character.is_ascii_alphanumeric() || *character == '-').collect()
}
