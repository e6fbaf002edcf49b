//! A node's session with one compiling child: sends the child its task, and receives its output. The child is treated
//! as hostile: everything that it sends is limited in size, and an unexpected message ends the session. The bytes that
//! it sends are written to files of the node, by threads that may block.

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

/// The maximum number of bytes of all messages of a child.
const MESSAGE_BYTES_MAX: u64 = 16 << 20;

/// The maximum number of bytes of all compositions of a release: the maximum for a release, plus the code that connects
/// its components.
const COMPOSED_BYTES_MAX: u64 = RELEASE_BYTES_MAX + (64 << 20);

/// The maximum number of bytes of a child's standard error that are kept.
const ERROR_OUTPUT_BYTES_MAX: u64 = 8 << 10;

/// The number of bytes that are received at a time, and the maximum number of such chunks that wait to be written.
const OUTPUT_CHUNK_BYTES: u64 = 64 << 10;
const OUTPUT_CHUNKS_WAITING_MAX: usize = 8;

/// The number of bytes of input that are read from the disk at a time.
const INPUT_CHUNK_BYTES: usize = 256 << 10;

/// The purpose of a session, with the values that are needed to receive the output.
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
    pub(super) code: Option<SealedFile>,
}

/// A composed group, in an unnamed temporary file.
pub(super) struct Composition {
    pub(super) file: File,
    pub(super) bytes: u64,
    pub(super) digest: [u8; 32],
}

/// Why a session has no output.
pub(super) enum SessionError {
    /// The child has ended, or will end soon.
    Ended,
    /// The session failed for another reason.
    Refused(CompileError),
}

impl From<CompileError> for SessionError {
    fn from(error: CompileError) -> Self {
        Self::Refused(error)
    }
}

/// A session with one child.
pub(super) struct ChildSession {
    /// The phase that the child reported last.
    pub(super) phase: CompilePhase,
    pub(super) purpose: SessionPurpose,
    /// The maximum number of bytes of code.
    pub(super) file_bytes: u64,
}

impl ChildSession {
    pub(super) async fn run(
        &mut self,
        channel: UnixStream,
        work: &ChildTask,
        inputs: Vec<(File, u64)>,
    ) -> Result<SessionOutput, SessionError> {
        let (input, mut output) = channel.into_split();
        let mut feeding = std::pin::pin!(feed(&mut output, work, inputs));
        let mut listening = std::pin::pin!(self.listen(input));
        tokio::select! {
            biased;
            answer = &mut listening => answer,
            fed = &mut feeding => match fed {
                // The session must end now. The child would wait for the missing input until its time is up, and hold a
                // permit for which others wait.
                Err(FeedError::Input(source)) => Err(disk(source).into()),
                // If the child has stopped reading, its next message has the reason.
                Ok(()) | Err(FeedError::Child) => listening.await,
            },
        }
    }

    async fn listen(&mut self, input: OwnedReadHalf) -> Result<SessionOutput, SessionError> {
        let mut input = BufReader::new(input);
        let mut answer = SessionOutput::default();
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
                    answer.confinement = Some(confinement);
                    if let SessionPurpose::Nothing = purpose {
                        return Ok(answer);
                    }
                }
                (ChildMessage::Phase(phase), _) => self.phase = phase,
                (ChildMessage::Refused(problem), _) => return Err(CompileError::Refused(problem).into()),
                (ChildMessage::Composed(bytes), SessionPurpose::Compose { cache, groups_max })
                    if answer.compositions.len() < *groups_max && bytes <= composed_left =>
                {
                    composed_left -= bytes;
                    let cache = cache.clone();
                    let file = blocking(move || cache.scratch()).await?;
                    let taken = receive(&mut input, bytes, DigestWriter { file, hasher: Sha256::new() }).await?;
                    answer.compositions.push(taken.composition(bytes)?);
                }
                (ChildMessage::Drafted(drafted), SessionPurpose::Compose { .. }) => {
                    answer.drafted = Some(drafted);
                    return Ok(answer);
                }
                (ChildMessage::Compiled(bytes), SessionPurpose::Compile(_)) if bytes > self.file_bytes => {
                    let (file_bytes, phase) = (self.file_bytes, self.phase.clone());
                    return Err(CompileError::FileTooLarge { file_bytes, phase }.into());
                }
                (ChildMessage::Compiled(bytes), SessionPurpose::Compile(sealing)) => {
                    let sealing = sealing.take().ok_or(SessionError::Ended)?;
                    answer.code = Some(receive(&mut input, bytes, sealing).await?);
                    return Ok(answer);
                }
                _ => return Err(CompileError::InvalidOutput { phase: self.phase.clone() }.into()),
            }
        }
    }
}

/// Why a child did not receive all of its input.
enum FeedError {
    /// The input cannot be read from the disk.
    Input(io::Error),
    /// The child has stopped reading.
    Child,
}

/// Sends a child its task, and the bytes that belong to it. The channel stays open afterwards, because closing it would
/// end the child.
async fn feed(output: &mut OwnedWriteHalf, work: &ChildTask, inputs: Vec<(File, u64)>) -> Result<(), FeedError> {
    let mut line = serde_json::to_vec(work).expect("work is plain data");
    line.push(b'\n');
    output.write_all(&line).await.map_err(|_| FeedError::Child)?;
    let mut piece = Vec::with_capacity(INPUT_CHUNK_BYTES);
    for (file, bytes) in inputs {
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(INPUT_CHUNK_BYTES);
        let mut left = bytes;
        while left > 0 {
            piece.clear();
            let read = (&mut file)
                .take(left.min(INPUT_CHUNK_BYTES as u64))
                .read_buf(&mut piece)
                .await
                .map_err(FeedError::Input)?;
            if read == 0 {
                return Err(FeedError::Input(io::ErrorKind::UnexpectedEof.into()));
            }
            left -= read as u64;
            output.write_all(&piece).await.map_err(|_| FeedError::Child)?;
        }
    }
    Ok(())
}

/// Receives the `bytes` bytes that follow a message, and writes them on a thread that may block.
async fn receive<W: Write + Send + 'static>(
    input: &mut BufReader<OwnedReadHalf>,
    mut bytes: u64,
    mut sink: W,
) -> Result<W, SessionError> {
    let (pieces, mut taken) = mpsc::channel::<Vec<u8>>(OUTPUT_CHUNKS_WAITING_MAX);
    let written = tokio::task::spawn_blocking(move || {
        while let Some(piece) = taken.blocking_recv() {
            sink.write_all(&piece)?;
        }
        Ok(sink)
    });
    while bytes > 0 {
        let room = bytes.min(OUTPUT_CHUNK_BYTES);
        let mut piece = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
        match input.take(room).read_buf(&mut piece).await {
            Ok(read @ 1..) => bytes -= read as u64,
            _ => return Err(SessionError::Ended),
        }
        // The send fails only if the writing thread has failed. That error is returned below.
        if pieces.send(piece).await.is_err() {
            break;
        }
    }
    drop(pieces);
    Ok(written.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(disk)?)
}

fn disk(source: io::Error) -> CompileError {
    CompileError::Disk { source }
}

/// Runs file operations on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, CompileError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(disk)
}

/// Returns the beginning of what a child writes to its standard error.
pub(super) async fn read_error_output(stderr: Option<ChildStderr>) -> String {
    let mut text = Vec::new();
    if let Some(mut stderr) = stderr {
        let _ = (&mut stderr).take(ERROR_OUTPUT_BYTES_MAX).read_to_end(&mut text).await;
        // The rest is read and discarded, so that the child does not block.
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
