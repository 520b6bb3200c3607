//! Descriptors that run out, apps that hang or die, and a trigger that is killed, in the middle of a drain.

use crate::scene::{quick, soon};
use serde_json::json;
use tidegate_protocol::client::Report;
use tidegate_protocol::control::Phase;
use tidegate_tests::{
    Client, Kitchen, Owners, Pair, RawClient, Relay, Setup, Signal, connect_all, hook, report, wait_until, within,
};

#[tokio::test]
async fn a_hub_without_a_free_descriptor_serves_who_is_there_and_drains_to_the_end() {
    let pair = Pair::start(|setup, _| quick(setup, "60s")).await;
    let clients = pair.clients(4).await;
    let owners = Owners::watch(&[&pair.a, &pair.b]);
    pair.a.limit_descriptors(pair.a.descriptors());
    // The kernel takes the connection, the hub cannot; who is there notices nothing.
    let url = pair.a.url("/connect");
    let newcomer = tokio::spawn(async move { RawClient::welcomed(&url).await.1 });
    for client in &clients {
        client.send("one more").await;
        client.wait("its ack", |seen| seen.unacked == 0).await;
    }
    assert!(!newcomer.is_finished(), "no descriptor is left for a newcomer");
    assert_eq!(pair.a.api.publish(&json!({"all": true}), "all of you").await, 4);
    for client in &clients {
        client.wait("the message to all", |seen| seen.received == ["all of you"]).await;
    }
    pair.a.limit_descriptors(1_024);
    within("the newcomer is welcomed", newcomer).await.expect("as soon as there are descriptors again");
    pair.a.limit_descriptors(pair.a.descriptors());
    pair.a.api.post("/v1/drain", &soon(12_000)).await.expect(202);
    let report = report(&pair.a).await;
    let counts = report.sessions.counts;
    assert_eq!((counts.forced, report.messages.lost), (0, 0), "{report:#?}");
    assert!(counts.moved + counts.parked >= 4, "nobody is stuck: {report:#?}");
    owners.verdict().await;
}

/// Kitchens behind both hubs, with events, and clients of the first.
async fn with_kitchens() -> (Pair, [Kitchen; 2], Vec<Client>) {
    let kitchens = [Kitchen::start("A").await, Kitchen::start("B").await];
    let pair = Pair::start(|setup, own| quick(setup, "60s").app_with_events(&kitchens[own].address)).await;
    let clients = connect_all(&pair.a.url("/ledger"), 6).await;
    for client in &clients {
        client.send("u 1").await;
        client.wait("an answer of the first kitchen", |seen| !seen.received.is_empty()).await;
    }
    (pair, kitchens, clients)
}

async fn all_moved_and_served(pair: &Pair, clients: &[Client], case: &str) {
    let report = report(&pair.a).await;
    assert_eq!(report.sessions.counts.moved, 6, "{case}: {report:#?}");
    assert_eq!((report.messages.lost, report.cut), (0, 0), "{case}: {report:#?}");
    let b = pair.b.id().await;
    for client in clients {
        let there = |seen: &tidegate_tests::Seen| seen.hub.is_some_and(|hub| hub.to_string() == b) && seen.connected;
        let before = client.wait("to be served by the other hub", there).await.received.len();
        client.send("u 2").await;
        let seen = client.wait("an answer of the other kitchen", |seen| seen.received.len() > before).await;
        assert_eq!(seen.resets(), 0, "{case}: {:?}", seen.reports);
    }
}

#[tokio::test]
async fn an_app_that_is_killed_in_a_drain_costs_its_state_and_nobody_their_session() {
    let (pair, kitchens, clients) = with_kitchens().await;
    let owners = Owners::watch(&[&pair.a, &pair.b]);
    pair.a
        .api
        .post(
            "/v1/drain",
            &json!({"notice_ms": 0, "window_ms": 1500, "settle_ms": 500, "deadline_ms": 25000, "stages": [100]}),
        )
        .await
        .expect(202);
    pair.a.wait_drain("one session has moved", |status| status.sessions.is_some_and(|counts| counts.moved > 0)).await;
    kitchens[0].kill();
    all_moved_and_served(&pair, &clients, "killed app").await;
    owners.verdict().await;
}

