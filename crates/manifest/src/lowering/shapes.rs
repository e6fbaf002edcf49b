//! Lowers shapes and their groups.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use isomer_diagnostics::{Diagnostic, Span};
use isomer_ids::{ComponentName, check_name};

use super::Lowering;
use crate::keyword::{Keyword, KeywordOr};
use crate::model::{BrowserGroup, Component, MONOLITH, Shape};
use crate::raw_shapes::{RawGroup, RawGroups, RawShape};
use crate::session::BROWSER;
use crate::spanned::Spanned;
use crate::texts::{NameText, PlaceText};

impl Lowering<'_> {
    pub(super) fn shapes(
        &mut self,
        raw: BTreeMap<Spanned<NameText>, RawShape>,
        components: &BTreeMap<ComponentName, Component>,
    ) -> BTreeMap<String, Shape> {
        let everything: Vec<_> =
            components.iter().map(|(name, component)| Spanned::new(name.clone(), component.at.span)).collect();
        let one_group = || BTreeMap::from([(MONOLITH.to_owned(), everything.clone())]);
        let mut shapes = BTreeMap::from([(MONOLITH.to_owned(), Shape { groups: one_group(), ..Shape::default() })]);
        for (name, raw) in raw {
            let text = name.value.0;
            if text == MONOLITH {
                self.report(
                    Diagnostic::error("the shape `monolith` always exists and cannot be defined")
                        .code("monolith-defined")
                        .at(name.span, "it has all components in one group")
                        .hint("rename or remove the shape"),
                );
                continue;
            }
            let checked = check_name("a shape name", &text);
            self.valid(checked, "bad-name", name.span);
            let mut browser = None;
            let groups = match raw.groups {
                None => one_group(),
                Some(Spanned { value: KeywordOr::Value(groups), .. }) => {
                    let (on_server, in_browser): (RawGroups, RawGroups) =
                        groups.into_iter().partition(|(_, group)| place(group).is_none());
                    let groups = if on_server.is_empty() && !in_browser.is_empty() {
                        one_group()
                    } else {
                        self.groups(&text, on_server)
                    };
                    browser = self.browser_group(&text, in_browser);
                    groups
                }
                Some(Spanned { value: KeywordOr::Text(written, kind), span }) => {
                    self.keyword(
                        kind,
                        &written,
                        span,
                        &format!("`groups` of shape `{text}`"),
                        "name the groups in a table",
                    );
                    everything.iter().map(|name| (name.to_string(), vec![name.clone()])).collect()
                }
            };
            let what = format!("`isolate` of shape `{text}`");
            let isolate = match raw.isolate.value {
                KeywordOr::Value(names) => {
                    names.into_iter().filter_map(|name| self.component_named(name, &what)).collect()
                }
                KeywordOr::Text(written, kind) => {
                    self.keyword(
                        kind,
                        &written,
                        raw.isolate.span,
                        &what,
                        &format!("name the components in a list: `[\"{written}\"]`"),
                    );
                    everything.clone()
                }
            };
            shapes.insert(text, Shape { groups, isolate, browser });
        }
        shapes
    }

    /// Reports an error if `text` is not the keyword of `W`. `what` names the key in the error. `otherwise` completes
    /// the hint: it describes the list or table that the user can write instead of the keyword.
    fn keyword<W: Keyword>(&mut self, _: PhantomData<W>, text: &str, at: Span, what: &str, otherwise: &str) {
        if text != W::KEYWORD {
            self.report(
                Diagnostic::error(format!("{what} cannot be `{text}`: the only keyword is `{}`", W::KEYWORD))
                    .code("unknown-word")
                    .at(at, "unknown keyword")
                    .hint(format!("write `\"{}\"`, or {otherwise}", W::KEYWORD)),
            );
        }
    }

    fn groups(&mut self, shape: &str, raw: RawGroups) -> BTreeMap<String, Vec<Spanned<ComponentName>>> {
        let mut placed: BTreeMap<ComponentName, (String, Span)> = BTreeMap::new();
        let mut groups = BTreeMap::new();
        // The groups are checked in the order of the file, so that the second of two conflicting entries is reported.
        let mut raw_groups: Vec<_> = raw.into_iter().collect();
        raw_groups.sort_by_key(|(name, _)| name.span);
        for (name, members) in raw_groups {
            let members = components_of(members);
            let group = name.value.0;
            let checked = check_name("a group name", &group);
            self.valid(checked, "bad-name", name.span);
            if members.is_empty() {
                self.report(
                    Diagnostic::warning(format!("group `{group}` of shape `{shape}` is empty"))
                        .code("empty-group")
                        .at(name.span, "no components")
                        .hint("name the components of the group, or remove the group"),
                );
                continue;
            }
            let mut checked = vec![];
            for member in members {
                let Some(member) = self.component_named(member, &format!("group `{group}` of shape `{shape}`")) else {
                    continue;
                };
                if let Some((other, first)) = placed.get(&member.value) {
                    let problem = if *other == group {
                        format!("component `{member}` is listed twice in group `{group}` of shape `{shape}`")
                    } else {
                        format!("component `{member}` is in two groups of shape `{shape}`: `{other}` and `{group}`")
                    };
                    let diagnostic = Diagnostic::error(problem)
                        .code("placed-twice")
                        .at(member.span, "again")
                        .related(*first, "first here")
                        .hint("remove one of the two entries: a component can be in only one group of a shape");
                    self.report(diagnostic);
                    continue;
                }
                placed.insert(member.value.clone(), (group.clone(), member.span));
                checked.push(member);
            }
            groups.insert(group, checked);
        }
        groups
    }

    /// Returns the group that also runs in tabs, or reports that there are several. `raw` contains the groups with
    /// `place`.
    fn browser_group(&mut self, shape: &str, raw: RawGroups) -> Option<BrowserGroup> {
        for place in raw.values().filter_map(place).filter(|place| place.value.0 != BROWSER) {
            self.report(
                Diagnostic::error(format!(
                    "a group cannot be placed in `{}`: the only place is `{BROWSER}`",
                    place.value.0
                ))
                .code("unknown-word")
                .at(place.span, "unknown place")
                .hint(format!("write `\"{BROWSER}\"`, or remove `place` for a group that runs in a process")),
            );
        }
        let mut names: Vec<_> = raw.keys().map(|name| (name.span, name.value.0.clone())).collect();
        names.sort();
        if let [(first, _), (second, name), ..] = names.as_slice() {
            self.report(
                Diagnostic::error(format!("shape `{shape}` has more than one browser group"))
                    .code("two-browser-groups")
                    .at(*second, format!("`{name}` is another one"))
                    .related(*first, "the first browser group")
                    .hint("put the components into one group: a tab runs one group"),
            );
            return None;
        }
        // The group is a copy, so its components may also be in a group on the server.
        let name = raw.keys().next()?;
        let name = Spanned::new(name.value.0.clone(), name.span);
        let (_, components) = self.groups(shape, raw).pop_first()?;
        Some(BrowserGroup { name, components })
    }
}

fn place(group: &RawGroup) -> Option<&Spanned<PlaceText>> {
    match group {
        RawGroup::List(_) => None,
        RawGroup::Table(table) => table.place.as_ref(),
    }
}

fn components_of(group: RawGroup) -> Vec<Spanned<NameText>> {
    match group {
        RawGroup::List(components) => components,
        // A missing `components` was reported by the structural check.
        RawGroup::Table(table) => table.components.unwrap_or_default(),
    }
}
