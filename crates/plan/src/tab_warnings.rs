//! Warnings about a browser group that can run, but that may be slow or publish more than intended.

use std::collections::{BTreeMap, BTreeSet};

use isomer_diagnostics::Diagnostic;

use crate::browser_inputs::BrowserInputs;
use crate::planned_browser::TabSeam;

/// Returns the warnings about a browser group with these tab seams.
pub(crate) fn find(browser: &BrowserInputs<'_>, seams: &[TabSeam]) -> Vec<Diagnostic> {
    let mut found = without_identity(browser, seams);
    found.extend(seams.iter().filter_map(|seam| synchronous(browser, seam)));
    found.extend(authorities(browser));
    found
}

/// Returns a warning for each entry of `exposed` without an identity, as far as its functions are called.
fn without_identity(browser: &BrowserInputs<'_>, seams: &[TabSeam]) -> Vec<Diagnostic> {
    let mut entries = BTreeMap::<_, BTreeSet<String>>::new();
    for (seam, function) in seams.iter().flat_map(|seam| seam.functions.iter().map(move |function| (seam, function))) {
        if function.identity.is_some() {
            continue;
        }
        if let Some(exposed) = browser.exposed.get(&seam.link.exporter, &function.interface, &function.function) {
            let entry = (exposed.span, seam.link.exporter.clone());
            entries.entry(entry).or_default().insert(format!("`{}`", function.function));
        }
    }
    let warning = |((span, component), functions): (_, BTreeSet<String>)| {
        let functions = functions.into_iter().collect::<Vec<_>>().join(", ");
        Diagnostic::warning(format!(
            "anyone who can open the app's pages can call {functions} of component `{component}`, with any arguments"
        ))
        .code("exposed-without-identity")
        .at(span, "has no `session`")
        .hint("if the functions act for one visitor, name the parameter that identifies the visitor: `session = \"PARAMETER\"`")
    };
    entries.into_iter().map(warning).collect()
}

/// Returns a warning if a tab calls functions that block its instance during the round trip to the server.
fn synchronous(browser: &BrowserInputs<'_>, seam: &TabSeam) -> Option<Diagnostic> {
    let link = &seam.link;
    let blocking: Vec<_> = seam
        .functions
        .iter()
        .filter(|function| !function.is_async)
        .map(|function| format!("`{}`", function.function))
        .collect();
    if blocking.is_empty() {
        return None;
    }
    let exporter = &browser.app.components[&link.exporter];
    let warning = Diagnostic::warning(format!(
        "`{}` runs in a tab, and waits for a round trip to the server in each call of {} of `{}`",
        link.importer,
        blocking.join(", "),
        link.import
    ))
    .code("round-trip")
    .at(browser.group.name.span, format!("`{}` is not in the group", link.exporter))
    .note("these functions are not `async func`: several calls run one after another, and the instance is blocked meanwhile")
    .hint("declare the functions as `async func`, so that calls can overlap");
    let grants = &exporter.grants;
    let stays = exporter.isolate
        || !(grants.kv.is_empty() && grants.sql.is_empty() && grants.secrets.is_empty() && grants.dirs.is_empty());
    Some(if stays {
        warning
    } else {
        warning.hint(format!(
            "or add `{}` to group `{}`: then its calls stay in the tab",
            link.exporter, browser.group.name.value
        ))
    })
}

/// Returns a warning for each host whose certificate authority a tab does not know.
fn authorities(browser: &BrowserInputs<'_>) -> Vec<Diagnostic> {
    let members = browser.group.components.iter().map(|member| &member.value);
    let hosts =
        members.flat_map(|member| browser.app.components[member].grants.http.iter().map(move |it| (member, it)));
    hosts
        .filter(|(_, host)| host.value.authority.is_some())
        .map(|(member, host)| {
            Diagnostic::warning(format!(
                "component `{member}` runs in a tab, where the certificate authority for `{}` does not apply",
                host.value
            ))
            .code("authority-in-browser")
            .at(host.span, "a browser trusts only its own authorities")
            .hint(format!(
                "let a component on the server send these requests, or remove `{member}` from group `{}`",
                browser.group.name.value
            ))
        })
        .collect()
}

/// Returns notes about the browser group: what is public, and how many round trips a request may need.
pub(crate) fn notes(browser: &crate::planned_browser::PlannedBrowser) -> Vec<String> {
    let list = |names: Vec<String>| names.join(", ");
    let code = list(browser.group.components.iter().map(|name| format!("`{name}`")).collect());
    let mut notes = vec![format!("anyone who can open the app's pages can read the code of {code}, which tabs run")];
    if !browser.config.is_empty() {
        let values =
            browser.config.iter().flat_map(|(name, values)| values.iter().map(move |it| format!("`{it}` of `{name}`")));
        notes.push(format!(
            "anyone who can open the app's pages can read these config values: {}",
            list(values.collect())
        ));
    }
    let mut functions = BTreeMap::<_, usize>::new();
    for seam in &browser.seams {
        *functions.entry(&seam.link.importer).or_default() += seam.functions.len();
    }
    notes.extend(functions.into_iter().filter(|(_, functions)| *functions > 1).map(|(importer, functions)| {
        format!(
            "in a tab, `{importer}` calls {functions} functions on the server: each call that waits for an earlier one adds a round trip to the response time"
        )
    }));
    notes
}
