//! `isomer traces`: lists the traces of an app, and shows new ones with `-f`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt as _;
use isomer_api::{TRACES_DEFAULT, TraceKind, TraceQuery};
use isomer_console::{CliError, Console, print};
use isomer_display::{escaped, escaped_json};

use crate::observed::app::{ObservedApp, ObservedFlags};
use crate::observed::durations::{parse_duration, parse_time};
use crate::observed::screen;
use crate::observed::trace_rows::{trace_head, trace_line, trace_table};
use crate::remote::node::client_error;

/// List the traces of an app, the newest first. With `-f`, show new traces as requests end.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: ObservedFlags,
    /// Show new traces as requests end, until Ctrl-C.
    #[arg(short, long, conflicts_with_all = ["lines", "after"])]
    follow: bool,
    /// The number of traces to show, at most 500.
    #[arg(short = 'n', long = "lines", value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    lines: u32,
    /// Show older traces than an earlier list: `isomer traces` prints TEXT at the end of a list.
    #[arg(long, value_name = "TEXT")]
    after: Option<String>,
    #[command(flatten, next_help_heading = "Filters")]
    filters: Filters,
}

/// The flags that select traces.
#[derive(clap::Args)]
struct Filters {
    /// Only traces of this kind. A deployment is also a rollback, a swap or a change of the shape.
    #[arg(long, value_name = "KIND", value_enum, conflicts_with = "follow")]
    kind: Option<Kind>,
    /// Only requests or operations that failed.
    #[arg(long)]
    failed: bool,
    /// Only traces of at least this duration: `250ms`, `1s`.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    slower: Option<Duration>,
    /// Only traces of at most this duration.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    faster: Option<Duration>,
    /// Only responses with this status code.
    #[arg(long, value_name = "CODE")]
    status: Option<u16>,
    /// Only requests that matched this route.
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
    /// Only requests for this path, or for paths below it.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Only traces in which this component ran.
    #[arg(long, value_name = "COMPONENT")]
    component: Option<String>,
    /// Only traces in which this component called another one.
    #[arg(long, value_name = "COMPONENT")]
    caller: Option<String>,
    /// Only traces in which this component was called by another one.
    #[arg(long, value_name = "COMPONENT")]
    callee: Option<String>,
    /// Only traces with a call of this interface.
    #[arg(long, value_name = "INTERFACE")]
    interface: Option<String>,
    /// Only traces with a call of this function.
    #[arg(long, value_name = "FUNCTION")]
    function: Option<String>,
    /// Only traces with an operation that has this attribute.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_attribute)]
    attribute: Option<String>,
    /// Only traces that contain this text in the name, the component, the failure or an attribute of an operation.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Only traces since this time: a duration before now (`10m`, `2h`), or a time in UTC (`2026-03-01T12:00:00Z`).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<SystemTime>,
    /// Only traces before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<SystemTime>,
}

/// Checks the text of `--attribute`.
fn parse_attribute(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err("write `KEY=VALUE`, for example `db.system.name=sqlite`".to_owned()),
    }
}

/// The kind of operation that a trace shows.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    Request,
    Deployment,
}

impl From<Kind> for TraceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Request => Self::Request,
            Kind::Deployment => Self::Deployment,
        }
    }
}

const EXAMPLES: &str = "Examples:
  isomer traces --slower 200ms          the slow requests
  isomer traces --failed --since 10m    the failures of the last ten minutes
  isomer traces --path /cart            the requests for /cart and for paths below it
  isomer traces --callee cart -f        each request that calls the component `cart`";

/// The maximum number of further requests that continue a search.
const CONTINUATIONS_MAX: u32 = 32;

/// The message if no trace matches.
const NONE: &str = "no traces";

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    arguments.app.with_app(console, async |app| match arguments.follow {
        true => follow(arguments, &app, console).await,
        false => list(arguments, &app, console).await,
    })
}

async fn list(arguments: &Arguments, app: &ObservedApp, console: &Console) -> Result<(), CliError> {
    let query = arguments.query();
    let mut page = app.client.traces(&app.tenant, &app.name, &query).await.map_err(client_error(console))?;
    if arguments.app.place.node.json {
        return print(&(escaped_json(&serde_json::to_string(&page).expect("a page is plain data")) + "\n"));
    }
    // One request searches a bounded part of the traces. Continue until the page is full.
    for _ in 0..CONTINUATIONS_MAX {
        let found = u32::try_from(page.traces.len()).unwrap_or(u32::MAX);
        let missing = query.limit.unwrap_or(TRACES_DEFAULT).saturating_sub(found);
        if !page.stopped_early || page.next.is_none() || missing == 0 {
            break;
        }
        let rest = TraceQuery { limit: Some(missing), after: page.next.take(), ..query.clone() };
        let more = app.client.traces(&app.tenant, &app.name, &rest).await.map_err(client_error(console))?;
        page.traces.extend(more.traces);
        (page.next, page.stopped_early) = (more.next, more.stopped_early);
    }
    if page.traces.is_empty() {
        let is_filtered = query != TraceQuery { limit: query.limit, ..TraceQuery::default() };
        console.message(&match is_filtered {
            true => format!("{NONE} match these filters"),
            false => format!(
                "{NONE} yet: send a request to the app, or order traces with `isomer trace --next 1{}`",
                app.arguments
            ),
        });
    } else {
        print(&trace_table(&page.traces, screen::width()))?;
    }
    if page.stopped_early {
        console.message("the search stopped early, because it had read many traces");
    }
    if let Some(next) = &page.next {
        console.message(&format!("older traces: repeat the command with `--after {}`", escaped(next)));
    }
    Ok(())
}

async fn follow(arguments: &Arguments, app: &ObservedApp, console: &Console) -> Result<(), CliError> {
    let query = TraceQuery { limit: None, ..arguments.query() };
    let json = arguments.app.place.node.json;
    let width = screen::width();
    let mut traces = app.client.follow_traces(&app.tenant, &app.name, &query).await.map_err(client_error(console))?;
    if !json {
        print(&trace_head(width))?;
    }
    while let Some(trace) = traces.next().await {
        let trace = trace.map_err(client_error(console))?;
        print(&match json {
            true => escaped_json(&serde_json::to_string(&trace).expect("a trace is plain data")) + "\n",
            false => trace_line(&trace, width),
        })?;
    }
    Ok(())
}

impl Arguments {
    fn query(&self) -> TraceQuery {
        let filters = &self.filters;
        let microseconds = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let milliseconds = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        };
        TraceQuery {
            limit: Some(self.lines),
            after: self.after.clone(),
            kind: filters.kind.map(TraceKind::from),
            component: filters.component.clone(),
            caller: filters.caller.clone(),
            callee: filters.callee.clone(),
            interface: filters.interface.clone(),
            function: filters.function.clone(),
            route: filters.route.clone(),
            path: filters.path.clone(),
            min_us: filters.slower.map(microseconds),
            max_us: filters.faster.map(microseconds),
            failed: filters.failed,
            status: filters.status,
            since_ms: filters.since.map(milliseconds),
            until_ms: filters.until.map(milliseconds),
            attribute: filters.attribute.clone(),
            text: filters.text.clone(),
        }
    }
}