#[tokio::test]
async fn an_app_that_hangs_in_a_drain_delays_its_own_sessions_up_to_the_limit() {
    let (pair, kitchens, clients) = with_kitchens().await;
    let owners = Owners::watch(&[&pair.a, &pair.b]);
    kitchens[0].signal(Signal::Stop);
    pair.a
        .api
        .post(
            "/v1/drain",
            &json!({"notice_ms": 0, "window_ms": 0, "settle_ms": 500, "deadline_ms": 25000, "stages": [100]}),
        )
        .await
        .expect(202);
    all_moved_and_served(&pair, &clients, "app that hangs").await;
    kitchens[0].signal(Signal::Cont);
    owners.verdict().await;
}

#[tokio::test]
async fn a_trigger_that_is_killed_leaves_a_drain_that_goes_on_or_is_recalled_as_it_was_told() {
    for (orphan, recalled) in [("continue", false), ("recall", true)] {
        let pair = Pair::start(|setup, _| quick(setup, "60s")).await;
        let balancer = Relay::to(pair.a.public).await;
        let clients = connect_all(&balancer.url("/connect"), 4).await;
        let args = ["drain", "--notice", "3s", "--window", "1s", "--settle", "1s", "--deadline", "25s"];
        let more = ["--on-orphan", orphan, "--lease", "1s"];
        let running = hook(&[&args[..], &more[..]].concat()).to(&pair.a).start();
        for client in &clients {
            client.wait("a notice", |seen| seen.reports.iter().any(|told| matches!(told, Report::Notice(_)))).await;
        }
        running.signal(Signal::Kill);
        if recalled {
            for client in &clients {
                client
                    .wait("the recall", |seen| seen.reports.iter().any(|told| matches!(told, Report::Recalled)))
                    .await;
            }
            pair.a.wait_drain("it serves again", |status| status.phase == Phase::Serving).await;
            assert_eq!(pair.a.in_phase("attached").await.len(), 4, "everybody is where they were");
        } else {
            let report = report(&pair.a).await;
            assert_eq!(report.sessions.counts.moved, 4, "{report:#?}");
        }
    }
}

/// A peer that stands still for good is as good as gone, and its process may come back at any time.
#[tokio::test]
async fn an_owner_that_wakes_after_its_clients_were_reset_elsewhere_gives_its_sessions_up() {
    let pair = Pair::start(|setup, _| quick(setup, "1s").flag("--limit-heartbeat", "500ms")).await;
    let balancer = Relay::to(pair.a.public).await;
    let clients = connect_all(&balancer.url("/connect"), 3).await;
    let before: Vec<String> = clients.iter().map(Client::session).collect();
    pair.a.signal(Signal::Stop);
    balancer.retarget(&[pair.b.public]);
    balancer.cut();
    for (client, before) in clients.iter().zip(&before) {
        let seen = client.wait("a reset and a connection", |seen| seen.resets() == 1 && seen.connected).await;
        assert_eq!(seen.replaced(), std::slice::from_ref(before), "it is told which session is no more");
    }
    pair.a.signal(Signal::Cont);
    wait_until("the old owner has heard that its sessions were replaced", || async {
        let (attached, detached) = (pair.a.in_phase("attached").await, pair.a.in_phase("detached").await);
        if attached.is_empty() && detached.is_empty() { Ok(()) } else { Err(format!("{attached:?} {detached:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_typo_in_the_fault_variable_stops_the_start_and_names_the_steps() {
    let exit = Setup::new("A").env(tidegate::fault::VARIABLE, "frozne:kill").launch().exit().await;
    assert_eq!(exit.code, Some(2), "{exit:?}");
    let said = exit.stderr.join("\n");
    for word in ["TIDEGATE_FAULT", "frozne:kill", "before_committed_said"] {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
}
