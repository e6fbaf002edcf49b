//! The node's side of the communication with one child process of the compiler: sends the task and receives the output.
//!
//! The child is treated as hostile: the size of everything that it sends is limited, and an unexpected message ends the
//! session. The node writes the received bytes to files, on blocking threads.

use std::fs::File;
use std::io::{self, Seek as _, Write};

use isomer_runtime::code::{CodeCache, SealedFile};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::ChildStderr;
use tokio::sync::mpsc;

use super::error::CompileError;
use super::protocol::{ChildMessage, ChildTask, CompilePhase, PackageDraft};
use super::sandbox::Confinement;
use crate::revisions::release::RELEASE_BYTES_MAX;

/// The maximum number of bytes of all messages of one child together.
const MESSAGE_BYTES_MAX: u64 = 16 << 20;

/// The maximum number of bytes of all compositions of a release: the maximum size of a release, plus the code that
/// connects its components.
const COMPOSED_BYTES_MAX: u64 = RELEASE_BYTES_MAX + (64 << 20);

/// The maximum number of bytes of the files of a browser group.
const WEB_FILES_BYTES_MAX: u64 = isomer_apps::web_files::NOTE_BYTES_MAX as u64;

/// The maximum number of bytes that the node stores of a child's standard error.
const ERROR_OUTPUT_BYTES_MAX: u64 = 8 << 10;

/// The limits on received output that waits to be written to disk: the maximum size of a chunk in bytes, and the
/// maximum number of waiting chunks.
const OUTPUT_CHUNK_BYTES: u64 = 64 << 10;
const OUTPUT_CHUNKS_WAITING_MAX: usize = 8;

/// The maximum number of bytes of input that are read from the disk at a time.
const INPUT_CHUNK_BYTES: usize = 256 << 10;

/// The task of a session's child, with what the node needs to receive its output: for example, the file to which the
/// compiled code is written.
pub(super) enum SessionPurpose {
    Nothing,
    Compose { cache: CodeCache, groups_max: usize },
    Compile(Option<SealedFile>),
}

/// The output of a child.
#[derive(Default)]
pub(super) struct SessionOutput {
    pub(super) confinement: Option<Confinement>,
    pub(super) drafted: Option<PackageDraft>,
    pub(super) compositions: Vec<Composition>,
    /// The files of the browser group, as a note for the code cache.
    pub(super) files: Option<Composition>,
    /// The metadata of a group that was composed with probes.
    pub(super) probed: Option<String>,
    pub(super) code: Option<SealedFile>,
}

/// A composed group, or the files of a browser group, stored in an unnamed temporary file.
pub(super) struct Composition {
    pub(super) file: File,
    pub(super) bytes: u64,
    pub(super) digest: [u8; 32],
}

/// The reason why a session has no output.
pub(super) enum SessionError {
    /// The child has exited, or has closed its end of the channel.
    Ended,
    /// The session ended with this error. The error states whether the child refused the release, the child's output
    /// was invalid, or the node failed.
    Failed(CompileError),
}

impl From<CompileError> for SessionError {
    fn from(error: CompileError) -> Self {
        Self::Failed(error)
    }
}

/// A session with one child process.
pub(super) struct ChildSession {
    /// The last phase that the child reported.
    pub(super) phase: CompilePhase,
    pub(super) purpose: SessionPurpose,
    /// The maximum size in bytes of the compiled code of one group.
    pub(super) file_bytes: u64,
}

impl ChildSession {
    pub(super) async fn run(
        &mut self,
        channel: UnixStream,
        task: &ChildTask,
        inputs: Vec<(File, u64)>,
    ) -> Result<SessionOutput, SessionError> {
        let (input, mut output) = channel.into_split();
        let mut feeding = std::pin::pin!(feed(&mut output, task, inputs));
        let mut listening = std::pin::pin!(self.listen(input));
        tokio::select! {
            biased;
            result = &mut listening => result,
            fed = &mut feeding => match fed {
                // End the session now. Otherwise, the child would wait for the missing input until its time limit, and
                // hold a permit that other requests need.
                Err(FeedError::Input(source)) => Err(disk(source).into()),
                // A child that stops reading sends a message with the reason.
                Ok(()) | Err(FeedError::Child) => listening.await,
            },
        }
    }

