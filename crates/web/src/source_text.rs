//! Makes generated JavaScript smaller: removes comments, indentation, blank lines, and calls of the debug log.
//!
//! The source is split into tokens, so text in strings, templates and regular expressions is never changed. Names stay as
//! they are and line breaks are kept, so the result has the same meaning without an analysis of the program. Compressed,
//! the result is about an eighth larger than the output of a full minifier. `oxc` and `swc` were rejected: they would add
//! minutes to the build and several megabytes to the program, to save about ten kilobytes of a download that is cached.

/// A token of JavaScript, as far as this module distinguishes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// White space without line breaks.
    Space,
    /// A line break.
    Newline,
    /// A comment.
    Comment,
    /// A string, a regular expression, or a part of a template between its delimiters and substitutions.
    Literal,
    /// A name, a keyword, or a number.
    Word,
    /// A single punctuation character.
    Punctuation,
}

/// The error of a source that cannot be split into tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the generated code ends within a token that starts at byte {at}")]
pub struct TokenError {
    /// The position of the token.
    pub at: usize,
}

/// Returns `source` without comments, indentation, blank lines, and the statements that only call the function
/// `debug_log`.
pub(crate) fn condense(source: &str, debug_log: &str) -> Result<String, TokenError> {
    let tokens = tokens(source)?;
    let mut output = String::with_capacity(source.len() / 2);
    let mut position = 0;
    while let Some(&(kind, text)) = tokens.get(position) {
        if kind == Kind::Word
            && text == debug_log
            && starts_statement(&output)
            && let Some(end) = end_of_call(&tokens[position..])
        {
            position += end;
            continue;
        }
        match kind {
            Kind::Comment => {}
            Kind::Space if output.ends_with(['\n', ' ']) || output.is_empty() => {}
            Kind::Space => output.push(' '),
            Kind::Newline => {
                let length = output.trim_end_matches(' ').len();
                output.truncate(length);
                if !output.ends_with('\n') && !output.is_empty() {
                    output.push('\n');
                }
            }
            Kind::Literal | Kind::Word | Kind::Punctuation => output.push_str(text),
        }
        position += 1;
    }
    Ok(output)
}

/// Returns whether the next token of `output` starts a statement, whose removal does not change other statements.
fn starts_statement(output: &str) -> bool {
    output.trim_end().ends_with(['{', '}', ';'])
}

/// Returns the number of tokens of the statement that starts with a name, if it is a call that ends with a semicolon.
fn end_of_call(tokens: &[(Kind, &str)]) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, (kind, text)) in tokens.iter().enumerate().skip(1) {
        match (kind, *text) {
            (Kind::Punctuation, "(" | "[" | "{") => depth += 1,
            (Kind::Punctuation, ")" | "]" | "}") => depth = depth.checked_sub(1)?,
            (Kind::Punctuation, ";") if depth == 0 => return Some(index + 1),
            (Kind::Space, _) => {}
            // Before the parenthesis or after it, only white space and the semicolon may follow.
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Splits `source` into tokens.
fn tokens(source: &str) -> Result<Vec<(Kind, &str)>, TokenError> {
    let mut tokens = Vec::with_capacity(source.len() / 4);
    // For each open template substitution, the number of open braces within it.
    let mut substitutions: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some(first) = source[at..].chars().next() {
        let rest = &source[at..];
        let open = TokenError { at };
        let (kind, length) = match first {
            '\n' => (Kind::Newline, 1),
            first if first.is_whitespace() => (Kind::Space, length_while(rest, |c| c.is_whitespace() && c != '\n')),
            '/' if rest.starts_with("//") => (Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (Kind::Comment, rest.find("*/").ok_or(open)? + 2),
            '/' if regular_expression_allowed(&tokens) => (Kind::Literal, regular_expression(rest).ok_or(open)?),
            '"' | '\'' => (Kind::Literal, delimited(rest, first).ok_or(open)?),
            '`' => {
                let (length, is_open) = template_part(&rest[1..]).ok_or(open)?;
                if is_open {
                    substitutions.push(0);
                }
                (Kind::Literal, length + 1)
            }
            '}' if substitutions.last() == Some(&0) => {
                let (length, is_open) = template_part(&rest[1..]).ok_or(open)?;
                if !is_open {
                    substitutions.pop();
                }
                (Kind::Literal, length + 1)
            }
            first if is_word(first) => (Kind::Word, length_while(rest, is_word)),
            _ => {
                match (first, substitutions.last_mut()) {
                    ('{', Some(depth)) => *depth += 1,
                    ('}', Some(depth)) => *depth -= 1,
                    _ => {}
                }
                (Kind::Punctuation, first.len_utf8())
            }
        };
        tokens.push((kind, &rest[..length]));
        at += length;
    }
    if substitutions.is_empty() { Ok(tokens) } else { Err(TokenError { at }) }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '#')
}

fn length_while(text: &str, is_part: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is_part(c)).unwrap_or(text.len())
}

/// Returns the length of a string with its delimiters, or `None` if it does not end.
fn delimited(text: &str, delimiter: char) -> Option<usize> {
    let mut is_escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == delimiter => return Some(index + c.len_utf8()),
            _ => {}
        }
    }
    None
}

