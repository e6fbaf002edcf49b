//! `cargo xtask tidy`: checks rules that no compiler checks. A test of this crate also checks them.

mod architecture;
mod cycles;
mod files;
mod layers;
mod manifests;
mod pages;
mod terminology;

use anyhow::{Result, bail};

use crate::project::Project;

pub(crate) fn run(project: &Project) -> Result<()> {
    let mut problems = layers::check(project)?;
    problems.extend(manifests::check(project)?);
    problems.extend(cycles::check(project)?);
    problems.extend(files::check(project)?);
    problems.extend(pages::check(project)?);
    problems.extend(architecture::check(project)?);
    problems.extend(terminology::check(project)?);
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    match problems.len() {
        0 => Ok(()),
        count => bail!("the repository is not tidy: {count} problems"),
    }
}

/// Prints the import cycles of one crate, with the references that cause them. The crate is named by its package
/// (`isomer-node`) or its folder (`node`).
pub(crate) fn show_cycles(project: &Project, crate_name: &str) -> Result<()> {
    cycles::show(project, crate_name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        let project = crate::project::Project::find().expect("this is the repository");
        super::run(&project).expect("tidy");
    }
}
