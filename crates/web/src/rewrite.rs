//! Rewrites places in generated JavaScript, and checks that each place exists.
//!
//! A rule names a text that must occur exactly as often as expected. If the generator's output differs, for example
//! after an update, generating fails with the name of the rule, instead of producing code that is subtly wrong.

/// A rule: a text of the generated source, and its replacement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// The name of the rule, for errors.
    pub(crate) name: &'static str,
    /// How often `old` must occur.
    pub(crate) occurs: Occurs,
    /// The text to replace. Lines are compared without their indentation.
    pub(crate) old: &'static str,
    /// The replacement.
    pub(crate) new: &'static str,
}

/// How often the text of a rule must occur.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Occurs {
    /// Exactly this number of times.
    Exactly(usize),
    /// As often as another text. Used for code that the generator omits if the component does not need it.
    With(&'static str),
}

/// The error of a rule whose text does not occur as often as expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rule `{rule}` found {found} places in the generated code instead of {expected}")]
pub struct RewriteError {
    /// The name of the rule.
    pub rule: &'static str,
    /// How often the text occurs.
    pub found: usize,
    /// How often it must occur.
    pub expected: usize,
}

/// Applies `rules` to `source` one after another. The lines of `source` must not be indented.
pub(crate) fn rewrite(mut source: String, rules: &[Rule]) -> Result<String, RewriteError> {
    for rule in rules {
        let found = source.matches(rule.old).count();
        let expected = match rule.occurs {
            Occurs::Exactly(count) => count,
            Occurs::With(other) => source.matches(other).count(),
        };
        if found != expected {
            return Err(RewriteError { rule: rule.name, found, expected });
        }
        source = source.replace(rule.old, rule.new);
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [Rule; 2] = [
        Rule { name: "wait", occurs: Occurs::Exactly(1), old: "wait(10)", new: "wait(0)" },
        Rule { name: "poll", occurs: Occurs::With("class Poll"), old: "poll();", new: "wake();" },
    ];

    #[test]
    fn every_place_is_rewritten() {
        let rewritten = rewrite("wait(10); class Poll {} poll();".to_owned(), &RULES);
        assert_eq!(rewritten.as_deref(), Ok("wait(0); class Poll {} wake();"));
        assert_eq!(rewrite("wait(10);".to_owned(), &RULES).as_deref(), Ok("wait(0);"));
    }

    #[test]
    fn missing_and_additional_places_are_errors() {
        for (source, rule, found, expected) in [
            ("", "wait", 0, 1),
            ("wait(10); wait(10);", "wait", 2, 1),
            ("wait(10); class Poll {}", "poll", 0, 1),
            ("wait(10); poll();", "poll", 1, 0),
        ] {
            assert_eq!(rewrite(source.to_owned(), &RULES), Err(RewriteError { rule, found, expected }));
        }
    }
}
