//! Makes text from outside (guests, clients, other users) safe to display on a terminal.

/// Returns whether a character could move the cursor of a terminal, or reorder or hide the text next to it: control
/// characters (including C1, but not the tab), directional marks and overrides (Unicode Standard Annex 9), line and
/// paragraph separators, and invisible tag characters.
#[must_use]
pub fn is_deceptive(character: char) -> bool {
    match character {
        '\t' => false,
        '\u{061c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{e0000}'..='\u{e007f}' => true,
        other => other.is_control(),
    }
}

/// Replaces each [deceptive](is_deceptive) character with an escape sequence, for example `\u{202e}`.
#[must_use]
pub fn escaped(text: &str) -> String {
    if !text.contains(is_deceptive) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_deceptive(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// Replaces the [deceptive](is_deceptive) characters of a JSON text with JSON escape sequences (RFC 8259, section 7).
/// Line endings stay unchanged.
#[must_use]
pub fn escaped_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character != '\n' && is_deceptive(character) {
            // Outside of its strings, a JSON text is ASCII, and control characters in strings are already escaped. So a
            // deceptive character can occur only in a string, where this escape sequence is allowed.
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_control_characters_are_escaped() {
        for deceptive in
            ["\u{1b}[2J", "\u{9b}", "\u{202e}", "\u{2066}", "\u{061c}", "\u{2028}", "\u{e0041}", "\r", "\n", "\u{7f}"]
        {
            let shown = escaped(deceptive);
            assert!(shown.starts_with('\\'), "{shown}");
            assert!(!shown.contains(is_deceptive), "{shown}");
        }
        for plain in ["tab\there", "Grüße", "日本語", "👩\u{200d}🚀", "עברית"] {
            assert_eq!(escaped(plain), plain);
        }
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        assert_eq!(
            escaped_json("{\"a\":\"ü\u{9b}\u{202e}\u{e0041}\"}\n"),
            "{\"a\":\"ü\\u009b\\u202e\\udb40\\udc41\"}\n"
        );
    }
}
