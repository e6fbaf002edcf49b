//! `isomer verify`: shows which keys have signed an app in a registry or an archive.

use std::path::PathBuf;

use isomer_console::{CliError, Console, print};
use isomer_display::escaped;
use isomer_ids::{InvalidText, OciReference};
use isomer_parcel::index::INDEX_FILE;
use isomer_signing::{SIGNATURE_PREDICATE, unverified_key, verify};
use serde_json::{Value, json};

use crate::app_source::{AppSource, ShippedApp};
use crate::key_files::read_public;
use crate::remote::node::block_on;
use crate::remote::registry::RegistryFlags;
use crate::shipping::verify_folder;
use crate::signing::bundle_of;

/// Verify the signatures of an app in a registry, an archive, or a folder of `isomer ship all`. Fails unless one of the
/// given keys has signed the app. In a folder, all files are verified.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: `registry.example/team/shop:1.4.0`, an archive (`shop.tar`), or a folder with a `release.json`.
    #[arg(value_name = "APP")]
    app: PathBuf,
    /// A public key that is trusted. May be repeated.
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    #[command(flatten)]
    registry: RegistryFlags,
    /// Print the result as JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// A signed statement about the app.
struct Finding {
    predicate_type: String,
    /// The trusted key that has signed it: its identifier and its file.
    signer: Option<(String, String)>,
    /// The key that the statement names, if no trusted key has signed it. It is not verified.
    claimed: Option<String>,
    /// Whether the statement is about this app.
    is_about: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let keys = arguments.keys.iter().map(|path| read_public(path)).collect::<Result<Vec<_>, _>>()?;
    if arguments.app.join(INDEX_FILE).is_file() {
        return verify_folder(&arguments.app, &keys, arguments.json, console);
    }
    let shipped = match AppSource::parse(&arguments.app)? {
        AppSource::Archive(path) => ShippedApp::read(&path)?,
        AppSource::Registry(reference) => block_on(ShippedApp::pull(&reference, &arguments.registry, true, console))?,
        AppSource::Path(path) => {
            let reference: OciReference = path.to_string_lossy().parse().map_err(|error: InvalidText| {
                let hint = error.hint();
                CliError::usage(error.to_string(), hint)
            })?;
            block_on(ShippedApp::pull(&reference, &arguments.registry, true, console))?
        }
    };
    let digest = &shipped.digest;
    let bundles = shipped.referrers.iter().filter_map(|referrer| Some((bundle_of(referrer)?, referrer)));
    let findings: Vec<Finding> = bundles
        .map(|(bundle, referrer)| match verify(bundle, &keys) {
            Ok((statement, signer)) => Finding {
                is_about: statement.is_about(digest),
                predicate_type: statement.predicate_type,
                signer: Some((keys[signer].id().to_string(), arguments.keys[signer].display().to_string())),
                claimed: None,
            },
            Err(_) => Finding {
                predicate_type: referrer.predicate_type.clone().unwrap_or_default(),
                signer: None,
                claimed: unverified_key(bundle),
                is_about: false,
            },
        })
        .collect();
    let is_signed = findings
        .iter()
        .any(|finding| finding.signer.is_some() && finding.is_about && finding.predicate_type == SIGNATURE_PREDICATE);
    if arguments.json {
        let statements: Vec<Value> = findings.iter().map(Finding::json).collect();
        let value = json!({
            "app": shipped.name,
            "digest": format!("sha256:{digest}"),
            "signed": is_signed,
            "statements": statements,
        });
        print(&format!("{value:#}\n"))?;
    } else {
        print(&findings.iter().map(Finding::line).collect::<String>())?;
    }
    if is_signed {
        console.message(&format!("{} is signed by a trusted key", shipped.name));
        return Ok(());
    }
    Err(CliError::failed(
        format!("none of the keys has signed `{}`", shipped.name),
        "sign the app: isomer push --sign KEY REFERENCE",
    ))
}

impl Finding {
    fn line(&self) -> String {
        let what = match self.predicate_type.as_str() {
            SIGNATURE_PREDICATE => "signature".to_owned(),
            "" => "unknown statement".to_owned(),
            other => format!("statement {}", escaped(other)),
        };
        match (&self.signer, self.is_about) {
            (Some((key, file)), true) => format!("{what}  by {} ({file})\n", &key[..16]),
            (Some((key, file)), false) => format!("{what}  by {} ({file}), about another artifact\n", &key[..16]),
            (None, _) => match &self.claimed {
                Some(claimed) => format!("{what}  not verified, claims the key {}\n", &claimed[..16]),
                None => format!("{what}  not verified\n"),
            },
        }
    }

    fn json(&self) -> Value {
        json!({
            "predicate_type": self.predicate_type,
            "verified": self.signer.is_some() && self.is_about,
            "key": self.signer.as_ref().map(|(key, _)| key),
            "file": self.signer.as_ref().map(|(_, file)| file),
            "claimed_key": self.claimed,
        })
    }
}
