//! `isomer tenant`: creates, changes, shows and removes a tenant of a node.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Subcommand;
use isomer_api::{QuotaChange, TenantChange, TenantInfo};
use isomer_console::{CliError, Console, print};
use isomer_display::{count, elapsed};
use isomer_ids::{HostPattern, TenantName};

use crate::remote::node::{NodeFlags, client_error};
use crate::remote::show::{UNLIMITED, cores, count_quota, list, size, size_quota};

/// Create, change, show or remove a tenant of a node.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Set(Box<Set>),
    Show(Show),
    Remove(Remove),
}

/// Create a tenant, or change its quotas. Quotas without a flag are not changed.
#[derive(clap::Args)]
struct Set {
    /// The tenant's name.
    #[arg(value_name = "TENANT")]
    tenant: TenantName,
    /// The maximum memory of all live instances of the tenant, for example `512MiB`.
    #[arg(long, value_name = "SIZE", value_parser = size_or_unlimited)]
    memory: Option<u64>,
    /// The maximum processor time, averaged over a few seconds: `0.5` is half a core.
    #[arg(long, value_name = "CORES", value_parser = cores_or_unlimited)]
    cpu: Option<u32>,
    /// The maximum number of concurrent requests.
    #[arg(long, value_name = "COUNT", value_parser = count_or_unlimited)]
    concurrent: Option<u32>,
    /// The maximum number of requests per second, on average.
    #[arg(long, value_name = "COUNT", value_parser = count_or_unlimited)]
    rate: Option<u32>,
    /// The maximum number of requests that may arrive at the same time after a pause.
    #[arg(long, value_name = "COUNT", value_parser = count_or_unlimited)]
    burst: Option<u32>,
    /// A host to which apps of the tenant may send requests if their manifests grant it. May be repeated. `*` means
    /// every host that a manifest grants, `none` means no host.
    #[arg(long, value_name = "HOST")]
    outbound: Vec<String>,
    /// The maximum disk space of the tenant's stores and files, for example `1GiB`.
    #[arg(long, value_name = "SIZE", value_parser = size_or_unlimited)]
    storage: Option<u64>,
    /// The maximum number of apps.
    #[arg(long, value_name = "COUNT", value_parser = count_or_unlimited)]
    apps: Option<u32>,
    /// The maximum size of the logs that the tenant's apps write per hour, for example `16MiB`.
    #[arg(long, value_name = "SIZE", value_parser = size_or_unlimited)]
    log: Option<u64>,
    /// A host name that is reserved for this tenant: no app of another tenant can be deployed under it. A wildcard
    /// (`*.shop.example`) reserves all names that it matches. May be repeated; the list replaces the previous list.
    /// `none` means no host name.
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    #[command(flatten)]
    node: NodeFlags,
}

/// Show a tenant: its apps, its quotas and its use of resources.
#[derive(clap::Args)]
struct Show {
    /// The tenant's name.
    #[arg(value_name = "TENANT")]
    tenant: TenantName,
    #[command(flatten)]
    node: NodeFlags,
}

/// Remove a tenant that has no apps. Its secrets and its remaining data are also removed.
#[derive(clap::Args)]
struct Remove {
    /// The tenant's name.
    #[arg(value_name = "TENANT")]
    tenant: TenantName,
    /// Remove the tenant without asking for confirmation.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    node: NodeFlags,
}

/// The value of a flag that sets an empty list.
const NONE: &str = "none";

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    match &arguments.command {
        Command::Set(set) => {
            let change = set.change()?;
            let info = set.node.with_client(console, async |client| {
                client.set_tenant(&set.tenant, &change).await.map_err(client_error(console))
            })?;
            show(&info, set.node.json)
        }
        Command::Show(Show { tenant, node }) => {
            let info =
                node.with_client(console, async |client| client.tenant(tenant).await.map_err(client_error(console)))?;
            show(&info, node.json)
        }
        Command::Remove(Remove { tenant, yes, node }) => {
            let question = format!("remove tenant `{tenant}` with its secrets and its remaining data?");
            console.confirm_removal(&question, *yes, &format!("isomer tenant remove {tenant} --yes"))?;
            node.with_client(console, async |client| {
                client.remove_tenant(tenant).await.map_err(client_error(console))
            })?;
            match node.json {
                true => print(&format!("{:#}\n", serde_json::json!({ "removed": tenant }))),
                false => {
                    console.message(&format!("removed tenant {tenant}"));
                    Ok(())
                }
            }
        }
    }
}

