//! Serving an app from its start until the process shuts down.

use std::time::Instant;

use anyhow::Context as _;
use isomer_console::CliError;

use crate::revision_source::RevisionSource;
use crate::revision_starter::AppServer;
use crate::store_preparation::UnchangedStores;

/// Serves a revision of `source`, and executes orders to reshape the app, until the process shuts down.
///
/// # Errors
/// If the app does not start, or cannot be served.
pub async fn serve_app(server: AppServer, source: RevisionSource, began: Instant) -> Result<(), CliError> {
    let (serving, mut revisions, mut orders) = server.split();
    // Serving is a separate task, because this task blocks while it composes and compiles.
    let mut serving = tokio::spawn(serving);
    let start = async {
        revisions.take_over(source, &mut UnchangedStores).await?;
        revisions.report_ready(began)
    };
    tokio::select! {
        served = &mut serving => return ended(served),
        started = start => started?,
    }
    let reshaping = async {
        loop {
            let order = orders.next().await;
            revisions.reshape(order).await;
        }
    };
    tokio::select! {
        served = &mut serving => ended(served),
        () = reshaping => Ok(()),
    }
}

fn ended(served: Result<Result<(), CliError>, tokio::task::JoinError>) -> Result<(), CliError> {
    served.context("the server ended unexpectedly")?
}
