//! Reads one source file: its child modules, imports and definitions, and every path that it mentions.
//!
//! Code under `#[cfg(test)]` is ignored, because tests may use any module.

use std::collections::BTreeSet;

use super::tokens::{Token, tokens};

/// The module structure of one source file.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// The names of the child modules that have their own file.
    pub children: Vec<String>,
    /// The names that `use` declarations bring into scope, each with the path that it refers to.
    pub imports: Vec<(String, Vec<String>)>,
    /// The paths of glob imports, without `*`.
    pub globs: Vec<Mention>,
    /// The names of the items that the file defines.
    pub defines: BTreeSet<String>,
    /// All identifiers. They show which names of a glob import the file uses.
    pub idents: BTreeSet<String>,
    /// All paths that begin with `crate`, `self` or `super`, and all paths of `use` declarations.
    pub mentions: Vec<Mention>,
}

/// A path and the line in which it is mentioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mention {
    pub path: Vec<String>,
    pub line: usize,
}

/// Keywords with which an item can begin, after attributes and visibility.
const ITEM_KEYWORDS: [&str; 13] = [
    "mod",
    "use",
    "fn",
    "impl",
    "struct",
    "enum",
    "trait",
    "const",
    "static",
    "type",
    "async",
    "unsafe",
    "macro_rules",
];
/// Keywords that are followed by the name of the item that they define.
const DEFINING: [&str; 7] = ["fn", "struct", "enum", "trait", "const", "static", "type"];

impl Source {
    pub(super) fn parse(text: &str) -> Self {
        let tokens = without_tests(tokens(text));
        let mut reader = Reader { tokens: &tokens, at: 0, inline: Vec::new(), depth: 0, source: Self::default() };
        reader.run();
        reader.source
    }
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    /// The brace depths at which the surrounding inline modules begin. In an inline module, `super` is the next outer
    /// module of this file.
    inline: Vec<usize>,
    depth: usize,
    source: Source,
}

impl Reader<'_> {
    fn ident(&self, ahead: usize) -> Option<&str> {
        self.tokens.get(self.at + ahead)?.ident()
    }

    fn is(&self, ahead: usize, punct: char) -> bool {
        self.tokens.get(self.at + ahead).is_some_and(|token| token.is(punct))
    }

    /// Returns whether `::` begins at the token `at + ahead`.
    fn is_path_separator(&self, ahead: usize) -> bool {
        self.is(ahead, ':') && self.is(ahead + 1, ':')
    }

    fn run(&mut self) {
        while let Some(token) = self.tokens.get(self.at) {
            if token.is('{') {
                self.depth += 1;
            } else if token.is('}') {
                self.depth = self.depth.saturating_sub(1);
                self.inline.pop_if(|depth| *depth == self.depth);
            }
            let Some(word) = token.ident() else {
                self.at += 1;
                continue;
            };
            let (word, line) = (word.to_owned(), token.line);
            self.source.idents.insert(word.clone());
            match word.as_str() {
                // The path in a visibility (`pub(in a)`) is not a reference.
                "pub" if self.is(1, '(') => self.skip_to(')'),
                "mod" => self.module(),
                "use" => {
                    self.at += 1;
                    self.use_tree(&mut Vec::new());
                }
                "crate" | "self" | "super" if self.is_path_separator(1) && !self.continues_path() => {
                    let path = self.path();
                    self.mention(path, line);
                }
                _ => {
                    if DEFINING.contains(&word.as_str())
                        && let Some(name) = self.ident(1).map(str::to_owned)
                    {
                        self.source.defines.insert(name);
                    }
                    self.at += 1;
                }
            }
        }
    }

    fn skip_to(&mut self, punct: char) {
        while self.at < self.tokens.len() && !self.is(0, punct) {
            self.at += 1;
        }
    }

    /// Reads `mod name;` or the beginning of `mod name { … }`.
    fn module(&mut self) {
        if let Some(name) = self.ident(1).map(str::to_owned) {
            if self.is(2, ';') {
                self.source.children.push(name);
            } else if self.is(2, '{') {
                self.source.defines.insert(name);
                self.inline.push(self.depth);
            }
        }
        self.at += 1;
    }

    fn continues_path(&self) -> bool {
        self.at >= 2 && self.tokens[self.at - 1].is(':') && self.tokens[self.at - 2].is(':')
    }

    /// Reads a path `a::b::c` that begins at the current token.
    fn path(&mut self) -> Vec<String> {
        let mut path = Vec::new();
        while let Some(segment) = self.ident(0).map(str::to_owned) {
            self.source.idents.insert(segment.clone());
            path.push(segment);
            self.at += 1;
            if !(self.is_path_separator(0) && self.ident(2).is_some()) {
                break;
            }
            self.at += 2;
        }
        path
    }

    /// Reads the imports of `a::{b, c as d, e::*}`, relative to `prefix`, up to the `,`, `}` or `;` after them.
    fn use_tree(&mut self, prefix: &mut Vec<String>) {
        let length = prefix.len();
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        prefix.extend(self.path());
        if self.is_path_separator(0) {
            self.at += 2;
        }
        if self.is(0, '*') {
            self.at += 1;
            let path = self.outside_inline(prefix.clone());
            self.source.globs.push(Mention { path, line });
        } else if self.is(0, '{') {
            self.at += 1;
            while self.at < self.tokens.len() && !self.is(0, '}') {
                let begin = self.at;
                self.use_tree(prefix);
                // Each iteration advances, so that the loop ends even for invalid text.
                if self.is(0, ',') || self.at == begin {
                    self.at += 1;
                }
            }
            self.at += 1;
        } else if let Some(last) = prefix.last().cloned() {
            let mut path = prefix.clone();
            let mut name = last;
            if name == "self" && path.len() > 1 {
                path.pop();
                name = path.last().cloned().unwrap_or_default();
            }
            // `path()` stops before `as`, because there is no `::` before it.
            if self.ident(0) == Some("as") {
                name = self.ident(1).unwrap_or("_").to_owned();
                self.at += 2;
            }
            let in_file = self.outside_inline(path.clone());
            if self.inline.is_empty() {
                self.source.imports.push((name, in_file.clone()));
            }
            self.source.mentions.push(Mention { path: in_file, line });
        }
        prefix.truncate(length);
    }

    fn mention(&mut self, path: Vec<String>, line: usize) {
        let path = self.outside_inline(path);
        self.source.mentions.push(Mention { path, line });
    }

    /// Converts a path in inline modules to the path with the same meaning at the top level of the file. Each inline
    /// module removes one `super`.
    fn outside_inline(&self, mut path: Vec<String>) -> Vec<String> {
        let supers = path.iter().take_while(|segment| *segment == "super").count();
        path.drain(..supers.min(self.inline.len()));
        if supers > 0 && supers <= self.inline.len() {
            path.insert(0, "self".to_owned());
        }
        path
    }
}

