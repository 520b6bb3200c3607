//! Calling a drain off: in the middle, after its end, after parking, and because nobody asks any more.

use serde_json::{Value, json};
use std::time::Duration;
use tidegate_protocol::control::{DrainReport, DrainResult, DrainStatus, Phase};
use tidegate_protocol::frame::ServerFrame;
use tidegate_tests::{Client, Crowd, Fleet, Hub, Kitchen, Seen, Setup, wait_until};

/// A drain that is quick, where nothing is in the way.
fn quick() -> Value {
    json!({"notice_ms": 200, "window_ms": 300, "settle_ms": 1000, "deadline_ms": 10_000})
}

fn recalled(seen: &Seen) -> bool {
    seen.frames.iter().any(|frame| matches!(frame, ServerFrame::Recall { .. }))
}

async fn serves(hub: &Hub) {
    wait_until("the hub says that it serves", || async {
        let said = hub.api.get("/v1/hub").await.json();
        if said["state"] == "serving" { Ok(()) } else { Err(said.to_string()) }
    })
    .await;
}

async fn report(hub: &Hub) -> DrainReport {
    hub.api.get("/v1/drain/report").await.read()
}

/// Drains the hub of a fleet to the end.
async fn drained(hub: &Hub) -> DrainStatus {
    hub.api.post("/v1/drain", &quick()).await.expect(202);
    hub.wait_drain("the drain to end", |status| status.phase == Phase::Drained).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_in_the_middle_recalls_the_rest_and_leaves_who_has_moved_where_he_is() {
    const USERS: u64 = 16;
    let fleet = Fleet::named().await;
    let [from, to] = &fleet.hubs;
    let (here, there) = (from.id().await, to.id().await);
    let crowd = Crowd::connect(&from.url("/ledger"), USERS as usize).await;
    let policy = json!({"notice_ms": 200, "window_ms": 8_000, "settle_ms": 1000, "deadline_ms": 25_000});
    from.api.post("/v1/drain", &policy).await.expect(202);
    let some_moved = |status: &DrainStatus| status.sessions.is_some_and(|sessions| sessions.moved >= 4);
    from.wait_drain("some to have moved", some_moved).await;

    let status: DrainStatus = from.api.delete("/v1/drain").await.read();
    assert_eq!(status.phase, Phase::Serving, "{status:?}");
    let report = report(from).await;
    assert_eq!(report.result, DrainResult::Cancelled, "{report:?}");
    let counts = report.sessions.counts;
    assert!(counts.moved >= 4 && counts.remaining > 0, "the cancel came in the middle: {report:?}");
    assert_eq!(counts.moved + counts.remaining, USERS, "everybody has moved or remains: {report:?}");
    // Who was on his way at that moment arrives, the others are told.
    for client in crowd.clients() {
        let settled = |seen: &Seen| recalled(seen) || seen.hub.is_some_and(|hub| hub.to_string() == there);
        client.wait("to be recalled, or to have moved", settled).await;
    }
    serves(from).await;
    crowd.all_at_work().await;
    let (stayed, moved) = (crowd.on(&here), crowd.on(&there));
    assert!(moved as u64 >= counts.moved, "moved ones stay moved: {moved} are there, {report:?}");
    assert_eq!(stayed + moved, USERS as usize, "everybody is served by one of the two");
    let newcomer = Client::connect(&from.url("/ledger")).await;
    assert_eq!(newcomer.seen().hub.map(|hub| hub.to_string()), Some(here), "newcomers are welcome here again");
    crowd.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_drained_a_cancel_serves_again_and_the_hub_takes_sessions_over() {
    let fleet = Fleet::named().await;
    let [first, second] = &fleet.hubs;
    let crowd = Crowd::connect(&first.url("/ledger"), 6).await;
    let status = drained(first).await;
    assert_eq!(status.sessions.map(|sessions| sessions.moved), Some(6), "{status:?}");
    crowd.all_on(&second.id().await).await;

    let status: DrainStatus = first.api.delete("/v1/drain").await.read();
    assert_eq!(status.phase, Phase::Serving, "{status:?}");
    serves(first).await;
    assert_eq!(report(first).await.result, DrainResult::Drained, "the report of what was is kept");
    let idle: DrainStatus = first.api.delete("/v1/drain").await.read();
    assert_eq!(idle.phase, Phase::Serving, "with nothing to cancel it is no error: {idle:?}");

    let newcomers = Crowd::connect(&first.url("/ledger"), 2).await;
    assert_eq!(newcomers.on(&first.id().await), 2, "newcomers stay where they came");
    wait_until("the other hub hears that this one serves", || async {
        let said = second.api.get("/v1/hub").await.json();
        if said["peers"][0]["state"] == "serving" { Ok(()) } else { Err(said.to_string()) }
    })
    .await;
    drained(second).await;
    crowd.all_on(&first.id().await).await;
    crowd.all_at_work().await;
    crowd.audit().await;
    newcomers.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_parking_on_one_hub_alone_a_cancel_takes_everybody_up_again() {
    let kitchen = Kitchen::start_with("alone", &["--ledger-push-ms", "100"]).await;
    let hub = Setup::new("alone").app_with_events(&kitchen.address).start().await;
    let crowd = Crowd::connect(&hub.url("/ledger"), 6).await;
    let status = drained(&hub).await;
    assert_eq!(status.sessions.map(|sessions| sessions.parked), Some(6), "{status:?}");
    for client in crowd.clients() {
        client.wait("to be told that its session is safe on disk", Seen::told_parked).await;
    }
    let parked = hub.api.get("/v1/sessions").await.json();
    assert!(
        parked["sessions"]
            .as_array()
            .is_some_and(|all| all.len() == 6 && all.iter().all(|one| one["phase"] == "parked")),
        "all are parked: {parked}"
    );

    let status: DrainStatus = hub.api.delete("/v1/drain").await.read();
    assert_eq!(status.phase, Phase::Serving, "{status:?}");
    serves(&hub).await;
    crowd.all_on(&hub.id().await).await;
    crowd.all_at_work().await;
    assert!(crowd.seen().iter().all(|seen| seen.resumes() > 0), "all came back by themselves");
    crowd.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_nobody_asks_about_is_recalled_after_its_lease_and_only_then() {
    const LEASE_MS: u64 = 1_000;
    let fleet = Fleet::named().await;
    let hub = &fleet.hubs[0];
    let crowd = Crowd::connect(&hub.url("/ledger"), 3).await;
    let policy = json!({
        "notice_ms": 60_000, "deadline_ms": 120_000, "window_ms": 1_000, "settle_ms": 1_000,
        "on_orphan": "recall", "lease_ms": LEASE_MS,
    });
    // Who says nothing of itself is renewed by any question without an Attempt.
    hub.api.post("/v1/drain", &policy).await.expect(202);
    let asked_long = |status: &DrainStatus| status.since_ms.is_some_and(|ms| ms > 2 * LEASE_MS);
    let status = hub.wait_drain("the drain to go on as long as somebody asks", asked_long).await;
    assert_eq!(status.phase, Phase::Noticing, "twice the lease is over, and it goes on: {status:?}");
    assert!(!crowd.seen().iter().any(recalled), "nobody is recalled while somebody asks");

    // From here on nobody asks for the status of the drain.
    serves(hub).await;
    for client in crowd.clients() {
        client.wait("to be recalled", recalled).await;
    }
    let report = report(hub).await;
    assert_eq!(report.result, DrainResult::Cancelled, "{report:?}");
    let why = report.why.clone().unwrap_or_default();
    assert!(why.contains("lease") || why.contains("asked"), "the report says why: {report:?}");
    let took = Duration::from_millis(report.took_ms);
    assert!(took >= Duration::from_millis(3 * LEASE_MS), "not before the lease was over: {report:?}");
    crowd.all_at_work().await;
    crowd.audit().await;
}
