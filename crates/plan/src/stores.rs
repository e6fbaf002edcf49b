//! Checks that each store, and each folder with a writer, is opened by only one process.
//!
//! Two processes cannot use one store: on one machine, the first process locks the store's files, and on two machines
//! there would be two different stores. So a shape that puts components with grants for one store into different groups
//! is refused. Several components of one process can use the store, fused or isolated, because the process opens it
//! once.

use std::collections::BTreeMap;
use std::path::{Component as PathPart, Path, PathBuf};

use isomer_diagnostics::{Diagnostic, Span};
use isomer_ids::{ComponentName, StoreName};
use isomer_manifest::{App, Component, Spanned};

use crate::placement::Placement;

/// A component that is granted a store or folder, with its group and the location of the grant.
#[derive(Clone, Copy)]
struct Opener<'a> {
    component: &'a ComponentName,
    group: &'a str,
    span: Span,
}

/// Adds an error to `errors` for each store and folder that two processes would open, and a note to `notes` for each
/// store that several components share.
pub(crate) fn check(
    app: &App,
    shape: &str,
    places: &BTreeMap<ComponentName, Placement>,
    errors: &mut Vec<Diagnostic>,
    notes: &mut Vec<String>,
) {
    let stores = |grants: fn(&Component) -> &[Spanned<StoreName>]| {
        let mut openers = BTreeMap::<&StoreName, Vec<Opener<'_>>>::new();
        for (component, manifest) in &app.components {
            for store in grants(manifest) {
                let group = places[component].group.as_str();
                openers.entry(&store.value).or_default().push(Opener { component, group, span: store.span });
            }
        }
        openers
    };
    let kinds = [
        ("key-value store", stores(|component| &component.grants.kv)),
        ("SQL store", stores(|component| &component.grants.sql)),
    ];
    for (kind, openers) in &kinds {
        for (store, openers) in openers {
            let what = format!("the {kind} `{store}`");
            errors.extend(in_two_processes(shape, &what, openers));
            if openers.len() > 1 {
                let names: Vec<_> = openers.iter().map(|opener| format!("`{}`", opener.component)).collect();
                notes.push(format!("{what} is shared by {}: they must run in one process", names.join(", ")));
            }
        }
    }
    errors.extend(directories(app, shape, places));
}

/// Returns an error if two of `openers` are in different processes. `what` names the store or folder.
fn in_two_processes(shape: &str, what: &str, openers: &[Opener<'_>]) -> Option<Diagnostic> {
    let (first, rest) = openers.split_first()?;
    let other = rest.iter().find(|other| other.group != first.group)?;
    Some(
        Diagnostic::error(format!(
            "in shape `{shape}`, two processes would open {what}: `{}` (component `{}`) and `{}` (component `{}`)",
            first.group, first.component, other.group, other.component
        ))
        .code("store-in-two-processes")
        .at(other.span, format!("granted to `{}`, in group `{}`", other.component, other.group))
        .related(first.span, format!("granted to `{}`, in group `{}`", first.component, first.group))
        .hint(format!(
            "put `{0}` and `{1}` into one group; or grant {what} to `{0}` only, and let `{1}` call `{0}`",
            first.component, other.component
        )),
    )
}

/// Returns an error for each folder that one process may write and another process may also open. A folder that is
/// granted for reading only may be granted to components of any process.
fn directories(app: &App, shape: &str, places: &BTreeMap<ComponentName, Placement>) -> Vec<Diagnostic> {
    let mut granted = Vec::new();
    for (component, manifest) in &app.components {
        let group = places[component].group.as_str();
        for directory in &manifest.grants.dirs {
            let opener = Opener { component, group, span: directory.span };
            granted.push((plain(&directory.value.host), directory.value.write, opener));
        }
    }
    let mut found = Vec::new();
    for (index, (path, write, opener)) in granted.iter().enumerate() {
        for (other_path, other_write, other) in &granted[index + 1..] {
            let overlap = path.starts_with(other_path) || other_path.starts_with(path);
            if overlap && (*write || *other_write) {
                let shorter = if other_path.starts_with(path) { path } else { other_path };
                found.extend(in_two_processes(
                    shape,
                    &format!("the folder `{}`", shorter.display()),
                    &[*opener, *other],
                ));
            }
        }
    }
    found
}

/// Returns the path without `.` segments. A `..` is resolved if a named segment comes before it.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            PathPart::CurDir => {}
            PathPart::ParentDir if matches!(plain.components().next_back(), Some(PathPart::Normal(_))) => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}
