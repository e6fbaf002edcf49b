//! A process that has no file descriptor for a connection that the kernel has established.
//!
//! The limit of descriptors applies to a process, so each of these tests runs this test program again as a child
//! process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::process::Command;
use std::time::Duration;

use isomer_front::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::{Http1, connect, head};
use crate::world::{Setup, socket, within};

/// The environment variable that marks the child process.
const INSIDE: &str = "ISOMER_TEST_FEW_DESCRIPTORS";

/// The number of connections for which the child has descriptors.
const FREE: usize = 6;

/// The number of connections that wait for a descriptor.
const WAITING: usize = 40;

#[test]
fn connections_that_wait_for_a_descriptor_are_answered_while_the_front_door_drains() {
    if std::env::var_os(INSIDE).is_some() {
        return tokio::runtime::Runtime::new().unwrap().block_on(drain_with_few_descriptors());
    }
    let name = "descriptors::connections_that_wait_for_a_descriptor_are_answered_while_the_front_door_drains";
    let child =
        Command::new(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output();
    let child = child.unwrap();
    let output = [child.stdout, child.stderr].map(|output| String::from_utf8_lossy(&output).into_owned()).concat();
    assert!(child.status.success(), "{}\n{output}", child.status);
}

async fn drain_with_few_descriptors() {
    let listener = socket();
    let address = listener.local_addr().unwrap();
    // These connections arrive first, send nothing, and use all descriptors until `idle_grace` is over.
    let mut silent = Vec::new();
    for _ in 0..FREE {
        silent.push(Http1::new(connect(address).await.unwrap()));
    }
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        let mut connection = Http1::new(connect(address).await.unwrap());
        connection.send(head("shop.example")).await.unwrap();
        waiting.push(connection);
    }
    leave_free(FREE);
    let limits = Limits { idle_grace: Duration::from_millis(20), ..Limits::default() };
    let serving = Setup { limits, ..Setup::default() }.drain(listener);
    for connection in &mut silent {
        within("the end", connection.closed()).await.unwrap();
    }
    // The server closes its side of these connections only after the clients have closed theirs.
    drop(silent);
    for mut connection in waiting {
        let answer = within("an answer", connection.answer()).await.unwrap();
        assert!(answer.status == 404 && answer.is_last, "{answer:?}");
    }
    assert_eq!(within("the end", serving).await.unwrap(), 0);
}

/// Limits the process to `free` further descriptors.
fn leave_free(free: usize) {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    // The list contains the descriptor of the folder that was read, which is closed by now.
    let open: Vec<u64> = open.map(|number| number.parse().unwrap()).collect();
    let is_free =
        |number: &u64| !open.contains(number) || !std::path::Path::new(&format!("/proc/self/fd/{number}")).exists();
    let limit = (0..).filter(is_free).nth(free).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), ..getrlimit(Resource::Nofile) }).unwrap();
}
