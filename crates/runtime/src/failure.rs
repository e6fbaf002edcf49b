//! The reasons why a guest gives no response to a request. The front door chooses the HTTP status code for each reason.

use std::sync::Arc;
use std::time::Duration;

use isomer_api::Quota;
use isomer_display::{count, excerpt, size};
use isomer_wire::image::IMAGE_BYTES_MAX;
use isomer_wire::{CallError, CallFailure};

use crate::pool::{OutOfMemory, RoomLimit};
use crate::seam::SeamFunction;

/// The maximum length in bytes of one frame of a guest's call stack. A frame contains a function's name, which the
/// guest's author chose.
const FRAME_BYTES_MAX: usize = 512;

/// Says that all of `instances` are busy.
fn busy(instances: usize) -> String {
    match instances {
        1 => "the only instance is busy".to_owned(),
        all => format!("all {all} instances are busy"),
    }
}

/// The reason why a guest did not complete a request or a call. The `Display` text is for logs. The backtrace is never
/// sent to a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The guest trapped or called `exit`. Its instance is discarded.
    #[error("the guest trapped: {reason}")]
    Trap {
        /// The message of the trap.
        reason: String,
        /// The guest's call stack, innermost frame first, one line for each frame; empty if the trap has no call stack.
        backtrace: Vec<String>,
    },
    /// The guest trapped after it was refused memory at the limit of its instance.
    #[error("the guest ran out of memory at its limit of {}: {reason}", size(.limit_bytes))]
    Memory {
        /// The memory limit of the instance, in bytes.
        limit_bytes: usize,
        /// The message of the trap.
        reason: String,
        /// The guest's call stack, innermost frame first.
        backtrace: Vec<String>,
    },
    /// The deadline of the request or call passed.
    #[error("no response within the deadline of {} ms", deadline.as_millis())]
    Deadline {
        /// The total time that the request was allowed.
        deadline: Duration,
        /// The guest's call stack, innermost frame first; empty if the guest was not running.
        backtrace: Vec<String>,
    },
    /// All instances of the group are busy, and its queue of waiting requests is full.
    #[error("{}, {} waiting", busy(*instances), count(*waiting as u64, "request"))]
    Overloaded {
        /// The maximum number of instances of the group.
        instances: usize,
        /// The number of requests that wait for an instance.
        waiting: usize,
    },
    /// The node has no room for another instance, and no idle instance could be evicted to make room.
    #[error("{limit}")]
    Full {
        /// The limit that was reached.
        limit: RoomLimit,
    },
    /// A quota of the guest's tenant is used up, so the guest was stopped or did not start.
    #[error("the tenant is at its quota of {quota}: {reason}")]
    Quota {
        /// The quota that is used up.
        quota: Quota,
        /// What has used up the quota.
        reason: String,
        /// The guest's call stack, innermost frame first; empty if the guest was not running.
        backtrace: Vec<String>,
    },
    /// Creating an instance failed.
    #[error("cannot create an instance: {reason}")]
    Instantiate {
        /// Why creating the instance failed.
        reason: String,
    },
    /// The handler returned an error instead of a response.
    #[error("the handler returned the error {code}")]
    Handler {
        /// The returned error, a `wasi:http/types.error-code`.
        code: String,
        /// Whether the error means that the body of the request is larger than allowed.
        body_too_large: bool,
    },
    /// The handler returned a response with an informational status, which a final response must not have.
    #[error("the handler responded with status {status}, but the final response cannot have a status of 100 to 199")]
    NotFinal {
        /// The status code of the response.
        status: u16,
    },
    /// The handler returned without a response.
    #[error("the handler returned without a response")]
    NoResponse,
    /// The instance was lost because another request that it was serving (`concurrency` over 1) trapped or missed its
    /// deadline.
    #[error("the instance was lost: another request trapped or missed its deadline")]
    InstanceLost,
    /// A call across a seam failed, and the called function has no error type that could carry the failure to the
    /// caller.
    #[error("the call {seam} failed: {failure}")]
    Call {
        /// The caller, the callee and the function.
        seam: Arc<SeamFunction>,
        /// Why the call failed.
        failure: CallFailure,
        /// The caller's call stack, innermost frame first.
        backtrace: Vec<String>,
    },
    /// The encoded arguments or the encoded result (the image) of a call exceed the maximum length.
    #[error("the values of a call across a seam take more than {}; pass large data in pieces", size(*limit_bytes))]
    ImageTooLarge {
        /// The maximum length of an image (encoded arguments or an encoded result), in bytes.
        limit_bytes: u32,
        /// The guest's call stack, innermost frame first.
        backtrace: Vec<String>,
    },
    /// The request cannot be converted into a request of the guest's handler.
    #[error("the request cannot be passed to a handler: {reason}")]
    BadRequest {
        /// Why the request cannot be converted.
        reason: String,
    },
}

