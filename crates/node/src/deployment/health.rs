//! The health check of a candidate.

use std::time::Duration;

use isomer_api::{ApiProblem, ProblemKind};
use isomer_apps::AppSite;
use isomer_diagnostics::causes;
use isomer_front::probe;
use isomer_ids::HostPattern;

/// The maximum time from the health request to the response.
pub(super) const HEALTH_MAX: Duration = Duration::from_secs(10);

/// The host name of the health request if all host names of the app are wildcards, or if the app has none.
const HOST: &str = "localhost";

/// Sends a request for the manifest's health path to a candidate, with the app's first host name that is not a
/// wildcard.
pub(super) async fn check(site: &AppSite, path: &str, hosts: &[HostPattern]) -> Result<(), ApiProblem> {
    let host = hosts.iter().find(|host| !host.is_wildcard()).map_or(HOST, HostPattern::as_str);
    probe(site, host, path, HEALTH_MAX).await.map_err(|error| {
        let problem = ApiProblem::new(ProblemKind::Refused, "the revision is not healthy");
        let mut detail = error.to_string();
        for cause in causes(&error) {
            detail += &format!("\n{cause}");
        }
        problem.detail(detail).hint(format!("the response for `[app] health = \"{path}\"` must have status 200 to 299"))
    })
}
