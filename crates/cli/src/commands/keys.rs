//! `isomer keys`: creates key pairs for signatures, and shows public keys.

use std::path::PathBuf;

use isomer_console::{CliError, Console, print};
use isomer_signing::SigningKey;
use serde_json::json;

use crate::key_files::{passphrase_of_environment, read_public, write_pair};

/// Create a key pair that signs apps, or show a public key.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(clap::Subcommand)]
enum KeysCommand {
    Generate(GenerateArguments),
    Show(ShowArguments),
}

/// Create a key pair: `NAME.key` signs, and `NAME.pub` verifies. The private key is encrypted if `ISOMER_KEY_PASSPHRASE`
/// is set or a passphrase is entered on the terminal.
#[derive(clap::Args)]
struct GenerateArguments {
    /// The path of the files without their endings.
    #[arg(value_name = "NAME", default_value = "isomer")]
    name: PathBuf,
    /// Print the result as JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// Show the identifier of a public key, by which messages name it.
#[derive(clap::Args)]
struct ShowArguments {
    /// The public key.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the result as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    match &arguments.command {
        KeysCommand::Generate(arguments) => generate(arguments, console),
        KeysCommand::Show(arguments) => {
            let id = read_public(&arguments.file)?.id();
            match arguments.json {
                true => print(&format!("{:#}\n", json!({ "key": id.to_string() }))),
                false => print(&format!("{id}\n")),
            }
        }
    }
}

fn generate(arguments: &GenerateArguments, console: &Console) -> Result<(), CliError> {
    let passphrase = match passphrase_of_environment() {
        Some(passphrase) => Some(passphrase),
        None => new_passphrase(console)?,
    };
    let (key, pem) = SigningKey::generate(passphrase.as_deref())?;
    let id = key.public().id();
    let (private, public) = write_pair(&arguments.name, &pem, &key.public())?;
    if arguments.json {
        let value = json!({
            "key": id.to_string(),
            "private_key": private,
            "public_key": public,
            "encrypted": passphrase.is_some(),
        });
        return print(&format!("{value:#}\n"));
    }
    let how = if passphrase.is_some() { "encrypted" } else { "not encrypted" };
    console.message(&format!(
        "the private key is in {} ({how}), the public key in {}",
        private.display(),
        public.display()
    ));
    print(&format!("{id}\n"))
}

/// Asks for a new passphrase, twice. Returns `None` if it is empty, or if there is no terminal.
fn new_passphrase(console: &Console) -> Result<Option<String>, CliError> {
    let first = console.ask_secret("passphrase of the new key (empty for none): ");
    let Some(first) = first.filter(|text| !text.is_empty()) else { return Ok(None) };
    if console.ask_secret("the same passphrase again: ").as_ref() == Some(&first) {
        return Ok(Some(first));
    }
    Err(CliError::failed("the passphrases differ", "run the command again"))
}
