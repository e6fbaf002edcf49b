//! `isomer trace`: shows one trace as a tree of its operations, or traces the next requests and shows them.

use futures::StreamExt as _;
use isomer_api::{Trace, TraceOrderRequest, TraceQuery};
use isomer_console::{CliError, Console, print};
use isomer_display::{escaped, escaped_json};
use isomer_ids::AppName;

use crate::observed::app::{ObservedApp, ObservedPlace};
use crate::observed::screen;
use crate::observed::waterfall::{WaterfallOptions, waterfall};
use crate::remote::node::{client_error, is_missing};

/// The number of hexadecimal digits of a trace id.
pub(crate) const TRACE_DIGITS: usize = 32;
/// The number of hexadecimal digits of a request id.
pub(crate) const REQUEST_DIGITS: usize = 16;

/// The minimum number of digits of an abbreviated id.
const PREFIX_DIGITS_MIN: usize = 4;

/// The maximum number of pages of traces that are searched for an abbreviated id.
const PAGES_MAX: usize = 8;

/// Show a trace: the operations that one request caused, with the time of each.
#[derive(clap::Args)]
#[command(
    override_usage = "isomer trace [OPTIONS] ID [APP]\n       isomer trace [OPTIONS] --next COUNT [--path PATH] [APP]"
)]
pub(crate) struct Arguments {
    /// The id of the trace or of its request, as `isomer traces` and `isomer logs` show it. The first digits are enough.
    #[arg(value_name = "ID", required_unless_present = "next")]
    id: Option<String>,
    /// The app on a node. By default, the app that `isomer run` or `isomer dev` serves from the current folder, or the
    /// node's only app.
    #[arg(value_name = "APP")]
    app: Option<AppName>,
    /// Trace the next requests in full, wait for them, and show them.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    next: Option<u32>,
    /// With `--next`: only requests for this path, or for paths below it.
    #[arg(long, value_name = "PATH", requires = "next", default_value = "", hide_default_value = true)]
    path: String,
    /// List the attributes of each operation.
    #[arg(short, long)]
    attributes: bool,
    #[command(flatten)]
    place: ObservedPlace,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    match (arguments.next, &arguments.id) {
        (None, Some(id)) => arguments.place.with_app(arguments.app.as_ref(), console, async |app| {
            let trace = find(&app, id, console).await?;
            arguments.show(&trace)
        }),
        (next, name) => {
            // With `--next` there is no id, so the only positional argument is the app.
            let name = match (name, &arguments.app) {
                (Some(_), Some(_)) => {
                    return Err(CliError::usage(
                        "`--next` traces later requests, which have no id yet",
                        "leave out the id",
                    ));
                }
                (Some(name), None) => Some(name.parse::<AppName>()?),
                (None, name) => name.clone(),
            };
            let place = &arguments.place;
            place.with_app(name.as_ref(), console, async |app| wait(arguments, &app, next.unwrap_or(1), console).await)
        }
    }
}

/// Requests that the process traces the next `count` requests, and shows each of these traces.
async fn wait(arguments: &Arguments, app: &ObservedApp, count: u32, console: &Console) -> Result<(), CliError> {
    let failed = client_error(console);
    // Subscribes to new traces before it sends the order to trace the next requests, so that it misses none of these
    // traces.
    let path = (!arguments.path.is_empty()).then(|| arguments.path.clone());
    let query = TraceQuery { path, ..TraceQuery::default() };
    let mut traces = app.client.follow_traces(&app.tenant, &app.name, &query).await.map_err(failed)?;
    let order = TraceOrderRequest { path: arguments.path.clone(), requests: count };
    app.client.order_traces(&app.tenant, &app.name, &order).await.map_err(failed)?;
    let what = if count == 1 { "request".to_owned() } else { isomer_display::count(count.into(), "request") };
    let path = if arguments.path.is_empty() { String::new() } else { format!(" for {}", escaped(&arguments.path)) };
    console.message(&format!("waiting for the next {what}{path}  (Ctrl-C stops waiting)"));
    let mut shown = 0;
    while shown < count {
        let Some(summary) = traces.next().await else {
            return Err(CliError::failed("the process stopped", "start it again"));
        };
        let summary = summary.map_err(failed)?;
        if !summary.sampled {
            continue;
        }
        let trace = app.client.trace(&app.tenant, &app.name, &summary.id).await.map_err(failed)?;
        if shown > 0 && !arguments.place.node.json {
            print("\n")?;
        }
        arguments.show(&trace)?;
        shown += 1;
    }
    Ok(())
}

/// Returns the trace with this id. The id may be abbreviated.
pub(crate) async fn find(app: &ObservedApp, id: &str, console: &Console) -> Result<Trace, CliError> {
    let id = id.to_ascii_lowercase();
    let is_id =
        id.bytes().all(|byte| byte.is_ascii_hexdigit()) && (PREFIX_DIGITS_MIN..=TRACE_DIGITS).contains(&id.len());
    if !is_id {
        return Err(CliError::usage(
            format!("`{}` is not the id of a trace or a request", escaped(&id)),
            format!(
                "write 32 hexadecimal digits, or at least the first {PREFIX_DIGITS_MIN}; `isomer traces{}` lists ids",
                app.arguments
            ),
        ));
    }
    let id = match id.len() {
        TRACE_DIGITS | REQUEST_DIGITS => id,
        _ => complete(app, &id, console).await?,
    };
    app.client.trace(&app.tenant, &app.name, &id).await.map_err(|error| match is_missing(&error) {
        true => unknown(app, &id),
        false => client_error(console)(error),
    })
}

/// Finds the only recent trace whose id, or whose request's id, begins with `prefix`.
async fn complete(app: &ObservedApp, prefix: &str, console: &Console) -> Result<String, CliError> {
    let mut query = TraceQuery { limit: Some(isomer_api::trace::TRACES_MAX), ..TraceQuery::default() };
    let mut found: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let page = app.client.traces(&app.tenant, &app.name, &query).await.map_err(client_error(console))?;
        for trace in page.traces {
            if !trace.id.starts_with(prefix) && !trace.request.starts_with(prefix) {
                continue;
            }
            if found.as_ref().is_some_and(|found| *found != trace.id) {
                return Err(CliError::usage(
                    format!("several traces begin with `{prefix}`"),
                    "write more digits of the id",
                ));
            }
            found = Some(trace.id);
        }
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    found.ok_or_else(|| unknown(app, prefix))
}

fn unknown(app: &ObservedApp, id: &str) -> CliError {
    CliError::failed(
        format!("no stored trace has the id `{id}`"),
        format!(
            "`isomer traces{}` lists the traces that are stored; old traces are removed, and a node does not trace every request",
            app.arguments
        ),
    )
}

impl Arguments {
    fn show(&self, trace: &Trace) -> Result<(), CliError> {
        if self.place.node.json {
            return print(&(escaped_json(&serde_json::to_string(trace).expect("a trace is plain data")) + "\n"));
        }
        print(&waterfall(trace, WaterfallOptions { width: screen::width(), attributes: self.attributes }))
    }
}