    async fn listen(&mut self, input: OwnedReadHalf) -> Result<SessionOutput, SessionError> {
        let mut input = BufReader::new(input);
        let mut received = SessionOutput::default();
        let (mut message_bytes_left, mut composed_left) = (MESSAGE_BYTES_MAX, COMPOSED_BYTES_MAX);
        let mut line = String::new();
        loop {
            line.clear();
            let read = (&mut input).take(message_bytes_left).read_line(&mut line).await;
            message_bytes_left -= line.len() as u64;
            let Ok(1..) = read else { return Err(SessionError::Ended) };
            let Ok(message) = serde_json::from_str(&line) else {
                return Err(CompileError::InvalidOutput { phase: self.phase.clone() }.into());
            };
            match (message, &mut self.purpose) {
                (ChildMessage::Confined(confinement), purpose) => {
                    received.confinement = Some(confinement);
                    if let SessionPurpose::Nothing = purpose {
                        return Ok(received);
                    }
                }
                (ChildMessage::Phase(phase), _) => self.phase = phase,
                (ChildMessage::Refused(problem), _) => return Err(CompileError::Refused(problem).into()),
                (ChildMessage::Composed(bytes), SessionPurpose::Compose { cache, groups_max })
                    if received.compositions.len() < *groups_max && bytes <= composed_left =>
                {
                    composed_left -= bytes;
                    let cache = cache.clone();
                    let file = blocking(move || cache.scratch()).await?;
                    let written = receive(&mut input, bytes, DigestWriter { file, hasher: Sha256::new() }).await?;
                    received.compositions.push(written.composition(bytes)?);
                }
                (ChildMessage::WebFiles(bytes), SessionPurpose::Compose { cache, .. })
                    if received.files.is_none() && bytes <= WEB_FILES_BYTES_MAX =>
                {
                    let cache = cache.clone();
                    let file = blocking(move || cache.scratch()).await?;
                    let written = receive(&mut input, bytes, DigestWriter { file, hasher: Sha256::new() }).await?;
                    received.files = Some(written.composition(bytes)?);
                }
                (ChildMessage::Drafted(drafted), SessionPurpose::Compose { .. }) => {
                    received.drafted = Some(drafted);
                    return Ok(received);
                }
                (ChildMessage::Probed(metadata), SessionPurpose::Compose { .. }) => {
                    received.probed = metadata;
                    return Ok(received);
                }
                (ChildMessage::Compiled(bytes), SessionPurpose::Compile(_)) if bytes > self.file_bytes => {
                    let (file_bytes, phase) = (self.file_bytes, self.phase.clone());
                    return Err(CompileError::FileTooLarge { file_bytes, phase }.into());
                }
                (ChildMessage::Compiled(bytes), SessionPurpose::Compile(sealing)) => {
                    let sealing = sealing.take().ok_or(SessionError::Ended)?;
                    received.code = Some(receive(&mut input, bytes, sealing).await?);
                    return Ok(received);
                }
                _ => return Err(CompileError::InvalidOutput { phase: self.phase.clone() }.into()),
            }
        }
    }
}

/// The reason why a child did not receive all of its input.
enum FeedError {
    /// The input cannot be read from the disk.
    Input(io::Error),
    /// The child has stopped reading.
    Child,
}

/// Sends a child its task and the input of the task. Leaves the channel open, because the child exits when the channel
/// is closed.
async fn feed(output: &mut OwnedWriteHalf, task: &ChildTask, inputs: Vec<(File, u64)>) -> Result<(), FeedError> {
    let mut line = serde_json::to_vec(task).expect("a task is plain data");
    line.push(b'\n');
    output.write_all(&line).await.map_err(|_| FeedError::Child)?;
    let mut chunk = Vec::with_capacity(INPUT_CHUNK_BYTES);
    for (file, bytes) in inputs {
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(INPUT_CHUNK_BYTES);
        let mut left = bytes;
        while left > 0 {
            chunk.clear();
            let read = (&mut file)
                .take(left.min(INPUT_CHUNK_BYTES as u64))
                .read_buf(&mut chunk)
                .await
                .map_err(FeedError::Input)?;
            if read == 0 {
                return Err(FeedError::Input(io::ErrorKind::UnexpectedEof.into()));
            }
            left -= read as u64;
            output.write_all(&chunk).await.map_err(|_| FeedError::Child)?;
        }
    }
    Ok(())
}

/// Receives the `bytes` bytes that follow a message, and writes them to `sink` on a blocking thread.
async fn receive<W: Write + Send + 'static>(
    input: &mut BufReader<OwnedReadHalf>,
    mut bytes: u64,
    mut sink: W,
) -> Result<W, SessionError> {
    let (chunks, mut waiting) = mpsc::channel::<Vec<u8>>(OUTPUT_CHUNKS_WAITING_MAX);
    let written = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = waiting.blocking_recv() {
            sink.write_all(&chunk)?;
        }
        Ok(sink)
    });
    while bytes > 0 {
        let room = bytes.min(OUTPUT_CHUNK_BYTES);
        let mut chunk = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
        match input.take(room).read_buf(&mut chunk).await {
            Ok(read @ 1..) => bytes -= read as u64,
            _ => return Err(SessionError::Ended),
        }
        // Sending fails only if the writing thread has failed. The error of that thread is returned below.
        if chunks.send(chunk).await.is_err() {
            break;
        }
    }
    drop(chunks);
    Ok(written.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(disk)?)
}

fn disk(source: io::Error) -> CompileError {
    CompileError::Disk { source }
}

/// Runs file operations on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, CompileError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(disk)
}

/// Reads a child's standard error to its end, and returns the first [`ERROR_OUTPUT_BYTES_MAX`] bytes.
pub(super) async fn read_error_output(stderr: Option<ChildStderr>) -> String {
    let mut text = Vec::new();
    if let Some(mut stderr) = stderr {
        let _ = (&mut stderr).take(ERROR_OUTPUT_BYTES_MAX).read_to_end(&mut text).await;
        // Discard the remaining output. A child whose pipe is full would block.
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A file whose content is hashed while it is written.
struct DigestWriter {
    file: File,
    hasher: Sha256,
}

impl Write for DigestWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DigestWriter {
    fn composition(mut self, bytes: u64) -> Result<Composition, CompileError> {
        self.file.rewind().map_err(disk)?;
        Ok(Composition { file: self.file, bytes, digest: self.hasher.finalize().into() })
    }
}
