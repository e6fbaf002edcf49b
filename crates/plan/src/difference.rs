//! The difference between two arrangements of the same components.

use std::collections::BTreeMap;

use crate::arrangement::{ArrangedComposition, ArrangedSeam, Arrangement};
use crate::planned_group::SeamMode;

/// The difference between two arrangements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrangementDifference {
    /// The seams whose mode differs, ordered by importer and interface.
    pub seams: Vec<ModeChange>,
    /// The number of seams with the same mode in both arrangements.
    pub unchanged: usize,
    /// The components whose isolation differs, ordered by name.
    pub isolation: Vec<IsolationDifference>,
}

/// A seam whose mode differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeChange {
    /// The importing component.
    pub importer: String,
    /// The exporting component.
    pub exporter: String,
    /// The imported interface.
    pub interface: String,
    /// The mode in the first arrangement.
    pub before: SeamMode,
    /// The mode in the second arrangement.
    pub after: SeamMode,
}

/// A component whose isolation differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsolationDifference {
    /// The component.
    pub component: String,
    /// The isolation in the first arrangement.
    pub before: Isolation,
    /// The isolation in the second arrangement.
    pub after: Isolation,
}

/// How many other components share resources with a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isolation {
    /// The number of other components in the same wasmtime store. A trap in one of them ends the instances of all.
    pub in_store: usize,
    /// The number of other components in the same process.
    pub in_process: usize,
}

impl ArrangementDifference {
    /// Compares two arrangements. Seams and components that only one of them has are left out.
    #[must_use]
    pub fn between(before: &Arrangement, after: &Arrangement) -> Self {
        let key = |seam: &ArrangedSeam| (seam.importer.clone(), seam.interface.clone(), seam.exporter.clone());
        let modes: BTreeMap<_, _> = after.seams.iter().map(|seam| (key(seam), seam.mode)).collect();
        let (mut seams, mut unchanged) = (Vec::new(), 0);
        for seam in &before.seams {
            match modes.get(&key(seam)) {
                Some(mode) if *mode != seam.mode => seams.push(ModeChange {
                    importer: seam.importer.clone(),
                    exporter: seam.exporter.clone(),
                    interface: seam.interface.clone(),
                    before: seam.mode,
                    after: *mode,
                }),
                Some(_) => unchanged += 1,
                None => {}
            }
        }
        let (old, new) = (isolation(before), isolation(after));
        let isolation = old.into_iter().filter_map(|(component, before)| {
            let after = *new.get(component)?;
            (before != after).then(|| IsolationDifference { component: component.to_owned(), before, after })
        });
        Self { seams, unchanged, isolation: isolation.collect() }
    }

    /// Returns the difference as text for people. `from` and `to` are the arrangements that were compared.
    #[must_use]
    pub fn explain(&self, from: &Arrangement, to: &Arrangement) -> String {
        let mut text = format!("from shape `{}` to shape `{}`\n\n", from.shape, to.shape);
        text.push_str("seams\n");
        if self.seams.is_empty() {
            text.push_str("  every seam keeps its mode\n");
        }
        let width = self.seams.iter().map(|seam| seam.importer.len() + seam.exporter.len() + 3).max().unwrap_or(0);
        for ModeChange { importer, exporter, interface, before, after } in &self.seams {
            let seam = format!("{importer} → {exporter}");
            text.push_str(&format!("  {seam:width$}  {before} → {after}  {interface}\n"));
        }
        if !self.seams.is_empty() && self.unchanged > 0 {
            let keep = if self.unchanged == 1 { "seam keeps its mode" } else { "seams keep their mode" };
            text.push_str(&format!("  {} {keep}\n", self.unchanged));
        }
        text.push_str("\nprocesses\n");
        for (process, compositions) in processes(to) {
            let names = compositions
                .iter()
                .map(|composition| composition.components.iter().map(String::as_str).collect::<Vec<_>>().join(" + "));
            text.push_str(&format!("  {process}: {}\n", names.collect::<Vec<_>>().join(" | ")));
        }
        text.push_str(&format!("  before: {}, after: {}\n", processes(from).len(), processes(to).len()));
        text
    }
}

/// Returns the compositions of each process.
#[must_use]
pub fn processes(arrangement: &Arrangement) -> BTreeMap<&str, Vec<&ArrangedComposition>> {
    let mut processes = BTreeMap::<_, Vec<_>>::new();
    for composition in &arrangement.compositions {
        processes.entry(composition.process.as_str()).or_default().push(composition);
    }
    processes
}

fn isolation(arrangement: &Arrangement) -> BTreeMap<&str, Isolation> {
    let mut sizes = BTreeMap::<&str, usize>::new();
    for composition in &arrangement.compositions {
        *sizes.entry(composition.process.as_str()).or_default() += composition.components.len();
    }
    let of = |(component, composition): (_, &ArrangedComposition)| {
        let in_process = sizes[composition.process.as_str()] - 1;
        (component, Isolation { in_store: composition.components.len() - 1, in_process })
    };
    arrangement.places().into_iter().map(of).collect()
}
