//! What becomes of the fleet: storms, drains without an end, drains that cut, and skewed load.

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tidegate_protocol::control::{DrainReport, DrainStatus, Phase, PlanAnswer};
use tidegate_tests::{Client, Hub, Pair, Setup, acquainted, connect_all, drain, report, wait_until};

/// How often arrivals are counted.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How many arrivals were seen, and how long after the drain was asked for, at each look.
async fn arrivals(pair: &Pair, asked: Instant, expected: u64) -> Vec<(u64, u64)> {
    let before = pair.door.accepted();
    let (mut seen, end) = (Vec::new(), asked + tidegate_tests::WAIT);
    while seen.last().is_none_or(|(count, _)| *count < expected) && Instant::now() < end {
        let count = pair.door.accepted() - before;
        // Read after the count: a look is never dated too early.
        seen.push((count, asked.elapsed().as_millis() as u64));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    seen
}

/// Failure 1: everybody reconnects at once and flattens the successor.
#[tokio::test]
async fn clients_arrive_at_the_successor_by_a_timetable_and_never_as_a_storm() {
    const CLIENTS: u64 = 40;
    const NOTICE_MS: u64 = 500;
    const WINDOW_MS: u64 = 4_000;
    let pair = Pair::start(|setup, _| setup).await;
    let clients = pair.clients(CLIENTS as usize).await;
    let policy = json!({
        "notice_ms": NOTICE_MS, "window_ms": WINDOW_MS, "settle_ms": 2000, "deadline_ms": 25000, "max_in_flight": 4,
    });
    let asked = Instant::now();
    drain(&pair.a, policy).await;
    let watching = async {
        let mut most = 0;
        loop {
            let status: DrainStatus = pair.a.drain().await;
            most = most.max(status.in_flight.unwrap_or(0));
            if status.phase == Phase::Drained {
                return most;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let (seen, most_in_flight) = tokio::join!(arrivals(&pair, asked, CLIENTS), watching);
    let report = report(&pair.a).await;
    assert_eq!(report.sessions.counts.moved, CLIENTS, "{report:#?}");
    assert!(most_in_flight <= 4, "at most four on their way at any moment, and {most_in_flight} were seen");
    for (count, at_ms) in seen.iter().filter(|(count, _)| *count > 0) {
        // The slot of the last of so many; the pace may catch up on 40 ms, and a clock has its grain.
        let slot_ms = NOTICE_MS + WINDOW_MS * (count - 1) / CLIENTS;
        assert!(
            at_ms + 50 >= slot_ms,
            "{count} had arrived after {at_ms} ms, and the last slot of them is {slot_ms} ms"
        );
    }
    assert!(seen.len() > 20, "arrivals were looked at {} times", seen.len());
    drop(clients);
}

/// A policy that leaves no time to anybody who asks for more.
fn short() -> Value {
    json!({"notice_ms": 200, "window_ms": 500, "settle_ms": 500, "deadline_ms": 6000, "stages": [100], "allow_park": true})
}

/// Failure 6: drains that never end because somebody stays, or that cut everybody off at once.
#[tokio::test]
async fn a_drain_with_somebody_who_is_busy_for_ever_ends_at_its_deadline_and_cuts_nobody_off() {
    let pair = Pair::start(|setup, _| setup).await;
    let clients = pair.clients(8).await;
    let asked = Instant::now();
    drain(&pair.a, short()).await;
    for client in &clients[..2] {
        client.wait("a notice", |seen| seen.frames.iter().any(is_notice)).await;
        client.busy(3_600_000).await;
    }
    let report = report(&pair.a).await;
    let counts = report.sessions.counts;
    assert_eq!((counts.moved, counts.forced, counts.unconfirmed), (8, 0, 0), "everybody is somewhere: {report:#?}");
    assert_eq!(report.clients.busy, 2, "they were heard: {report:#?}");
    assert!(report.clients.granted >= 2, "and given what time there was: {report:#?}");
    for (n, client) in clients.iter().enumerate() {
        let there = pair.b.id().await;
        let at_b = |seen: &tidegate_tests::Seen| seen.connected && seen.hub.is_some_and(|hub| hub.to_string() == there);
        let seen = client.wait("its session on the other hub", at_b).await;
        assert_eq!(seen.resets(), 0, "client {n} kept its session");
    }
    assert!(asked.elapsed() >= Duration::from_millis(1_000), "the busy ones had time");
}

fn is_notice(frame: &tidegate_protocol::frame::ServerFrame) -> bool {
    matches!(frame, tidegate_protocol::frame::ServerFrame::Notice(_))
}

/// A hub of a fleet, which clients can reach by name.
async fn member(name: &str, seed: Option<&Hub>) -> Hub {
    let setup = Setup::new(name)
        .in_cluster()
        .flag("--peer-url", "http://127.0.0.1:0")
        .flag("--public-url", "ws://127.0.0.1:0/connect");
    match seed {
        Some(seed) => setup.peer(&seed.private).start().await,
        None => setup.start().await,
    }
}

async fn sessions_on(hub: &Hub) -> u64 {
    hub.api.get("/v1/sessions?limit=1000").await.json()["sessions"].as_array().map_or(0, |list| list.len() as u64)
}

/// What a drain of this hub would send to another one, by its plan.
async fn share_of(hub: &Hub, other: &str) -> u64 {
    let plan: PlanAnswer = hub.api.post("/v1/drain/plan", &rolling()).await.read();
    plan.successors.iter().find(|share| share.hub.to_string() == other).map_or(0, |share| share.sessions)
}

fn rolling() -> Value {
    json!({"notice_ms": 0, "window_ms": 600, "settle_ms": 2000, "deadline_ms": 25000, "stages": [100]})
}

/// Drains one hub as its plan says, and lets it serve again, empty.
async fn roll(hub: &Hub, others: [&Hub; 2]) -> DrainReport {
    acquainted(&[hub, others[0], others[1]]).await;
    let ids = [others[0].id().await, others[1].id().await];
    let loads = [sessions_on(others[0]).await, sessions_on(others[1]).await];
    wait_until("a plan that ends with even loads", || async {
        let shares = [share_of(hub, &ids[0]).await, share_of(hub, &ids[1]).await];
        // Hubs tell each other their loads once a second.
        let ends = (loads[0] + shares[0]).abs_diff(loads[1] + shares[1]);
        if ends <= 1 { Ok(()) } else { Err(format!("{loads:?} and {shares:?}")) }
    })
    .await;
    drain(hub, rolling()).await;
    let report = report(hub).await;
    hub.api.delete("/v1/drain").await.expect(200);
    report
}

/// Failure 10: 24, 24 and 24 become 45, 27 and 0 in one rolling restart.
#[tokio::test]
async fn a_rolling_drain_of_a_fleet_leaves_the_hubs_that_stayed_with_even_loads() {
    let a = member("A", None).await;
    let (b, c) = tokio::join!(member("B", Some(&a)), member("C", Some(&a)));
    acquainted(&[&a, &b, &c]).await;
    let mut clients: Vec<Client> = Vec::new();
    for hub in [&a, &b, &c] {
        clients.extend(connect_all(&hub.url("/connect"), 8).await);
    }
    for (hub, others) in [(&a, [&b, &c]), (&b, [&a, &c]), (&c, [&a, &b])] {
        let before = sessions_on(hub).await;
        let report = roll(hub, others).await;
        assert_eq!(report.sessions.counts.moved, before, "{report:#?}");
        let loads = (sessions_on(others[0]).await, sessions_on(others[1]).await);
        assert_eq!(loads.0 + loads.1, 24, "nobody is lost on the way: {loads:?}");
        assert!(loads.0.abs_diff(loads.1) <= 2, "both that take over end with the same load: {loads:?}, {report:#?}");
    }
    for client in &clients {
        client.wait("a connection after it all", |seen| seen.connected).await;
        assert_eq!(client.seen().resets(), 0);
    }
}
