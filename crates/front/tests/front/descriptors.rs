//! A process that has no descriptor for a connection that the kernel has made.
//!
//! The limit applies to a process, so each of these tests runs this test program again as a child.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::process::Command;
use std::time::Duration;

use isomer_front::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::{Http1, connect, head};
use crate::world::{Setup, socket, within};

/// Marks the child whose descriptors run out.
const INSIDE: &str = "ISOMER_TEST_FEW_DESCRIPTORS";

/// Connections that the child has descriptors for, at the same time.
const FREE: usize = 6;

/// Connections that wait for a descriptor.
const WAITING: usize = 40;

#[test]
fn connections_that_wait_for_a_descriptor_are_answered_while_the_front_door_drains() {
    if std::env::var_os(INSIDE).is_some() {
        return tokio::runtime::Runtime::new().unwrap().block_on(drain_with_few_descriptors());
    }
    let name = "descriptors::connections_that_wait_for_a_descriptor_are_answered_while_the_front_door_drains";
    let made =
        Command::new(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output();
    let made = made.unwrap();
    let said = [made.stdout, made.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(made.status.success(), "{}\n{said}", made.status);
}

async fn drain_with_few_descriptors() {
    let listener = socket();
    let address = listener.local_addr().unwrap();
    // These arrive first, send nothing, and use all descriptors until their grace is over.
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
    // The server's ends are closed when the clients' ends are.
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
    // Among them is the descriptor of the folder, which is closed by now.
    let open: Vec<u64> = open.map(|number| number.parse().unwrap()).collect();
    let is_free =
        |number: &u64| !open.contains(number) || !std::path::Path::new(&format!("/proc/self/fd/{number}")).exists();
    let limit = (0..).filter(is_free).nth(free).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), ..getrlimit(Resource::Nofile) }).unwrap();
}
