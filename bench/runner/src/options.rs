//! The options of `cargo xtask bench`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// The command line of `cargo xtask bench`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// The names of the benchmarks to run; if empty, all benchmarks run.
    pub names: Vec<String>,
    /// The JSON file that results are read from and written to.
    pub json: Option<PathBuf>,
    /// Whether to measure only enough to see that everything works.
    pub quick: bool,
    /// Whether to deploy as many apps as a node must be able to hold.
    pub long: bool,
    /// The number of apps on a node.
    pub apps: Option<u32>,
    /// Whether to write the results that the documentation shows into `docs/`.
    pub publish: bool,
    /// Whether to measure nothing, and only publish the results of earlier runs.
    pub kept: bool,
    /// The `isomer` program to measure instead of building one.
    pub isomer: Option<PathBuf>,
    /// Whether to build nothing, and use the programs of an earlier run.
    pub built: bool,
}

/// The minimum number of apps on a node, because percentiles of fewer samples mean nothing.
const APPS_MIN: u32 = 10;

impl Options {
    /// Parses the arguments. `is_benchmark` returns whether an argument names one or more benchmarks. `known` lists the
    /// benchmarks; the error for an unknown argument contains the list.
    ///
    /// # Errors
    /// If an argument is unknown, or an option lacks its value.
    pub(crate) fn parse(arguments: &[&str], is_benchmark: impl Fn(&str) -> bool, known: &str) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("`{argument}` needs a value"));
            match *argument {
                "--quick" => options.quick = true,
                "--long" => options.long = true,
                "--built" => options.built = true,
                "--publish" => options.publish = true,
                "--kept" => options.kept = true,
                "--json" => options.json = Some(value()?.into()),
                "--isomer" => options.isomer = Some(value()?.into()),
                "--apps" => {
                    let number = value()?.parse().ok().filter(|number| *number >= APPS_MIN);
                    options.apps =
                        Some(number.with_context(|| format!("`--apps` needs a number of at least {APPS_MIN}"))?);
                }
                name if is_benchmark(name) => options.names.push(name.to_owned()),
                unknown => bail!("unknown benchmark or option: `{unknown}`\n\nBenchmarks:{known}\n\n{HELP}"),
            }
        }
        Ok(options)
    }
}

const HELP: &str = "\
Options:
  --quick           measure little, to see that everything works
  --apps N          number of apps on a node, and number of tenants with one app [default: 200; 40 with --quick]
  --long            10,000 apps and tenants; takes hours
  --json FILE       read and write the results in this file [default: bench/results.json in the target folder]
  --isomer PROGRAM  measure this program instead of building one
  --built           build nothing; use the programs of an earlier run
  --publish         write the part of the results that the documentation shows
  --kept            measure nothing: publish what earlier runs measured";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        Options::parse(arguments, |name| ["hello", "start"].contains(&name), "\n  hello\n  start")
    }

    #[test]
    fn options_and_names_are_distinguished() {
        let options = parse(&["hello", "--quick", "--json", "a.json", "start"]).unwrap();
        assert_eq!(options.names, ["hello", "start"]);
        assert!(options.quick && options.json == Some("a.json".into()) && options.isomer.is_none());
        let unknown = parse(&["hallo"]).unwrap_err().to_string();
        assert!(unknown.contains("`hallo`") && unknown.contains("start"), "{unknown}");
        assert!(parse(&["--json"]).is_err());
        assert_eq!(parse(&["--apps", "1000"]).unwrap().apps, Some(1000));
        assert!(parse(&["--apps", "many"]).is_err() && parse(&["--apps", "1"]).is_err());
    }
}
