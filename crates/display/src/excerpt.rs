//! Shortens text from guests, clients and other processes before the platform puts the text into an error or a log
//! record.
//!
//! Formatting stops at the limit, so a text of several megabytes costs no more than its first bytes.

use std::fmt::{self, Display, Write as _};

/// The maximum length in bytes of a name (of a store, a host or a method) in a message. No valid name is longer.
pub const NAME_BYTES_MAX: usize = 128;

/// The maximum length in bytes of a message, and of a text inside a message that the platform did not write (for
/// example the error text of a guest).
pub const TEXT_BYTES_MAX: usize = 4 << 10;

/// Formats `text` with `Display`, and returns at most the first `bytes_max` bytes. Appends `…` if the text is longer.
/// Never splits a character.
#[must_use]
pub fn cut(text: impl Display, bytes_max: usize) -> String {
    let mut bounded = Bounded { text: String::new(), bytes_max };
    if write!(bounded, "{text}").is_err() {
        bounded.text.push('…');
    }
    bounded.text
}

/// Shortens a name to [`NAME_BYTES_MAX`] bytes, for a message.
#[must_use]
pub fn name(text: &str) -> String {
    cut(text, NAME_BYTES_MAX)
}

/// A string of at most `bytes_max` bytes. A write beyond this limit fails, which ends the formatting.
struct Bounded {
    text: String,
    bytes_max: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let left = self.bytes_max.saturating_sub(self.text.len());
        if piece.len() <= left {
            self.text.push_str(piece);
            return Ok(());
        }
        self.text.push_str(&piece[..piece.floor_char_boundary(left)]);
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("four", 4), "four");
        assert_eq!(cut("five and", 4), "five…");
        assert_eq!(cut("ééé", 5), "éé…");
        assert_eq!(cut(format_args!("{:?}", "a\nb"), 4), "\"a\\n…");
    }

    #[test]
    fn formatting_stops_at_the_limit() {
        struct Endless;
        impl Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("x")?;
                }
            }
        }
        assert_eq!(cut(Endless, NAME_BYTES_MAX).len(), NAME_BYTES_MAX + '…'.len_utf8());
    }
}
