//! Two hubs behind a plain balancer that knows nothing of sessions: HAProxy and nginx, as Debian ships
//! them. No hub has a name of its own for clients, so all come back by the same URL.

use serde_json::json;
use std::time::{Duration, Instant};
use tidegate_protocol::control::{DrainReport, DrainResult, Phase};
use tidegate_protocol::frame::ServerFrame;
use tidegate_tests::{Balancer, Crowd, Fleet, Kind, Rule, WAIT, wait_until};

/// After the end of a drain its hub hands on every 10 s; a move takes a moment more.
const HANDED_ON_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_come_back_by_turns_all_end_up_on_the_other_hub_and_lose_nothing() {
    tokio::join!(by_turns(Kind::Haproxy), by_turns(Kind::Nginx));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sticky_balancer_makes_sessions_unroutable_until_it_lets_go_and_then_they_are_handed_on() {
    tokio::join!(sticky(Kind::Haproxy), sticky(Kind::Nginx));
}

async fn by_turns(kind: Kind) {
    let fleet = Fleet::unnamed().await;
    let [from, to] = &fleet.hubs;
    let balancer = Balancer::start(kind, Rule::ByTurns, &[from.public, to.public]).await;
    let crowd = Crowd::connect(&balancer.url("/ledger"), 12).await;
    let at_start = crowd.on(&from.id().await);
    assert!((1..12).contains(&at_start), "{kind:?} spreads clients over both hubs, {at_start} of 12 are on the first");

    let policy = json!({"notice_ms": 300, "window_ms": 300, "settle_ms": 1500, "deadline_ms": 28_000});
    from.api.post("/v1/drain", &policy).await.expect(202);
    let drained = from.wait_drain("the drain to end", |status| status.phase == Phase::Drained).await;
    let report: DrainReport = from.api.get("/v1/drain/report").await.read();

    // By chance somebody may have come back here three times in every round; he is handed on later.
    crowd.all_on(&to.id().await).await;
    let status = from.wait_drain("nobody to be left on the drained hub", |status| {
        status.sessions.is_some_and(|sessions| sessions.remaining == 0)
    });
    let moved = status.await.sessions.map(|sessions| sessions.moved);
    assert_eq!(moved, Some(at_start as u64), "{kind:?}: everybody moved, nobody arrived: {drained:?}");

    let came_back_here = |frame: &ServerFrame| matches!(frame, ServerFrame::Retry { why, .. } if why == "other_hub");
    let bounced = crowd.seen().iter().filter(|seen| seen.frames.iter().any(came_back_here)).count();
    assert!(bounced > 0, "{kind:?} brought some clients back to the draining hub");
    let counts = report.sessions.counts;
    assert_eq!(counts.at_start, at_start as u64, "{kind:?}: {report:?}");
    assert_eq!(counts.moved + counts.remaining, at_start as u64, "{kind:?}: {report:?}");
    assert_eq!(counts.remaining, report.unroutable, "{kind:?}: only the unroutable are left: {report:?}");
    assert_eq!(report.sessions.resumed, counts.moved, "{kind:?}: who moved was seen again: {report:?}");
    assert_eq!((report.messages.lost, report.messages.gaps), (0, 0), "{kind:?}: {report:?}");
    let ended = if counts.remaining == 0 { DrainResult::Drained } else { DrainResult::Forced };
    assert_eq!(report.result, ended, "{kind:?}: {report:?}");
    crowd.all_at_work().await;
    crowd.audit().await;
}

async fn sticky(kind: Kind) {
    const USERS: usize = 5;
    const DEADLINE_MS: u64 = 6_000;
    let fleet = Fleet::unnamed().await;
    let addresses = fleet.hubs.each_ref().map(|hub| hub.public);
    let balancer = Balancer::start(kind, Rule::BySource, &addresses).await;
    let crowd = Crowd::connect(&balancer.url("/ledger"), USERS).await;
    let ids = [fleet.hubs[0].id().await, fleet.hubs[1].id().await];
    let stuck = if crowd.on(&ids[0]) > 0 { 0 } else { 1 };
    assert_eq!(crowd.on(&ids[stuck]), USERS, "{kind:?} brings all clients of one address to one hub");
    let hub = &fleet.hubs[stuck];

    let policy = json!({"notice_ms": 200, "window_ms": 200, "settle_ms": 2500, "deadline_ms": DEADLINE_MS});
    hub.api.post("/v1/drain", &policy).await.expect(202);
    let status = hub.wait_drain("the drain to end", |status| status.phase == Phase::Drained).await;
    let report: DrainReport = hub.api.get("/v1/drain/report").await.read();
    assert!(report.took_ms <= DEADLINE_MS + 1_000, "{kind:?}: the deadline holds: {report:?}");
    assert_eq!(status.unroutable, Some(USERS as u64), "{kind:?}: the status says what is wrong: {status:?}");
    assert_eq!(report.unroutable, USERS as u64, "{kind:?}: and so does the report: {report:?}");
    assert_eq!(report.sessions.counts.remaining, USERS as u64, "{kind:?}: {report:?}");
    assert_eq!((report.sessions.counts.forced, report.cut), (0, 0), "{kind:?}: nobody was closed for it: {report:?}");
    assert_eq!(crowd.on(&ids[stuck]), USERS, "{kind:?} still brings them back here");
    crowd.all_at_work().await;

    balancer.let_go(stuck).await;
    let let_go = Instant::now();
    crowd.all_on(&ids[1 - stuck]).await;
    assert!(let_go.elapsed() < HANDED_ON_WITHIN, "{kind:?}: handing on took {:?}", let_go.elapsed());
    wait_until(&format!("{kind:?}: everybody to be counted as moved, within {WAIT:?}"), || async {
        let status = hub.drain().await;
        let counts = status.sessions.unwrap_or_default();
        if (counts.moved, counts.remaining) == (USERS as u64, 0) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    crowd.all_at_work().await;
    crowd.audit().await;
}
