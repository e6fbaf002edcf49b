//! Releases: the checks that need no compiler, and their files on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Component as PathPart, Path, PathBuf};
use std::time::{Duration, SystemTime};

use isomer_api::{ApiProblem, PartPath, ProblemKind, Release};
use isomer_capabilities::AppGrants;
use isomer_diagnostics::{Diagnostic, Renderer, SourceFile};
use isomer_disk::Reserve;
use isomer_disk::tree::remove;
use isomer_display::excerpt;
use isomer_ids::{ReleaseDigest, TenantName};
use isomer_manifest::{App, Parsed, SecretSource, Spanned};
use isomer_state::Blobs;

use crate::unique_folder::create_unique_folder;

/// The maximum number of bytes in all parts of a release.
pub(crate) const RELEASE_BYTES_MAX: u64 = 1 << 30;

/// The prefix of the names of folders that are not complete yet.
const UNFINISHED: &str = ".";

/// Parses a manifest. Returns the app, and the warnings as text for people.
///
/// # Errors
/// If the manifest is invalid. The problem contains all errors as text for people.
pub(crate) fn read_manifest(text: &str) -> Result<(App, Vec<String>), ApiProblem> {
    let render = Renderer::plain();
    match isomer_manifest::parse(&SourceFile::new("isomer.toml", text)) {
        Ok(Parsed { app, warnings }) => Ok((app, warnings.iter().map(|warning| render.diagnostic(warning)).collect())),
        Err(found) => {
            Err(ApiProblem::new(ProblemKind::Refused, "the manifest is invalid").detail(render.diagnostics(&found)))
        }
    }
}

/// Checks that all paths in the manifest are inside the app's folder.
///
/// # Errors
/// If a path is outside of the app's folder or not valid in a release, or if the release lacks the file of a
/// certificate authority. The problem contains the lines of the manifest with such paths.
pub(crate) fn check_folders(app: &App, release: &Release) -> Result<(), ApiProblem> {
    let source = SourceFile::new("isomer.toml", release.manifest.as_str());
    let mut found = Vec::new();
    for grant in app.components.values().flat_map(|component| &component.grants.dirs) {
        let shown = grant.value.host.display();
        match inside(&grant.value.host) {
            None => found.push(outside(format!("`{shown}` is outside of the app's folder"), grant)),
            Some(folder) if !is_path_of_part(&folder) => {
                let message = format!("`{shown}` is too long, or is not a valid path of a release");
                found.push(Diagnostic::error(message).code("folder-name").at(grant.span, ""));
            }
            Some(_) => {}
        }
    }
    for host in app.components.values().flat_map(|component| &component.grants.http) {
        let Some(file) = &host.value.authority else { continue };
        let shown = file.display();
        let Some(path) = inside(file) else {
            found.push(outside(format!("`{shown}` is outside of the app's folder"), host));
            continue;
        };
        if !release.files.keys().any(|sent| Path::new(sent.as_str()) == path) {
            let message = format!("the release has no file `{shown}`");
            let hint = "the file must contain the certificate of the authority that is trusted for this host";
            found.push(Diagnostic::error(message).code("file-not-sent").at(host.span, "").hint(hint));
        }
    }
    for (name, store) in &app.sql {
        if let Some(folder) = &store.migrations
            && inside(folder).is_none()
        {
            let message =
                format!("the migrations of `{name}` are in `{}`, outside of the app's folder", folder.display());
            found.push(Diagnostic::error(message).code("outside-of-folder").at(store.migrations_at, "").hint(HINT));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let found = found.into_iter().map(|diagnostic| diagnostic.in_source(&source)).collect::<Vec<_>>();
    let detail = Renderer::plain().diagnostics(&found);
    Err(ApiProblem::new(ProblemKind::Refused, "the manifest names folders that a node cannot provide").detail(detail))
}

const HINT: &str = "write a relative path: an app on a node can use only its own folder";

fn outside<T>(message: String, place: &Spanned<T>) -> Diagnostic {
    Diagnostic::error(message).code("outside-of-folder").at(place.span, "").hint(HINT)
}

/// Returns a relative path without its `.` components; `None` if the path leads out of the folder to which it is
/// relative.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            PathPart::Normal(name) => inside.push(name),
            PathPart::CurDir => {}
            PathPart::ParentDir | PathPart::RootDir | PathPart::Prefix(_) => return None,
        }
    }
    Some(inside)
}