impl Set {
    fn change(&self) -> Result<TenantChange, CliError> {
        let quotas = QuotaChange {
            memory_bytes: self.memory,
            cpu_ms_per_second: self.cpu,
            requests_concurrent: self.concurrent,
            requests_per_second: self.rate,
            requests_burst: self.burst,
            outbound_hosts: replacement_list(&self.outbound),
            storage_bytes: self.storage,
            apps: self.apps,
            log_bytes_per_hour: self.log,
        };
        let parse = |text: String| text.parse::<HostPattern>().map_err(|error| CliError::Usage(error.into()));
        let hosts =
            replacement_list(&self.hosts).map(|hosts| hosts.into_iter().map(parse).collect::<Result<Vec<_>, _>>());
        Ok(TenantChange { quotas, hosts: hosts.transpose()? })
    }
}

/// Returns the list that replaces the previous one, or `None` if the flag was not used.
fn replacement_list(given: &[String]) -> Option<Vec<String>> {
    match given {
        [] => None,
        [one] if one == NONE => Some(Vec::new()),
        given => Some(given.to_vec()),
    }
}

fn show(tenant: &TenantInfo, json: bool) -> Result<(), CliError> {
    if json {
        let value = serde_json::to_value(tenant).expect("a response is plain data");
        return print(&format!("{value:#}\n"));
    }
    let TenantInfo { name, quotas, usage, apps, hosts, secrets } = tenant;
    let or_none = |names: String| if names.is_empty() { NONE.to_owned() } else { names };
    let outbound = quotas.outbound_hosts.as_ref().map_or("every granted host".to_owned(), |hosts| or_none(list(hosts)));
    let cpu_ms = usage.cpu_us / 1000;
    let lines = [
        ("apps", format!("{} of {}: {}", apps.len(), count_quota(quotas.apps), or_none(list(apps)))),
        ("own hosts", or_none(list(hosts))),
        ("secrets", or_none(list(secrets))),
        (
            "memory",
            format!(
                "{} of {}, including {} in the node itself",
                size(usage.memory_bytes),
                size_quota(quotas.memory_bytes),
                size(usage.host_memory_bytes)
            ),
        ),
        (
            "cpu",
            format!(
                "{} since the node started; at most {}",
                elapsed(Duration::from_millis(cpu_ms)),
                cores(quotas.cpu_ms_per_second)
            ),
        ),
        ("concurrent", format!("{} of {}", usage.requests_now, count_quota(quotas.requests_concurrent))),
        (
            "rate",
            format!(
                "{} since the node started; at most {} per second, {} at once",
                usage.requests,
                count_quota(quotas.requests_per_second),
                count_quota(quotas.requests_burst)
            ),
        ),
        ("outbound", outbound),
        ("storage", format!("{} of {}", size(usage.storage_bytes), size_quota(quotas.storage_bytes))),
        ("log", format!("at most {} per hour", size_quota(quotas.log_bytes_per_hour))),
    ];
    let mut out = format!("tenant {name}\n");
    for (what, how) in lines {
        let _ = writeln!(out, "  {what:<12}{how}");
    }
    for (quota, times) in &usage.refused {
        let _ = writeln!(out, "  reached: {quota}, {} since the node started", count(*times, "time"));
    }
    print(&out)
}

fn size_or_unlimited(text: &str) -> Result<u64, String> {
    if text == UNLIMITED { Ok(u64::MAX) } else { isomer_manifest::parse_size(text).map_err(|error| error.to_string()) }
}

fn count_or_unlimited(text: &str) -> Result<u32, String> {
    if text == UNLIMITED { Ok(u32::MAX) } else { text.parse().map_err(|_| format!("write a number or `{UNLIMITED}`")) }
}

fn cores_or_unlimited(text: &str) -> Result<u32, String> {
    if text == UNLIMITED {
        return Ok(u32::MAX);
    }
    let cores = text.parse::<f64>().ok().filter(|cores| (0.001..=4096.0).contains(cores));
    let milliseconds = cores.map(|cores| (cores * 1000.0).round());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "write a number from 1 to 4,096,000")]
    milliseconds.map(|it| it as u32).ok_or_else(|| format!("write a number of cores, such as `0.5`, or `{UNLIMITED}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_parsed() {
        assert_eq!(size_or_unlimited("512MiB"), Ok(512 << 20));
        assert_eq!(size_or_unlimited("unlimited"), Ok(u64::MAX));
        assert!(size_or_unlimited("512").unwrap_err().contains("unit"));
        assert_eq!(["0.5", "2", "unlimited"].map(cores_or_unlimited), [Ok(500), Ok(2000), Ok(u32::MAX)]);
        for bad in ["0", "-1", "NaN", "inf", "x", ""] {
            assert!(cores_or_unlimited(bad).is_err(), "{bad}");
        }
        assert!(count_or_unlimited("1.5").is_err());
    }

    #[test]
    fn none_is_an_empty_list_and_no_flag_is_no_change() {
        assert_eq!(replacement_list(&[]), None);
        assert_eq!(replacement_list(&["none".to_owned()]), Some(vec![]));
        assert_eq!(replacement_list(&["*".to_owned()]), Some(vec!["*".to_owned()]));
    }
}
