//! Files of variables (`.env`), one `NAME=VALUE` per line.
//!
//! Blank lines, lines that begin with `#`, and `export` before a name are ignored. An unquoted value ends at the end of
//! its line, or before ` #`. In single quotes, all characters are literal. In double quotes, `\n`, `\r`, `\t`, `\"`,
//! `\\` and `\$` are escape sequences. A quoted value may span several lines. `$NAME` is not replaced, because a
//! password may contain any character. If a name occurs more than once, the last value is used.

use std::collections::BTreeMap;

use isomer_ids::is_environment_name;

/// The error for a line that is not a valid assignment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(super) struct InvalidLine {
    pub(super) line: usize,
    pub(super) problem: String,
}

/// Parses the text of a file of variables.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, String>, InvalidLine> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = BTreeMap::new();
    let (mut rest, mut line) = (text, 1);
    while !rest.is_empty() {
        let invalid = |problem: String| InvalidLine { line, problem };
        let (this, below) = rest.split_once('\n').unwrap_or((rest, ""));
        let assignment = this.trim();
        if assignment.is_empty() || assignment.starts_with('#') {
            (rest, line) = (below, line + 1);
            continue;
        }
        let assignment = without_export(assignment);
        let Some((name, _)) = assignment.split_once('=') else {
            // The error shows only a valid name, because the line may be part of a secret that spans several lines.
            return Err(invalid(match is_environment_name(assignment) {
                true => format!("`{assignment}` has no value: write `{assignment}=VALUE`"),
                false => "expected `NAME=VALUE`".to_owned(),
            }));
        };
        let name = name.trim_end();
        if !is_environment_name(name) {
            return Err(invalid(
                "the text before `=` is not the name of a variable: it must have only letters, digits and `_`, and must not start with a digit"
                    .to_owned(),
            ));
        }
        // All text after the `=`, because the value may span several lines.
        let value = rest.split_once('=').map_or("", |(_, value)| value).trim_start_matches([' ', '\t']);
        let (value, below) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => quoted(value, quote).map_err(|problem| invalid(problem.to_owned()))?,
            _ => {
                let (value, below) = value.split_once('\n').unwrap_or((value, ""));
                (plain(value).to_owned(), below)
            }
        };
        if value.contains('\0') {
            return Err(invalid(format!("the value of `{name}` has a NUL character")));
        }
        variables.insert(name.to_owned(), value);
        line += rest[..rest.len() - below.len()].matches('\n').count();
        rest = below;
    }
    Ok(variables)
}

fn without_export(assignment: &str) -> &str {
    match assignment.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => assignment,
    }
}

/// Parses an unquoted value.
fn plain(value: &str) -> &str {
    if value.starts_with('#') {
        return "";
    }
    let comment = value.find(" #").or_else(|| value.find("\t#"));
    value[..comment.unwrap_or(value.len())].trim()
}

/// Parses a quoted value. Returns the value, and the text after the value's last line.
fn quoted(text: &str, quote: char) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut rest = text[1..].chars();
    loop {
        match rest.next() {
            None => return Err("the quote is not closed"),
            Some(c) if c == quote => break,
            Some('\\') if quote == '"' => match rest.next() {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some('t') => value.push('\t'),
                Some(c @ ('"' | '\\' | '$')) => value.push(c),
                Some(c) => value.extend(['\\', c]),
                None => return Err("the quote is not closed"),
            },
            Some('\r') if rest.as_str().starts_with('\n') => {}
            Some(c) => value.push(c),
        }
    }
    let (after, below) = rest.as_str().split_once('\n').unwrap_or((rest.as_str(), ""));
    let after = after.trim();
    if !after.is_empty() && !after.starts_with('#') {
        return Err("unexpected text after the closing quote");
    }
    Ok((value, below))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}")).into_iter().collect()
    }

    #[test]
    fn values_are_parsed() {
        for (text, value) in [
            ("A=1", "1"),
            ("A = spaced out  ", "spaced out"),
            ("export A=x # comment", "x"),
            ("A=a#b", "a#b"),
            ("A=", ""),
            ("A=#", ""),
            ("A='$HOME \\n # x' # comment", "$HOME \\n # x"),
            ("A=\"a\\n\\\"b\\\" \\$c \\d\"", "a\n\"b\" $c \\d"),
            ("A=\"-----BEGIN\nline\n-----END\"", "-----BEGIN\nline\n-----END"),
            ("A=postgres://u:p=w$d@h/db?x=1", "postgres://u:p=w$d@h/db?x=1"),
            ("\u{feff}# first\r\n\r\nA=crlf\r\n", "crlf"),
            ("A=first\nA=last", "last"),
        ] {
            assert_eq!(parsed(text), [("A".to_owned(), value.to_owned())], "{text:?}");
        }
        assert_eq!(parsed("A=\"1\n2\"\nB=3\n").len(), 2);
        assert_eq!(parsed("# nothing\n"), []);
    }

    #[test]
    fn errors_name_their_line() {
        for (text, line, problem) in [
            ("A=1\nnonsense\n", 2, "`nonsense` has no value"),
            ("\n\n1A=1", 3, "is not the name of a variable"),
            ("A=1\nMIIE/secret+", 2, "expected `NAME=VALUE`"),
            ("A=\"two\nlines\"\nB='open\n", 3, "not closed"),
            ("A='x' y", 1, "after the closing quote"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.line == line && error.problem.contains(problem), "{text:?}: {error}");
            assert!(!error.problem.contains("secret"), "{error}");
        }
    }
}
