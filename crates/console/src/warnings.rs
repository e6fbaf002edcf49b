//! Warnings of an operation that is repeated: warnings that equal those of the previous run are not printed again.

use isomer_diagnostics::Diagnostic;

use crate::console::Console;

/// Prints warnings, unless they equal the previously printed ones.
#[derive(Debug, Default)]
pub struct WarningPrinter {
    printed: String,
}

impl WarningPrinter {
    /// Prints `warnings`, unless they equal the warnings of the previous call.
    pub fn print(&mut self, console: &Console, warnings: &[Diagnostic]) {
        if let Some(text) = self.changed(console.renderer().diagnostics(warnings), warnings.is_empty()) {
            console.message(&text);
        }
    }

    /// Returns the text to print, or `None` if `text` is empty or equals the previous text.
    fn changed(&mut self, text: String, is_empty: bool) -> Option<String> {
        let text = if is_empty { String::new() } else { text };
        if self.printed == text {
            return None;
        }
        self.printed.clone_from(&text);
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_printed_again_only_after_it_has_changed() {
        let mut printer = WarningPrinter::default();
        let mut changed = |text: &str| printer.changed(text.to_owned(), text.is_empty());
        assert_eq!(changed(""), None);
        assert_eq!(changed("a").as_deref(), Some("a"));
        assert_eq!(changed("a"), None);
        assert_eq!(changed("b").as_deref(), Some("b"));
        assert_eq!(changed(""), None);
        assert_eq!(changed("b").as_deref(), Some("b"));
    }
}
