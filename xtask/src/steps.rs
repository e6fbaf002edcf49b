//! Steps that run one after another, are timed, and are summarised at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The results of the steps that were run or skipped.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<Step>,
}

struct Step {
    name: String,
    time: Duration,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Ok,
    Failed,
    /// The step was skipped, for the given reason.
    Skipped(String),
}

impl Steps {
    /// Runs a step and returns its result. If the step fails, prints and records the error and returns `None`, so that
    /// the next steps still run.
    pub(crate) fn run<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Option<T> {
        println!("\n── {name}");
        let begin = Instant::now();
        let result = step();
        let time = begin.elapsed();
        let (made, outcome) = match result {
            Ok(made) => (Some(made), Outcome::Ok),
            Err(error) => {
                eprintln!("error: {error:#}");
                (None, Outcome::Failed)
            }
        };
        let word = if made.is_some() { "done" } else { "FAILED" };
        println!("── {name}: {word} in {:.1} s", time.as_secs_f64());
        self.done.push(Step { name: name.to_owned(), time, outcome });
        made
    }

    /// Records that a step is not run, with the reason. A skipped step is not a failure.
    pub(crate) fn skip(&mut self, name: &str, reason: impl Into<String>) {
        let reason = reason.into();
        println!("\n── {name}: skipped: {reason}");
        self.done.push(Step { name: name.to_owned(), time: Duration::ZERO, outcome: Outcome::Skipped(reason) });
    }

    /// Prints a summary of all steps.
    ///
    /// # Errors
    /// If a step failed.
    pub(crate) fn finish(self) -> Result<()> {
        println!("\n{}", self.summary());
        let failed = self.done.iter().filter(|step| step.outcome == Outcome::Failed);
        let failed: Vec<&str> = failed.map(|step| step.name.as_str()).collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let line = |Step { name, time, outcome }: &Step| match outcome {
            Outcome::Ok => format!("{:<8}{:>8.1} s  {name}\n", "ok", time.as_secs_f64()),
            Outcome::Failed => format!("{:<8}{:>8.1} s  {name}\n", "FAILED", time.as_secs_f64()),
            Outcome::Skipped(reason) => format!("{:<8}{:>8}    {name}: {reason}\n", "SKIPPED", ""),
        };
        let total: Duration = self.done.iter().map(|step| step.time).sum();
        let lines: String = self.done.iter().map(line).collect();
        format!("{lines}{:>16.1} s  in total", total.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_steps_run_after_a_failed_step_and_the_result_is_a_failure() {
        let mut steps = Steps::default();
        assert_eq!(steps.run("one", || bail!("broken") as Result<()>), None);
        assert_eq!(steps.run("two", || Ok("made")), Some("made"));
        let summary = steps.summary();
        assert!(summary.starts_with("FAILED") && summary.contains("ok"), "{summary}");
        assert_eq!(steps.finish().expect_err("one failed").to_string(), "failed: one");
    }

    #[test]
    fn a_skipped_step_is_no_failure_and_is_in_the_summary() {
        let mut steps = Steps::default();
        steps.skip("one", "nothing to do it with");
        assert!(steps.summary().contains("SKIPPED") && steps.summary().contains("one: nothing to do it with"));
        assert!(steps.finish().is_ok());
    }
}
