//! A node's talk with one compiling child: gives it its work, takes what it answers. The child is taken for hostile: whatever it says is
//! bounded, a word that is not due ends the talk, and bytes go to files of the node's own, by threads that may block.

use std::fs::File;
use std::io::{self, Seek as _, Write};

use isomer_runtime::code::{CodeCache, Sealing};
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

/// The most bytes of all words of a child.
const WORDS_BYTES_MAX: u64 = 16 << 20;

/// The most bytes of all compositions of a release: as many as it may have, and what joins them.
const COMPOSED_BYTES_MAX: u64 = RELEASE_BYTES_MAX + (64 << 20);

/// Bytes of a child's standard error that are looked at.
const LAST_WORDS_BYTES_MAX: u64 = 8 << 10;

/// Bytes that are taken at a time, and how many such pieces may wait for the disk.
const PIECE_BYTES: u64 = 64 << 10;
const PIECES_WAITING_MAX: usize = 8;

/// Bytes of its input that are read from the disk at a time.
const FED_BYTES: usize = 256 << 10;

/// What a child is started for, with what is needed to take its answer.
pub(super) enum Purpose {
    Nothing,
    Compose { cache: CodeCache, groups_max: usize },
    Compile(Option<Sealing>),
}

/// What a child has answered.
#[derive(Default)]
pub(super) struct SessionOutput {
    pub(super) confinement: Option<Confinement>,
    pub(super) drafted: Option<PackageDraft>,
    pub(super) compositions: Vec<Composition>,
    pub(super) code: Option<Sealing>,
}

/// A composed group, in a file without a name.
pub(super) struct Composition {
    pub(super) file: File,
    pub(super) bytes: u64,
    pub(super) digest: [u8; 32],
}

/// Why there is no answer.
pub(super) enum SessionError {
    /// The child has ended, or is about to.
    Ended,
    /// For a reason of its own.
    Refused(CompileError),
}

impl From<CompileError> for SessionError {
    fn from(error: CompileError) -> Self {
        Self::Refused(error)
    }
}

/// One talk.
pub(super) struct ChildSession {
    /// What the child says that it does.
    pub(super) doing: CompilePhase,
    pub(super) purpose: Purpose,
    /// The most bytes of code.
    pub(super) file_bytes: u64,
}

impl ChildSession {
    pub(super) async fn hold(
        &mut self,
        channel: UnixStream,
        work: &ChildTask,
        inputs: Vec<(File, u64)>,
    ) -> Result<SessionOutput, SessionError> {
        let (said, mut to_say) = channel.into_split();
        let mut feeding = std::pin::pin!(feed(&mut to_say, work, inputs));
        let mut listening = std::pin::pin!(self.listen(said));
        tokio::select! {
            biased;
            answer = &mut listening => answer,
            fed = &mut feeding => match fed {
                // The child would wait for the rest until its time is up, with a place that others wait for.
                Err(FeedError::Input(source)) => Err(disk(source).into()),
                // Where the child does not read, what it says is its last word.
                Ok(()) | Err(FeedError::Child) => listening.await,
            },
        }
    }