/// Returns whether a path is the app's folder itself, or is valid as the path of a part.
fn is_path_of_part(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.to_str().is_some_and(|path| path.parse::<PartPath>().is_ok())
}

/// Returns the paths of the folders that the manifest grants read-only. (Folders that it grants for writing are part of
/// the app's data, and are created when they are first granted.)
pub(crate) fn folders_read(grants: &AppGrants) -> BTreeSet<PathBuf> {
    grants.dirs().filter(|grant| !grant.write).filter_map(|grant| inside(&grant.host)).collect()
}

/// Checks that the app has the shape `shape`.
///
/// # Errors
/// If it has no such shape. The problem lists the app's shapes.
pub(crate) fn check_shape(app: &App, shape: &str) -> Result<(), ApiProblem> {
    if app.shapes.contains_key(shape) {
        return Ok(());
    }
    let title = format!("app `{}` has no shape `{}`", app.name, excerpt::name(shape));
    let known: Vec<_> = app.shapes.keys().map(|known| format!("`{known}`")).collect();
    Err(ApiProblem::new(ProblemKind::NotFound, title).hint(format!("the app's shapes are {}", known.join(", "))))
}

/// Checks that the tenant has all secrets that the app needs, except the secrets that are files of the release.
///
/// # Errors
/// If secrets are missing. The problem contains the commands that set them.
pub(crate) fn check_secrets(
    app: &App,
    release: &Release,
    tenant: &TenantName,
    given: &BTreeSet<String>,
) -> Result<(), ApiProblem> {
    let missing = secrets_needed(&app.secrets, release).filter(|name| !given.contains(*name)).collect::<Vec<_>>();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let title = format!("tenant `{tenant}` lacks secrets that the app needs: {names}");
    let problem = ApiProblem::new(ProblemKind::Refused, title);
    Err(missing
        .iter()
        .fold(problem, |problem, name| problem.hint(format!("isomer secrets set {name} --tenant {tenant}"))))
}

/// Returns the secrets in the manifest that the tenant must have: all secrets except those that are files of the
/// release.
pub(crate) fn secrets_needed<'a>(
    secrets: &'a BTreeMap<String, SecretSource>,
    release: &Release,
) -> impl Iterator<Item = &'a str> {
    let is_sent = |source: &SecretSource| match source {
        SecretSource::Env(_) => false,
        SecretSource::File(path) => {
            inside(path).is_some_and(|path| release.files.keys().any(|sent| Path::new(sent.as_str()) == path))
        }
    };
    secrets.iter().filter(move |(_, source)| !is_sent(source)).map(|(name, _)| name.as_str())
}

/// Returns the path of the folder with a revision's files.
pub(crate) fn files_of(revisions: &Path, revision: &ReleaseDigest) -> PathBuf {
    revisions.join(revision.as_str()).join("files")
}

