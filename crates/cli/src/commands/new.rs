//! `isomer new`: creates an app from a template.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use isomer_console::{CliError, Console, print};
use isomer_ids::check_name;

use crate::commands::wit;

/// The placeholder for the app's name in the files of a template.
const NAME: &str = "{{name}}";

/// Create an app from a template, in a folder with the app's name.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app's name in lower case, for example `shop` or `my-shop`.
    name: String,
    /// The template that is copied.
    #[arg(long, value_enum, default_value_t = Template::Http)]
    template: Template,
    /// Print the new files as JSON on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Template {
    /// One component that serves HTTP.
    Http,
    /// Two components. One serves HTTP and calls the other through an interface of the app.
    Two,
}

/// The path and the text of one file of a template.
type File = (&'static str, &'static str);

macro_rules! template {
    ($dir:literal: $($file:literal),+ $(,)?) => {
        &[
            (".gitignore", include_str!("../../templates/gitignore")),
            $(($file, include_str!(concat!("../../templates/", $dir, "/", $file)))),+
        ]
    };
}

const HTTP: &[File] = template!("http": "isomer.toml", "Cargo.toml", "README.md", "hello/Cargo.toml", "hello/src/lib.rs", "tests/hello.toml");

const TWO: &[File] = template!(
    "two": "isomer.toml", "Cargo.toml", "README.md", "wit/greeter.wit", "front/Cargo.toml", "front/src/lib.rs",
    "front/src/http.rs", "greeter/Cargo.toml", "greeter/src/lib.rs", "tests/greetings.toml",
);

impl Template {
    fn files(self) -> &'static [File] {
        match self {
            Self::Http => HTTP,
            Self::Two => TWO,
        }
    }
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let Arguments { name, template, json } = arguments;
    check_name("an app name", name).map_err(|invalid| {
        let hint = match &invalid.suggestion {
            Some(suggestion) => format!("isomer new {suggestion}"),
            None => invalid.hint(),
        };
        CliError::usage(invalid.to_string(), hint)
    })?;
    let folder = Path::new(name);
    if is_taken(folder)? {
        return Err(CliError::usage(
            format!("`{name}` exists and is not an empty folder"),
            "choose another name, or empty the folder first",
        ));
    }
    // The app is created in a temporary folder, which is then renamed, so the app is either complete or does not exist.
    let made = tempfile::Builder::new().prefix(&format!(".{name}-")).tempdir_in(".");
    let made = made.context("cannot create a folder here")?;
    for (path, text) in template.files() {
        write(&made.path().join(path), &text.replace(NAME, name))?;
    }
    wit::write(made.path())?;
    set_usual_permissions(made.path())?;
    fs::rename(made.path(), folder).with_context(|| format!("cannot create the folder `{name}`"))?;
    if *json {
        return print(&format!("{:#}\n", serde_json::json!({ "app": name, "folder": name })));
    }
    console.message(&format!("created {name}; next:\n\n    cd {name}\n    isomer dev"));
    Ok(())
}

/// Returns whether `folder` is a file, or a folder that is not empty.
fn is_taken(folder: &Path) -> Result<bool, CliError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(true),
        Err(error) => Err(anyhow::Error::new(error).context(format!("cannot read `{}`", folder.display())).into()),
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create `{}`", parent.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Makes `folder` readable for all users, as new folders usually are. It was created as a temporary folder, which only
/// its owner can read.
fn set_usual_permissions(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).context("cannot set the folder's permissions")
}
