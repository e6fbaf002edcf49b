//! Tests how errors without a place in a file are rendered: the chain of causes, followed by the hints of all causes.

use std::error::Error;
use std::fmt;
use std::io;

use isomer_diagnostics::{Diagnostic, Diagnostics, HintExt, Hinted, Hints, Renderer, SourceFile, Span};

#[derive(Debug)]
struct Failed {
    what: &'static str,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failed {
    fn because(what: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what, source: Some(source.into()) }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[derive(Debug)]
struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the address `127.0.0.1:8080` is in use")
    }
}

impl Error for Busy {}

impl Hints for Busy {
    fn hints(&self) -> Vec<String> {
        vec!["choose another with `--listen`".to_owned()]
    }
}

fn shown(error: &(dyn Error + 'static)) -> String {
    Renderer::plain().error(error)
}

#[test]
fn the_chain_is_shown_and_then_the_hints() {
    let error = Failed::because("cannot start", Failed::because("cannot listen", Hinted::from(Busy)));
    insta::assert_snapshot!(shown(&error), @r"
    error: cannot start
      caused by: cannot listen
      caused by: the address `127.0.0.1:8080` is in use
    hint: choose another with `--listen`
    ");
}

#[test]
fn causes_with_the_same_message_and_duplicate_hints_are_left_out() {
    let inner = Hinted::new(io::Error::other("the disk is full"), "free some space");
    let error = Hinted::new(Failed::because("the disk is full", inner), "free some space").hint("or use `--data`");
    insta::assert_snapshot!(shown(&error), @r"
    error: the disk is full
    hint: free some space
    hint: or use `--data`
    ");
}

#[test]
fn results_take_hints() {
    let result: Result<(), _> = Err(io::Error::other("no such folder `apps`"));
    let hinted = result.hint("make it with `isomer new apps`").expect_err("the result is an error");
    assert_eq!(hinted.hints(), ["make it with `isomer new apps`"]);
    assert_eq!(hinted.to_string(), "no such folder `apps`");
    assert!(hinted.inner().downcast_ref::<io::Error>().is_some());
}

#[test]
fn messages_of_several_lines_are_indented_and_escaped() {
    let error = Failed::because("the build failed", "error[E0425]: \u{1b}[31mcannot find\nvalue\u{7} `x`\n");
    insta::assert_snapshot!(shown(&error), @r"
    error: the build failed
      caused by: error[E0425]: �[31mcannot find
                 value� `x`
    ");
}

#[test]
fn diagnostics_in_a_chain_are_shown_in_full() {
    let source = SourceFile::new("shop/isomer.toml", "a = 1\nb = 2\n");
    let diagnostics = Diagnostics(vec![
        Diagnostic::error("`b` is two").at(Span::from(6..7), "here").in_source(&source).hint("make it one"),
        Diagnostic::error("all of it is wrong"),
    ]);
    assert_eq!(diagnostics.to_string(), "`b` is two (and 1 more error)");
    insta::assert_snapshot!(shown(&Hinted::new(diagnostics, "see the reference of all keys")), @r"
    error: `b` is two
     --> shop/isomer.toml:2:1
      |
    2 | b = 2
      | ^ here
    hint: make it one

    error: all of it is wrong
    hint: see the reference of all keys
    ");
}

#[test]
fn colour_changes_nothing_but_colour() {
    let source = SourceFile::new("isomer.toml", "\ta = \"wörld\" # 漢\n");
    let diagnostic = Diagnostic::warning("odd")
        .at(Span::from(5..13), "here")
        .related(Span::from(1..2), "this key")
        .note("a note\nof two lines")
        .hint("do something")
        .in_source(&source);
    let plain = Renderer::plain().diagnostic(&diagnostic);
    insta::assert_snapshot!(plain, @r#"
    warning: odd
     --> isomer.toml:1:6
      |
    1 |     a = "wörld" # 漢
      |         ^^^^^^^ here
     --> isomer.toml:1:2
      |
    1 |     a = "wörld" # 漢
      |     - this key
    note: a note
          of two lines
    hint: do something
    "#);
    let colored = Renderer::new(true).diagnostic(&diagnostic);
    assert_ne!(colored, plain);
    let mut stripped = String::new();
    let mut rest = colored.as_str();
    while let Some((before, escape)) = rest.split_once('\u{1b}') {
        stripped.push_str(before);
        rest = escape.split_once('m').expect("styles end in `m`").1;
    }
    stripped.push_str(rest);
    assert_eq!(stripped, plain);
}
