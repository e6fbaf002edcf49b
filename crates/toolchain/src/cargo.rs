//! Runs Cargo once for all packages of a workspace, and finds the components that it made and their inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use isomer_ids::ComponentName;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::{BuildError, PathError, ToolchainError};
use crate::files::at;
use crate::guest::GuestToolchain;
use crate::origin::TARGET;
use crate::process::{BuildProgress, Captured, ProgressReporter, capture, command_line};
use crate::profile::BuildProfile;
use crate::variables::{self, Variables};

/// A component that Cargo builds, and the folder of its package.
pub(crate) struct CargoPackage {
    pub component: ComponentName,
    pub dir: PathBuf,
    /// Whether the package must be built. A package that is up to date is also passed to Cargo if another package of
    /// its workspace must be built, because the features of dependencies depend on all selected packages: another
    /// selection would compile the dependencies again.
    pub stale: bool,
}

/// The component that Cargo made from a package.
pub(crate) struct Artifact {
    pub component: ComponentName,
    /// The component's file in Cargo's target folder.
    pub wasm: PathBuf,
    /// All files from which the component was made.
    pub inputs: Vec<PathBuf>,
    /// The environment variables that the build read.
    pub variables: Variables,
    /// Whether the package was out of date before the build.
    pub stale: bool,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize, Clone)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
}

/// A line of the output of `cargo build --message-format json`. The fields are missing in lines that are not about an
/// artifact.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// Builds the packages that are out of date, with one run of Cargo for each workspace.
pub(crate) fn build(
    wanted: Vec<CargoPackage>,
    toolchain: &GuestToolchain,
    profile: BuildProfile,
    report: ProgressReporter<'_>,
) -> Result<Vec<Artifact>, BuildError> {
    let mut artifacts = Vec::new();
    let mut left = wanted;
    while let Some(first) = left.iter().position(|wanted| wanted.stale) {
        let metadata = metadata(&left[first], toolchain)?;
        let mut here = Vec::new();
        let mut elsewhere = Vec::new();
        for wanted in left {
            match package_in(&metadata, &wanted.dir) {
                Some(package) => here.push((wanted, package)),
                None => elsewhere.push(wanted),
            }
        }
        if here.is_empty() {
            let CargoPackage { component, dir, .. } = elsewhere.swap_remove(first);
            let output = "the folder's Cargo.toml has no [package]".to_owned();
            return Err(BuildError::NoPackage { component, dir, output });
        }
        artifacts.extend(build_workspace(&metadata, here, toolchain, profile, report)?);
        left = elsewhere;
    }
    Ok(artifacts)
}

fn metadata(wanted: &CargoPackage, toolchain: &GuestToolchain) -> Result<Metadata, BuildError> {
    let manifest = wanted.dir.join("Cargo.toml");
    let mut command = toolchain.cargo_command();
    command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(&manifest);
    let Captured { status, stdout, stderr } = captured(&mut command, &mut |_| {})?;
    let refusal =
        |output| BuildError::NoPackage { component: wanted.component.clone(), dir: wanted.dir.clone(), output };
    if !status.success() {
        return Err(refusal(stderr));
    }
    serde_json::from_str(&stdout).map_err(|error| refusal(error.to_string()))
}

fn captured(command: &mut std::process::Command, report: ProgressReporter<'_>) -> Result<Captured, ToolchainError> {
    let line = command_line(command);
    capture(command, report).map_err(|source| ToolchainError::CannotRun { command: line, source })
}

/// Returns the package whose `Cargo.toml` is in `dir`.
fn package_in(metadata: &Metadata, dir: &Path) -> Option<Package> {
    let manifest = dir.join("Cargo.toml").canonicalize().ok()?;
    let same = |package: &&Package| package.manifest_path.canonicalize().is_ok_and(|path| path == manifest);
    metadata.packages.iter().find(same).cloned()
}