/// Creates the folder of a revision on disk, with the files of the release, its empty folders and the `granted`
/// folders. If the folder exists already, only marks it as used. On return, the folder is complete and synced; if an
/// error occurs, it does not exist. Files are hard links to the stored parts if the file system supports hard links.
///
/// # Errors
/// If the disk fails, or if the files would use the disk space that `reserve` keeps free
/// ([`io::ErrorKind::StorageFull`]).
pub(crate) fn lay_out(
    revisions: &Path,
    revision: &ReleaseDigest,
    release: &Release,
    granted: &BTreeSet<PathBuf>,
    blobs: &Blobs,
    reserve: &Reserve,
) -> io::Result<()> {
    if release.files.is_empty() && release.folders.is_empty() && granted.is_empty() {
        return Ok(());
    }
    let goal = revisions.join(revision.as_str());
    if goal.is_dir() {
        // Mark the folder as used. The sweep removes an unreferenced folder only some time after its last use.
        return File::open(&goal)?.set_modified(SystemTime::now());
    }
    let temporary = create_unique_folder(revisions, &format!("{UNFINISHED}{revision}-"))?;
    let laid_out = fill(&temporary, release, granted, blobs, reserve).and_then(|()| fs::rename(&temporary, &goal));
    match laid_out {
        Ok(()) => File::open(revisions)?.sync_all(),
        Err(error) => {
            // If this removal fails too, `sweep_unfinished` removes the folder later.
            let removed = remove(&temporary);
            // The folder may exist now, because a concurrent deployment of another app has created the folder of the
            // same revision.
            if goal.is_dir() { removed } else { Err(error) }
        }
    }
}

/// Creates the files and folders of a release in `folder`, and syncs them.
fn fill(
    folder: &Path,
    release: &Release,
    granted: &BTreeSet<PathBuf>,
    blobs: &Blobs,
    reserve: &Reserve,
) -> io::Result<()> {
    let mut folders = BTreeSet::from([folder.to_owned()]);
    let files = folder.join("files");
    let mut make = |made: &Path| {
        folders.extend(made.ancestors().take_while(|above| above.starts_with(folder)).map(Path::to_owned));
        fs::create_dir_all(made)
    };
    for (path, part) in &release.files {
        let path = files.join(path.as_str());
        make(path.parent().unwrap_or(&files))?;
        let blob = blobs.path(&part.digest);
        let linked = fs::hard_link(&blob, &path);
        if linked.is_err() && reserve.room() < part.bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // The file system limits the number of hard links to a file. At the limit, replace the stored part with a new
        // copy, which can have further hard links.
        let linked = match linked {
            Err(error) if error.kind() == io::ErrorKind::TooManyLinks => {
                blobs.renew(&part.digest).and_then(|()| fs::hard_link(&blob, &path))
            }
            linked => linked,
        };
        // Some file systems do not support hard links. Copy the file instead.
        if linked.is_err() {
            fs::copy(&blob, &path)?;
            File::open(&path)?.sync_all()?;
        }
    }
    for empty in &release.folders {
        make(&files.join(empty.as_str()))?;
    }
    for folder in granted {
        let folder = files.join(folder);
        // If the path is a file, create no folder. The grant is refused later, when the file is opened as a folder.
        if !folder.exists() {
            make(&folder)?;
        }
    }
    folders.iter().try_for_each(|folder| File::open(folder)?.sync_all())
}

/// Removes the incomplete folders that an earlier process has left. Failures are only logged, because
/// [`sweep_unfinished`] tries again.
pub(crate) fn remove_unfinished(revisions: &Path) {
    remove_unfinished_if(revisions, |_| true);
}

/// Removes incomplete folders that failed deployments have left, if they were last changed more than `unused_max` ago.
pub(crate) fn sweep_unfinished(revisions: &Path, now: SystemTime, unused_max: Duration) {
    remove_unfinished_if(revisions, |entry| {
        let used = entry.metadata().and_then(|metadata| metadata.modified());
        used.is_ok_and(|used| now.duration_since(used).is_ok_and(|unused| unused >= unused_max))
    });
}

fn remove_unfinished_if(revisions: &Path, may: impl Fn(&fs::DirEntry) -> bool) {
    let is_unfinished = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(UNFINISHED);
    let removed = fs::read_dir(revisions).and_then(|entries| {
        entries
            .filter(|entry| entry.as_ref().map_or(true, |entry| is_unfinished(entry) && may(entry)))
            .try_for_each(|entry| remove(&entry?.path()))
    });
    if let Err(error) = removed {
        tracing::warn!(folder = %revisions.display(), %error, "cannot remove the files of an unfinished deployment, which still take space");
    }
}

