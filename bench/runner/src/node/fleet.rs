//! Many apps on one node, deployed through its admin API: distinct apps of one tenant, and one app for many tenants.
//! There are as many tenants as distinct apps.
//!
//! All distinct apps come from one build, and each contains a different number (`isomer_bench_node::numbered`). So each
//! app has its own bytes and its own compiled code, and its responses contain its number.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use isomer_bench_node::bundle::manifest;
use isomer_bench_node::node::Launch;
use isomer_bench_node::{Admin, Bundle, Node, Target, Template, block_on, numbered, soak};
use tokio::task::JoinSet;

use super::{add_times, times};
use crate::files::make_dir;
use crate::lab::Lab;
use crate::report::{Report, Series, Subject};
use xtask::project::show;

/// The tenant that owns the distinct apps, each of which has a different component.
const OWNER: &str = "fleet";
/// The number of concurrent deployments.
const CONCURRENT_DEPLOYMENTS: usize = 2;
/// The minimum number of host names, over all distinct apps.
const HOSTS_MIN: u32 = 1000;
/// The number in the component of the shared app, of which every tenant has a copy. The components of the other apps
/// contain other numbers, so that their code differs.
const SHARED: u32 = numbered::NUMBER_END - 1;
/// The host name of an app that gets a new instance for each request.
const FRESH_HOST: &str = "fresh.fleet.test";
/// The time within which a node must stop.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// The data directory of a stopped node on which all apps are deployed.
pub(crate) struct Fleet {
    pub apps: u32,
    launch: Launch,
    distinct: Deployments,
    known: Deployments,
}

/// The durations of deployments.
#[derive(Default)]
struct Deployments {
    ms: Vec<f64>,
    took: Duration,
}

impl Fleet {
    /// Starts a node, deploys all apps, and stops the node.
    pub(crate) fn deploy(lab: &Lab) -> Result<Self> {
        let dir = lab.dir.join("fleet");
        make_dir(&dir)?;
        let launch = Launch::new(lab.isomer_program(), &dir);
        let apps = lab.effort.apps;
        let node = launch.start()?;
        let template = Arc::new(Template::load()?);
        let (distinct, known) = block_on(async {
            println!("   deploying {apps} distinct apps of {} bytes", template.component_bytes());
            node.admin.set_tenant(OWNER, &soak::generous()).await?;
            let owned = template.clone();
            let distinct = deploy_all(&node.admin, apps, move |number| {
                let name = format!("app-{number}");
                let bundle = Bundle::one(&name, owned.component(number), &hosts_of(number, apps))?;
                Ok(Job { tenant: OWNER.to_owned(), app: name, bundle })
            })
            .await?;
            println!("   deploying one app for {apps} tenants");
            for number in 0..apps {
                node.admin.set_tenant(&tenant(number), &soak::generous()).await?;
            }
            let manifest = manifest("fresh", "reuse = false\n");
            let component = template.component(SHARED);
            let fresh = Bundle::new(&manifest, &[("main", component.clone())], &[FRESH_HOST.to_owned()])?;
            node.admin.deploy(OWNER, "fresh", &fresh).await?;
            let known = deploy_all(&node.admin, apps, move |number| {
                let bundle = Bundle::one("shared", component.clone(), &[shared_host(number)])?;
                Ok(Job { tenant: tenant(number), app: "shared".to_owned(), bundle })
            })
            .await?;
            Ok((distinct, known))
        })?;
        node.stop(STOP_PATIENCE)?;
        Ok(Self { apps, launch, distinct, known })
    }

    /// Starts a node with all apps. `config` is the text of the node file, if there is one.
    pub(super) fn start(&self, config: Option<&str>) -> Result<Node> {
        let mut launch = self.launch.clone();
        if let Some(text) = config {
            let path: PathBuf = launch.data.with_file_name("node.toml");
            std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
            launch.config = Some(path);
        }
        launch.start()
    }

    /// Stops a node that [`Fleet::start`] has started.
    pub(super) fn stop(&self, node: Node) -> Result<()> {
        node.stop(STOP_PATIENCE)
    }

    /// Returns the command line that starts the node.
    pub(super) fn command(&self) -> String {
        show(&self.launch.command())
    }

    /// Returns a list with one request for each app that has a component of its own.
    pub(super) fn distinct(&self) -> Vec<Target> {
        (0..self.apps).map(|number| target(&host(number), number)).collect()
    }

