//! `isomer ship all`: writes an app in all forms, as one release with an index.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_console::{CliError, Console, print};
use isomer_display::size;
use isomer_flags::ValueFlags;
use isomer_manifest::MONOLITH;
use isomer_parcel::Contents;
use isomer_parcel::artifact::{AppArtifact, sha256};
use isomer_parcel::index::{Form, INDEX_FILE, INDEX_SIGNATURE_FILE, IndexError, LeftOut, ReleaseIndex, ShippedFile};
use isomer_project::{AppDir, shown};
use isomer_registry::write_archive;
use isomer_signing::{SigningKey, Statement, sign};
use serde_json::{Value, json};

use super::wasm;
use crate::app_source::AppSource;
use crate::commands::push::pack;
use crate::remote::registry::RegistryFlags;
use crate::shipping::{
    Cpu, DATA, ExeOptions, ImageOptions, Program, UnitOptions, ship_exe, ship_image, unit, write_file,
};
use crate::signing::{Attachments, SignFlag};

/// Build an app once, and write it in all forms: an archive for registries and nodes, a program, a systemd unit, a container
/// image, and one Wasm file. `release.json` lists the files with their digests.
///
/// Forms that the app cannot have are listed with the reason. Config values from `.env` are not part of a release.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), its isomer.toml, or the file of an HTTP component.
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    /// The folder to write into. Files of an earlier release in this folder are replaced [default: NAME-VERSION in the
    /// working directory].
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The shape in which the program runs the app.
    #[arg(long, default_value = MONOLITH)]
    shape: String,
    /// The runtime of the program [default: `isomer-runtime` next to this program, or this program].
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// The oldest processors that must run the program. Only for 64-bit x86: other architectures have one level.
    #[arg(long, value_enum, default_value_t = Cpu::X86_64V2)]
    cpu: Cpu,
    /// A form to leave out. May be repeated. Without the program, there is neither a unit nor an image.
    #[arg(long, value_name = "FORM", value_parser = ["archive", "program", "unit", "image", "wasm"])]
    without: Vec<String>,
    #[command(flatten)]
    sign: SignFlag,
    /// Print the index as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let key = arguments.sign.key(console)?;
    let (app, contents) = pack(&arguments.path, console)?;
    let artifact = AppArtifact::of(&contents.release)?;
    let name = format!("{}-{}", app.app.name, app.app.version);
    let folder = arguments.output.clone().unwrap_or_else(|| name.clone().into());
    fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    // A folder without an index is not a release, so the index of an earlier one is removed before its files are replaced.
    remove(&folder.join(INDEX_FILE))?;
    remove(&folder.join(INDEX_SIGNATURE_FILE))?;
    let shapes = app.app.shapes.keys().cloned().collect();
    let version = app.app.version.to_string();
    let index = ReleaseIndex::new(&app.app.name, &version, env!("CARGO_PKG_VERSION"), artifact.digest.clone(), shapes);
    let mut release = Release { folder: &folder, name: &name, index, arguments, console };
    release.archive(&app, &contents, key.as_ref())?;
    release.program(&artifact)?;
    release.wasm(&app)?;
    let bytes = release.finish(key.as_ref())?;
    report(&release.index, &folder, key.as_ref(), &bytes, arguments.json, console)
}

/// A release that is being written.
struct Release<'a> {
    folder: &'a Path,
    /// The prefix of the file names.
    name: &'a str,
    index: ReleaseIndex,
    arguments: &'a Arguments,
    console: &'a Console,
}

