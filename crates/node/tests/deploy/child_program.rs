//! The program that the tests start as a child process. `child LIMITS…` runs the compiler's child process as in the
//! product. `probe LAYERS DIR PORT PID` applies some layers of the sandbox, then tries what an attacker who controls a
//! child would try, and prints the results.
#![allow(clippy::unwrap_used, unsafe_code, reason = "a probe calls the system as an attacker would")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::ptr;

use isomer_node::compiler::sandbox::{self, Confinement, Layer};
use isomer_node::compiler::{ChildLimits, compile_child};
use serde::Serialize;

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["child", memory_bytes, cpu_s, file_bytes, files] => {
            let number = |text: &str| text.parse().unwrap();
            compile_child(ChildLimits {
                memory_bytes: number(memory_bytes),
                cpu_s: number(cpu_s),
                file_bytes: number(file_bytes),
                files: number(files),
            })
        }
        ["probe", layers, dir, port, pid] => {
            sandbox::close_descriptors().unwrap();
            let layers = serde_json::from_str::<Vec<Layer>>(layers).unwrap();
            let confinement = sandbox::confine(&layers).unwrap();
            let tried = probe(Path::new(dir), port.parse().unwrap(), pid.parse().unwrap());
            let tried = tried.into_iter().map(|(what, outcome)| (what, outcome.err().map(|error| error.to_string())));
            let report = Report { confinement, tried: tried.collect() };
            io::stdout().write_all(&serde_json::to_vec(&report).unwrap()).unwrap();
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}

/// The results of the program `probe`, as JSON for the test.
#[derive(Serialize)]
struct Report {
    confinement: Confinement,
    /// The error of each attempt; `None` if the attempt succeeded.
    tried: BTreeMap<&'static str, Option<String>>,
}

fn probe(dir: &Path, port: u16, pid: libc::pid_t) -> Vec<(&'static str, io::Result<()>)> {
    let read = |name: &str| File::open(dir.join(name)).and_then(|mut file| file.read_exact(&mut [0]));
    let call = |outcome: libc::c_long| if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    let process = format!("/proc/{pid}");
    let mut byte = 0_u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let null = ptr::null::<libc::c_void>();
    let page = |protection| {
        // SAFETY: a new mapping, which nothing else uses.
        let page =
            unsafe { libc::mmap(ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
        if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(page) }
    };
    // SAFETY: these calls take numbers, null pointers and locals of this frame, which outlive them; the forked child
    // exits immediately.
    unsafe {
        vec![
            ("read the token", read("admin.token")),
            ("read the state", read("state.redb")),
            ("read the key of compiled code", read("cache.key")),
            ("list compiled code", fs::read_dir(dir.join("cache")).map(drop)),
            ("write compiled code", File::create(dir.join("cache/written")).map(drop)),
            ("write a file", File::create(dir.join("written")).map(drop)),
            ("remove a file", fs::remove_file(dir.join("removable"))),
            ("change a file's mode", {
                let path = std::ffi::CString::new(dir.join("state.redb").to_str().unwrap()).unwrap();
                call(libc::chmod(path.as_ptr(), 0o600).into())
            }),
            ("look into the node's memory", File::open(format!("{process}/mem")).map(drop)),
            ("read the node's environment", fs::read(format!("{process}/environ")).map(drop)),
            ("read what was left open", {
                let mut left = std::mem::ManuallyDrop::new(<File as std::os::fd::FromRawFd>::from_raw_fd(9));
                left.read_exact(&mut [0])
            }),
            ("connect over TCP", TcpStream::connect(("127.0.0.1", port)).map(drop)),
            ("connect over a Unix socket", UnixStream::connect(dir.join("admin.sock")).map(drop)),
            (
                "send over UDP",
                UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", ("127.0.0.1", port)).map(drop)),
            ),
            ("open a packet socket", call(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).into())),
            ("start a program", Command::new("/bin/true").status().map(drop)),
            (
                "fork",
                match libc::fork() {
                    0 => libc::_exit(0),
                    outcome => call(outcome.into()),
                },
            ),
            ("trace the node", call(libc::ptrace(libc::PTRACE_ATTACH, pid, null, null))),
            (
                "read the node's memory by a call",
                call(libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) as libc::c_long),
            ),
            ("signal the node", call(libc::kill(pid, 0).into())),
            (
                "mount",
                call(
                    libc::mount(null.cast(), c"/".as_ptr(), null.cast(), libc::MS_REC | libc::MS_PRIVATE, null).into(),
                ),
            ),
            ("make namespaces", call(libc::unshare(libc::CLONE_NEWUSER).into())),
            ("use keys", call(libc::syscall(libc::SYS_keyctl, 0, 0, 0, 0, 0))),
            ("load a BPF program", call(libc::syscall(libc::SYS_bpf, 0, null, 0))),
            ("set up io_uring", call(libc::syscall(libc::SYS_io_uring_setup, 1, null))),
            ("watch events", call(libc::syscall(libc::SYS_perf_event_open, null, 0, -1, -1, 0))),
            ("make a file in memory", call(libc::syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0))),
            ("map executable memory", page(libc::PROT_READ | libc::PROT_EXEC).map(drop)),
            (
                "make memory executable",
                page(libc::PROT_READ | libc::PROT_WRITE)
                    .and_then(|page| call(libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC).into())),
            ),
        ]
    }
}
