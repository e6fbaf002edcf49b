//! Formats a plan as text for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use isomer_ids::ComponentName;

use crate::model::Plan;
use crate::planned_browser::{PlannedBrowser, TabSeam, Transport};
use crate::planned_group::{Http, PlannedGroup, SeamMode};

/// The key of the text of a plan in [`Plan::to_json`].
pub const EXPLANATION: &str = "explanation";

impl Plan {
    /// Returns the plan as JSON, with its [text](Plan::explain). The admin API returns this form.
    ///
    /// # Panics
    /// Never: a plan is plain data.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::to_value(self).expect("a plan is plain data");
        json[EXPLANATION] = self.explain().into();
        json
    }

    /// Returns the plan as text: processes, seams with the reason for each mode, grants, and capabilities that are
    /// imported without a grant. Columns are aligned for a terminal, without colour. The text ends with a newline.
    #[must_use]
    pub fn explain(&self) -> String {
        let mut out = format!("{} {}, shape {}\n", self.app, self.version, self.shape);
        for (process, groups) in self.processes() {
            let _ = writeln!(out, "\nprocess {process}");
            table(&mut out, groups.into_iter().flat_map(|group| rows(self, group)).collect());
        }
        if let Some(browser) = &self.browser {
            let _ = writeln!(out, "\ntab {}", browser.group.name);
            table(&mut out, rows(self, &browser.group));
        }
        let seams = self.seams.iter().map(|seam| {
            let link = &seam.link;
            vec![
                format!("{} → {}", link.importer, link.exporter),
                link.import.to_string(),
                seam.mode.to_string(),
                seam.reason.replace('`', ""),
            ]
        });
        section(&mut out, "seams", seams.collect());
        if let Some(browser) = &self.browser {
            section(&mut out, "tab seams", browser.seams.iter().map(tab_seam).collect());
        }
        let granted = self.access.iter().filter(|access| !access.granted.is_empty());
        let granted = granted.map(|access| vec![access.component.to_string(), access.granted.join("; ")]);
        section(&mut out, "granted", granted.collect());
        let missing = self.access.iter().flat_map(|access| {
            access.without_grant.iter().map(|missing| {
                vec![
                    access.component.to_string(),
                    missing.interface.to_string(),
                    missing.consequence.clone(),
                    missing.grant.clone(),
                ]
            })
        });
        section(&mut out, "imported without a grant", missing.collect());
        section(&mut out, "notes", self.notes.iter().map(|note| vec![note.replace('`', "")]).collect());
        out
    }
}

impl PlannedBrowser {
    /// Returns a line that states what the tabs of `shape` run, and which functions they may call.
    #[must_use]
    pub fn summary(&self, shape: &str) -> String {
        let components = self.group.components.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ");
        let callees: BTreeSet<_> = self.seams.iter().map(|seam| seam.link.exporter.as_str()).collect();
        let called: BTreeSet<_> = self.functions().map(|(_, function)| function.key).collect();
        let functions = if called.len() == 1 { "function" } else { "functions" };
        let calls = match called.len() {
            0 => "calls nothing on the server".to_owned(),
            number => {
                let callees = callees.into_iter().collect::<Vec<_>>().join(", ");
                format!("may call {number} {functions} on the server ({callees})")
            }
        };
        format!("in shape {shape}, each tab also runs {components}, and {calls}\n")
    }
}

/// Returns one row for each component of a composition: the component's name, the routes that it serves, and whether it
/// is isolated.
fn rows(plan: &Plan, group: &PlannedGroup) -> Vec<Vec<String>> {
    let store = match (&group.isolated_from, group.components.len()) {
        (None, _) => None,
        (Some(_), 1) => Some("isolated".to_owned()),
        (Some(_), _) => Some(format!("isolated together, as {}", group.name)),
    };
    let reuse = match plan.reuse.get(&group.name) {
        None => None,
        Some(1) => Some("a new instance for each request".to_owned()),
        Some(requests) => Some(format!("a new instance every {requests} requests")),
    };
    let row = |component: &ComponentName| {
        let handler = group.handlers.iter().find(|handler| handler.component == *component);
        let answers = handler.map(|handler| {
            let routes: Vec<_> = handler.routes.iter().map(ToString::to_string).collect();
            format!("serves {} ({})", routes.join(" "), handler.http)
        });
        let reuse = reuse.clone().filter(|_| answers.is_some());
        let phrases: Vec<_> = answers.into_iter().chain(reuse).chain(store.clone()).collect();
        vec![component.to_string(), phrases.join(", ")]
    };
    group.components.iter().map(row).collect()
}

/// Returns the row of a tab seam: who calls which interface, how, and who may call what.
fn tab_seam(seam: &TabSeam) -> Vec<String> {
    let TabSeam { link, transport, reason, functions, .. } = seam;
    let mut by_identity = BTreeMap::<Option<&str>, Vec<&str>>::new();
    for function in functions {
        let identity = function.identity.as_ref().map(|identity| identity.name.as_str());
        by_identity.entry(identity).or_default().push(&function.function);
    }
    let callable: Vec<_> = by_identity
        .into_iter()
        .map(|(identity, functions)| match identity {
            Some(parameter) => format!("{} for the own session ({parameter})", functions.join(", ")),
            None => format!("{} with any arguments", functions.join(", ")),
        })
        .collect();
    vec![
        format!("{} → {}", link.importer, link.exporter),
        link.import.to_string(),
        format!("{transport} ({reason})"),
        format!("anyone who can open the pages may call {}", callable.join("; ")),
    ]
}

/// Writes the title and the table to `out`, or nothing if there are no rows.
fn section(out: &mut String, title: &str, rows: Vec<Vec<String>>) {
    if !rows.is_empty() {
        let _ = writeln!(out, "\n{title}");
        table(out, rows);
    }
}

fn table(out: &mut String, rows: Vec<Vec<String>>) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "  {cell:<width$}");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

impl fmt::Display for SeamMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SeamMode::Fused => "fused",
            SeamMode::Isolated => "isolated",
            SeamMode::Remote => "remote",
        })
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Http => "HTTP",
        })
    }
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Http::P2 => "HTTP, WASI 0.2",
            Http::P3 => "HTTP, WASI 0.3",
        })
    }
}
