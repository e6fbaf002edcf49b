//! `isomer tenant`: makes, changes, shows and removes a tenant of a node.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Subcommand;
use isomer_api::{QuotaChange, TenantChange, TenantInfo};
use isomer_console::{CommandError, Console, print};
use isomer_display::elapsed;
use isomer_ids::{HostPattern, TenantName};

use crate::remote::node::{NodeFlags, refused};
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

/// Create a tenant, or change its quotas. What is not named stays as it is.
#[derive(clap::Args)]
struct Set {
    /// The tenant.
    #[arg(value_name = "TENANT")]
    tenant: TenantName,
    /// Memory of all its live instances, as `512MiB`.
    #[arg(long, value_name = "SIZE", value_parser = size_or_unlimited)]
    memory: Option<u64>,
    /// Processor time: `0.5` is half a core, as the mean over some seconds.
    #[arg(long, value_name = "CORES", value_parser = cores_or_unlimited)]
    cpu: Option<u32>,
    /// Requests that are served at once.
    #[arg(long, value_name = "COUNT", value_parser = count_or_unlimited)]
    concurrent: Option<u32>,
    /// Requests a second, as the mean over some time.
    #[arg(long, value_name = "COUNT", value_parser = count_or_unlimited)]
    rate: Option<u32>,
    /// Requests that may come at once after a pause.
    #[arg(long, value_name = "COUNT", value_parser = count_or_unlimited)]
    burst: Option<u32>,
    /// A host that its apps may send requests to, if their manifests grant it too; may be repeated. `*`: every one that they grant; `none`: none.
    #[arg(long, value_name = "HOST")]
    outbound: Vec<String>,
    /// What its stores and files may take on disk, as `1GiB`.
    #[arg(long, value_name = "SIZE", value_parser = size_or_unlimited)]
    storage: Option<u64>,
    /// How many apps it may have.
    #[arg(long, value_name = "COUNT", value_parser = count_or_unlimited)]
    apps: Option<u32>,
    /// What its apps may log in an hour, as `16MiB`.
    #[arg(long, value_name = "SIZE", value_parser = size_or_unlimited)]
    log: Option<u64>,
    /// A host name that is reserved for it: no other tenant's app can be deployed under it, or below it if it is a wildcard; may be repeated,
    /// and replaces the earlier list. `none`: none.
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    #[command(flatten)]
    node: NodeFlags,
}

/// Show what a tenant has, may use and uses.
#[derive(clap::Args)]
struct Show {
    /// The tenant.
    #[arg(value_name = "TENANT")]
    tenant: TenantName,
    #[command(flatten)]
    node: NodeFlags,
}

/// Remove a tenant that has no apps, with its secrets and what data there is left of it.
#[derive(clap::Args)]
struct Remove {
    /// The tenant.
    #[arg(value_name = "TENANT")]
    tenant: TenantName,
    /// Don't ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    node: NodeFlags,
}

/// How "none at all" is written where a list is replaced.
const NONE: &str = "none";

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CommandError> {
    match &arguments.command {
        Command::Set(set) => {
            let change = set.change()?;
            let info = set
                .node
                .ask(console, async |client| client.set_tenant(&set.tenant, &change).await.map_err(refused(console)))?;
            show(&info, set.node.json)
        }
        Command::Show(Show { tenant, node }) => {
            let info = node.ask(console, async |client| client.tenant(tenant).await.map_err(refused(console)))?;
            show(&info, node.json)
        }
        Command::Remove(Remove { tenant, yes, node }) => {
            let question = format!("remove tenant `{tenant}` with its secrets and all that is left of its data?");
            console.confirm_removal(&question, *yes, &format!("isomer tenant remove {tenant} --yes"))?;
            node.ask(console, async |client| client.remove_tenant(tenant).await.map_err(refused(console)))?;
            match node.json {
                true => print(&format!("{:#}\n", serde_json::json!({ "removed": tenant }))),
                false => {
                    console.message(&format!("tenant {tenant} is removed"));
                    Ok(())
                }
            }
        }
    }
}

