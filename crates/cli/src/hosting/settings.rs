//! The settings of a node, from flags and from the node file. Flags take precedence.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use isomer_admin::AdminAddress;
use isomer_apps::tenancy::{TenancyOptions, TimeLimits};
use isomer_capabilities::outbound::OutboundNetwork;
use isomer_console::{CliError, Console};
use isomer_diagnostics::{Diagnostic, SourceFile};
use isomer_display::excerpt::cut;
use isomer_manifest::{
    LinkAddress, NodeSampling, NodeSettings, Sampling, SignatureKeys, parse_listen, parse_node_file,
};
use isomer_node::listeners::ListenerOptions;
use isomer_node::{SignaturePolicy, SignatureRule};
use isomer_project::shown;
use isomer_serve::{CollectorInFile, network};
use isomer_signing::PublicKey;
use isomer_telemetry::metrics::Metrics;
use isomer_telemetry::{SamplingLimits, SamplingPolicy};

use crate::user_dirs;

/// The default address of the front door.
const LISTEN: &str = "127.0.0.1:8080";

/// The default grace period: how long requests in progress may take to finish after the signal to stop.
const GRACE: Duration = Duration::from_secs(30);

/// The settings of a node file, and the folder to which its paths are relative.
pub(crate) struct Config {
    pub(crate) file: NodeSettings,
    folder: PathBuf,
    /// The path and text of the node file, or `None` if there is no node file.
    source: Option<SourceFile>,
}

impl Config {
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, CliError> {
        let Some(path) = path else {
            return Ok(Self { file: NodeSettings::default(), folder: PathBuf::new(), source: None });
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            let error = anyhow::Error::new(error).context(format!("cannot read the node file `{}`", path.display()));
            CliError::Usage(error)
        })?;
        let path = path.canonicalize().with_context(|| format!("cannot resolve `{}`", path.display()))?;
        let source = SourceFile::new(shown(&path), text);
        let file = parse_node_file(&source).map_err(CliError::Findings)?;
        let unread = file.unread_by_node();
        if !unread.is_empty() {
            return Err(CliError::findings(unread, &source));
        }
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { file: file.node, folder, source: Some(source) })
    }

    /// Returns the collector that the node file names.
    pub(crate) fn collector(&self) -> Option<CollectorInFile<'_>> {
        let (written, source) = (self.file.otlp.as_ref()?, self.source.as_ref()?);
        Some(CollectorInFile { written, dir: &self.folder, source })
    }
}

/// The maximum length in bytes of the names of keys in an error.
const RULE_BYTES_MAX: usize = 200;

/// Returns which keys must have signed the apps of tenants. Reads the files of the keys.
pub(crate) fn signature_policy(config: &Config) -> Result<SignaturePolicy, CliError> {
    let Some(source) = &config.source else { return Ok(SignaturePolicy::default()) };
    let rule = |written: &SignatureKeys| -> Result<SignatureRule, CliError> {
        let read = |file: &PathBuf| {
            let path = config.folder.join(file);
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
            text.and_then(|text| PublicKey::parse(&text).map_err(|error| error.to_string())).map_err(|problem| {
                let error = format!("the public key `{}` cannot be used: {problem}", file.display());
                let finding = Diagnostic::error(error).code("unreadable-file").at(written.span, "");
                CliError::findings(
                    vec![finding.hint("a relative path is resolved against the node file's folder")],
                    source,
                )
            })
        };
        let keys = written.files.as_ref().map(|files| files.iter().map(read).collect()).transpose()?;
        let line = source.position(written.span.start).line;
        // Tenants see this text, so it contains neither the path of the node file nor anything else that is written there,
        // such as comments and the rules of other tenants.
        let files = written.files.iter().flatten().map(|file| format!("{:?}", file.display().to_string()));
        let files = cut(files.collect::<Vec<_>>().join(", "), RULE_BYTES_MAX);
        Ok(SignatureRule { keys, place: format!("line {line}: `keys = [{files}]`") })
    };
    let signatures = &config.file.signatures;
    let tenants = signatures.tenants.iter().map(|(tenant, keys)| Ok((tenant.clone(), rule(keys)?)));
    Ok(SignaturePolicy {
        others: signatures.others.as_ref().map(rule).transpose()?,
        tenants: tenants.collect::<Result<_, CliError>>()?,
    })
}