/// Removes the items, fields and statements with the attribute `#[cfg(test)]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if is_cfg_test(&tokens[at..]) {
            at = end_of_item(&tokens, at);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

fn is_cfg_test(tokens: &[Token]) -> bool {
    let words = |token: &Token| token.ident().map(str::to_owned);
    tokens.len() >= 7
        && tokens[0].is('#')
        && tokens[1].is('[')
        && words(&tokens[2]).as_deref() == Some("cfg")
        && tokens[3].is('(')
        && words(&tokens[4]).as_deref() == Some("test")
        && tokens[5].is(')')
        && tokens[6].is(']')
}

/// Returns the index of the token after an item. `at` is the index of the first token of the item's first attribute.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    // Skips all attributes of the item.
    while at + 1 < tokens.len() && tokens[at].is('#') && tokens[at + 1].is('[') {
        at += 1;
        at = closing(tokens, at) + 1;
    }
    let mut words = tokens[at.min(tokens.len())..].iter().take(6).map_while(|token| {
        // The parentheses of a visibility such as `pub(in a)` are skipped, because they precede the keyword.
        token.ident().or(Some("").filter(|_| token.is('(') || token.is(')')))
    });
    let is_item = words.any(|word| ITEM_KEYWORDS.contains(&word));
    while at < tokens.len() {
        let token = &tokens[at];
        if token.is('{') || token.is('(') || token.is('[') {
            let end = closing(tokens, at);
            at = end + 1;
            if token.is('{') && is_item && !tokens.get(at).is_some_and(|next| next.is(';')) {
                return at;
            }
        } else if token.is('}') || token.is(')') || token.is(']') {
            return at;
        } else if token.is(';') || token.is(',') && !is_item {
            return at + 1;
        } else {
            at += 1;
        }
    }
    at
}

/// Returns the index of the bracket that closes the bracket at `at`.
fn closing(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        if token.is('{') || token.is('(') || token.is('[') {
            depth += 1;
        } else if token.is('}') || token.is(')') || token.is(']') {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return index;
            }
        }
    }
    tokens.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mentions(text: &str) -> Vec<String> {
        Source::parse(text).mentions.iter().map(|mention| mention.path.join("::")).collect()
    }

    #[test]
    fn imports_and_paths_are_found() {
        let text = "use crate::a::{self, b as c, d::{E, F}};\nuse super::g;\nfn h(x: &crate::i::J) -> super::K {}\n";
        let expected =
            ["crate::a", "crate::a::b", "crate::a::d::E", "crate::a::d::F", "super::g", "crate::i::J", "super::K"];
        assert_eq!(mentions(text), expected);
        let source = Source::parse(text);
        let names: Vec<&str> = source.imports.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "c", "E", "F", "g"]);
        assert!(source.defines.contains("h"));
    }

    #[test]
    fn tests_and_visibilities_are_ignored() {
        assert_eq!(
            mentions("pub(in crate::a) struct B;\n#[cfg(test)]\nmod tests { use crate::c; }\nuse crate::d;"),
            ["crate::d"]
        );
        assert_eq!(mentions("#[cfg(test)]\nuse crate::{a, b};\nuse crate::c;"), ["crate::c"]);
        assert_eq!(mentions("struct A { #[cfg(test)] b: crate::B, c: crate::C }"), ["crate::C"]);
        assert_eq!(
            mentions("#[cfg(test)]\n#[must_use]\nfn a(b: [u8; 3]) { crate::c() }\nfn d() { crate::e() }"),
            ["crate::e"]
        );
    }

    #[test]
    fn inline_modules_are_part_of_the_file() {
        let source = Source::parse("mod a;\nmod b { use super::c; use super::super::d; }\nuse super::e;");
        assert_eq!(source.children, ["a"]);
        let paths: Vec<String> = source.mentions.iter().map(|mention| mention.path.join("::")).collect();
        assert_eq!(paths, ["self::c", "super::d", "super::e"]);
    }
}