impl Set {
    fn change(&self) -> Result<TenantChange, CommandError> {
        let quotas = QuotaChange {
            memory_bytes: self.memory,
            cpu_ms_per_second: self.cpu,
            requests_concurrent: self.concurrent,
            requests_per_second: self.rate,
            requests_burst: self.burst,
            outbound_hosts: replacement(&self.outbound),
            storage_bytes: self.storage,
            apps: self.apps,
            log_bytes_per_hour: self.log,
        };
        let parse = |text: String| text.parse::<HostPattern>().map_err(|error| CommandError::Usage(error.into()));
        let hosts = replacement(&self.hosts).map(|hosts| hosts.into_iter().map(parse).collect::<Result<Vec<_>, _>>());
        Ok(TenantChange { quotas, hosts: hosts.transpose()? })
    }
}

/// A list in place of the one that was, if there is one.
fn replacement(given: &[String]) -> Option<Vec<String>> {
    match given {
        [] => None,
        [one] if one == NONE => Some(Vec::new()),
        given => Some(given.to_vec()),
    }
}

fn show(tenant: &TenantInfo, json: bool) -> Result<(), CommandError> {
    if json {
        let value = serde_json::to_value(tenant).expect("an answer is plain data");
        return print(&format!("{value:#}\n"));
    }
    let TenantInfo { name, quotas, usage, apps, hosts, secrets } = tenant;
    let or_none = |names: String| if names.is_empty() { NONE.to_owned() } else { names };
    let outbound =
        quotas.outbound_hosts.as_ref().map_or("whatever is granted".to_owned(), |hosts| or_none(list(hosts)));
    let cpu_ms = usage.cpu_us / 1000;
    let lines = [
        ("apps", format!("{} of {}: {}", apps.len(), count_quota(quotas.apps), or_none(list(apps)))),
        ("own hosts", or_none(list(hosts))),
        ("secrets", or_none(list(secrets))),
        (
            "memory",
            format!(
                "{} of {}, {} of it held by the node",
                size(usage.memory_bytes),
                size_quota(quotas.memory_bytes),
                size(usage.host_memory_bytes)
            ),
        ),
        (
            "cpu",
            format!(
                "{} since the node started; {} cores at most",
                elapsed(Duration::from_millis(cpu_ms)),
                cores(quotas.cpu_ms_per_second)
            ),
        ),
        ("concurrent", format!("{} of {}", usage.requests_now, count_quota(quotas.requests_concurrent))),
        (
            "rate",
            format!(
                "{} since the node started; {} a second at most, {} at once",
                usage.requests,
                count_quota(quotas.requests_per_second),
                count_quota(quotas.requests_burst)
            ),
        ),
        ("outbound", outbound),
        ("storage", format!("{} of {}", size(usage.storage_bytes), size_quota(quotas.storage_bytes))),
        ("log", format!("{} an hour at most", size_quota(quotas.log_bytes_per_hour))),
    ];
    let mut out = format!("tenant {name}\n");
    for (what, how) in lines {
        let _ = writeln!(out, "  {what:<12}{how}");
    }
    for (quota, count) in &usage.refused {
        let _ = writeln!(out, "  reached: {quota}, {count} times since the node started");
    }
    print(&out)
}

fn size_or_unlimited(text: &str) -> Result<u64, String> {
    if text == UNLIMITED { Ok(u64::MAX) } else { isomer_manifest::parse_size(text).map_err(|error| error.to_string()) }
}

fn count_or_unlimited(text: &str) -> Result<u32, String> {
    if text == UNLIMITED {
        Ok(u32::MAX)
    } else {
        text.parse().map_err(|_| format!("it is neither a number nor `{UNLIMITED}`"))
    }
}

fn cores_or_unlimited(text: &str) -> Result<u32, String> {
    if text == UNLIMITED {
        return Ok(u32::MAX);
    }
    let cores = text.parse::<f64>().ok().filter(|cores| (0.001..=4096.0).contains(cores));
    let milliseconds = cores.map(|cores| (cores * 1000.0).round());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 1 and 4,096,000")]
    milliseconds
        .map(|it| it as u32)
        .ok_or_else(|| format!("it is neither a number of cores, as `0.5`, nor `{UNLIMITED}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_read_as_people_write_them() {
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
    fn none_is_an_empty_list_and_nothing_is_no_change() {
        assert_eq!(replacement(&[]), None);
        assert_eq!(replacement(&["none".to_owned()]), Some(vec![]));
        assert_eq!(replacement(&["*".to_owned()]), Some(vec!["*".to_owned()]));
    }
}
