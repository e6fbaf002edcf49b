//! Finds a list, table or text that is opened and never closed in a file that is not TOML.
//!
//! A TOML parser notices a missing bracket only at one of the following lines, and then reports an error for almost
//! every further line. The mistake is at the line that opens the bracket.

use isomer_diagnostics::{Diagnostic, Span};

/// The maximum depth of nested brackets. In a file with deeper brackets, nothing is found.
const DEPTH_MAX: usize = 64;

/// A list, table or text without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unclosed {
    /// The place of the opening bracket or quotes.
    pub(crate) at: Span,
    /// The name of the value for messages.
    pub(crate) what: &'static str,
    /// The closing bracket or quotes.
    pub(crate) end: &'static str,
}

impl Unclosed {
    /// Returns the error. `next` is the place at which the parser noticed that the value has no end.
    pub(crate) fn diagnostic(self, next: Option<Span>, text: &str) -> Diagnostic {
        let Self { at, what, end } = self;
        let diagnostic = Diagnostic::error(format!("not TOML: this {what} is not closed, expected `{end}`"))
            .code("syntax")
            .at(at, "it begins here");
        // If the parser noticed only at the end of the file that the value is not closed, the place at which it noticed
        // this tells the user nothing.
        let next = next.filter(|next| text.get(next.start..).is_some_and(|rest| !rest.trim().is_empty()));
        match next {
            Some(Span { start, end }) => {
                let next = Span { start, end: end.max(start + 1) };
                diagnostic.related(next, format!("this is not part of the {what}"))
            }
            None => diagnostic,
        }
    }
}

/// Returns an error for the first list, table or text that `text`, which is not TOML, does not close.
#[must_use]
pub fn unclosed_value(text: &str) -> Option<Diagnostic> {
    find(text).map(|value| value.diagnostic(None, text))
}

/// An opening bracket that has not been closed yet.
struct OpenBracket {
    at: usize,
    is_list: bool,
    /// Whether an entry of the table has a key and a `=`, and no comma yet.
    has_key: bool,
    /// Whether a `=` was found where this list or table cannot contain one. The closing bracket is then probably
    /// missing before the `=`.
    is_suspect: bool,
}

impl OpenBracket {
    fn unclosed(&self) -> Unclosed {
        let (what, end) = if self.is_list { ("list", "]") } else { ("table", "}") };
        Unclosed { at: Span { start: self.at, end: self.at + 1 }, what, end }
    }
}

/// Returns the first list, table or text that `text` does not close. Reads the text once.
pub(crate) fn find(text: &str) -> Option<Unclosed> {
    let bytes = text.as_bytes();
    let mut open: Vec<OpenBracket> = Vec::new();
    // `is_line_start`: there are only blanks between the start of the line and `at`. `is_value_start`: there are only
    // blanks between a `=` and `at`.
    let (mut is_line_start, mut is_value_start) = (true, false);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let mut next = at + 1;
        match byte {
            b'#' => next = line_end(bytes, at),
            // The header of a table. The parser reports a missing bracket of a header at the header's own line.
            b'[' if open.is_empty() && is_line_start => next = line_end(bytes, at),
            b'[' | b'{' if is_value_start || !open.is_empty() => {
                if open.len() == DEPTH_MAX {
                    return None;
                }
                open.push(OpenBracket { at, is_list: byte == b'[', has_key: false, is_suspect: false });
            }
            b']' | b'}' => {
                // If nothing is open, the parser reports the bracket that closes nothing.
                let last = open.last()?;
                if last.is_list != (byte == b']') {
                    return Some(open.iter().find(|bracket| bracket.is_suspect).unwrap_or(last).unclosed());
                }
                open.pop();
            }
            b'"' | b'\'' => match string_end(bytes, at) {
                Some(end) => next = end,
                None => {
                    let end = if byte == b'"' { "\"\"\"" } else { "'''" };
                    return Some(Unclosed { at: Span { start: at, end: at + end.len() }, what: "text", end });
                }
            },
            b'=' => {
                if let Some(last) = open.last_mut() {
                    last.is_suspect |= last.is_list || last.has_key;
                    last.has_key = true;
                }
            }
            b',' => open.last_mut().into_iter().for_each(|last| last.has_key = false),
            _ => {}
        }
        let is_blank = matches!(byte, b' ' | b'\t' | b'\r');
        is_line_start = byte == b'\n' || (is_line_start && is_blank);
        is_value_start = byte == b'=' || (is_value_start && is_blank);
        at = next;
    }
    open.iter().find(|bracket| bracket.is_suspect).or(open.first()).map(OpenBracket::unclosed)
}

