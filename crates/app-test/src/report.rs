//! The report of all runs, for people and as JSON.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::script::Script;
use crate::script_run::{FailedCase, ScriptResult};

/// The number of lines at each end of the app's log that are shown for a shape with failures: the first error is at its beginning, and its end
/// may be nothing but a call stack.
const LOG_LINES_MAX: usize = 20;

/// A script that was run in a shape.
pub struct ScriptRun<'a> {
    /// The script.
    pub script: &'a Script,
    /// The shape.
    pub shape: &'a str,
    /// The result.
    pub result: ScriptResult,
    /// The app's log.
    pub log: Vec<String>,
    /// Requests to hosts on the internet for which the script has no stub.
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

/// Returns whether no case failed.
pub fn passed(runs: &[ScriptRun<'_>]) -> bool {
    runs.iter().all(ScriptRun::is_ok)
}

/// The report for people: a table of all runs, then the failures. With `whole`, no lines are left out. Ends with a line ending.
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
    // If a shape fails in the same way as an earlier one, its log is the same and is not shown again.
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

/// The first and the last lines.
fn ends(lines: &[String]) -> Vec<String> {
    match lines.len().checked_sub(2 * LOG_LINES_MAX) {
        // With one line left out, the note about it would take as much space as the line.
        None | Some(0 | 1) => lines.to_vec(),
        Some(more) => {
            let between = format!("… {more} lines (--verbose shows them)");
            let (first, last) = (&lines[..LOG_LINES_MAX], &lines[lines.len() - LOG_LINES_MAX..]);
            first.iter().chain([&between]).chain(last).cloned().collect()
        }
    }
}

/// A case that failed in the same way in some shapes.
struct Failure<'a> {
    /// The run in the first of these shapes.
    run: &'a ScriptRun<'a>,
    failed: &'a FailedCase,
    shapes: Vec<&'a str>,
}

/// Returns the failures by file, case, and first shape.
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
    /// Appends the failure to `out`. `shapes` is the number of all shapes.
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

/// The report as JSON.
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
