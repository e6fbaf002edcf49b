//! Excerpts of text that a guest, a client or another process wrote, for messages of the platform: errors and log records.
//!
//! Text is cut before it is copied: formatting stops at the limit, so a text of megabytes costs no more than its beginning.

use std::fmt::{self, Display, Write as _};

/// The maximum length of a name (of a store, a host, a method) in a message. No valid name is longer.
pub const NAME_BYTES_MAX: usize = 128;

/// The maximum length of a message, and of a text in it that the platform did not write (the reason of an error).
pub const TEXT_BYTES_MAX: usize = 4 << 10;

/// Returns the first `bytes_max` bytes of what `text` displays, followed by `…` if there are more. Does not split a character.
#[must_use]
pub fn cut(text: impl Display, bytes_max: usize) -> String {
    let mut bounded = Bounded { text: String::new(), bytes_max };
    if write!(bounded, "{text}").is_err() {
        bounded.text.push('…');
    }
    bounded.text
}

/// Returns the beginning of a name, for a message.
#[must_use]
pub fn name(text: &str) -> String {
    cut(text, NAME_BYTES_MAX)
}

/// A string that fails to take more than `bytes_max` bytes, which ends the formatting.
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
