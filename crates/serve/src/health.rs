//! The health check of an arrangement that is about to take over.

use std::time::Duration;

use isomer_apps::AppSite;
use isomer_console::CliError;
use isomer_diagnostics::Hinted;
use isomer_front::probe;

/// The maximum time from the health request to the response.
const HEALTH_MAX: Duration = Duration::from_secs(10);

/// The host name of the health request.
const HEALTH_HOST: &str = "localhost";

/// Sends a request for the manifest's health path to the routes of an app.
///
/// # Errors
/// If the response is not successful, or takes too long.
pub(crate) async fn check_health(site: &AppSite, path: &str) -> Result<(), CliError> {
    probe(site, HEALTH_HOST, path, HEALTH_MAX).await.map_err(|error| {
        let error = anyhow::Error::new(error).context("the app is not healthy in the new shape");
        Hinted::new(error, format!("the response for `[app] health = \"{path}\"` must have status 200 to 299")).into()
    })
}
