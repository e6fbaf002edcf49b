//! `cargo xtask dist`: makes the release tarball and its checksum.
//!
//! The tarball `isomer-VERSION-TARGET.tar.gz` contains one folder of that name with the stripped program `isomer`, the
//! runtime of shipped programs (`isomer-runtime`, statically linked, so that shipped programs run on every distribution),
//! shell completions, man pages, compiled providers, systemd units, the readme, the changelog, the licence, and the licence
//! texts of all linked crates. The names, order, owners and times of the tarball's entries, and the paths in the program, are
//! the same on every machine. The time of an entry is that of the commit. Before the tarball is packed, its programs ship and
//! serve the example shop.

mod archive;
mod licences;
mod smoke;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::project::{self, Project};

/// The shells that `isomer completions` supports, and the name of each completion file.
const COMPLETIONS: [(&str, &str); 5] = [
    ("bash", "isomer.bash"),
    ("zsh", "_isomer"),
    ("fish", "isomer.fish"),
    ("powershell", "isomer.ps1"),
    ("elvish", "isomer.elv"),
];

/// The files of the repository that are copied into the tarball.
const TEXTS: [&str; 3] = ["README.md", "CHANGELOG.md", "LICENSE"];

/// The runtime of shipped programs.
const RUNTIME: &str = "isomer-runtime";

const THIRD_PARTY: &str = "THIRD-PARTY-LICENSES.txt";
const CHECKSUMS: &str = "SHA256SUMS";

const USAGE: &str = "\
Usage: cargo xtask dist [--binary PROGRAM] [--runtime PROGRAM] [--out FOLDER]

  --binary PROGRAM   package this `isomer` instead of building it
  --runtime PROGRAM  package this `isomer-runtime` instead of building it
  --out FOLDER       where to put the tarball and SHA256SUMS [default: dist in the target folder]";

pub(crate) fn run(project: &Project, arguments: &[&str]) -> Result<()> {
    let (mut binary, mut runtime, mut out) = (None, None, project.target.join("dist"));
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value =
            || rest.next().map(PathBuf::from).with_context(|| format!("`{argument}` needs a value\n\n{USAGE}"));
        match *argument {
            "--binary" => binary = Some(std::path::absolute(value()?)?),
            "--runtime" => runtime = Some(std::path::absolute(value()?)?),
            "--out" => out = std::path::absolute(value()?)?,
            unknown => bail!("unknown option: `{unknown}`\n\n{USAGE}"),
        }
    }
    let target = host_target()?;
    let binary = match binary {
        Some(binary) => binary,
        None => build(project)?,
    };
    let runtime = match runtime {
        Some(runtime) => runtime,
        None => build_runtime(project, &target)?,
    };
    let name = archive::name(&version(project)?, &target);
    let folder = out.join(&name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty `{}`", folder.display()))?;
    }
    fill(project, [&binary, &runtime], &target, &folder)?;
    smoke::run(project, &folder, &out.join("smoke"))?;
    let tarball = archive::pack(&out, &name, commit_time(project)?)?;
    let checksums = out.join(CHECKSUMS);
    std::fs::write(&checksums, archive::checksum_line(&tarball)?).with_context(|| cannot_write(&checksums))?;
    println!("{}\n{}", tarball.display(), checksums.display());
    Ok(())
}

/// Builds the program without paths of this machine in it. Returns the path of the program.
fn build(project: &Project) -> Result<PathBuf> {
    let mut command =
        project.cargo(&["build", "--profile", "dist", "--locked", "--package", "isomer", "--features", "cross"]);
    project::run(command.env("RUSTFLAGS", remap_paths(project)?))?;
    Ok(project.target.join("dist/isomer"))
}

/// Builds the runtime of shipped programs. It is built by itself, because in one build with `isomer` Cargo would add the
/// features that only `isomer` needs, above all the compiler. It is linked statically, with the C library's `libc.a`.
/// Returns the path of the program.
fn build_runtime(project: &Project, target: &str) -> Result<PathBuf> {
    let arguments = ["build", "--profile", "dist", "--locked", "--package", "isomer-exe", "--target", target];
    let flags = format!("{} -C target-feature=+crt-static", remap_paths(project)?);
    project::run(project.cargo(&arguments).env("RUSTFLAGS", flags))?;
    Ok(project.target.join(target).join("dist").join(RUNTIME))
}

/// Returns the compiler's flags that replace the paths of this machine.
fn remap_paths(project: &Project) -> Result<String> {
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    Ok(format!("--remap-path-prefix={}=isomer --remap-path-prefix={home}=cargo", project.root.display()))
}

/// Writes the contents of the tarball into `folder`.
fn fill(project: &Project, [binary, runtime]: [&Path; 2], target: &str, folder: &Path) -> Result<()> {
    let dir = |name: &str| -> Result<PathBuf> {
        let dir = folder.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
        Ok(dir)
    };
    let program = dir("")?.join("isomer");
    // If the profile `dist` has already stripped the program, `strip` only copies it.
    for (from, to) in [(binary, &program), (runtime, &folder.join(RUNTIME))] {
        project::run(Command::new("strip").arg("--strip-all").arg("-o").arg(to).arg(from))?;
    }

    let completions = dir("completions")?;
    for (shell, file) in COMPLETIONS {
        let output = Command::new(&program).args(["completions", shell]).output();
        let output = output.with_context(|| format!("cannot run `{}`", program.display()))?;
        ensure!(output.status.success(), "`isomer completions {shell}` failed ({})", output.status);
        let path = completions.join(file);
        std::fs::write(&path, output.stdout).with_context(|| cannot_write(&path))?;
    }
    project::run(Command::new(&program).arg("manual").arg(dir("man/man1")?))?;

    for name in TEXTS {
        copy(&project.root.join(name), &folder.join(name))?;
    }
    project::run(Command::new(&program).args(["ship", "providers"]).arg(dir("providers")?))?;
    let units = dir("systemd")?;
    let packaging = project.root.join("packaging");
    for entry in std::fs::read_dir(&packaging).with_context(|| format!("cannot read `{}`", packaging.display()))? {
        let entry = entry?;
        copy(&entry.path(), &units.join(entry.file_name()))?;
    }
    let path = folder.join(THIRD_PARTY);
    std::fs::write(&path, licences::of_dependencies(project, target)?).with_context(|| cannot_write(&path))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let done = std::fs::copy(from, to);
    done.map(drop).with_context(|| format!("cannot copy `{}` to `{}`", from.display(), to.display()))
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write `{}`", path.display())
}

fn version(project: &Project) -> Result<String> {
    let package = project.packages().iter().find(|package| package["name"] == "isomer");
    let version = package.and_then(|package| package["version"].as_str());
    version.map(str::to_owned).context("the workspace has no package `isomer`")
}

/// Returns the target triple of this machine, for which the compiler builds by default.
fn host_target() -> Result<String> {
    let text = output_of(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` does not name a host")
}

/// Returns the time of the checked-out commit in seconds since 1970.
fn commit_time(project: &Project) -> Result<u64> {
    let text = output_of(project.command("git").args(["log", "-1", "--format=%ct"]))?;
    text.trim().parse().with_context(|| format!("`git log` printed `{}`, not a time", text.trim()))
}

fn output_of(command: &mut Command) -> Result<String> {
    let line = project::show(command);
    let output = command.output().with_context(|| format!("cannot run `{line}`"))?;
    ensure!(output.status.success(), "`{line}` failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
