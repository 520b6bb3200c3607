//! SIGKILL in the middle of parking and of taking up: whoever was told "safe" is safe, the rest is told.

use crate::moments::{crowd, publish};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use std::path::Path;
use std::time::Instant;
use tidegate_protocol::client::Report;
use tidegate_tests::{Client, Hub, Relay, Seen, Setup, WAIT};

const CLIENTS: usize = 120;

/// Why continuity was lost, if it was.
fn reset_why(seen: &Seen) -> Option<String> {
    seen.reports.iter().find_map(|report| match report {
        Report::Reset { why, .. } => Some(why.to_string()),
        _ => None,
    })
}

/// A crowd whose sessions are so large that parking them all takes a while.
async fn heavy_crowd(hub: &Hub, relay: &Relay) -> Vec<Client> {
    let clients = crowd(hub, relay, CLIENTS).await;
    let state: Vec<u8> = (0..=255).cycle().take(60_000).collect();
    for client in &clients {
        hub.api.put_bytes(&format!("/v1/sessions/{}/state", client.session()), &state).await.expect(204);
    }
    clients
}

/// A drain that releases its clients one by one over two seconds.
async fn drain_slowly(hub: &Hub) {
    let policy = json!({"notice_ms": 0, "window_ms": 2_000, "settle_ms": 1_000, "deadline_ms": 20_000, "stages": [100], "max_in_flight": 4});
    hub.api.post("/v1/drain", &policy).await.expect(202);
}

/// Returns in the very moment in which that many clients have seen it.
async fn wait_count(clients: &[Client], what: &str, at_least: usize, is: impl Fn(&Seen) -> bool + Copy) {
    let waiting: FuturesUnordered<_> = clients.iter().map(|client| client.wait(what, is)).collect();
    assert_eq!(waiting.take(at_least).count().await, at_least);
}

/// When the process is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So many clients have seen 1012 `parked`.
    Told(usize),
    /// The data directory has grown by so many bytes: in the middle of a write, as a rule.
    Written(u64),
}

fn bytes_in(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("the data directory can be read");
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
}

/// Looks without a pause, for a write is over in milliseconds; what clients hear meanwhile they read later.
fn wait_written(directory: &Path, bytes: u64) {
    let (before, end) = (bytes_in(directory), Instant::now() + WAIT);
    while bytes_in(directory) < before + bytes {
        assert!(Instant::now() < end, "expected within {WAIT:?}: {bytes} bytes are written to the data directory");
        std::thread::yield_now();
    }
}

/// Every client is back: in its session with every message once and in order, or reset and told so.
/// Gives how many were reset.
async fn account(hub: &Hub, clients: &[Client]) -> usize {
    let mut resets = 0;
    for client in clients {
        let seen = client.wait("a return or a reset", |seen| seen.connected).await;
        publish(hub, client, "third").await;
        let seen = client
            .wait("the message after its return", |now| {
                now.received.len() > seen.received.len() || now.received.ends_with(&["third".into()])
            })
            .await;
        if seen.resets() > 0 {
            resets += 1;
        } else {
            assert_eq!(seen.received, ["first", "second", "third"], "{:?}", seen.reports);
        }
    }
    resets
}

#[tokio::test]
async fn whoever_was_told_parked_resumes_after_a_kill_in_the_middle_of_parking() {
    let mut middles = 0;
    for moment in
        [Moment::Told(1), Moment::Told(40), Moment::Written(1), Moment::Written(3 << 20), Moment::Written(9 << 20)]
    {
        let hub = Setup::new("A").start().await;
        let relay = Relay::to(hub.public).await;
        let clients = heavy_crowd(&hub, &relay).await;
        drain_slowly(&hub).await;
        match moment {
            Moment::Told(count) => wait_count(&clients, "1012 parked", count, Seen::told_parked).await,
            Moment::Written(bytes) => wait_written(hub.data_dir().as_ref(), bytes),
        }
        hub.kill();
        relay.refuse();
        for client in &clients {
            client.wait("the end of the connection", |seen| !seen.connected).await;
        }
        let told: Vec<bool> = clients.iter().map(|client| client.seen().told_parked()).collect();
        middles += usize::from(told.contains(&false));
        let next = hub.setup().start().await;
        relay.retarget(&[next.public]);
        relay.heal();
        account(&next, &clients).await;
        for (client, told) in clients.iter().zip(told) {
            let why = reset_why(&client.seen());
            assert!(!(told && why.is_some()), "told parked, killed at {moment:?}, and then reset: {why:?}");
        }
    }
    assert!(middles >= 2, "the kill comes in the middle of parking, not after it");
}

#[tokio::test]
async fn a_kill_while_taking_up_resets_only_who_was_taken_up_and_tells_them() {
    let mut middles = 0;
    for killed_after in [1, 40, 80] {
        let hub = Setup::new("A").start().await;
        let relay = Relay::to(hub.public).await;
        let clients = heavy_crowd(&hub, &relay).await;
        hub.stop().await;
        for client in &clients {
            client.wait("1012 parked, as SIGTERM tells everybody", Seen::told_parked).await;
        }
        let second = hub.setup().start().await;
        relay.retarget(&[second.public]);
        wait_count(&clients, "a welcome back", killed_after, |seen| seen.resumes() >= 1).await;
        second.kill();
        relay.refuse();
        for client in &clients {
            client.wait("no connection", |seen| !seen.connected).await;
        }
        let welcomed: Vec<bool> = clients.iter().map(|client| client.seen().resumes() >= 1).collect();
        let third = hub.setup().start().await;
        relay.retarget(&[third.public]);
        relay.heal();
        let resets = account(&third, &clients).await;
        middles += usize::from(resets < CLIENTS);
        let served = welcomed.iter().filter(|welcomed| **welcomed).count();
        assert!(
            resets >= served,
            "{served} were served by the process that was killed; only {resets} were told of a reset"
        );
        for (client, welcomed) in clients.iter().zip(welcomed) {
            match reset_why(&client.seen()) {
                Some(why) => assert_eq!(why, "taken_up_lost", "the only reason to lose what was parked"),
                None => {
                    assert!(!welcomed, "taken up by a process that was killed, and then resumed as if nothing had been")
                }
            }
        }
    }
    assert!(middles >= 2, "the kill comes in the middle of taking up, not after it");
}

#[tokio::test]
async fn after_a_kill_without_parking_every_client_is_told_of_the_reset() {
    let hub = Setup::new("A").start().await;
    let relay = Relay::to(hub.public).await;
    let clients = crowd(&hub, &relay, 5).await;
    let before: Vec<_> = clients.iter().map(|client| client.seen().session).collect();
    hub.kill();
    let next = hub.setup().start().await;
    relay.retarget(&[next.public]);
    for (client, before) in clients.iter().zip(before) {
        let seen = client.wait("a reset", |seen| seen.resets() == 1).await;
        let told = seen
            .reports
            .iter()
            .any(|report| matches!(report, Report::Reset { replaces, .. } if Some(*replaces) == before));
        assert!(told, "the reset names the session that is no more: {:?}", seen.reports);
    }
}
