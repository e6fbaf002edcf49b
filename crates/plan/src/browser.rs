//! Plans the browser group of a shape: the composition that a tab runs, and its seams to the server.
//!
//! A tab is a hostile peer. Its user can read the components of the group and their config values, and can call each
//! function of a tab seam with any arguments. So the components of the group have no grants for stores, secrets and
//! folders, and the functions of tab seams must be exposed by their components.

use std::collections::BTreeSet;

use isomer_diagnostics::Diagnostic;

use crate::browser_inputs::BrowserInputs;
use crate::crossings;
use crate::host_imports;
use crate::interface::FunctionType;
use crate::model::Seam;
use crate::placement;
use crate::planned_browser::{PlannedBrowser, TabFunction, TabSeam, Transport};
use crate::planned_group::{PlannedGroup, ResolvedImport, SeamMode};
use crate::tab_refusals;
use crate::tab_warnings;

impl BrowserInputs<'_> {
    /// Plans the group. Adds the reasons why it cannot run in a tab to `errors`, and warnings to `warnings`.
    pub(crate) fn plan(&self, errors: &mut Vec<Diagnostic>, warnings: &mut Vec<Diagnostic>) -> Option<PlannedBrowser> {
        let Self { app, types, group, links, handlers, idempotent, options, .. } = *self;
        let found = errors.len();
        let members: BTreeSet<_> = group.components.iter().map(|component| component.value.clone()).collect();
        let seams: Vec<Seam> = links
            .iter()
            .filter(|link| members.contains(&link.importer))
            .map(|link| self.seam(link, members.contains(&link.exporter)))
            .collect();
        errors.extend(tab_refusals::components(self));
        errors.extend(seams.iter().filter_map(|seam| tab_refusals::seam(self, seam)));
        let tab_seams: Vec<_> =
            seams.iter().filter(|seam| seam.mode == SeamMode::Remote).map(|seam| self.tab_seam(seam)).collect();
        errors.extend(tab_refusals::session(self, &tab_seams));
        let met: Vec<_> = seams.iter().map(|seam| seam.link.clone()).collect();
        let fused: Vec<_> =
            seams.iter().filter(|seam| seam.mode == SeamMode::Fused).map(|seam| seam.link.clone()).collect();
        let components = match placement::order(&members, &fused) {
            Ok(components) => components,
            Err(cycle) => {
                errors.push(placement::cycle_error(app, &group.name.value, &cycle, &fused));
                return None;
            }
        };
        let imports = host_imports::host_imports(app, types, options, &components, &met, errors);
        if errors.len() > found {
            return None;
        }
        warnings.extend(tab_warnings::find(self, &tab_seams));
        let config = components.iter().filter_map(|component| {
            let names: Vec<_> = app.components[component].grants.config.keys().cloned().collect();
            (!names.is_empty()).then(|| (component.clone(), names))
        });
        Some(PlannedBrowser {
            config: config.collect(),
            seams: tab_seams,
            session_cookie: app.session.as_ref().map(|session| session.cookie.value.clone()),
            group: PlannedGroup {
                name: group.name.value.clone(),
                isolated_from: None,
                links: fused,
                imports,
                handlers: components.iter().filter_map(|component| handlers.get(component).cloned()).collect(),
                stubs: crossings::stubs(types, &seams, idempotent, &components),
                skeletons: vec![],
                components,
            },
        })
    }

    fn seam(&self, link: &ResolvedImport, is_fused: bool) -> Seam {
        let import = &self.types[&link.importer].imports[&link.import];
        let (mode, reason) = if is_fused {
            (SeamMode::Fused, format!("both in browser group `{}`", self.group.name.value))
        } else {
            (SeamMode::Remote, format!("`{}` runs in a tab, `{}` on the server", link.importer, link.exporter))
        };
        Seam {
            link: link.clone(),
            mode,
            reason,
            class: import.class.clone(),
            functions: import.functions.keys().cloned().collect(),
        }
    }

    /// Returns the tab seam with the functions that are exposed.
    fn tab_seam(&self, seam: &Seam) -> TabSeam {
        let link = &seam.link;
        let import = &self.types[&link.importer].imports[&link.import];
        let function = |(name, ty): (&String, &FunctionType)| {
            let exposed = self.exposed.get(&link.exporter, &link.export, name)?;
            Some(TabFunction {
                interface: link.export.clone(),
                function: name.clone(),
                key: crossings::key(link, name, &ty.hash.0),
                is_async: ty.is_async,
                catches: ty.catches,
                idempotent: self.idempotent.has(&link.exporter, &link.export, name),
                identity: exposed.identity.clone(),
            })
        };
        TabSeam {
            link: link.clone(),
            process: self.places[&link.exporter].group.clone(),
            transport: Transport::Http,
            reason: "only the tab calls".to_owned(),
            functions: import.functions.iter().filter_map(function).collect(),
        }
    }
}
