//! Checks each crate's `Cargo.toml`: lints and versions must come from the workspace, and no crate is published by
//! mistake.

use anyhow::{Context as _, Result};

use crate::project::Project;

pub(super) fn check(project: &Project) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for package in project.packages() {
        let path = package["manifest_path"].as_str().context("`cargo metadata` lists a package without a manifest")?;
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{path}`"))?;
        let shown = path.strip_prefix(&*project.root.to_string_lossy()).unwrap_or(path).trim_start_matches('/');
        problems.extend(problems_of(&text).into_iter().map(|problem| format!("{shown}: {problem}")));
    }
    Ok(problems)
}

fn problems_of(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.contains("[lints]\nworkspace = true") {
        problems.push("lacks `[lints] workspace = true`".to_owned());
    }
    if !text.contains("publish.workspace = true") && !text.contains("publish = false") {
        problems.push("lacks `publish.workspace = true`".to_owned());
    }
    let mut in_dependencies = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
        } else if in_dependencies && line.contains('=') && !line.starts_with('#') && !line.contains("workspace = true")
        {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            problems.push(format!(
                "dependency `{name}` has its own version; the version belongs in the workspace's `Cargo.toml`"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_breach_of_a_rule_is_found() {
        let good = "[package]\nname = \"a\"\npublish.workspace = true\n\n[lints]\nworkspace = true\n\n\
                    [dependencies]\n# why\nserde.workspace = true\ntokio = { workspace = true, features = [\"fs\"] }\n";
        assert_eq!(problems_of(good), Vec::<String>::new());
        let bad = "[package]\nname = \"a\"\n[dev-dependencies]\nserde = \"1\"\n";
        assert_eq!(problems_of(bad).len(), 3, "{:?}", problems_of(bad));
    }
}
