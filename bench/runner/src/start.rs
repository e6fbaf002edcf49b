//! The start of a process: the time to its first response, the latency of the first request, and the memory afterwards.
//!
//! Before the measurement, everything is built and compiled, and all files are in the page cache.

use std::time::Duration;

use anyhow::Result;

use crate::http;
use crate::lab::Lab;
use crate::report::{Report, Series, Subject};
use crate::server::Launch;

pub(crate) fn run(lab: &Lab) -> Result<Report> {
    let hello = isomer_test_guests::path("http-hello");
    let compiled = lab.precompiled(&hello)?;
    lab.build_app(&lab.boutique)?;
    let launches: [&dyn Fn() -> Launch; 4] = [
        &|| lab.isomer("isomer", &hello),
        &|| lab.wasmtime("wasmtime serve", &compiled, &[]),
        &|| lab.native(),
        &|| lab.isomer("isomer, boutique", &lab.boutique),
    ];
    let mut subjects = Vec::new();
    for launch in launches {
        // The first start compiles the components and reads the files into memory, so it is not measured.
        let server = lab.start(launch())?;
        http::get(server.address, "/")?;
        let series = [("start", "ms"), ("cold request", "ms"), ("warm request", "ms"), ("resident", "MiB")];
        let series = series.map(|(what, unit)| Series::new(what, unit)).into();
        subjects.push(Subject { name: server.name.to_owned(), command: server.line.clone(), series });
    }
    for _ in 0..lab.effort.starts {
        for (launch, subject) in launches.iter().zip(&mut subjects) {
            for (series, value) in subject.series.iter_mut().zip(once(lab, launch())?) {
                series.samples.push(value);
            }
        }
    }
    let mut report = Report { subjects, ..Report::default() };
    report.compare("isomer", "wasmtime serve", "start", "");
    report.compare("isomer", "wasmtime serve", "cold request", "");
    report.notes = vec![
        "start: from the start of the process to the end of its first response; target ≤ 10 ms for one component, ≤ 25 ms for boutique".to_owned(),
        "cold request: from sending the first request to the first byte of its response; target p99 ≤ 1 ms".to_owned(),
        "resident: after two responses; target ≤ 30 MiB".to_owned(),
    ];
    for subject in &report.subjects {
        if let Some(cold) = subject.series.iter().find(|series| series.what == "cold request") {
            report.notes.push(format!("cold request of {}: p99 {:.2} ms", subject.name, cold.percentile(99.0)));
        }
    }
    Ok(report)
}

/// Measures one start. Returns four numbers:
///
/// - the milliseconds from the start of the process to the end of the first response;
/// - the milliseconds from sending the first request to the first byte of its response;
/// - the milliseconds from sending the second request to the first byte of its response;
/// - the resident memory after both responses, in mebibytes.
fn once(lab: &Lab, launch: Launch) -> Result<[f64; 4]> {
    let server = lab.start(launch)?;
    let cold = http::get(server.address, "/")?;
    let start = server.began.elapsed();
    let warm = http::get(server.address, "/")?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok([ms(start), ms(cold.first_byte), ms(warm.first_byte), server.resident_mib()?])
}