/// Returns the length of a part of a template, up to and including its end or the start of a substitution, and whether
/// it ends with a substitution.
fn template_part(text: &str) -> Option<(usize, bool)> {
    let mut is_escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '`' => return Some((index + 1, false)),
            '$' if text[index + 1..].starts_with('{') => return Some((index + 2, true)),
            _ => {}
        }
    }
    None
}

/// Returns the length of a regular expression with its delimiters. Its flags are the next token.
fn regular_expression(text: &str) -> Option<usize> {
    let (mut is_escaped, mut is_class) = (false, false);
    for (index, c) in text.char_indices().skip(1) {
        match c {
            '\n' => return None,
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '[' => is_class = true,
            ']' => is_class = false,
            '/' if !is_class => return Some(index + 1),
            _ => {}
        }
    }
    None
}

/// Returns whether a slash after `tokens` starts a regular expression: after an operator or a keyword, but not after a
/// value.
fn regular_expression_allowed(tokens: &[(Kind, &str)]) -> bool {
    let last = tokens.iter().rev().find(|(kind, _)| !matches!(kind, Kind::Space | Kind::Newline | Kind::Comment));
    match last {
        None => true,
        Some((Kind::Word, text)) => matches!(*text, "return" | "typeof" | "case" | "in" | "of" | "await" | "else"),
        Some((Kind::Punctuation, text)) => !matches!(*text, ")" | "]" | "}"),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condensed(source: &str) -> String {
        condense(source, "_debugLog").expect("the source has complete tokens")
    }

    #[test]
    fn comments_and_indentation_are_removed() {
        assert_eq!(condensed("  a = 1; // one\n\n\n    /* two\n lines */ b  =  2;\n"), "a = 1;\nb = 2;\n");
        assert_eq!(condensed("a\n// gone\n(b)"), "a\n(b)");
    }

    #[test]
    fn literals_are_unchanged() {
        for source in [
            r#"a = "// no  comment" + '/* \' */';"#,
            "a = `x  // ${b + `//  ${c}`}  /* {`;",
            r"a = b.replace(/[/*]\/  /g, c) / 2;",
            "a = `\\${  //`;",
            "f(`${{ a: 1 }.a}  //`);",
        ] {
            assert_eq!(condensed(source), source);
        }
    }

    #[test]
    fn debug_calls_are_removed_where_they_are_statements() {
        assert_eq!(condensed("{ _debugLog('a', { b: `${c(1)};` }); d(); }"), "{ d(); }");
        assert_eq!(condensed("f(() => _debugLog('a'));"), "f(() => _debugLog('a'));");
        assert_eq!(condensed("if (a) _debugLog('a');\nb();"), "if (a) _debugLog('a');\nb();");
        assert_eq!(condensed("const _debugLog = (...args) => {};"), "const _debugLog = (...args) => {};");
    }

    #[test]
    fn incomplete_tokens_are_errors() {
        for (source, at) in [("a = 'b", 4), ("/* a", 0), ("`a ${b", 6), ("a = /b", 4)] {
            assert_eq!(condense(source, "_debugLog"), Err(TokenError { at }), "{source}");
        }
    }
}
