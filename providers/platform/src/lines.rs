//! The lines that the provider writes to standard error.

use std::io::Write as _;

/// The maximum length of a line, in bytes. The rest is cut off.
const LINE_BYTES_MAX: usize = 8 << 10;

/// Writes one line. Line breaks in the message are escaped, so that a component cannot imitate the lines of another
/// one. A line that the host does not accept is lost, as on a node whose log cannot be written.
pub(crate) fn write(level: &str, component: &str, message: &str) {
    let mut line = format!("{level:<8} {component}: ");
    for character in message.chars() {
        if line.len() >= LINE_BYTES_MAX {
            line.push('…');
            break;
        }
        match character {
            '\n' | '\r' | '\u{1b}' | '\0' => line.extend(character.escape_default()),
            character => line.push(character),
        }
    }
    line.push('\n');
    let _ = std::io::stderr().write_all(line.as_bytes());
}
