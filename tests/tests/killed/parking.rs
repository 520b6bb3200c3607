//! One hub and its disk: killed at every step of parking and of taking up. Whoever was told "safe" is safe.

use crate::scene::{killed, soon};
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::BTreeSet;
use std::time::Duration;
use tidegate::fault::VARIABLE;
use tidegate_protocol::client::Report;
use tidegate_tests::{Books, Client, Ended, FakeApp, Hub, Relay, Setup, Traffic, connect_all};

/// The steps that this file and `steps.rs` attack beside its table.
pub(crate) const STEPS: [&str; 8] = [
    "before_log_write",
    "mid_log_write",
    "after_log_write",
    "after_log_sync",
    "before_taken_up_sync",
    "after_taken_up_sync",
    "before_moved_sync",
    "after_moved_sync",
];

/// When the process dies while it parks its sessions. They share writes, in one batch or a few.
const PARKING: [&str; 9] = [
    "frozen:kill@1",
    "frozen:kill@4",
    "before_log_write:kill@1",
    "mid_log_write:kill@1",
    "after_log_write:kill@1",
    "after_log_sync:kill@1",
    "before_close:kill@1",
    "before_close:kill@2",
    "before_close:kill@5",
];

/// When it dies while clients come back for what is parked.
const TAKING_UP: [&str; 9] = [
    "hello_received:kill@2",
    "before_taken_up_sync:kill@1",
    "before_taken_up_sync:kill@3",
    "mid_log_write:kill@1",
    "mid_log_write:kill@2",
    "after_log_sync:kill@1",
    "after_taken_up_sync:kill@1",
    "after_taken_up_sync:kill@3",
    "welcome_said:kill@2",
];

const CLIENTS: usize = 8;
const EVERY: Duration = Duration::from_millis(25);

/// One hub with an app that keeps books, and clients at work.
struct Alone {
    hub: Hub,
    relay: Relay,
    books: Books,
    _app: FakeApp,
}

impl Alone {
    async fn start(armed: Option<&str>) -> (Self, Vec<Client>) {
        let books = Books::default();
        let app = books.app().await;
        let setup = Setup::new("A").app_with_events(&app.address);
        let setup = if let Some(armed) = armed { setup.env(VARIABLE, armed) } else { setup };
        let hub = setup.start().await;
        let relay = Relay::to(hub.public).await;
        let clients = connect_all(&relay.url("/connect"), CLIENTS).await;
        (Self { hub, relay, books, _app: app }, clients)
    }

    /// The next process on the same directory; its clients find it.
    async fn next(&self, armed: Option<&str>) -> Hub {
        self.relay.refuse();
        let setup = self.hub.setup().without_env();
        let setup = if let Some(armed) = armed { setup.env(VARIABLE, armed) } else { setup };
        let next = setup.start().await;
        self.relay.retarget(&[next.public]);
        self.relay.heal();
        next
    }
}

fn clean(case: &str, ended: &[Ended]) {
    for one in ended {
        assert!(one.verdict.is_clean(), "{case}: {:#?}\n{:#?}", one.verdict, one.seen.without_messages());
    }
}

#[tokio::test]
async fn whoever_was_told_parked_resumes_wherever_in_parking_the_hub_is_killed() {
    let cases = stream::iter(PARKING).map(|armed| async move {
        let (alone, clients) = Alone::start(Some(armed)).await;
        let traffic = Traffic::start(clients, 0, EVERY, &alone.books, &[&alone.hub]);
        traffic.at_work(4).await;
        // The hub may be killed before it answers.
        let json = [("content-type", "application/json")];
        let asked = alone.hub.api.try_send(http::Method::POST, "/v1/drain", &json, soon(9_000).to_string());
        drop(asked.await);
        killed(armed, &alone.hub).await;
        alone.relay.refuse();
        for client in traffic.clients() {
            client.wait("the end of its connection", |seen| !seen.connected).await;
        }
        let told: BTreeSet<String> =
            traffic.clients().filter(|client| client.seen().told_parked()).map(Client::session).collect();
        let next = alone.next(None).await;
        traffic.publish_at(&[&next]);
        let ended = traffic.close().await;
        clean(armed, &ended);
        for one in ended.iter().filter(|one| told.contains(&one.session)) {
            assert_eq!(one.verdict.resets, 0, "{armed}: it was told that it is safe: {:#?}", one.seen.reports);
        }
        if armed.starts_with("after_log_sync") || armed.starts_with("before_close") {
            let kept = ended.iter().filter(|one| one.verdict.resets == 0).count();
            assert!(kept > told.len(), "{armed}: what was on disk resumes although nobody could be told any more");
        }
    });
    cases.buffer_unordered(4).collect::<Vec<()>>().await;
}

