//! A list of steps that are run one after another, timed, and summed up at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The steps that have run.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration, bool)>,
}

impl Steps {
    /// Run one step. A failure is shown, remembered, and does not keep the next steps from running.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Result<()>) {
        println!("\n── {name}");
        let begin = Instant::now();
        let result = step();
        let time = begin.elapsed();
        if let Err(error) = &result {
            eprintln!("error: {error:#}");
        }
        let outcome = if result.is_ok() { "done" } else { "FAILED" };
        println!("── {name}: {outcome} in {:.1} s", time.as_secs_f64());
        self.done.push((name.to_owned(), time, result.is_ok()));
    }

    /// Say how all of them went; an error if one failed.
    pub(crate) fn finish(self) -> Result<()> {
        println!("\n{}", self.summary());
        let failed: Vec<&str> = self.done.iter().filter(|(_, _, ok)| !ok).map(|(name, ..)| name.as_str()).collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let line = |(name, time, ok): &(String, Duration, bool)| {
            format!("{:<8}{:>8.1} s  {name}\n", if *ok { "ok" } else { "FAILED" }, time.as_secs_f64())
        };
        let total: Duration = self.done.iter().map(|(_, time, _)| *time).sum();
        let lines: String = self.done.iter().map(line).collect();
        format!("{lines}{:>16.1} s  in all", total.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_fails_the_whole_and_the_others_run() {
        let mut steps = Steps::default();
        let mut ran = Vec::new();
        steps.run("one", || bail!("broken"));
        steps.run("two", || {
            ran.push("two");
            Ok(())
        });
        assert_eq!(ran, ["two"]);
        let summary = steps.summary();
        assert!(summary.starts_with("FAILED") && summary.contains("ok"), "{summary}");
        assert_eq!(steps.finish().expect_err("one failed").to_string(), "failed: one");
    }
}
