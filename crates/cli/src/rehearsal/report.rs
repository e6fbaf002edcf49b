//! What came out, for people and for programs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::play::{FailedCase, Played};
use super::script::Script;

/// Lines of each end of the app's log that are shown of a shape in which something failed: what went wrong first is said at its beginning, and
/// a call stack may be all there is at its end.
const LOG_LINES_MAX: usize = 20;

/// A script in a shape.
pub(crate) struct Run<'a> {
    pub(crate) script: &'a Script,
    pub(crate) shape: &'a str,
    pub(crate) played: Played,
    /// The app's log.
    pub(crate) log: Vec<String>,
    /// Requests to hosts outside that no stub of the script was for.
    pub(crate) unknown: Vec<String>,
}

impl Run<'_> {
    fn is_ok(&self) -> bool {
        self.played.failed.is_empty()
    }

    fn file(&self) -> &str {
        self.script.source.name()
    }

    fn result(&self) -> String {
        match self.played.failed.len() {
            0 => "ok".to_owned(),
            failed => format!("{failed} failed"),
        }
    }
}

/// Did everything go well?
pub(crate) fn passed(runs: &[Run<'_>]) -> bool {
    runs.iter().all(Run::is_ok)
}

/// A table of all, then what failed, `whole` without leaving lines out. Ends with a line ending.
pub(crate) fn for_people(runs: &[Run<'_>], whole: bool) -> String {
    let mut out = String::new();
    let width = |title: &str, text: fn(&Run<'_>) -> usize| runs.iter().map(text).max().unwrap_or(0).max(title.len());
    let (file, shape) = (width("file", |run| run.file().len()), width("shape", |run| run.shape.len()));
    let _ = writeln!(out, "{:<file$}  {:<shape$}  cases  result", "file", "shape");
    for run in runs {
        let cases = run.script.cases.len();
        let _ = writeln!(out, "{:<file$}  {:<shape$}  {cases:>5}  {}", run.file(), run.shape, run.result());
    }
    let shapes: BTreeSet<_> = runs.iter().map(|run| run.shape).collect();
    let failures = failures(runs);
    for failure in &failures {
        out.push('\n');
        failure.show(&mut out, shapes.len());
    }
    let unknown: BTreeSet<_> = runs.iter().filter(|run| !run.is_ok()).flat_map(|run| &run.unknown).collect();
    if !unknown.is_empty() {
        out.push_str("\nno stub answers\n");
        for request in unknown {
            let _ = writeln!(out, "  {request}");
        }
    }
    // Where it went wrong as it did before, the log says the same.
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

/// The first lines and the last ones.
fn ends(lines: &[String]) -> Vec<String> {
    match lines.len().checked_sub(2 * LOG_LINES_MAX) {
        // One line would take the place of one line.
        None | Some(0 | 1) => lines.to_vec(),
        Some(more) => {
            let between = format!("… {more} lines (--verbose shows them)");
            let (first, last) = (&lines[..LOG_LINES_MAX], &lines[lines.len() - LOG_LINES_MAX..]);
            first.iter().chain([&between]).chain(last).cloned().collect()
        }
    }
}

/// A case that went wrong in the same way in some shapes.
struct Failure<'a> {
    /// The first of them.
    run: &'a Run<'a>,
    failed: &'a FailedCase,
    shapes: Vec<&'a str>,
}

/// What went wrong, by file, case, and shape where it was first seen.
fn failures<'a>(runs: &'a [Run<'a>]) -> Vec<Failure<'a>> {
    let mut failures: Vec<Failure<'_>> = Vec::new();
    for run in runs {
        for failed in &run.played.failed {
            let same = failures.iter_mut().find(|known| {
                known.run.file() == run.file()
                    && (known.failed.number, known.failed.status) == (failed.number, failed.status)
                    && known.failed.problems == failed.problems
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
    /// `shapes` is how many there are.
    fn show(&self, out: &mut String, shapes: usize) {
        let Self { run, failed, .. } = self;
        let case = &run.script.cases[failed.number];
        let which = match self.shapes.as_slice() {
            all if shapes > 1 && all.len() == shapes => "every shape".to_owned(),
            [one] => format!("shape {one}"),
            several => format!("shapes {}", several.join(", ")),
        };
        let _ = writeln!(out, "{}:{}: {} (in {which})", run.file(), case.line, case.name);
        let status = failed.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        let _ = writeln!(out, "  {} {} → {status}", case.method, case.target);
        for problem in &failed.problems {
            let _ = writeln!(out, "  {}", problem.what);
            for line in &problem.lines {
                let _ = writeln!(out, "    {line}");
            }
        }
        for line in &failed.transcript {
            let _ = writeln!(out, "{}", format!("  {line}").trim_end());
        }
    }
}

/// The same for programs.
pub(crate) fn for_programs(app: &str, runs: &[Run<'_>]) -> Value {
    let failed = |run: &Run<'_>, failed: &FailedCase| {
        let case = &run.script.cases[failed.number];
        let problems = failed.problems.iter().map(|problem| json!({ "what": problem.what, "lines": problem.lines }));
        json!({
            "line": case.line,
            "name": case.name,
            "request": format!("{} {}", case.method, case.target),
            "status": failed.status,
            "problems": problems.collect::<Vec<_>>(),
            "transcript": failed.transcript,
        })
    };
    let run = |run: &Run<'_>| {
        let log: &[String] = if run.is_ok() { &[] } else { &run.log };
        json!({
            "file": run.file(),
            "shape": run.shape,
            "cases": run.script.cases.len(),
            "failed": run.played.failed.iter().map(|case| failed(run, case)).collect::<Vec<_>>(),
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
    fn a_log_is_shown_from_both_ends() {
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
