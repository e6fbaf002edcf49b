//! A process that has no file descriptor for a connection that the kernel has established.
//!
//! The limit of descriptors applies to a whole process, so this test is a separate program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[allow(dead_code, reason = "shared with the tests of connections, which use the rest")]
#[path = "front/client.rs"]
mod client;
#[allow(dead_code, reason = "shared with the tests of connections, which use the rest")]
#[path = "front/world.rs"]
mod world;

use std::time::Duration;

use isomer_front::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use client::{Http1, connect, head};
use world::{Setup, socket, within};

/// The number of connections for which the process has descriptors.
const FREE: usize = 6;

/// The number of connections that wait for a descriptor.
const WAITING: usize = 40;

#[tokio::test]
async fn connections_that_wait_for_a_descriptor_are_answered_while_the_front_door_drains() {
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
    // The server closes its side of the silent connections only after the clients have closed theirs.
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
    // The entries of the folder include the descriptor with which the folder itself was read. This descriptor is closed
    // by now.
    let open: Vec<u64> = open.map(|number| number.parse().unwrap()).collect();
    let is_free =
        |number: &u64| !open.contains(number) || !std::path::Path::new(&format!("/proc/self/fd/{number}")).exists();
    let limit = (0..).filter(is_free).nth(free).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), ..getrlimit(Resource::Nofile) }).unwrap();
}