/// Returns the position of the next line break, or the end of the text.
fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

/// Returns the position after the string that begins at `at`. A string of one line without a closing quote ends at its
/// line break, where the parser reports it. Returns `None` for a string of several lines without an end.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let quote = bytes[at];
    let is_long = bytes[at..].starts_with(&[quote; 3]);
    let mut next = at + if is_long { 3 } else { 1 };
    loop {
        match bytes.get(next) {
            None => return (!is_long).then_some(bytes.len()),
            Some(b'\n') if !is_long => return Some(next),
            Some(b'\\') if quote == b'"' && (is_long || bytes.get(next + 1) != Some(&b'\n')) => next += 1,
            Some(byte) if *byte == quote && !is_long => return Some(next + 1),
            // The text of a string may end with quotes, so the last three of up to five quotes are its end.
            Some(_) if is_long && bytes[next..].starts_with(&[quote; 3]) => {
                let quotes = bytes[next..].iter().take(5).take_while(|byte| **byte == quote).count();
                return Some(next + quotes);
            }
            Some(_) => {}
        }
        next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of the line with the opening bracket, and the text of this line from the bracket on.
    fn found(text: &str) -> Option<(usize, &str)> {
        let start = find(text)?.at.start;
        Some((text[..start].matches('\n').count() + 1, text[start..].lines().next().unwrap_or_default()))
    }

    #[test]
    fn the_opening_bracket_is_found() {
        for (text, place) in [
            ("a = [1, 2\nb = true\n[x.y]\nc = 1\n", (1, "[1, 2")),
            ("[t]\na = [\n  1,\n[x.y]\nc = [2]\n", (2, "[")),
            ("a = { b = [1]\nc = [2]\n[x]\nd = 1\n", (1, "{ b = [1]")),
            ("a = [{ b = 1, c = 2 ]\nd = 1\n", (1, "{ b = 1, c = 2 ]")),
            ("a = { b = [1, c = [2] }\n", (1, "[1, c = [2] }")),
            ("a = [\n  [1, 2],\n  [3\n]\nb = 1\n", (1, "[")),
            ("a = [1\nb = { c = [2 }\n", (1, "[1")),
            ("a = \"]\" # ]\nb = ['[', \"\\\"]\"\nc = 1", (2, "['[', \"\\\"]\"")),
            ("a = \"\"\"text\nb = [1]\n", (1, "\"\"\"text")),
            ("a = '''text\n\\", (1, "'''text")),
            ("a = [", (1, "[")),
        ] {
            assert_eq!(found(text), Some(place), "{text}");
        }
    }

    #[test]
    fn other_mistakes_are_left_to_the_parser() {
        for text in [
            "",
            "[t\na = 1\n",
            "[[t]\na = 1\n",
            "a = [1]]\nb = 2\n",
            "a = {\n  b = 1\n  c = 2\n}\n",
            "a = { b = 1 c = [2] }\n",
            "a = [b = 1]\n",
            "a = \"x\nb = [1]\n",
            "a = run [x\nb = 1\n",
            "a = 1.2.3\n",
            "a = [\"\"\"\"quoted\"\"\"\"\"]\n",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
        assert_eq!(found(&format!("a = {}", "[".repeat(100_000))), None);
    }
}
