//! The file of results, with one entry per benchmark. A new result of a benchmark replaces the previous one, so an
//! interrupted run can be continued by running the remaining benchmarks.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

pub(crate) struct Results {
    path: PathBuf,
    benches: Vec<Value>,
}

impl Results {
    /// Reads the results. There are no results if the file does not exist.
    ///
    /// # Errors
    /// If the file exists and does not contain results. In this case, the file is not overwritten.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let benches = match std::fs::read_to_string(&path) {
            Ok(text) => {
                read(&text).with_context(|| format!("`{}` does not contain results; remove it", path.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        Ok(Self { path, benches })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the result of a benchmark, with a description of the machine and the run, and writes the file.
    pub(crate) fn put(&mut self, mut bench: Value, quick: bool) -> Result<()> {
        let at_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        bench["run"] = json!({ "at_s": at_s, "quick": quick, "machine": machine() });
        replace(&mut self.benches, bench);
        let text = format!("{:#}\n", json!({ "benches": self.benches }));
        write(&self.path, &text)
    }

    /// Returns the result of the benchmark `name`, if it was measured.
    pub(crate) fn bench(&self, name: &str) -> Option<&Value> {
        self.benches.iter().find(|bench| bench["name"] == name)
    }

    /// Renders the results of the named benchmarks for publication, as JSON with one benchmark per line. It contains
    /// medians and ranges, and neither single samples nor paths of this machine. For a benchmark that was not measured,
    /// the result in `before` is used.
    pub(crate) fn published(&self, names: &[&str], before: &Self) -> String {
        let known = |name: &&str| self.bench(name).or_else(|| before.bench(name)).cloned();
        let mut benches: Vec<Value> = names.iter().filter_map(known).collect();
        for bench in &mut benches {
            for subject in bench["subjects"].as_array_mut().into_iter().flatten() {
                remove(subject, "command");
                for series in subject["series"].as_array_mut().into_iter().flatten() {
                    // The 99th percentile of a few rounds has no meaning.
                    ["samples", "p99"].into_iter().for_each(|key| remove(series, key));
                }
            }
            remove(&mut bench["run"]["machine"], "load");
        }
        let lines: Vec<String> = benches.iter().map(Value::to_string).collect();
        format!("{{\"benches\":[\n{}\n]}}\n", lines.join(",\n"))
    }
}

fn read(text: &str) -> Result<Vec<Value>> {
    let json: Value = serde_json::from_str(text)?;
    json["benches"].as_array().cloned().context("there is no list `benches`")
}

fn replace(benches: &mut Vec<Value>, bench: Value) {
    match benches.iter_mut().find(|there| there["name"] == bench["name"]) {
        Some(there) => *there = bench,
        None => benches.push(bench),
    }
}

fn remove(object: &mut Value, key: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(key);
    }
}

/// Writes a temporary file and renames it, so that an interrupted run does not damage the earlier results.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text).with_context(|| format!("cannot write `{}`", partial.display()))?;
    std::fs::rename(&partial, path)
        .with_context(|| format!("cannot rename `{}` to `{}`", partial.display(), path.display()))
}

/// Describes the machine, on which the measured numbers depend.
fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo").lines().find_map(|line| Some(line.split_once("model name")?.1.to_owned()));
    json!({
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": model.unwrap_or_default().trim_start_matches(['\t', ' ', ':']),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load": read("/proc/loadavg").trim(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(name: &str, median: f64) -> Value {
        let series = json!([{ "what": "add", "unit": "µs", "median": median, "samples": [median] }]);
        json!({ "name": name, "subjects": [{ "name": "fused", "command": "/home/user/isomer run", "series": series }] })
    }

    #[test]
    fn a_new_result_replaces_only_that_of_its_benchmark() {
        let dir = std::env::temp_dir().join(format!("isomer-bench-results-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("results.json");
        let mut results = Results::open(path.clone()).unwrap();
        for (name, median) in [("a", 1.0), ("b", 2.0), ("a", 3.0)] {
            results.put(bench(name, median), true).unwrap();
        }
        let again = Results::open(path.clone()).unwrap();
        assert_eq!(again.benches.len(), 2);
        assert_eq!(again.bench("a").unwrap()["subjects"][0]["series"][0]["median"], 3.0);
        assert_eq!(again.bench("b").unwrap()["run"]["quick"], true);
        std::fs::write(&path, "something else").unwrap();
        assert!(Results::open(path).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn published_results_have_no_paths_and_no_samples() {
        let results = Results { path: PathBuf::new(), benches: vec![bench("a", 1.0), bench("b", 2.0)] };
        let before = Results { path: PathBuf::new(), benches: vec![bench("a", 9.0), bench("c", 3.0)] };
        let text = results.published(&["a", "c", "missing"], &before);
        assert!(!text.contains("/home/user") && !text.contains("samples") && text.contains("median"), "{text}");
        let benches = read(&text).unwrap();
        let medians = benches.iter().map(|bench| bench["subjects"][0]["series"][0]["median"].clone());
        assert_eq!(medians.collect::<Vec<_>>(), [1.0, 3.0]);
    }
}