/// The settings from flags. They take precedence over the node file.
pub(crate) struct SettingFlags<'a> {
    pub(crate) data: Option<&'a Path>,
    pub(crate) listen: &'a [SocketAddr],
    pub(crate) admin: Option<&'a AdminAddress>,
    pub(crate) grace: Option<Duration>,
    /// Whether traces and metrics are recorded.
    pub(crate) records_telemetry: bool,
}

/// The settings of a node's process, from flags and from the node file.
pub(crate) struct NodeProcessSettings {
    pub(crate) data: PathBuf,
    pub(crate) listening: ListenerOptions,
    pub(crate) admin: AdminAddress,
    pub(crate) grace: Duration,
    pub(crate) tenancy: TenancyOptions,
}

impl NodeProcessSettings {
    pub(crate) fn new(flags: SettingFlags<'_>, config: &Config, console: &Console) -> Result<Self, CliError> {
        let Config { file, folder, .. } = config;
        let written = file.data.as_ref().map(|path| folder.join(&path.value));
        let data = flags
            .data
            .map(Path::to_owned)
            .or(written)
            .or_else(user_dirs::node_data)
            .ok_or_else(|| CliError::usage("there is no folder for the node's data", "name one: --data DIR"))?;
        let mut listening = ListenerOptions::of(file, folder);
        if !flags.listen.is_empty() {
            listening.plain = flags.listen.to_vec();
        } else if listening.plain.is_empty() && listening.secured.is_empty() {
            listening.plain = vec![LISTEN.parse().expect("the default is an address")];
        }
        let admin = match (flags.admin, &file.admin_listen) {
            (Some(address), _) => address.clone(),
            (None, Some(written)) => admin_address(&written.value, folder)?,
            (None, None) => AdminAddress::default(),
        };
        let mut tenancy = TenancyOptions::default();
        if let Some(apps) = file.limits.apps_loaded {
            tenancy.loaded_max = apps as usize;
        }
        if let Some(bytes) = file.limits.disk_reserve {
            tenancy.disk_reserve_bytes = bytes;
        }
        tenancy.time_limits = TimeLimits::of(&file.limits);
        tenancy.network = network(config, console)?;
        if !flags.records_telemetry {
            tenancy.metrics = Metrics::disabled();
        }
        let grace = flags.grace.or(file.grace).unwrap_or(GRACE);
        Ok(Self { data, listening, admin, grace, tenancy })
    }
}

/// Returns which requests of apps are traced, and the limits for the apps' own settings.
pub(crate) fn sampling_limits(file: &NodeSettings) -> SamplingLimits {
    let NodeSampling { default: Sampling { fraction, per_second_max, slow }, fraction_max, slow_min } = file.sampling;
    let SamplingLimits { default, .. } = SamplingLimits::NODE;
    let per_second_max = per_second_max.unwrap_or(default.per_second_max);
    let slow = slow.unwrap_or(default.slow);
    SamplingLimits {
        default: SamplingPolicy { ratio: fraction.unwrap_or(default.ratio), per_second_max, slow },
        ratio_max: fraction_max.unwrap_or(SamplingLimits::NODE.ratio_max),
        per_second_max,
        slow_min: slow_min.unwrap_or(SamplingLimits::NODE.slow_min),
    }
}

/// Returns the [`OutboundNetwork`] for requests of apps. It trusts the certificate authorities that the environment and
/// the node file name.
fn network(config: &Config, console: &Console) -> Result<OutboundNetwork, CliError> {
    let network = network::from_environment(|warning| console.message(&console.renderer().diagnostic(&warning)));
    match &config.source {
        Some(source) => network::with_authority(network, &config.file, &config.folder, source),
        None => Ok(network),
    }
}

fn admin_address(written: &LinkAddress, folder: &Path) -> Result<AdminAddress, CliError> {
    if let LinkAddress::Unix(path) = written {
        return Ok(AdminAddress::Unix(folder.join(path)));
    }
    parse_listen(&written.to_string()).map(AdminAddress::Tcp).map_err(|error| {
        let hint = error.hint();
        CliError::failed(error.to_string(), hint)
    })
}
