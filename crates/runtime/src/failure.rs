//! Why a request got no answer from its guest. The status code is chosen by the front door, in one place.

use std::sync::Arc;
use std::time::Duration;

use isomer_api::Quota;
use isomer_display::{excerpt, size};
use isomer_wire::image::IMAGE_BYTES_MAX;
use isomer_wire::{CallError, CallFailure};

use crate::pool::{OutOfMemory, RoomLimit};

/// The maximum length of one frame of a guest's call stack: a function's name, which the guest's author chose.
const FRAME_BYTES_MAX: usize = 512;

/// What went wrong. The `Display` is for logs; the detail (a backtrace) never goes to a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The guest trapped (or called `exit`). Its instance is gone.
    #[error("the guest trapped: {reason}")]
    Trap {
        /// The trap's own words.
        reason: String,
        /// The guest's call stack, innermost first, one line a frame; empty where there is none.
        backtrace: Vec<String>,
    },
    /// The guest trapped after an allocation was refused at the memory limit.
    #[error("the guest ran out of memory at its limit of {}: {reason}", size(.limit_bytes))]
    Memory {
        /// The limit of the instance.
        limit_bytes: usize,
        /// The trap's own words.
        reason: String,
        /// The guest's call stack.
        backtrace: Vec<String>,
    },
    /// The deadline passed.
    #[error("no answer within the deadline of {} ms", deadline.as_millis())]
    Deadline {
        /// The whole time that the request had.
        deadline: Duration,
        /// Where the guest was, if it was running.
        backtrace: Vec<String>,
    },
    /// All instances are busy and the queue is full.
    #[error("all {instances} instances are busy and {waiting} requests wait")]
    Overloaded {
        /// How many instances the group may have.
        instances: usize,
        /// How many requests wait for one.
        waiting: usize,
    },
    /// There is no room for another instance, and none that is idle could be evicted for it.
    #[error("{limit}")]
    Full {
        /// What was reached.
        limit: RoomLimit,
    },
    /// A quota of the tenant's, which its guest ran into.
    #[error("the tenant is at its quota of {quota}: {reason}")]
    Quota {
        /// Which.
        quota: Quota,
        /// What happened.
        reason: String,
        /// The guest's call stack, where it was stopped.
        backtrace: Vec<String>,
    },
    /// No instance could be made.
    #[error("no instance can be made: {reason}")]
    Instantiate {
        /// Why.
        reason: String,
    },
    /// The handler gave an error instead of a response.
    #[error("the handler answered with the error {code}")]
    Handler {
        /// The `wasi:http/types.error-code`.
        code: String,
        /// Was it that the request's body is larger than allowed?
        body_too_large: bool,
    },
    /// The handler gave a response with a status that final responses do not have.
    #[error("the handler answered with status {status}: 100 to 199 are for what comes before the final response")]
    NotFinal {
        /// The status.
        status: u16,
    },
    /// The handler ended without giving a response.
    #[error("the handler ended without a response")]
    NoResponse,
    /// Another request of the same instance (`concurrency` over 1) trapped or passed its deadline and took it down.
    #[error("another request took down the instance")]
    Neighbour,
    /// A call across a seam has no answer, and the function that was called cannot say so to its caller.
    #[error("the call {seam} failed: {failure}")]
    Call {
        /// Who called whom: `checkout → payment, boutique:shop/payment.charge`.
        seam: Arc<str>,
        /// Why.
        failure: CallFailure,
        /// The caller's call stack.
        backtrace: Vec<String>,
    },
    /// The arguments or the result of a call are more than an image may hold.
    #[error("the values of a call across a seam take more than {}; pass large data in pieces", size(*limit_bytes))]
    ImageTooLarge {
        /// The most bytes of an image.
        limit_bytes: u32,
        /// The guest's call stack.
        backtrace: Vec<String>,
    },
    /// The guest's response broke off: its body is not as long as announced, or was not finished.
    #[error("the response is incomplete: {reason}")]
    Incomplete {
        /// Why.
        reason: String,
    },
    /// A response that is a stream of events reached one of its limits, and was ended.
    #[error("the stream of events was ended: {reason}")]
    StreamEnded {
        /// Which limit.
        reason: String,
    },
    /// The request cannot be handed to a guest.
    #[error("the request is not one that a handler can take: {reason}")]
    BadRequest {
        /// Why.
        reason: String,
    },
}

