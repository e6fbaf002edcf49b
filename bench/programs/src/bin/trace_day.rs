//! Simulates requests over a given time, records their traces, and prints how much memory and disk the traces take:
//! `trace_day node|local DIR SECONDS`.
//!
//! The output is one line of JSON. `memory_bytes` is the increase of the process's resident memory.
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use std::error::Error;
use std::path::Path;

use isomer_bench_programs::{TraceLoad, TraceTotals};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [load, dir, seconds] = arguments.as_slice() else {
        return Err("usage: trace_day node|local DIR SECONDS".into());
    };
    let load = match load.as_str() {
        "node" => TraceLoad::node(),
        "local" => TraceLoad::local(),
        unknown => return Err(format!("unknown load `{unknown}`").into()),
    };
    let before = resident_bytes()?;
    let totals = load.record(Path::new(dir), seconds.parse()?)?;
    let memory = resident_bytes()?.saturating_sub(before);
    let TraceTotals { traces, spans, dropped, written_bytes, disk_bytes } = totals;
    let bytes_per_trace = written_bytes / traces.max(1);
    println!(
        "{{\"traces\":{traces},\"spans\":{spans},\"dropped\":{dropped},\"disk_bytes\":{disk_bytes},\
         \"bytes_per_trace\":{bytes_per_trace},\"memory_bytes\":{memory}}}"
    );
    Ok(())
}

fn resident_bytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.ok_or("`/proc/self/status` has an unknown format")? * 1024)
}