fn build_workspace(
    metadata: &Metadata,
    wanted: Vec<(CargoPackage, Package)>,
    toolchain: &GuestToolchain,
    profile: BuildProfile,
    report: ProgressReporter<'_>,
) -> Result<Vec<Artifact>, BuildError> {
    let manifest = fs::read_to_string(metadata.workspace_root.join("Cargo.toml")).unwrap_or_default();
    let mut command = toolchain.cargo_command();
    command.arg("build").args(profile.arguments(&manifest));
    command.args(["--target", TARGET, "--message-format", "json-render-diagnostics"]);
    command.arg("--manifest-path").arg(metadata.workspace_root.join("Cargo.toml"));
    command.arg("--target-dir").arg(toolchain.target_dir(&target_dir(metadata)));
    let packages: BTreeMap<&str, &str> =
        wanted.iter().map(|(_, package)| (package.id.as_str(), package.name.as_str())).collect();
    for id in packages.keys() {
        command.args(["-p", id]);
    }
    let names: Vec<&str> = packages.into_values().collect();
    let flags = profile.shown();
    report(BuildProgress::Step(&format!("$ cargo build {flags} --target {TARGET} -p {}", names.join(" -p "))));
    let Captured { status, stdout, stderr } = captured(&mut command, report)?;
    if !status.success() {
        return Err(not_built(wanted, stderr));
    }
    let made = components_made(&stdout);
    // All components are in one folder, the folder of the profile.
    let folder = made.values().flatten().find_map(|wasm| wasm.parent());
    let variables = folder.map(variables::of_artifacts).unwrap_or_default();
    wanted
        .into_iter()
        .map(|(wanted, package)| {
            let files = made.get(&package.id).map(Vec::as_slice).unwrap_or_default();
            let [wasm] = files else {
                let problem = match files.len() {
                    0 => "makes no component".to_owned(),
                    count => format!("makes {count} components, and one is needed"),
                };
                return Err(BuildError::Artifact { component: wanted.component, package: package.name, problem });
            };
            let inputs = inputs(wasm, &package, metadata)?;
            let (wasm, variables) = (wasm.clone(), variables.clone());
            Ok(Artifact { component: wanted.component, wasm, inputs, variables, stale: wanted.stale })
        })
        .collect()
}

/// Returns the error for a failed run of Cargo. The end of `output` names the packages that could not be built.
fn not_built(wanted: Vec<(CargoPackage, Package)>, output: String) -> BuildError {
    let failed = failed_packages(&output);
    let own = wanted.iter().filter(|(_, package)| failed.contains(&package.name));
    let components: Vec<_> = own.map(|(wanted, _)| wanted.component.clone()).collect();
    if !components.is_empty() {
        return BuildError::Cargo { components, output };
    }
    if let Some(package) = failed.into_iter().next() {
        return BuildError::Dependency { package, output };
    }
    let stale = wanted.into_iter().filter(|(wanted, _)| wanted.stale);
    BuildError::Cargo { components: stale.map(|(wanted, _)| wanted.component).collect(), output }
}

/// Returns the packages that Cargo reports as failed, in the order of `output`. Packages that Cargo stopped building
/// because another one failed are left out.
fn failed_packages(output: &str) -> Vec<String> {
    const SIGNS: [&str; 2] = ["error: could not compile `", "error: failed to run custom build command for `"];
    let mut failed = Vec::new();
    for line in output.lines() {
        let rest = SIGNS.iter().find_map(|sign| line.trim_start().strip_prefix(sign));
        // Cargo writes a package's name, or its name with its version and path.
        let name = rest.and_then(|rest| rest.split(['`', ' ']).next());
        if let Some(name) = name.filter(|name| !failed.iter().any(|known| known == name)) {
            failed.push(name.to_owned());
        }
    }
    failed
}

/// Returns the target folder of the workspace. If Cargo's target folder is outside of the workspace
/// (`CARGO_TARGET_DIR`), other workspaces may share it, so each workspace gets its own folder in it. The reason is that
/// Cargo distinguishes packages only by their path in their workspace: of two apps with the same layout, the app with
/// older files could get the other app's component.
fn target_dir(metadata: &Metadata) -> PathBuf {
    if metadata.target_directory.starts_with(&metadata.workspace_root) {
        return metadata.target_directory.clone();
    }
    let digest = Sha256::digest(metadata.workspace_root.as_os_str().as_encoded_bytes());
    let name: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    metadata.target_directory.join("apps").join(name)
}

/// Returns the `.wasm` files that Cargo made, by package. `messages` is Cargo's output in JSON.
fn components_made(messages: &str) -> BTreeMap<String, Vec<PathBuf>> {
    let mut made: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()) {
        if message.reason == "compiler-artifact" {
            let is_wasm = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "wasm");
            let files = message.filenames.into_iter().filter(is_wasm);
            made.entry(message.package_id).or_default().extend(files);
        }
    }
    made
}

