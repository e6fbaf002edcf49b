//! The changes that administrators make during the soak: deployments, swaps, rollbacks, quota changes, and tenants that
//! are created and removed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use isomer_api::{DeployReport, RollbackRequest};
use tokio::time::{Instant, sleep};

use super::generous;
use super::good::{APP, GoodTenants, Numbers};
use super::tally::Tally;
use crate::admin::Admin;
use crate::bundle::Bundle;
use crate::chance::Chance;
use crate::http::{Connection, request};
use crate::numbered::{self, Template};

/// The number of the actor that makes the changes. The actor's random numbers depend on this number and on the seed.
const ACTOR: u64 = 1;
/// The number of different revisions of each app. The first deployment of a revision compiles it; later deployments
/// find the compiled code.
const VERSIONS: usize = 6;
/// The first of the numbers in the components that are deployed for temporary tenants. Components with different
/// numbers have different code.
const PASSING: u32 = 9_000_000;
const PASSING_NUMBERS: u64 = 4;
/// The maximum time for a response.
const PATIENCE: Duration = Duration::from_secs(20);
/// The maximum pause after a change, in milliseconds.
const PAUSE_MS: usize = 250;

/// Makes random changes until the soak ends. A change that fails is recorded as a fault.
pub async fn run(admin: Admin, front: SocketAddr, good: GoodTenants, template: Template, seed: u64, tally: Arc<Tally>) {
    let mut chance = Chance::for_actor(seed, ACTOR);
    let mut bag: Vec<usize> = Vec::new();
    let mut passed = 0;
    while !tally.is_stopped() && !tally.is_lost() {
        // A change is drawn from a bag, which is refilled when it is empty. So even the shortest soak makes every kind
        // of change.
        if bag.is_empty() {
            bag = (0..KINDS.len()).collect();
        }
        let kind = KINDS[bag.swap_remove(chance.below(bag.len()))];
        let app = &good.numbers[chance.below(good.numbers.len())];
        let number = app.number(chance.below(VERSIONS) as u32);
        let made = match kind {
            "deploy" => deploy(&admin, app, &template, number).await,
            "swap" => swap(&admin, app, &template, number).await,
            "rollback" => rollback(&admin, app).await,
            "quotas" => admin.set_tenant(&app.tenant, &generous()).await.map(drop),
            _ => {
                passed += 1;
                temporary_tenant(&admin, front, &template, passed).await
            }
        };
        match made {
            Ok(()) => tally.count_change(kind),
            Err(error) => tally.fault(format!("{kind} of `{}`: {error:#}", app.tenant)),
        }
        sleep(Duration::from_millis(chance.below(PAUSE_MS) as u64)).await;
    }
}

const KINDS: [&str; 5] = ["deploy", "swap", "rollback", "quotas", "temporary tenant"];

async fn deploy(admin: &Admin, app: &Numbers, template: &Template, number: u32) -> Result<()> {
    let bundle = app.bundle(template, number)?;
    change(app, number, admin.deploy(&app.tenant, APP, &bundle)).await
}

async fn swap(admin: &Admin, app: &Numbers, template: &Template, number: u32) -> Result<()> {
    let component = template.component(number);
    change(app, number, admin.swap(&app.tenant, APP, "main", &component)).await
}

async fn rollback(admin: &Admin, app: &Numbers) -> Result<()> {
    // If the app has no earlier revision yet, there is nothing to roll back to.
    let Some((number, revision)) = app.before() else { return Ok(()) };
    let rollback = RollbackRequest { revision: Some(revision), ..RollbackRequest::default() };
    change(app, number, admin.rollback(&app.tenant, APP, &rollback)).await
}

async fn change(app: &Numbers, number: u32, changed: impl Future<Output = Result<DeployReport>>) -> Result<()> {
    app.begin(number);
    match changed.await {
        Ok(deployed) => {
            app.settle(deployed.revision);
            Ok(())
        }
        Err(error) => {
            app.undo();
            Err(error)
        }
    }
}

/// Creates a tenant, deploys an app, stops and starts the app, and removes the app and the tenant.
async fn temporary_tenant(admin: &Admin, front: SocketAddr, template: &Template, number: u64) -> Result<()> {
    let tenant = format!("temporary-{number}");
    let host = format!("{tenant}.test");
    let number = PASSING + (number % PASSING_NUMBERS) as u32;
    admin.set_tenant(&tenant, &generous()).await?;
    let bundle = Bundle::one(APP, template.component(number), std::slice::from_ref(&host))?;
    admin.deploy(&tenant, APP, &bundle).await?;
    let mut connection = Connection::new(front);
    let body = numbered::body(number);
    expect(&mut connection, &host, 200, &body).await?;
    admin.stop(&tenant, APP).await?;
    expect(&mut connection, &host, 503, "").await?;
    admin.start(&tenant, APP).await?;
    expect(&mut connection, &host, 200, &body).await?;
    admin.remove(&tenant, APP).await?;
    expect(&mut connection, &host, 404, "").await?;
    // Requests that are still running may keep the app for a moment, so the removal of the tenant is retried.
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = admin.remove_tenant(&tenant).await {
        if Instant::now() > deadline {
            bail!("cannot remove `{tenant}`: {error:#}");
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Sends a request and compares the status and, if `body` is not empty, the body of the response.
async fn expect(connection: &mut Connection, host: &str, status: u16, body: &str) -> Result<()> {
    let response = connection.send(&request("GET", "/", host, &[], b""), PATIENCE).await?;
    let is_correct = response.status == status && (body.is_empty() || response.body == body.as_bytes());
    ensure!(
        is_correct,
        "`{host}` did not respond with {status} {body:?}, but with {} {:?}",
        response.status,
        response.text()
    );
    Ok(())
}
