//! Source files: text with a name, and places in the text.
//!
//! A [`Span`] is a range of bytes of a source file. A [`SourceFile`] is created from text that the caller has read.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

/// A range of bytes in a source file, from `start` up to but not including `end`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Span {
    /// The offset of the first byte of the range.
    pub start: usize,
    /// The offset after the last byte of the range.
    pub end: usize,
}

impl Span {
    /// The span of values that no file contains: default values, and values of apps without a manifest.
    pub const NONE: Self = Self { start: 0, end: 0 };

    /// Returns whether this is [`Span::NONE`].
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// A line and a column of a source file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The number of the line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// A source file: its text, and its name in messages. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceFile {
    name: Arc<str>,
    text: Arc<str>,
}

impl SourceFile {
    /// Creates a source file. `name` is the path that messages show.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// Returns the path that messages show.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the text of the file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the line and column of a byte offset. An offset after the end is treated as the end of the text, and an
    /// offset inside a character as the start of the character.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let before = &self.text[..self.floor(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// Returns the range of the line that contains `offset`, without its line ending.
    #[must_use]
    pub fn line_at(&self, offset: usize) -> Range<usize> {
        let offset = self.floor(offset);
        let start = self.text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[offset..].find('\n').map_or(self.text.len(), |newline| offset + newline);
        let end = if end > start && self.text[start..end].ends_with('\r') { end - 1 } else { end };
        start..end
    }

    /// Returns the start of the character that contains `offset`.
    pub(crate) fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// Prints only the name and the size, because the text of a manifest must not be in logs.
impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceFile({:?}, {} bytes)", self.name, self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_and_survive_any_offset() {
        let source = SourceFile::new("a.toml", "äb\r\nc\td\n");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(1), Position { line: 1, column: 1 });
        assert_eq!(source.position(2), Position { line: 1, column: 2 });
        assert_eq!(source.position(7), Position { line: 2, column: 3 });
        assert_eq!(source.position(99), Position { line: 3, column: 1 });
        assert_eq!(&source.text()[source.line_at(1)], "äb");
        assert_eq!(&source.text()[source.line_at(6)], "c\td");
        assert_eq!(&source.text()[source.line_at(99)], "");
    }
}