/// Returns the files that Cargo checks before it builds the package: the sources in its dep-info file, the manifests,
/// the lock file, the toolchain file and the configuration.
fn inputs(wasm: &Path, package: &Package, metadata: &Metadata) -> Result<Vec<PathBuf>, PathError> {
    let dep_info = wasm.with_extension("d");
    let text = fs::read_to_string(&dep_info).map_err(at(&dep_info, "read"))?;
    let mut inputs: BTreeSet<PathBuf> = dependencies(&text).into_iter().collect();
    // Files that build scripts generate are not inputs, because they are derived from other inputs.
    inputs.retain(|path| !path.starts_with(&metadata.target_directory));
    let root = &metadata.workspace_root;
    let mut dirs = BTreeSet::new();
    for source in &inputs {
        // A new file next to a WIT file belongs to the same WIT package, so the folder is an input: its time changes
        // when a file is added.
        if source.extension().is_some_and(|extension| extension == "wit") {
            dirs.extend(source.parent().map(Path::to_owned));
        }
        let with_manifest = source.ancestors().skip(1).find(|dir| dir.join("Cargo.toml").exists());
        dirs.extend(with_manifest.map(|dir| dir.join("Cargo.toml")));
    }
    inputs.extend(dirs);
    inputs.insert(package.manifest_path.clone());
    inputs.extend(["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "rust-toolchain"].map(|file| root.join(file)));
    for dir in root.ancestors().map(|dir| dir.join(".cargo")).chain(cargo_home()) {
        inputs.extend([dir.join("config.toml"), dir.join("config")]);
    }
    Ok(inputs.into_iter().collect())
}

/// Returns the folder with the user's Cargo configuration.
fn cargo_home() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("CARGO_HOME").or_else(|| Some(variable("HOME")?.join(".cargo")))
}

/// Returns the dependencies of the first rule in a dep-info file. The file has the syntax of make: spaces separate
/// paths, and `\ ` is a space in a path.
fn dependencies(text: &str) -> Vec<PathBuf> {
    let Some((_, list)) = text.lines().next().and_then(|line| line.split_once(": ")) else { return Vec::new() };
    let mut paths = Vec::new();
    let mut path = String::new();
    let mut rest = list.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => path.extend(rest.next()),
            ' ' => paths.push(std::mem::take(&mut path)),
            c => path.push(c),
        }
    }
    paths.push(path);
    paths.into_iter().filter(|path| !path.is_empty()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dep_info_may_have_blanks_in_paths() {
        let text = "/t/a.wasm: /src/lib.rs /my\\ app/wit/a.wit\n\n/src/lib.rs:\n";
        assert_eq!(dependencies(text), [PathBuf::from("/src/lib.rs"), PathBuf::from("/my app/wit/a.wit")]);
        assert_eq!(dependencies("/t/a.wasm:\n"), Vec::<PathBuf>::new());
    }

    #[test]
    fn failed_packages_are_found_in_the_output_of_cargo() {
        let output = "error[E0425]: cannot find value `could not compile `x``\n   --> src/lib.rs:1:1\n\
                      error: could not compile `shop-cart` (lib) due to 1 previous error\n\
                      warning: build failed, waiting for other jobs to finish...\n\
                      error: could not compile `shop-cart` (lib test) due to 1 previous error\n\
                      error: failed to run custom build command for `ring v0.17.8 (/x y)`\n";
        assert_eq!(failed_packages(output), ["shop-cart", "ring"]);
        assert_eq!(failed_packages("error: no matching package found\n"), [""; 0]);
    }

    #[test]
    fn workspaces_never_share_a_target_folder() {
        let place = |root: &str, target: &str| {
            let (workspace_root, target_directory) = (PathBuf::from(root), PathBuf::from(target));
            target_dir(&Metadata { packages: Vec::new(), workspace_root, target_directory })
        };
        assert_eq!(place("/a", "/a/target"), PathBuf::from("/a/target"));
        assert!(place("/a", "/shared").starts_with("/shared"));
        assert_ne!(place("/a", "/shared"), place("/b", "/shared"));
        assert_eq!(place("/a", "/shared"), place("/a", "/shared"));
    }

    #[test]
    fn only_artifacts_that_are_components_count() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","package_id":"a","filenames":["/t/liba.rlib","/t/a.wasm"]}"#,
            "\nnot JSON\n",
            r#"{"reason":"build-script-executed","package_id":"a"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let made = components_made(messages);
        assert_eq!(made["a"], [PathBuf::from("/t/a.wasm")]);
    }
}
