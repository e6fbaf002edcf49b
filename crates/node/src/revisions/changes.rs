//! The differences between two releases. They are shown in the list of an app's revisions.

use std::collections::BTreeMap;

use isomer_api::app::CHANGES_NAMED_MAX;
use isomer_api::{Release, ReleaseChanges, ReleasePart};

/// Returns the differences between two releases of an app.
pub(crate) fn between(before: &Release, after: &Release) -> ReleaseChanges {
    let mut changes = ReleaseChanges {
        manifest: before.manifest != after.manifest,
        shape: before.shape != after.shape,
        files: count(differing(&before.files, &after.files)),
        ..ReleaseChanges::default()
    };
    changes.files += count(before.folders.symmetric_difference(&after.folders));
    for (index, name) in differing(&before.components, &after.components).enumerate() {
        if index >= CHANGES_NAMED_MAX {
            changes.more += 1;
            continue;
        }
        let list = match (before.components.contains_key(name), after.components.contains_key(name)) {
            (true, true) => &mut changes.changed,
            (false, _) => &mut changes.added,
            (true, false) => &mut changes.removed,
        };
        list.push(name.clone());
    }
    changes
}

/// Returns the names of the parts that differ between two releases, or that only one of them has.
fn differing<'a, K: Ord>(
    before: &'a BTreeMap<K, ReleasePart>,
    after: &'a BTreeMap<K, ReleasePart>,
) -> impl Iterator<Item = &'a K> {
    let changed = after.iter().filter(|(name, part)| before.get(*name) != Some(*part)).map(|(name, _)| name);
    changed.chain(before.keys().filter(|name| !after.contains_key(*name)))
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use isomer_ids::Digest;

    use super::*;

    fn release(components: &[(&str, u8)], files: &[(&str, u8)], folders: &[&str]) -> Release {
        let part = |number: u8| ReleasePart { digest: Digest::from([number; 32]), bytes: 1 };
        Release {
            manifest: String::new(),
            shape: "monolith".to_owned(),
            components: components.iter().map(|(name, number)| ((*name).to_owned(), part(*number))).collect(),
            files: files.iter().map(|(path, number)| (path.parse().unwrap(), part(*number))).collect(),
            folders: folders.iter().map(|path| path.parse().unwrap()).collect(),
            hosts: None,
            message: None,
            signatures: Vec::new(),
        }
    }

    #[test]
    fn each_kind_of_change_is_listed() {
        let before = release(&[("same", 1), ("other", 2), ("removed", 3)], &[("a", 1), ("b", 2), ("c", 3)], &["e"]);
        let mut after = release(&[("same", 1), ("other", 4), ("new", 3)], &[("a", 1), ("b", 3), ("d", 3)], &["f"]);
        let changes = between(&before, &after);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            changes,
            ReleaseChanges {
                changed: names(&["other"]),
                added: names(&["new"]),
                removed: names(&["removed"]),
                files: 5,
                ..ReleaseChanges::default()
            }
        );
        after.manifest = "x".to_owned();
        after.shape = "split".to_owned();
        assert!(between(&before, &after).manifest && between(&before, &after).shape);
        assert_eq!(between(&before, &before), ReleaseChanges::default());
    }

    #[test]
    fn the_number_of_listed_names_is_limited() {
        let names: Vec<String> = (0..100).map(|number| format!("c{number}")).collect();
        let many: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let changes = between(&release(&[], &[], &[]), &release(&many, &[], &[]));
        assert_eq!((changes.added.len(), changes.more), (CHANGES_NAMED_MAX, 84));
    }
}
