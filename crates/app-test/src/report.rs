//! Formats the report of all runs, for people and as JSON.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::script::Script;
use crate::script_run::{FailedCase, ScriptResult};

/// The number of lines that are shown from the beginning and from the end of an app's log, if the shape has failed
/// cases. Both ends are needed: the first error is at the beginning, and the end may be only a call stack.
const LOG_LINES_MAX: usize = 20;

/// The run of a script in one shape.
pub struct ScriptRun<'a> {
    /// The script that was run.
    pub script: &'a Script,
    /// The name of the shape.
    pub shape: &'a str,
    /// The responses and the failed cases.
    pub result: ScriptResult,
    /// The lines of the app's log.
    pub log: Vec<String>,
    /// The requests that the app sent to external hosts and for which the script has no stub.
    pub unknown: Vec<String>,
}

impl ScriptRun<'_> {
    fn is_ok(&self) -> bool {
        self.result.failed.is_empty()
    }

    fn file(&self) -> &str {
        self.script.source.name()
    }

    fn summary(&self) -> String {
        match self.result.failed.len() {
            0 => "ok".to_owned(),
            failed => format!("{failed} failed"),
        }
    }
}

/// Returns whether all cases of all runs passed.
pub fn passed(runs: &[ScriptRun<'_>]) -> bool {
    runs.iter().all(ScriptRun::is_ok)
}

/// Returns the report for people: a table of all runs, then the failures. If `whole` is true, the logs are complete.
/// The text ends with a newline.
pub fn report_text(runs: &[ScriptRun<'_>], whole: bool) -> String {
    let mut out = String::new();
    let width =
        |title: &str, text: fn(&ScriptRun<'_>) -> usize| runs.iter().map(text).max().unwrap_or(0).max(title.len());
    let (file, shape) = (width("file", |run| run.file().len()), width("shape", |run| run.shape.len()));
    let _ = writeln!(out, "{:<file$}  {:<shape$}  cases  result", "file", "shape");
    for run in runs {
        let cases = run.script.cases.len();
        let _ = writeln!(out, "{:<file$}  {:<shape$}  {cases:>5}  {}", run.file(), run.shape, run.summary());
    }
    let shapes: BTreeSet<_> = runs.iter().map(|run| run.shape).collect();
    let failures = failures(runs);
    for failure in &failures {
        out.push('\n');
        failure.show(&mut out, shapes.len());
    }
    let unknown: BTreeSet<_> = runs.iter().filter(|run| !run.is_ok()).flat_map(|run| &run.unknown).collect();
    if !unknown.is_empty() {
        out.push_str("\nrequests without a stub\n");
        for request in unknown {
            let _ = writeln!(out, "  {request}");
        }
    }
    // If a shape fails in the same way as an earlier one, their logs are alike, so only the first log is shown.
    let mut shown: Vec<(&str, &str)> = Vec::new();
    for Failure { run, .. } in failures {
        if !run.log.is_empty() && !shown.contains(&(run.file(), run.shape)) {
            shown.push((run.file(), run.shape));
            let _ = writeln!(out, "\nlog of {} in shape {}", run.file(), run.shape);
            for line in if whole { run.log.clone() } else { ends(&run.log) } {
                let _ = writeln!(out, "  {line}");
            }
        }
    }
    out
}

/// Returns the first and the last lines, with a note about the lines that are left out.
fn ends(lines: &[String]) -> Vec<String> {
    match lines.len().checked_sub(2 * LOG_LINES_MAX) {
        // If only one line would be left out, it is shown, because the note would take as much space.
        None | Some(0 | 1) => lines.to_vec(),
        Some(more) => {
            let between = format!("… {more} lines (--verbose shows them)");
            let (first, last) = (&lines[..LOG_LINES_MAX], &lines[lines.len() - LOG_LINES_MAX..]);
            first.iter().chain([&between]).chain(last).cloned().collect()
        }
    }
}

/// A case that failed in the same way in one or more shapes.
struct Failure<'a> {
    /// The run of the script in the first shape in which the case failed.
    run: &'a ScriptRun<'a>,
    failed: &'a FailedCase,
    shapes: Vec<&'a str>,
}

/// Returns the failures, ordered by file, case and first shape.
fn failures<'a>(runs: &'a [ScriptRun<'a>]) -> Vec<Failure<'a>> {
    let mut failures: Vec<Failure<'_>> = Vec::new();
    for run in runs {
        for failed in &run.result.failed {
            let same = failures.iter_mut().find(|known| {
                known.run.file() == run.file()
                    && (known.failed.number, known.failed.status) == (failed.number, failed.status)
                    && known.failed.mismatches == failed.mismatches
            });
            match same {
                Some(known) => known.shapes.push(run.shape),
                None => failures.push(Failure { run, failed, shapes: vec![run.shape] }),
            }
        }
    }
    failures.sort_by(|a, b| (a.run.file(), a.failed.number).cmp(&(b.run.file(), b.failed.number)));
    failures
}

impl Failure<'_> {
    /// Appends the failure to `out`. `shapes` is the number of all shapes that were tested.
    fn show(&self, out: &mut String, shapes: usize) {
        let Self { run, failed, .. } = self;
        let case = &run.script.cases[failed.number];
        let which = match self.shapes.as_slice() {
            all if shapes > 1 && all.len() == shapes => "every shape".to_owned(),
            [one] => format!("shape {one}"),
            several => format!("shapes {}", several.join(", ")),
        };
        let _ = writeln!(out, "{}:{}: {} (in {which})", run.file(), case.line, case.name);
        let status = failed.status.map_or_else(|| "no response".to_owned(), |status| status.to_string());
        let _ = writeln!(out, "  {} {} → {status}", case.method, case.target);
        for mismatch in &failed.mismatches {
            let _ = writeln!(out, "  {}", mismatch.what);
            for line in &mismatch.lines {
                let _ = writeln!(out, "    {line}");
            }
        }
        for line in &failed.transcript {
            let _ = writeln!(out, "{}", format!("  {line}").trim_end());
        }
    }
}

/// Returns the report as JSON.
pub fn report_json(app: &str, runs: &[ScriptRun<'_>]) -> Value {
    let failed = |run: &ScriptRun<'_>, failed: &FailedCase| {
        let case = &run.script.cases[failed.number];
        let mismatches =
            failed.mismatches.iter().map(|mismatch| json!({ "what": mismatch.what, "lines": mismatch.lines }));
        json!({
            "line": case.line,
            "name": case.name,
            "request": format!("{} {}", case.method, case.target),
            "status": failed.status,
            "problems": mismatches.collect::<Vec<_>>(),
            "transcript": failed.transcript,
        })
    };
    let run = |run: &ScriptRun<'_>| {
        let log: &[String] = if run.is_ok() { &[] } else { &run.log };
        json!({
            "file": run.file(),
            "shape": run.shape,
            "cases": run.script.cases.len(),
            "failed": run.result.failed.iter().map(|case| failed(run, case)).collect::<Vec<_>>(),
            "unanswered": run.unknown,
            "log": log,
        })
    };
    json!({ "app": app, "passed": passed(runs), "runs": runs.iter().map(run).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_cut_in_the_middle() {
        let lines = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(ends(&lines(41)), lines(41));
        let shown = ends(&lines(142));
        assert_eq!((shown.len(), shown[0].as_str(), shown[19].as_str()), (41, "0", "19"));
        assert_eq!(
            (shown[20].as_str(), shown[21].as_str(), shown[40].as_str()),
            ("… 102 lines (--verbose shows them)", "122", "141")
        );
    }
}
