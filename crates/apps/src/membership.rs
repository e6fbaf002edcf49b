//! Checks that a node file has everything that one group of a shape needs. The checks only return diagnostics and have
//! no other effect.

use std::collections::{BTreeMap, BTreeSet};

use isomer_diagnostics::{Diagnostic, nearest};
use isomer_manifest::{App, Component, LinkAddress, NodeFile, Spanned};
use isomer_plan::{Plan, PlannedGroup, SeamMode};

/// The groups that one group calls, and the groups that call it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerGroups {
    /// The groups that this group calls, by name. Each value identifies one of the seams between the two groups: its
    /// importing and its exporting component.
    pub calls: BTreeMap<String, (String, String)>,
    /// The groups that call this group, by name. Each value identifies one of the seams between the two groups: its
    /// importing and its exporting component.
    pub called_by: BTreeMap<String, (String, String)>,
}

/// Returns the groups that remote seams of the plan connect with `group`.
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
    // The process with the routes sends the calls of tabs on to the processes of their callees.
    for seam in plan.browser.iter().flat_map(|browser| &browser.seams) {
        for routing in processes_with_routes(plan).filter(|routing| *routing != seam.process) {
            let why = || (seam.link.importer.to_string(), seam.link.exporter.to_string());
            if routing == group {
                found.calls.entry(seam.process.clone()).or_insert_with(why);
            }
            if seam.process == group {
                found.called_by.entry(routing.to_owned()).or_insert_with(why);
            }
        }
    }
    found
}

/// Returns the names of the processes that have routes.
fn processes_with_routes(plan: &Plan) -> impl Iterator<Item = &str> {
    plan.groups.iter().filter(|group| !group.handlers.is_empty()).map(PlannedGroup::process)
}

/// Checks that the plan's shape has a group of this name.
///
/// # Errors
/// If the shape has no such group. The diagnostic lists the existing groups and suggests the most similar name.
pub fn check_group(plan: &Plan, group: &str) -> Result<(), Box<Diagnostic>> {
    let processes = plan.processes();
    if processes.contains_key(group) {
        return Ok(());
    }
    let known: Vec<_> = processes.keys().map(|known| format!("`{known}`")).collect();
    if plan.browser.as_ref().is_some_and(|browser| browser.group.name.as_str() == group) {
        let error = Diagnostic::error(format!("`{group}` is a browser group, which runs in the tabs of visitors"))
            .code("unknown-group")
            .note("browsers load its files from the groups that have routes, which also run copies of its components")
            .hint(format!("run one of the groups on servers: {}", known.join(", ")));
        return Err(Box::new(error));
    }
    let near = nearest(group, processes.keys().copied());
    let error = Diagnostic::error(format!("shape `{}` has no group `{group}`", plan.shape))
        .code("unknown-group")
        .note(format!("the groups of the shape are {}", known.join(", ")))
        .hint(match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name one of these groups, or choose another shape: `--shape SHAPE`".to_owned(),
        });
    Err(Box::new(error))
}

/// Checks that `file` has everything that `group` needs.
///
/// # Errors
/// If something is missing or wrong. There is one diagnostic for each problem, with the line to write.
pub fn check(app: &App, plan: &Plan, group: &str, file: &NodeFile) -> Result<(), Vec<Diagnostic>> {
    let peer_groups = peer_groups(plan, group);
    let mut found = file.unread_by_group();
    found.extend(unknown_peers(plan, file));
    found.extend(stores_in_several_places(app, plan, file));
    for (peer, (importer, exporter)) in &peer_groups.calls {
        if !file.peers.keys().any(|named| named.value == *peer) {
            found.push(
                Diagnostic::error(format!("the node file has no address for group `{peer}`, which `{group}` calls"))
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
                "the node file has no address to listen on for group `{group}`, which `{caller}` calls"
            ))
            .code("missing-listen")
            .in_file()
            .note(format!("`{importer}` imports from `{exporter}`"))
            .hint("add the address:\n[link]\nlisten = \"0.0.0.0:7070\""),
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
        Diagnostic::error(format!("`peers` names group `{}`, which shape `{}` does not have", name.value, plan.shape))
            .code("unknown-group")
            .at(name.span, "not a group of this shape")
            .hint(match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the groups are `{}`", all.join("`, `")),
            })
    })
}

/// Reports each group that has several addresses in the node file although its components have stores or writable
/// folders. Each process of such a group would have its own stores and folders, and a call could go to any process.
fn stores_in_several_places<'a>(
    app: &'a App,
    plan: &'a Plan,
    file: &'a NodeFile,
) -> impl Iterator<Item = Diagnostic> + 'a {
    file.peers.iter().filter(|(_, addresses)| addresses.value.len() > 1).filter_map(move |(name, addresses)| {
        let members = app
            .components
            .iter()
            .filter(|(component, _)| plan.group_of(component).is_some_and(|group| group.process() == name.value));
        let (component, store) = members.filter_map(|(component, made)| Some((component, store_of(made)?))).next()?;
        Some(
            Diagnostic::error(format!(
                "group `{}` has {} addresses, but only one process can have {store}",
                name.value,
                addresses.value.len()
            ))
            .code("home-apart")
            .at(addresses.span, "a call could go to any of these addresses")
            .note(format!("`{component}` was granted {store}"))
            .hint(format!(
                "give one address, or let a shape place `{component}` in a group of its own, with one address"
            )),
        )
    })
}

/// Returns a description of the first store or writable folder that was granted to the component. It can be used by
/// only one process.
fn store_of(component: &Component) -> Option<String> {
    let grants = &component.grants;
    let kv = grants.kv.iter().map(|store| format!("the key-value store `{}`", store.value));
    let sql = grants.sql.iter().map(|store| format!("the SQL store `{}`", store.value));
    let folders = grants.dirs.iter().filter(|folder| folder.value.write);
    let folders = folders.map(|folder| format!("the writable folder `{}`", folder.value.host.display()));
    kv.chain(sql).chain(folders).next()
}

/// If the node file has no certificates, reports all addresses that are not local.
fn cleartext(file: &NodeFile) -> impl Iterator<Item = Diagnostic> {
    let listen = file.listen.iter().map(|at| (at.span, &at.value));
    let peers = file.peers.values().flat_map(|at: &Spanned<Vec<LinkAddress>>| at.value.iter().map(|it| (at.span, it)));
    let far = listen.chain(peers).filter(|(_, address)| !address.is_local());
    far.map(|(span, address)| {
        Diagnostic::error(format!("`{address}` is not a local address, and the node file has no certificates"))
            .code("no-tls")
            .at(span, "links between machines need mutual TLS")
            .hint(
                "add the certificates:\n[tls]\ncertificate = \"node.crt\"\nkey = \"node.key\"\nauthority = \"authority.crt\"",
            )
    })
}

/// Returns the app with only the components of one group, so that stores and secrets of other groups are not opened.
#[must_use]
pub fn member_part(app: &App, plan: &Plan, group: &str) -> App {
    let mut part = app.clone();
    part.components.retain(|name, _| plan.group_of(name).is_some_and(|it| it.process() == group));
    part
}