/// The only reason for which a client that was parked may be reset.
fn lost_after_it_was_taken_up(one: &Ended) -> bool {
    one.seen.reports.iter().all(|report| match report {
        Report::Reset { why, .. } => why == "taken_up_lost",
        _ => true,
    })
}

#[tokio::test]
async fn a_kill_at_any_step_of_taking_up_resets_at_most_who_was_taken_up() {
    let cases = stream::iter(TAKING_UP).map(|armed| async move {
        let (alone, clients) = Alone::start(None).await;
        alone.hub.stop().await;
        for client in &clients {
            client.wait("1012 parked", tidegate_tests::Seen::told_parked).await;
        }
        let second = alone.next(Some(armed)).await;
        killed(armed, &second).await;
        alone.relay.refuse();
        for client in &clients {
            client.wait("the end of its connection", |seen| !seen.connected).await;
        }
        let welcomed = clients.iter().filter(|client| client.seen().resumes() > 0).count();
        let third = alone.next(None).await;
        let traffic = Traffic::start(clients, 0, EVERY, &alone.books, &[&third]);
        traffic.at_work(4).await;
        let ended = traffic.close().await;
        clean(armed, &ended);
        let resets = ended.iter().filter(|one| one.verdict.resets > 0).count();
        assert!(ended.iter().all(lost_after_it_was_taken_up), "{armed}");
        assert!(resets >= welcomed, "{armed}: {welcomed} were served by the process that died, {resets} were told");
        if armed == "before_taken_up_sync:kill@1" {
            assert_eq!(resets, 0, "{armed}: nobody was taken up yet");
        }
    });
    cases.buffer_unordered(3).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn sigterm_during_a_drain_ends_it_within_its_deadline_and_loses_nobody() {
    for second_signal in [false, true] {
        let case = format!("SIGTERM{}", if second_signal { " twice" } else { "" });
        let (alone, clients) = Alone::start(None).await;
        let traffic = Traffic::start(clients, 0, EVERY, &alone.books, &[&alone.hub]);
        traffic.at_work(4).await;
        let policy = serde_json::json!({"notice_ms": 0, "window_ms": 20_000, "settle_ms": 500, "deadline_ms": 25_000, "stages": [100]});
        alone.hub.api.post("/v1/drain", &policy).await.expect(202);
        alone
            .hub
            .wait_drain("somebody is parked", |status| status.sessions.is_some_and(|counts| counts.parked > 0))
            .await;
        alone.hub.signal(tidegate_tests::Signal::Term);
        if second_signal {
            alone.hub.signal(tidegate_tests::Signal::Term);
        }
        assert_eq!(alone.hub.exit().await.code, Some(0), "{case}: a regular end");
        for client in traffic.clients() {
            client.wait("1012 parked", tidegate_tests::Seen::told_parked).await;
        }
        let next = alone.next(None).await;
        traffic.publish_at(&[&next]);
        let ended = traffic.close().await;
        clean(&case, &ended);
        assert!(ended.iter().all(|one| one.verdict.resets == 0), "{case}: all were parked");
    }
}

#[tokio::test]
async fn sigterm_while_another_drain_pushes_to_a_peer_ends_with_everybody_at_the_peer_or_on_disk() {
    let scene = crate::scene::Scene::start(crate::scene::Role::Successor, "", "60s").await;
    scene.drain(20_000).await;
    scene.pair.a.stop().await;
    let next = scene.pair.a.successor_setup().without_env().start().await;
    scene.serve_by(&[&scene.pair.b, &next]);
    let ended = scene.close("SIGTERM in a drain to a peer").await;
    crate::scene::nobody_was_reset("SIGTERM in a drain to a peer", &ended);
}

/// A second drain of a hub that was killed in its first one begins anew and has a report of its own.
#[tokio::test]
async fn the_drain_of_a_hub_that_was_killed_in_one_before_has_a_report_that_adds_up() {
    let (alone, clients) = Alone::start(Some("before_close:kill@3")).await;
    let json = [("content-type", "application/json")];
    drop(alone.hub.api.try_send(http::Method::POST, "/v1/drain", &json, soon(9_000).to_string()).await);
    killed("the first drain", &alone.hub).await;
    let next = alone.next(None).await;
    for client in &clients {
        client.wait("a return or a reset", |seen| seen.connected && seen.resumes() + seen.resets() > 0).await;
    }
    next.api.post("/v1/drain", &soon(9_000)).await.expect(202);
    let report = tidegate_tests::report(&next).await;
    assert_eq!((report.sessions.counts.parked, report.messages.lost), (CLIENTS as u64, 0), "{report:#?}");
}