    /// Returns a list with one request for each tenant: to the tenant's copy of the app that all tenants have deployed.
    pub(super) fn shared(&self) -> Vec<Target> {
        (0..self.apps).map(|number| target(&shared_host(number), SHARED)).collect()
    }

    /// Returns a request for the app that gets a new instance for each request.
    pub(super) fn fresh() -> Target {
        target(FRESH_HOST, SHARED)
    }

    /// Returns a list with one request for each host name of the apps that have a component of their own. There are at
    /// least [`HOSTS_MIN`] host names.
    pub(super) fn all_hosts(&self) -> Vec<Target> {
        let both =
            (0..self.apps).flat_map(|number| hosts_of(number, self.apps).into_iter().map(move |host| (host, number)));
        both.map(|(host, number)| target(&host, number)).collect()
    }
}

struct Job {
    tenant: String,
    app: String,
    bundle: Bundle,
}

/// Deploys `count` apps, [`CONCURRENT_DEPLOYMENTS`] at a time.
async fn deploy_all(
    admin: &Admin,
    count: u32,
    job: impl Fn(u32) -> Result<Job> + Send + Sync + 'static,
) -> Result<Deployments> {
    let (next, job) = (Arc::new(AtomicU32::new(0)), Arc::new(job));
    let began = Instant::now();
    let mut deployers = JoinSet::new();
    for _ in 0..CONCURRENT_DEPLOYMENTS {
        let (admin, next, job) = (admin.clone(), next.clone(), job.clone());
        deployers.spawn(async move {
            let mut ms = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, anyhow::Error>(ms);
                }
                let Job { tenant, app, bundle } = job(number)?;
                let began = Instant::now();
                admin.deploy(&tenant, &app, &bundle).await?;
                ms.push(began.elapsed().as_secs_f64() * 1e3);
            }
        });
    }
    let mut deployments = Deployments::default();
    while let Some(deployed) = deployers.join_next().await {
        deployments.ms.extend(deployed.context("a deployment task panicked")??);
    }
    deployments.took = began.elapsed();
    let deployed = deployments.ms.len();
    ensure!(deployed == count as usize, "only {deployed} of {count} apps were deployed");
    Ok(deployments)
}

fn target(host: &str, number: u32) -> Target {
    Target::get(host, "/", numbered::body(number))
}

fn tenant(number: u32) -> String {
    format!("tenant-{number}")
}

fn host(number: u32) -> String {
    format!("a{number}.fleet.test")
}

fn shared_host(number: u32) -> String {
    format!("t{number}.shared.test")
}

/// Returns the host names of the app `number`. Each of `apps` apps gets so many that there are at least [`HOSTS_MIN`]
/// in total.
fn hosts_of(number: u32, apps: u32) -> Vec<String> {
    let more = 1..HOSTS_MIN.div_ceil(apps.max(1));
    std::iter::once(host(number)).chain(more.map(|name| format!("h{name}.{}", host(number)))).collect()
}

/// Reports the durations of the fleet's deployments.
pub(crate) fn run(_lab: &Lab, fleet: &Fleet) -> Result<Report> {
    let subject = |name: &str, Deployments { ms, took }: &Deployments| {
        let mut per_s = Series::new("deployments", "1/s");
        per_s.samples.push(ms.len() as f64 / took.as_secs_f64());
        let mut series = times();
        add_times(&mut series, ms);
        series.insert(0, per_s);
        Subject { name: name.to_owned(), command: fleet.command(), series }
    };
    let mut report = Report {
        subjects: vec![
            subject("a distinct app", &fleet.distinct),
            subject("an app that another tenant has", &fleet.known),
        ],
        ..Report::default()
    };
    let bytes = Template::load()?.component_bytes();
    report.notes = vec![
        format!(
            "{} apps of {bytes} bytes each, then one app for {} tenants; {CONCURRENT_DEPLOYMENTS} concurrent deployments",
            fleet.apps, fleet.apps
        ),
        "a deployment of a distinct app: upload, check and compile in a child process, store, start, take over"
            .to_owned(),
    ];
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_distinct_host_names() {
        for apps in [1, 40, 200, 999, 1000, 10_000] {
            let mut hosts: Vec<String> = (0..apps).flat_map(|number| hosts_of(number, apps)).collect();
            assert!(hosts.len() >= HOSTS_MIN as usize && hosts.len() >= apps as usize);
            let count = hosts.len();
            hosts.sort();
            hosts.dedup();
            assert_eq!(hosts.len(), count);
        }
    }
}
