//! Does a node file say what one group of a shape needs? Pure: what is wrong comes back as diagnostics.

use std::collections::{BTreeMap, BTreeSet};

use isomer_diagnostics::{Diagnostic, nearest};
use isomer_manifest::{App, Component, LinkAddress, NodeFile, Spanned};
use isomer_plan::{Plan, SeamMode};

/// Who a group has to do with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerGroups {
    /// The groups that it calls, each with one seam to show why: who imports from whom.
    pub calls: BTreeMap<String, (String, String)>,
    /// The groups that call it, likewise.
    pub called_by: BTreeMap<String, (String, String)>,
}

/// Who `group` has to do with, by the plan's remote seams.
#[must_use]
pub fn peer_groups(plan: &Plan, group: &str) -> PeerGroups {
    let process = |component| plan.group_of(component).map_or("", |group| group.process());
    let mut found = PeerGroups::default();
    for seam in plan.seams.iter().filter(|seam| seam.mode == SeamMode::Remote) {
        let (from, to) = (process(&seam.link.importer), process(&seam.link.exporter));
        let why = || (seam.link.importer.to_string(), seam.link.exporter.to_string());
        if from == group {
            found.calls.entry(to.to_owned()).or_insert_with(why);
        }
        if to == group {
            found.called_by.entry(from.to_owned()).or_insert_with(why);
        }
    }
    found
}

/// Is there such a group in the plan's shape?
///
/// # Errors
/// If not; with those that there are, and the nearest of them.
pub fn check_group(plan: &Plan, group: &str) -> Result<(), Box<Diagnostic>> {
    let processes = plan.processes();
    if processes.contains_key(group) {
        return Ok(());
    }
    let known: Vec<_> = processes.keys().map(|known| format!("`{known}`")).collect();
    let near = nearest(group, processes.keys().copied());
    let error = Diagnostic::error(format!("shape `{}` has no group `{group}`", plan.shape))
        .code("unknown-group")
        .note(format!("it has {}", known.join(", ")))
        .hint(match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name one of them, or take another shape: `--shape SHAPE`".to_owned(),
        });
    Err(Box::new(error))
}

/// Checks that `file` has what `group` needs.
///
/// # Errors
/// All that is missing or wrong, with the line to write.
pub fn check(app: &App, plan: &Plan, group: &str, file: &NodeFile) -> Result<(), Vec<Diagnostic>> {
    let peer_groups = peer_groups(plan, group);
    let mut found = file.unread_by_group();
    found.extend(unknown_peers(plan, file));
    found.extend(homes_apart(app, plan, file));
    for (peer, (importer, exporter)) in &peer_groups.calls {
        if !file.peers.keys().any(|named| named.value == *peer) {
            found.push(
                Diagnostic::error(format!("the node file does not say where group `{peer}` is, which `{group}` calls"))
                    .code("missing-peer")
                    .in_file()
                    .note(format!("`{importer}` imports from `{exporter}`"))
                    .hint(format!("write under `[peers]`:\n{peer} = \"10.0.0.7:7070\"")),
            );
        }
    }
    if let (None, Some((caller, (importer, exporter)))) = (&file.listen, peer_groups.called_by.first_key_value()) {
        found.push(
            Diagnostic::error(format!(
                "the node file does not say where group `{group}` listens, which `{caller}` calls"
            ))
            .code("missing-listen")
            .in_file()
            .note(format!("`{importer}` imports from `{exporter}`"))
            .hint("add it:\n[link]\nlisten = \"0.0.0.0:7070\""),
        );
    }
    if file.tls.is_none() {
        found.extend(cleartext(file));
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn unknown_peers<'a>(plan: &'a Plan, file: &'a NodeFile) -> impl Iterator<Item = Diagnostic> + 'a {
    let known: BTreeSet<&str> = plan.processes().into_keys().collect();
    let unknown = file.peers.keys().filter(|name| !plan.processes().contains_key(name.value.as_str()));
    unknown.map(move |name| {
        let near = nearest(&name.value, known.iter().copied());
        let all: Vec<&str> = known.iter().copied().collect();
        Diagnostic::error(format!("`peers` names `{}`, and shape `{}` has no such group", name.value, plan.shape))
            .code("unknown-group")
            .at(name.span, "not a group of this shape")
            .hint(match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the groups are `{}`", all.join("`, `")),
            })
    })
}

/// Groups with stores that are to run more than once: each would have stores of its own, and calls would go to either.
fn homes_apart<'a>(app: &'a App, plan: &'a Plan, file: &'a NodeFile) -> impl Iterator<Item = Diagnostic> + 'a {
    file.peers.iter().filter(|(_, addresses)| addresses.value.len() > 1).filter_map(move |(name, addresses)| {
        let members = app
            .components
            .iter()
            .filter(|(component, _)| plan.group_of(component).is_some_and(|group| group.process() == name.value));
        let (component, store) = members.filter_map(|(component, made)| Some((component, store_of(made)?))).next()?;
        Some(
            Diagnostic::error(format!("group `{}` has {} addresses, and {store}", name.value, addresses.value.len()))
                .code("home-apart")
                .at(addresses.span, "calls would go to either")
                .note(format!("`{component}` is granted it; every process would have one of its own"))
                .hint(format!(
                    "give one address, or let a shape place `{component}` in a group of its own, with one address"
                )),
        )
    })
}

/// What a component writes that only one process can have.
fn store_of(component: &Component) -> Option<String> {
    let grants = &component.grants;
    let kv = grants.kv.iter().map(|store| format!("the key-value store `{}`", store.value));
    let sql = grants.sql.iter().map(|store| format!("the SQL store `{}`", store.value));
    let folders = grants.dirs.iter().filter(|folder| folder.value.write);
    let folders = folders.map(|folder| format!("the writable folder `{}`", folder.value.host.display()));
    kv.chain(sql).chain(folders).next()
}

/// Addresses that lead to other machines, where there are no certificates.
fn cleartext(file: &NodeFile) -> impl Iterator<Item = Diagnostic> {
    let listen = file.listen.iter().map(|at| (at.span, &at.value));
    let peers = file.peers.values().flat_map(|at: &Spanned<Vec<LinkAddress>>| at.value.iter().map(|it| (at.span, it)));
    let far = listen.chain(peers).filter(|(_, address)| !address.is_local());
    far.map(|(span, address)| {
        Diagnostic::error(format!("`{address}` leaves this machine, and there are no certificates"))
            .code("no-tls")
            .at(span, "groups on other machines are reached by mutual TLS alone")
            .hint(
                "add the certificates:\n[tls]\ncertificate = \"node.crt\"\nkey = \"node.key\"\nauthority = \"authority.crt\"",
            )
    })
}

/// The app as one group sees it: its own components' grants, and none of the others', so that no store of theirs is opened and
/// none of their secrets is read.
#[must_use]
pub fn own_part(app: &App, plan: &Plan, group: &str) -> App {
    let mut part = app.clone();
    part.components.retain(|name, _| plan.group_of(name).is_some_and(|it| it.process() == group));
    part
}