/// Whose limit it was that memory was refused at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusedBy {
    /// The instance's own.
    Instance {
        /// The limit.
        limit_bytes: usize,
    },
    /// Its account's.
    Account {
        /// The limit.
        limit_bytes: u64,
    },
}

impl From<RoomLimit> for Failure {
    fn from(limit: RoomLimit) -> Self {
        Self::Full { limit }
    }
}

impl From<OutOfMemory> for Failure {
    fn from(full: OutOfMemory) -> Self {
        Self::out_of_memory(full.limit_bytes, Vec::new())
    }
}

impl Failure {
    /// Reads what wasmtime says of a run that ended in an error.
    pub(crate) fn from_trap(error: &wasmtime::Error, refused: Option<RefusedBy>) -> Self {
        let backtrace = backtrace(error);
        if let Some(CallTrap { seam, failure }) = error.downcast_ref() {
            return Self::Call { seam: seam.clone(), failure: failure.clone(), backtrace };
        }
        if backtrace.first().is_some_and(|frame| frame.ends_with(IMAGE_TOO_LARGE)) {
            return Self::ImageTooLarge { limit_bytes: IMAGE_BYTES_MAX, backtrace };
        }
        let reason = match error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            Some(exit) => format!("it called exit with status {}", exit.0),
            None => excerpt::cut(error.root_cause(), excerpt::TEXT_BYTES_MAX),
        };
        match refused {
            Some(RefusedBy::Instance { limit_bytes }) => Self::Memory { limit_bytes, reason, backtrace },
            Some(RefusedBy::Account { limit_bytes }) => Self::out_of_memory(limit_bytes, backtrace),
            None if error.is::<wasmtime::PoolConcurrencyLimitError>() => Self::Full { limit: RoomLimit::Miscount },
            None => Self::Trap { reason, backtrace },
        }
    }

    pub(crate) fn out_of_memory(limit_bytes: u64, backtrace: Vec<String>) -> Self {
        let reason =
            format!("its live instances, and what the node holds for them, take all of its {}", size(limit_bytes));
        Self::Quota { quota: Quota::Memory, reason, backtrace }
    }

    pub(crate) fn out_of_cpu(backtrace: Vec<String>) -> Self {
        let reason = "its guests have used up their processor time, and were stopped".to_owned();
        Self::Quota { quota: Quota::Cpu, reason, backtrace }
    }

    /// The guest's call stack, where there is one.
    pub fn backtrace(&self) -> &[String] {
        match self {
            Self::Trap { backtrace, .. }
            | Self::Memory { backtrace, .. }
            | Self::Deadline { backtrace, .. }
            | Self::Call { backtrace, .. }
            | Self::Quota { backtrace, .. }
            | Self::ImageTooLarge { backtrace, .. } => backtrace,
            _ => &[],
        }
    }

    /// What a caller on the other side of a seam is told. Call stacks stay here, in this side's log.
    pub(crate) fn to_call_failure(&self) -> CallFailure {
        match self {
            Self::Trap { reason, .. } => CallFailure::trap(reason.as_str()),
            Self::Deadline { .. } => CallFailure::deadline(self.to_string()),
            Self::Overloaded { .. } => CallFailure::overloaded(self.to_string()),
            // It may have run when it was stopped.
            Self::Full { .. } | Self::Quota { .. } => {
                CallFailure::Lost { error: CallError::Overloaded, reason: self.to_string(), not_run: false }
            }
            Self::Call { failure, .. } => CallFailure::Trap { reason: self.to_string(), lost: failure.lost() },
            _ => CallFailure::trap(self.to_string()),
        }
    }
}

/// The function of generated parts that traps when an image is too large, by its name in the module.
const IMAGE_TOO_LARGE: &str = "image_too_large";