/// The limit because of which a guest was refused memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusedBy {
    /// The memory limit of the guest's instance.
    Instance {
        /// The memory limit of the instance, in bytes.
        limit_bytes: usize,
    },
    /// The memory limit of the account that the guest is charged to.
    Account {
        /// The memory limit of the account, in bytes.
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
    /// Returns the failure for an execution of the guest that ended with `error`. `refused` is the limit because of
    /// which the guest was refused memory during this execution, if any.
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

    /// Returns the guest's call stack, innermost frame first; empty if the failure has none.
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

    /// Converts the failure for the caller on the other side of a seam. The call stack is not included: it stays in the
    /// log of the callee's side.
    pub(crate) fn to_call_failure(&self) -> CallFailure {
        match self {
            Self::Trap { reason, .. } => CallFailure::trap(reason.as_str()),
            Self::Deadline { .. } => CallFailure::deadline(self.to_string()),
            Self::Overloaded { .. } => CallFailure::overloaded(self.to_string()),
            // `not_run` is false, because the call may have partly run before it was stopped.
            Self::Full { .. } | Self::Quota { .. } => {
                CallFailure::Lost { error: CallError::Overloaded, reason: self.to_string(), not_run: false }
            }
            Self::Call { failure, .. } => CallFailure::Trap { reason: self.to_string(), lost: failure.lost() },
            _ => CallFailure::trap(self.to_string()),
        }
    }
}

/// The name of the function in which generated stubs and skeletons trap if an image is too large.
const IMAGE_TOO_LARGE: &str = "image_too_large";

/// The error that makes a caller trap if its call failed.
#[derive(Debug, thiserror::Error)]
#[error("the call {seam} failed: {failure}")]
pub(crate) struct CallTrap {
    pub(crate) seam: Arc<SeamFunction>,
    pub(crate) failure: CallFailure,
}

/// Returns the function names on a guest's call stack, innermost first. Omits the hash that Rust appends to names, and
/// the frames of functions that only start a program. With source lines
/// ([`Engine::with_source_lines`](crate::engine::Engine::with_source_lines)), inlined functions also have frames.
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

/// The maximum number of frames that are shown. The engine limits the recorded frames, but each of them can contain
/// many inlined functions, which are shown as frames too.
const FRAMES_MAX: usize = 256;

/// The functions that run before the `main` function of a program: functions of the C library, the Rust standard
/// library and the linker. The toolchain decides which of them exist. None of them shows what the program was doing.
const STARTUP: [&str; 7] = [
    "_start",
    "_start.command_export",
    "__main_void",
    "__main_argc_argv",
    "__original_main",
    "std::sys::backtrace::__rust_begin_short_backtrace",
    "std::rt::lang_start",
];

/// Returns `frames`, innermost first, without the outermost frames of functions that only start a program. Returns all
/// frames if all of them are frames of such functions.
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
    fn a_call_stack_leaves_out_the_frames_that_start_a_program() {
        let program = ["core::panicking::panic", "tool::work", "tool::main"];
        let by_rustup = ["std::sys::backtrace::__rust_begin_short_backtrace", "__main_void", "_start"];
        let by_debian = ["__main_void", "__original_main", "_start", "_start.command_export", "wasi:cli/run@0.2.6#run"];
        for startup in [&by_rustup[..], &by_debian] {
            assert_eq!(shown(&[&program, startup].concat()), program);
            assert_eq!(shown(startup), startup, "frames of a failure before the program starts are omitted");
        }
    }

    #[test]
    fn frames_of_a_composition_stay() {
        let frames = ["inner::work", "_start", "outer::call", "[async-lift]wasi:http/handler@0.3.2#handle"];
        assert_eq!(shown(&frames), frames);
    }
}
