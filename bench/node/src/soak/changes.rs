//! What the admins do while everybody is at work: deployments, swaps, rollbacks, quotas, and tenants that come and go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use isomer_api::{DeployReport, RollbackRequest};
use tokio::time::{Instant, sleep};

use super::generous;
use super::good::{APP, Good, Numbers};
use super::tally::Tally;
use crate::admin::Admin;
use crate::bundle::Bundle;
use crate::chance::Chance;
use crate::http::{Connection, request};
use crate::numbered::{self, Template};

/// Where this actor's numbers come from.
const ACTOR: u64 = 1;
/// Revisions that each app has by turns: the first deployment of each compiles, later ones find its code.
const VERSIONS: usize = 6;
/// Tenants that come and go have these numbers.
const PASSING: u32 = 9_000_000;
const PASSING_NUMBERS: u64 = 4;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the admins rest at most after a change.
const PAUSE_MS: usize = 250;

/// Makes changes until the soak is over. One that fails is a fault.
pub async fn run(admin: Admin, front: SocketAddr, good: Good, template: Template, seed: u64, tally: Arc<Tally>) {
    let mut chance = Chance::for_actor(seed, ACTOR);
    let mut bag: Vec<usize> = Vec::new();
    let mut passed = 0;
    while !tally.is_stopped() && !tally.is_lost() {
        // Out of a bag that is filled again when it is empty: each kind comes up in the shortest soak.
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
                pass_by(&admin, front, &template, passed).await
            }
        };
        match made {
            Ok(()) => tally.count_change(kind),
            Err(error) => tally.fault(format!("{kind} of `{}`: {error:#}", app.tenant)),
        }
        sleep(Duration::from_millis(chance.below(PAUSE_MS) as u64)).await;
    }
}

const KINDS: [&str; 5] = ["deploy", "swap", "rollback", "quotas", "tenant that comes and goes"];

async fn deploy(admin: &Admin, app: &Numbers, template: &Template, number: u32) -> Result<()> {
    let bundle = app.bundle(template, number)?;
    change(app, number, admin.deploy(&app.tenant, APP, &bundle)).await
}

async fn swap(admin: &Admin, app: &Numbers, template: &Template, number: u32) -> Result<()> {
    let component = template.component(number);
    change(app, number, admin.swap(&app.tenant, APP, "main", &component)).await
}

async fn rollback(admin: &Admin, app: &Numbers) -> Result<()> {
    // Nothing to go back to: the next change will leave something.
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

/// A tenant comes, deploys, is stopped and started, and goes.
async fn pass_by(admin: &Admin, front: SocketAddr, template: &Template, turn: u64) -> Result<()> {
    let tenant = format!("passing-{turn}");
    let host = format!("{tenant}.test");
    let number = PASSING + (turn % PASSING_NUMBERS) as u32;
    admin.set_tenant(&tenant, &generous()).await?;
    let bundle = Bundle::one(APP, template.component(number), std::slice::from_ref(&host))?;
    admin.deploy(&tenant, APP, &bundle).await?;
    let mut connection = Connection::new(front);
    let right = numbered::answer(number);
    expect(&mut connection, &host, 200, &right).await?;
    admin.stop(&tenant, APP).await?;
    expect(&mut connection, &host, 503, "").await?;
    admin.start(&tenant, APP).await?;
    expect(&mut connection, &host, 200, &right).await?;
    admin.remove(&tenant, APP).await?;
    expect(&mut connection, &host, 404, "").await?;
    // Requests that are being finished hold the app for a moment.
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = admin.remove_tenant(&tenant).await {
        if Instant::now() > deadline {
            bail!("cannot remove `{tenant}`: {error:#}");
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Asks, and compares status and, where there is one, the body.
async fn expect(connection: &mut Connection, host: &str, status: u16, body: &str) -> Result<()> {
    let answer = connection.ask(&request("GET", "/", host, &[], b""), PATIENCE).await?;
    let right = answer.status == status && (body.is_empty() || answer.body == body.as_bytes());
    ensure!(right, "`{host}` was to answer with {status} {body:?}, and did with {} {:?}", answer.status, answer.text());
    Ok(())
}
