//! Lowers the keys of browser groups outside of shapes: `exposed` of a component, and `[session]`.

use isomer_diagnostics::Diagnostic;

use super::Lowering;
use crate::model::{Exposure, Session};
use crate::raw::{RawExposed, RawSession};
use crate::session::check_cookie_name;
use crate::spanned::Spanned;

impl Lowering<'_> {
    /// Checks that the entries of `exposed` are not empty. The planner checks whether the component exports the
    /// functions, and whether they have the parameter.
    pub(super) fn exposed(&mut self, name: &str, raw: Vec<Spanned<RawExposed>>) -> Vec<Exposure> {
        let mut exposed = vec![];
        for entry in raw {
            let at = entry.span;
            let (functions, session) = match entry.value {
                RawExposed::Text(functions) => (functions.0, None),
                // A missing `functions` was reported by the structural check.
                RawExposed::Table(table) => match table.functions {
                    Some(functions) => (functions.0, table.session.map(|session| session.0)),
                    None => continue,
                },
            };
            let problem = if functions.is_empty() {
                format!("`exposed` of component `{name}` names no function")
            } else if session.as_ref().is_some_and(String::is_empty) {
                format!("`session` in `exposed` of component `{name}` names no parameter")
            } else {
                exposed.push(Exposure {
                    functions: Spanned::new(functions, at),
                    session: session.map(|session| Spanned::new(session, at)),
                });
                continue;
            };
            self.report(
                Diagnostic::error(problem)
                    .code("empty-function")
                    .at(at, "")
                    .hint("for example `{ functions = \"shop:boutique/cart.get-cart\", session = \"session-id\" }`"),
            );
        }
        exposed
    }

    pub(super) fn session(&mut self, raw: RawSession) -> Option<Session> {
        let cookie = raw.cookie?.map(|text| text.0);
        self.valid(check_cookie_name(&cookie.value), "bad-cookie", cookie.span)?;
        Some(Session { cookie })
    }
}
