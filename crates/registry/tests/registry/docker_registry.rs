//! A process of `docker-registry`, which `cargo xtask setup` installs from Debian's package.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A registry on a free port, with its data in a temporary folder.
pub(crate) struct DockerRegistry {
    child: Child,
    /// The registry's host and port.
    pub(crate) address: String,
    _folder: TempDir,
}

impl DockerRegistry {
    /// Starts a registry. With `htpasswd`, a line of that file's format, the registry demands this name and password.
    pub(crate) fn start(htpasswd: Option<&str>) -> Self {
        let auth = htpasswd.map_or("", |_| "auth:\n  htpasswd:\n    realm: tests\n    path: FOLDER/htpasswd\n");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let config = format!(
            "version: 0.1\nlog:\n  level: info\n  formatter: json\nstorage:\n  filesystem:\n    rootdirectory: FOLDER/data\n\
             http:\n  addr: 127.0.0.1:0\n  secret: tests\n{auth}"
        );
        std::fs::write(folder.path().join("config.yml"), config.replace("FOLDER", &path)).unwrap();
        htpasswd.into_iter().for_each(|line| std::fs::write(folder.path().join("htpasswd"), line).unwrap());
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(folder.path().join("config.yml")).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("`docker-registry` is installed by `cargo xtask setup`");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let found = log.by_ref().map(Result::unwrap).find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split('"').next().unwrap().to_owned())
        });
        let address = found.expect("the registry listens");
        // The rest of the log is read, so that the registry never waits for a reader.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, address, _folder: folder }
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