/// The trap of a caller whose call has no answer.
#[derive(Debug, thiserror::Error)]
#[error("the call {seam} failed: {failure}")]
pub(crate) struct CallTrap {
    pub(crate) seam: Arc<str>,
    pub(crate) failure: CallFailure,
}

/// Returns the frames of a guest's stack by function name, innermost first, without the hash that Rust appends and without the frames
/// that only start a program. With source lines ([`Engine::with_source_lines`](crate::engine::Engine::with_source_lines)), functions that
/// were inlined are frames, too.
pub(crate) fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<wasmtime::WasmBacktrace>() else { return Vec::new() };
    let demangled = |name: &str| excerpt::cut(format_args!("{:#}", rustc_demangle::demangle(name)), FRAME_BYTES_MAX);
    let frames = trace.frames().iter().flat_map(|frame| {
        let module = frame.module().name().unwrap_or("module");
        let function = match frame.func_name() {
            Some(name) => demangled(name),
            None => format!("function {}", frame.func_index()),
        };
        if frame.symbols().is_empty() {
            return vec![(module, function, String::new())];
        }
        let symbols = frame.symbols().iter();
        symbols
            .map(|symbol| {
                let name = symbol.name().map_or_else(|| function.clone(), demangled);
                let line = symbol.line().map_or_else(String::new, |line| format!(":{line}"));
                let place = symbol.file().map_or_else(String::new, |file| format!(" at {file}{line}"));
                (module, name, excerpt::cut(format_args!("{place}"), FRAME_BYTES_MAX))
            })
            .collect()
    });
    let frames: Vec<_> = frames.take(FRAMES_MAX).collect();
    let shown = without_startup(&frames, |(_, name, _)| name);
    let shown = shown.iter();
    shown.map(|(module, name, place)| excerpt::cut(format_args!("{module}: {name}"), FRAME_BYTES_MAX) + place).collect()
}

/// Frames of a call stack that are shown; with inlined functions there may be many times as many as the engine keeps.
const FRAMES_MAX: usize = 256;

/// Functions that run before a program's `main`: the C library's, the Rust standard library's, the linker's. Which of them there
/// are depends on the toolchain, and none of them tells what the program was doing.
const STARTUP: [&str; 7] = [
    "_start",
    "_start.command_export",
    "__main_void",
    "__main_argc_argv",
    "__original_main",
    "std::sys::backtrace::__rust_begin_short_backtrace",
    "std::rt::lang_start",
];

/// The innermost frames, without the outermost ones that are only start-up. All of them where there are no others.
fn without_startup<T>(frames: &[T], name: impl Fn(&T) -> &str) -> &[T] {
    let is_startup = |name: &str| {
        let is_run = name.starts_with("wasi:cli/run@") && name.ends_with("#run");
        is_run || STARTUP.contains(&name) || name.starts_with("std::rt::lang_start::")
    };
    match frames.iter().rposition(|frame| !is_startup(name(frame))) {
        Some(last) => &frames[..=last],
        None => frames,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<'a>(frames: &[&'a str]) -> Vec<&'a str> {
        without_startup(frames, |name| name).to_vec()
    }

    #[test]
    fn a_call_stack_ends_at_the_program_whatever_started_it() {
        let program = ["core::panicking::panic", "tool::work", "tool::main"];
        let by_rustup = ["std::sys::backtrace::__rust_begin_short_backtrace", "__main_void", "_start"];
        let by_debian = ["__main_void", "__original_main", "_start", "_start.command_export", "wasi:cli/run@0.2.6#run"];
        for startup in [&by_rustup[..], &by_debian] {
            assert_eq!(shown(&[&program, startup].concat()), program);
            assert_eq!(shown(startup), startup, "a failure before the program starts");
        }
    }

    #[test]
    fn frames_of_a_composition_stay() {
        let frames = ["inner::work", "_start", "outer::call", "[async-lift]wasi:http/handler@0.3.2#handle"];
        assert_eq!(shown(&frames), frames);
    }
}
