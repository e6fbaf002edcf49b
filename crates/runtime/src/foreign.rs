//! Text that a guest, a client or another process wrote, on its way into a message of the host: an error, a line of a log.
//!
//! It is cut here and nowhere else, before it is copied: formatting stops at the limit, so a text of megabytes costs no more than its
//! beginning.

use std::fmt::{self, Display, Write as _};

/// Bytes of a name (of a store, a host, a method) in a message. What is longer is no name that anything has.
pub const NAME_BYTES_MAX: usize = 128;

/// Bytes of a whole message, and of a text that somebody else worded (the reason of an error).
pub const TEXT_BYTES_MAX: usize = 4 << 10;

/// Bytes of one frame of a guest's call stack: a function's name, which the guest's author chose.
pub(crate) const FRAME_BYTES_MAX: usize = 512;

/// The beginning of what `text` displays, of at most `bytes_max` bytes, and `…` where that is not all.
#[must_use]
pub fn cut(text: impl Display, bytes_max: usize) -> String {
    let mut bounded = Bounded { text: String::new(), bytes_max };
    if write!(bounded, "{text}").is_err() {
        bounded.text.push('…');
    }
    bounded.text
}

/// The beginning of a name, for a message.
#[must_use]
pub fn name(text: &str) -> String {
    cut(text, NAME_BYTES_MAX)
}

/// Refuses what goes beyond its limit, which ends the formatting.
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
    fn what_fits_is_left_as_it_is_and_the_rest_is_cut_between_characters() {
        assert_eq!(cut("four", 4), "four");
        assert_eq!(cut("five and", 4), "five…");
        assert_eq!(cut("ééé", 5), "éé…");
        assert_eq!(cut(format_args!("{:?}", "a\nb"), 4), "\"a\\n…");
    }

    #[test]
    fn a_text_of_any_length_costs_its_beginning_only() {
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