#[cfg(test)]
mod tests {
    use isomer_api::ReleasePart;
    use isomer_ids::Digest;
    use isomer_parcel::release_digest;
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn release(manifest: &str, files: &[&str]) -> Release {
        let part = |bytes: &[u8]| ReleasePart { digest: Digest::from([bytes[0]; 32]), bytes: bytes.len() as u64 };
        Release {
            manifest: format!(
                "[app]\nname = \"a\"\nversion = \"1.0.0\"\n\n[components.c]\nwasm = \"c.wasm\"\n{manifest}"
            ),
            shape: "monolith".to_owned(),
            components: [("c".to_owned(), part(b"c"))].into(),
            files: files.iter().map(|path| (path.parse().unwrap(), part(path.as_bytes()))).collect(),
            folders: BTreeSet::new(),
            hosts: None,
            message: None,
            signatures: Vec::new(),
        }
    }

    fn app(release: &Release) -> App {
        isomer_manifest::parse(&SourceFile::new("isomer.toml", release.manifest.as_str())).unwrap().app
    }

    fn no_reserve(folder: &Path) -> Reserve {
        Reserve::new(folder, 0)
    }

    #[test]
    fn a_digest_covers_everything_but_host_names() {
        let one = release("", &["static/a"]);
        let hosts = Release { hosts: Some(vec!["a.example".parse().unwrap()]), ..one.clone() };
        assert_eq!(release_digest(&one), release_digest(&hosts));
        let mut others = vec![release("isolate = true", &["static/a"]), release("", &["static/b"]), release("", &[])];
        others.push(Release { shape: "split".to_owned(), ..one.clone() });
        others.push(Release { folders: ["empty".parse().unwrap()].into(), ..one.clone() });
        assert_eq!(
            release_digest(&one),
            release_digest(&Release { message: Some("x".parse().unwrap()), ..one.clone() })
        );
        let mut changed = one.clone();
        changed.components.get_mut("c").unwrap().digest = Digest::from([0; 32]);
        others.push(changed);
        let names = others.iter().chain([&one]).map(release_digest).collect::<BTreeSet<_>>();
        assert_eq!(names.len(), others.len() + 1);
    }

    #[test]
    fn paths_must_be_in_the_apps_folder() {
        let granted = |folder: &str, write: bool| {
            let grant = format!("grants.dirs = [{{ host = \"{folder}\", guest = \"/d\", write = {write} }}]");
            let release = release(&grant, &["static/a"]);
            check_folders(&app(&release), &release)
        };
        for (folder, write) in [("static", false), ("./static", false), ("data", true), ("static", true), (".", false)]
        {
            granted(folder, write).unwrap_or_else(|problem| panic!("{folder}: {problem:?}"));
        }
        for folder in ["/etc", "../other", "static/../../x", "/"] {
            let problem = granted(folder, true).unwrap_err();
            let detail = problem.detail.unwrap();
            assert!(detail.contains("is outside of the app's folder") && detail.contains("isomer.toml:7:"), "{detail}");
        }
        granted("nothing", false).unwrap();
        let migrations = release("grants.sql = [\"s\"]\n[sql.s]\nmigrations = \"../m\"", &[]);
        assert!(check_folders(&app(&migrations), &migrations).is_err());
    }

    #[test]
    fn a_missing_secret_is_reported_with_the_command_that_sets_it() {
        let secrets = "[secrets]\nkey = { env = \"KEY\" }\nother = { file = \"keys/other\" }";
        let (release, tenant) = (release(secrets, &[]), "acme".parse().unwrap());
        let app = app(&release);
        let lacks = |release: &Release, given: &[&str]| {
            let given = given.iter().map(|name| (*name).to_owned()).collect();
            check_secrets(&app, release, &tenant, &given).err().map(|problem| problem.hints)
        };
        let hints = lacks(&release, &["other"]).unwrap();
        assert_eq!(hints, ["isomer secrets set key --tenant acme"]);
        assert_eq!(lacks(&release, &["other", "key"]), None);
        assert_eq!(lacks(&release, &[]).unwrap().len(), 2);
        assert_eq!(
            lacks(&self::release(secrets, &["keys/other"]), &["key"]),
            None,
            "the secret is a file of the release"
        );
    }

