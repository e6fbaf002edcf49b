//! A log's files: `NUMBER.jsonl`, each of bounded size. The file with the highest number is the newest. Only the
//! writer's thread writes to these files.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use isomer_api::LogLine;

/// A position in a log: after the first `bytes` bytes of the file with the number `segment`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) bytes: u64,
}

/// The files of one log, to which the writer's thread appends lines. `end` is the end of the log; `None` if it must be
/// read from the disk.
#[derive(Debug, Default)]
pub(super) struct Segments {
    end: Option<Position>,
}

impl Segments {
    /// Appends `lines`, each of which ends with a newline. Creates another file if the newest file would exceed
    /// `segment_bytes`, and deletes the oldest files so that at most `segments` files exist. `lines` must not be longer
    /// than `segment_bytes`.
    pub(super) fn append(&mut self, folder: &Path, lines: &[u8], segment_bytes: u64, segments: u64) -> io::Result<()> {
        let mut end = self.end(folder)?;
        if end.bytes > 0 && end.bytes + lines.len() as u64 > segment_bytes {
            end = Position { segment: end.segment + 1, bytes: 0 };
            for number in numbers(folder)? {
                if number + segments <= end.segment {
                    ignore_missing(std::fs::remove_file(path(folder, number)))?;
                }
            }
        }
        // A failed write may leave a part of the lines in the file, so the next write must read the file's length
        // again.
        self.end = None;
        let mut file = match open(folder, end.segment) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder)?;
                open(folder, end.segment)?
            }
            opened => opened?,
        };
        file.write_all(lines)?;
        self.end = Some(Position { bytes: end.bytes + lines.len() as u64, ..end });
        Ok(())
    }

    /// Returns the end of the log. Reads it from the disk if it is not known.
    pub(super) fn end(&mut self, folder: &Path) -> io::Result<Position> {
        if let Some(end) = self.end {
            return Ok(end);
        }
        let Some(segment) = numbers(folder)?.last().copied() else { return Ok(Position { segment: 1, bytes: 0 }) };
        let mut file = OpenOptions::new().read(true).append(true).open(path(folder, segment))?;
        let mut bytes = file.metadata()?.len();
        if bytes > 0 {
            // A crash may have cut off the last line. It is ended with a newline, so that it does not merge with the
            // next line.
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != [b'\n'] {
                file.write_all(b"\n")?;
                bytes += 1;
            }
        }
        let end = Position { segment, bytes };
        self.end = Some(end);
        Ok(end)
    }
}

/// Returns the last `count` lines before `end`, the oldest first. Skips text that is not a valid line, such as a line
/// that a crash cut off.
pub(super) fn last_lines(folder: &Path, count: usize, end: Position) -> io::Result<Vec<LogLine>> {
    let mut found = VecDeque::new();
    let mut numbers = numbers(folder)?;
    numbers.retain(|number| *number <= end.segment);
    for number in numbers.into_iter().rev() {
        if found.len() >= count {
            break;
        }
        // The file may have been deleted since the numbers were read, because it was the oldest one.
        let file = match File::open(path(folder, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            opened => opened?,
        };
        let bytes_max = if number == end.segment { end.bytes } else { u64::MAX };
        let mut lines = VecDeque::new();
        let mut reader = BufReader::new(file.take(bytes_max));
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            if let Ok(line) = serde_json::from_slice::<LogLine>(&line) {
                if lines.len() + found.len() == count {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
            line.clear();
        }
        lines.append(&mut found);
        found = lines;
    }
    Ok(found.into())
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.jsonl"))
}

fn open(folder: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path(folder, number))
}

/// Returns the numbers of the log's files in `folder`, in ascending order.
fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
