//! Splits Rust source text into the tokens that paths consist of: identifiers and punctuation, without comments and
//! literals.

/// An identifier or one punctuation character, and the line that contains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub line: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenKind {
    Ident(String),
    Punct(char),
}

impl Token {
    pub(super) fn ident(&self) -> Option<&str> {
        match &self.kind {
            TokenKind::Ident(name) => Some(name),
            TokenKind::Punct(_) => None,
        }
    }

    pub(super) fn is(&self, punct: char) -> bool {
        self.kind == TokenKind::Punct(punct)
    }
}

/// Returns the tokens of a source file.
///
/// Comments, strings, characters, numbers and lifetimes are dropped, because no path begins in them.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: text, line: 1 };
    let mut tokens = Vec::new();
    while let Some(first) = lexer.peek() {
        let line = lexer.line;
        if lexer.rest.starts_with("//") {
            lexer.skip_while(|c| c != '\n');
        } else if lexer.rest.starts_with("/*") {
            lexer.skip_block_comment();
        } else if let Some(hashes) = raw_string_hashes(lexer.rest) {
            lexer.skip_raw_string(hashes);
        } else if first == '"' || is_prefixed_string(lexer.rest) {
            lexer.skip_while(|c| c != '"');
            lexer.skip_quoted('"');
        } else if lexer.rest.starts_with("b'") {
            lexer.advance(1);
            lexer.skip_quoted('\'');
        } else if first == '\'' {
            lexer.skip_char_or_lifetime();
        } else if first.is_ascii_digit() {
            lexer.skip_while(|c| c.is_alphanumeric() || c == '_');
        } else if first.is_alphabetic() || first == '_' {
            if lexer.rest.starts_with("r#") {
                lexer.advance(2);
            }
            let name = lexer.skip_while(|c| c.is_alphanumeric() || c == '_').to_owned();
            tokens.push(Token { kind: TokenKind::Ident(name), line });
        } else {
            lexer.advance(first.len_utf8());
            if !first.is_whitespace() {
                tokens.push(Token { kind: TokenKind::Punct(first), line });
            }
        }
    }
    tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let (passed, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.line += passed.matches('\n').count();
        self.rest = rest;
        passed
    }

    fn skip_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        self.advance(end)
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0usize;
        loop {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.advance(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.advance(2);
            } else if let Some(c) = self.peek() {
                self.advance(c.len_utf8());
            } else {
                return;
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Skips a literal that begins and ends with `quote` and may contain escapes.
    fn skip_quoted(&mut self, quote: char) {
        self.advance(1);
        while let Some(c) = self.peek() {
            self.advance(c.len_utf8());
            if c == '\\' {
                let escaped = self.peek().map_or(0, char::len_utf8);
                self.advance(escaped);
            } else if c == quote {
                return;
            }
        }
    }

    fn skip_raw_string(&mut self, hashes: usize) {
        self.skip_while(|c| c != '"');
        let end = format!("\"{}", "#".repeat(hashes));
        let length = self.rest[1..].find(&end).map_or(self.rest.len(), |at| 1 + at + end.len());
        self.advance(length);
    }

    /// Skips a character or a lifetime: `'a'` and `'\n'` are characters, `'a` and `'static` are lifetimes.
    fn skip_char_or_lifetime(&mut self) {
        let mut after = self.rest.chars().skip(1);
        let (second, third) = (after.next(), after.next());
        if second == Some('\\') || third == Some('\'') {
            self.skip_quoted('\'');
        } else {
            self.advance(1);
            self.skip_while(|c| c.is_alphanumeric() || c == '_');
        }
    }
}

/// Returns the number of `#` characters of the raw string at the start of `text`, or `None` if there is no raw string.
fn raw_string_hashes(text: &str) -> Option<usize> {
    let after = ["r", "br", "cr"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix).filter(|after| after.starts_with(['"', '#'])))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn is_prefixed_string(text: &str) -> bool {
    text.starts_with("b\"") || text.starts_with("c\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idents(text: &str) -> Vec<String> {
        tokens(text).iter().filter_map(|token| token.ident().map(str::to_owned)).collect()
    }

    #[test]
    fn only_code_has_tokens() {
        let text = r###"a /* b /* c */ */ // d
            "e \" e" r#"f " f"# b"g" 'h' '\'' 'i b'"' 12u8 r#type j"###;
        assert_eq!(idents(text), ["a", "type", "j"]);
    }

    #[test]
    fn lines_are_counted_through_literals() {
        let all = tokens("\"\n\n\" a\n/*\n*/ b");
        assert_eq!(all.iter().map(|token| token.line).collect::<Vec<_>>(), [3, 5]);
    }
}