    #[test]
    fn files_are_laid_out_under_their_paths() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&folder.path().join("blobs")).unwrap();
        let revisions = folder.path().join("revisions");
        fs::create_dir(&revisions).unwrap();
        let mut release = release("", &[]);
        for (path, text) in [("static/a.txt", "one"), ("b", "two"), ("static/deep/c", "one")] {
            let digest = Digest::from(<[u8; 32]>::from(Sha256::digest(text)));
            let mut upload = blobs.upload(&digest).unwrap();
            upload.write(text.as_bytes()).unwrap();
            upload.finish().unwrap();
            release.files.insert(path.parse().unwrap(), ReleasePart { digest, bytes: text.len() as u64 });
        }
        release.folders.insert("static/empty/inner".parse().unwrap());
        let granted = [PathBuf::from("static"), "nothing/at/all".into(), "".into()].into();
        let revision = release_digest(&release);
        // A killed process leaves an incomplete folder like this one.
        fs::create_dir_all(revisions.join(format!(".{revision}-0/files/static"))).unwrap();
        remove_unfinished(&revisions);
        for _ in 0..2 {
            lay_out(&revisions, &revision, &release, &granted, &blobs, &no_reserve(folder.path())).unwrap();
            let files = files_of(&revisions, &revision);
            let read = |path: &str| fs::read_to_string(files.join(path)).unwrap();
            assert_eq!([read("static/a.txt"), read("b"), read("static/deep/c")], ["one", "two", "one"]);
            assert!(["static/empty/inner", "nothing/at/all"].iter().all(|path| files.join(path).is_dir()));
            assert_eq!(fs::read_dir(&revisions).unwrap().count(), 1);
        }
    }

    #[test]
    fn empty_folders_are_laid_out() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&folder.path().join("blobs")).unwrap();
        let grants =
            "grants.dirs = [{ host = \"./a/b\", guest = \"/b\" }, { host = \"w\", guest = \"/w\", write = true }]";
        let release = release(grants, &[]);
        let (granted, revision) = (folders_read(&AppGrants::from(&app(&release))), release_digest(&release));
        assert_eq!(granted, [PathBuf::from("a/b")].into());
        lay_out(folder.path(), &revision, &release, &granted, &blobs, &no_reserve(folder.path())).unwrap();
        let files = files_of(folder.path(), &revision);
        assert!(files.join("a/b").is_dir() && !files.join("w").exists());
    }

    #[test]
    fn a_failed_layout_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&folder.path().join("blobs")).unwrap();
        let revisions = folder.path().join("revisions");
        fs::create_dir(&revisions).unwrap();
        // The part of `static/a.txt` was not uploaded.
        let release = release("", &["static/a.txt"]);
        lay_out(&revisions, &release_digest(&release), &release, &BTreeSet::new(), &blobs, &no_reserve(folder.path()))
            .unwrap_err();
        assert_eq!(fs::read_dir(&revisions).unwrap().count(), 0);
        // A failing disk leaves an incomplete folder like this one.
        let left = revisions.join(format!(".{}-0", release_digest(&release)));
        fs::create_dir_all(left.join("files")).unwrap();
        let later = SystemTime::now() + Duration::from_secs(60);
        sweep_unfinished(&revisions, later, Duration::from_secs(3600));
        assert!(left.exists(), "the deployment may be in progress");
        sweep_unfinished(&revisions, later, Duration::from_secs(1));
        assert!(!left.exists());
    }

    #[test]
    fn copying_a_part_leaves_the_reserve() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&folder.path().join("blobs")).unwrap();
        // The part of `static/a.txt` does not exist, so it can be neither linked nor copied.
        let release = release("", &["static/a.txt"]);
        let all = Reserve::new(folder.path(), u64::MAX);
        let error =
            lay_out(folder.path(), &release_digest(&release), &release, &BTreeSet::new(), &blobs, &all).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
