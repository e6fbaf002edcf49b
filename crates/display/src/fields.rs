//! Formats named values as text.

use std::fmt::{self, Display, Write as _};

use crate::text::{escaped, is_deceptive};

/// Formats pairs as `name=value`, each after a space. Deceptive characters are escaped, and a value is in quotes if it
/// would otherwise be ambiguous.
pub fn fields<K: Display, V: Display>(pairs: impl Iterator<Item = (K, V)>) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        let key = escaped(&key.to_string());
        write!(text, " {key}={}", Quoted(&value.to_string())).expect("writing to a string cannot fail");
    }
    text
}

/// A value, in quotes if necessary.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |character: char| !character.is_whitespace() && !matches!(character, '"' | '=' | '\\');
        if !self.0.is_empty() && self.0.chars().all(is_plain) {
            return f.write_str(&escaped(self.0));
        }
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                other if is_deceptive(other) => write!(f, "{}", other.escape_default())?,
                other => f.write_char(other)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_only_if_they_are_ambiguous() {
        let pairs = [("order", "7"), ("name", "Ada L."), ("x", ""), ("a b", "say \"hi\"\n\u{1b}[2J"), ("y", "1=1")];
        let text = fields(pairs.into_iter());
        assert_eq!(text, " order=7 name=\"Ada L.\" x=\"\" a b=\"say \\\"hi\\\"\\n\\u{1b}[2J\" y=\"1=1\"");
    }
}
