//! The example app under load: its home page, and visitors who shop.

use anyhow::Result;

use super::lab::Lab;
use super::load::{Ask, Run, side_by_side};
use super::report::Report;

pub(super) fn run(lab: &Lab) -> Result<Report> {
    lab.build_app(&lab.boutique)?;
    let boutique = lab.start(lab.isomer("boutique", &lab.boutique))?;
    let runs = [
        Run { name: "GET /", server: &boutique, ask: Ask::Path("/") },
        Run { name: "GET /product/…", server: &boutique, ask: Ask::Path("/product/OLJCESPC7Z") },
        Run { name: "shopping", server: &boutique, ask: Ask::Shop },
    ];
    let mut report = Report { subjects: side_by_side(lab, &runs)?, ..Report::default() };
    report
        .notes
        .push("shopping: of 19 requests 3 write a cart or an order, and each write is synced to disk".to_owned());
    Ok(report)
}