    async fn listen(&mut self, said: OwnedReadHalf) -> Result<SessionOutput, SessionError> {
        let mut said = BufReader::new(said);
        let mut answer = SessionOutput::default();
        let (mut words_left, mut composed_left) = (WORDS_BYTES_MAX, COMPOSED_BYTES_MAX);
        let mut line = String::new();
        loop {
            line.clear();
            let read = (&mut said).take(words_left).read_line(&mut line).await;
            words_left -= line.len() as u64;
            let Ok(1..) = read else { return Err(SessionError::Ended) };
            let Ok(word) = serde_json::from_str(&line) else {
                return Err(CompileError::Nonsense { doing: self.doing.clone() }.into());
            };
            match (word, &mut self.purpose) {
                (ChildMessage::Confined(confinement), purpose) => {
                    answer.confinement = Some(confinement);
                    if let Purpose::Nothing = purpose {
                        return Ok(answer);
                    }
                }
                (ChildMessage::Doing(doing), _) => self.doing = doing,
                (ChildMessage::Refused(problem), _) => return Err(CompileError::Refused(problem).into()),
                (ChildMessage::Composed(bytes), Purpose::Compose { cache, groups_max })
                    if answer.compositions.len() < *groups_max && bytes <= composed_left =>
                {
                    composed_left -= bytes;
                    let cache = cache.clone();
                    let file = blocking(move || cache.scratch()).await?;
                    let taken = receive(&mut said, bytes, DigestWriter { file, hasher: Sha256::new() }).await?;
                    answer.compositions.push(taken.composition(bytes)?);
                }
                (ChildMessage::Drafted(drafted), Purpose::Compose { .. }) => {
                    answer.drafted = Some(drafted);
                    return Ok(answer);
                }
                (ChildMessage::Compiled(bytes), Purpose::Compile(_)) if bytes > self.file_bytes => {
                    let (file_bytes, doing) = (self.file_bytes, self.doing.clone());
                    return Err(CompileError::FileTooLarge { file_bytes, doing }.into());
                }
                (ChildMessage::Compiled(bytes), Purpose::Compile(sealing)) => {
                    let sealing = sealing.take().ok_or(SessionError::Ended)?;
                    answer.code = Some(receive(&mut said, bytes, sealing).await?);
                    return Ok(answer);
                }
                _ => return Err(CompileError::Nonsense { doing: self.doing.clone() }.into()),
            }
        }
    }
}

/// Why a child has not got all that it is to read.
enum FeedError {
    /// What it is to read cannot be read here.
    Input(io::Error),
    /// It does not read.
    Child,
}

/// Gives a child its work, and the bytes that belong to it. The channel stays open after that: its end would be the child's.
async fn feed(to_say: &mut OwnedWriteHalf, work: &ChildTask, inputs: Vec<(File, u64)>) -> Result<(), FeedError> {
    let mut line = serde_json::to_vec(work).expect("work is plain data");
    line.push(b'\n');
    to_say.write_all(&line).await.map_err(|_| FeedError::Child)?;
    let mut piece = Vec::with_capacity(FED_BYTES);
    for (file, bytes) in inputs {
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(FED_BYTES);
        let mut left = bytes;
        while left > 0 {
            piece.clear();
            let read =
                (&mut file).take(left.min(FED_BYTES as u64)).read_buf(&mut piece).await.map_err(FeedError::Input)?;
            if read == 0 {
                return Err(FeedError::Input(io::ErrorKind::UnexpectedEof.into()));
            }
            left -= read as u64;
            to_say.write_all(&piece).await.map_err(|_| FeedError::Child)?;
        }
    }
    Ok(())
}

/// Takes `bytes` bytes that follow a word, by a thread that may block.
async fn receive<W: Write + Send + 'static>(
    said: &mut BufReader<OwnedReadHalf>,
    mut bytes: u64,
    mut sink: W,
) -> Result<W, SessionError> {
    let (pieces, mut taken) = mpsc::channel::<Vec<u8>>(PIECES_WAITING_MAX);
    let written = tokio::task::spawn_blocking(move || {
        while let Some(piece) = taken.blocking_recv() {
            sink.write_all(&piece)?;
        }
        Ok(sink)
    });
    while bytes > 0 {
        let room = bytes.min(PIECE_BYTES);
        let mut piece = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
        match said.take(room).read_buf(&mut piece).await {
            Ok(read @ 1..) => bytes -= read as u64,
            _ => return Err(SessionError::Ended),
        }
        // It fails where the disk does, which is told below.
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

/// For what reads and writes files.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, CompileError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(disk)
}

/// The beginning of what a child writes to its standard error.
pub(super) async fn last_words(stderr: Option<ChildStderr>) -> String {
    let mut text = Vec::new();
    if let Some(mut stderr) = stderr {
        let _ = (&mut stderr).take(LAST_WORDS_BYTES_MAX).read_to_end(&mut text).await;
        // What is more than that is read, so that nobody waits for it, and forgotten.
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A file whose content is digested while it is written.
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