impl Release<'_> {
    /// Writes the app as an archive, with its signatures and the list of its components.
    fn archive(&mut self, app: &AppDir, contents: &Contents, key: Option<&SigningKey>) -> Result<(), CliError> {
        if self.is_left_out(Form::Archive) {
            return Ok(());
        }
        let referrers = Attachments::of_built(app, contents)?.referrers(key, &[])?;
        let file = format!("{}.tar", self.name);
        write_file(
            &self.folder.join(&file),
            DATA,
            |out| write_archive(out, contents, &referrers, Some(&self.index.version)).map_err(std::io::Error::other),
            |_| Ok(()),
        )?;
        self.add(Form::Archive, &file)?;
        Ok(())
    }

    /// Writes the program, its unit and its image.
    fn program(&mut self, artifact: &AppArtifact) -> Result<(), CliError> {
        if self.is_left_out(Form::Program) {
            for form in [Form::Unit, Form::Image] {
                self.leave_out(form, "it is made from the program, which was left out");
            }
            return Ok(());
        }
        let path = self.folder.join(self.name);
        let options = ExeOptions {
            source: AppSource::Path(self.arguments.path.clone()),
            registry: &RegistryFlags::default(),
            shape: &self.arguments.shape,
            output: Some(&path),
            base: self.arguments.base.as_deref(),
            cpu: self.arguments.cpu,
            values: ValueFlags::default().shipped(),
        };
        let shipped = ship_exe(&options, self.console)?;
        let program = Program::open(&path)?.file;
        if AppArtifact::of(&program.index.release)?.digest != artifact.digest {
            return Err(CliError::failed(
                "the program would have other config values than the archive",
                "remove config values from the `.env` file in the app's folder: they are set where the app runs",
            ));
        }
        let (shape, target) = (Some(self.arguments.shape.clone()), Some(shipped.target));
        let added = self.add(Form::Program, self.name)?;
        (added.shape, added.target) = (shape.clone(), target.clone());
        if !self.is_left_out(Form::Unit) {
            let listen = ([127, 0, 0, 1], 8080).into();
            let unit = unit(&UnitOptions { program: &path, installed_as: None, listen })?;
            write_file(&self.folder.join(&unit.name), DATA, |out| out.write_all(unit.text.as_bytes()), |_| Ok(()))?;
            self.add(Form::Unit, &unit.name)?;
        }
        if self.is_left_out(Form::Image) {
            return Ok(());
        }
        if !program.base.is_static() {
            self.leave_out(
                Form::Image,
                "the runtime needs shared libraries; the `isomer-runtime` of the release tarball does not (`--base`)",
            );
            return Ok(());
        }
        let file = format!("{}-image.tar", self.name);
        let output = self.folder.join(&file);
        ship_image(&ImageOptions { program: &path, output: Some(&output), port: 8080 })?;
        let added = self.add(Form::Image, &file)?;
        (added.shape, added.target) = (shape, target);
        Ok(())
    }

    /// Writes the app as one Wasm file.
    fn wasm(&mut self, app: &AppDir) -> Result<(), CliError> {
        if self.is_left_out(Form::Wasm) {
            return Ok(());
        }
        let components = app.components(self.console)?;
        let plan = match wasm::plan(app, &components) {
            Ok(plan) => plan,
            Err(CliError::Findings(findings)) => {
                let reasons: Vec<_> = findings.iter().map(|finding| finding.message.as_str()).collect();
                self.leave_out(Form::Wasm, &reasons.join("; "));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let fused = wasm::fuse(app, &plan, &components, &wasm::migrations(app, &app.dir)?, self.console)?;
        let file = format!("{}.wasm", self.name);
        write_file(&self.folder.join(&file), DATA, |out| out.write_all(&fused.bytes), |_| Ok(()))?;
        self.add(Form::Wasm, &file)?.shape = Some(MONOLITH.to_owned());
        Ok(())
    }

    /// Writes the index, and its signature if there is a key. Returns the index as bytes.
    fn finish(&self, key: Option<&SigningKey>) -> Result<Vec<u8>, CliError> {
        let bytes = self.index.to_bytes();
        if let Some(key) = key {
            let bundle = sign(&Statement::signature(&sha256(&bytes)), key)?;
            write_file(
                &self.folder.join(INDEX_SIGNATURE_FILE),
                DATA,
                |out| out.write_all(bundle.as_bytes()),
                |_| Ok(()),
            )?;
        }
        write_file(&self.folder.join(INDEX_FILE), DATA, |out| out.write_all(&bytes), |_| Ok(()))?;
        Ok(bytes)
    }

    fn add(&mut self, form: Form, file: &str) -> Result<&mut ShippedFile, IndexError> {
        self.index.files.push(ShippedFile::of(form, self.folder, file)?);
        Ok(self.index.files.last_mut().expect("a file was added"))
    }

    /// Returns whether the form was left out with `--without`.
    fn is_left_out(&mut self, form: Form) -> bool {
        let is_left_out = self.arguments.without.iter().any(|name| name == form.name());
        if is_left_out {
            self.leave_out(form, "it was left out with `--without`");
        }
        is_left_out
    }

    fn leave_out(&mut self, form: Form, reason: &str) {
        self.index.left_out.push(LeftOut { form, reason: reason.to_owned() });
    }
}

/// Removes a file, if it exists.
fn remove(path: &Path) -> Result<(), CliError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(anyhow::Error::new(error).context(format!("cannot remove `{}`", path.display())).into())
        }
        _ => Ok(()),
    }
}

fn report(
    index: &ReleaseIndex,
    folder: &Path,
    key: Option<&SigningKey>,
    bytes: &[u8],
    json: bool,
    console: &Console,
) -> Result<(), CliError> {
    let signer = key.map(SigningKey::public);
    if json {
        let value = json!({
            "folder": folder,
            "index": serde_json::from_slice::<Value>(bytes)?,
            "index_digest": format!("sha256:{}", sha256(bytes)),
            "signed_by": signer.map(|key| key.id().to_string()),
        });
        return print(&format!("{value:#}\n"));
    }
    let width = index.files.iter().map(|shipped| shipped.file.len()).max().unwrap_or(0);
    for ShippedFile { form, file, bytes, shape, target, .. } in &index.files {
        let details: Vec<_> =
            [shape.as_ref().map(|shape| format!("shape {shape}")), target.clone()].into_iter().flatten().collect();
        let line = format!("{:<9}{file:<width$}  {:>10}  {}", form.name(), size(*bytes), details.join(", "));
        print(&format!("{}\n", line.trim_end()))?;
    }
    for LeftOut { form, reason } in &index.left_out {
        console.message(&format!("no {}: {reason}", form.name()));
    }
    let signed = signer.map(|key| format!(", signed by {}", key.id().short())).unwrap_or_default();
    let at = folder.join(INDEX_FILE);
    console.message(&format!("{} {} is in {}{signed}", index.app, index.version, shown(&at)));
    Ok(())
}
