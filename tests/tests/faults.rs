//! What breaks in the middle of a drain: the link at each step of the handover, and either hub. Never
//! two owners, never silence, always an end.

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use tidegate_protocol::client::Report;
use tidegate_protocol::control::{DrainReport, Phase};
use tidegate_tests::{
    Client, Hub, Loss, Manner, Owners, Pair, Relay, Seen, Setup, Signal, acquainted, at_once, connect_all, drain,
    free_address, report, unheard, wait_until,
};

/// Cases of a table that run at a time.
const AT_A_TIME: usize = 5;
/// The steps of a handover by the message that takes them; the link breaks at one of them.
const STEPS: [&str; 5] = ["claim", "snapshot", "held", "committed", "live"];

/// Short waits, so that a hub that is gone is soon known to be.
fn quick(setup: Setup, orphan_after: &str) -> Setup {
    setup.flag("--orphan-after", orphan_after).flag("--limit-peer-call-time", "500ms")
}

/// One message for each session, and one from each client.
async fn exchange(hub: &Hub, clients: &[Client], text: &str) {
    assert_eq!(hub.api.publish(&json!({"all": true}), text).await, clients.len() as u64);
    for client in clients {
        client.send(text).await;
        client
            .wait("an exchange of messages", |seen| seen.received.iter().any(|got| got == text) && seen.unacked == 0)
            .await;
    }
}

/// Waits until each client is served by one of these hubs, sends something both ways, and checks that
/// nothing came twice or out of order; and that nothing is missing, unless the client was told so.
async fn all_are_served(clients: &[Client], hubs: &[&Hub], before: &[&str]) {
    for client in clients {
        let seen = client.wait("a connection in the end", |seen| seen.connected).await;
        client.send("last").await;
        wait_until("a message numbered for a session that is served", || async {
            let body = json!({"to": {"session": client.session()}, "text": "last"});
            for hub in hubs {
                let served = hub.api.get(&format!("/v1/sessions/{}", client.session())).await;
                if served.status == 200 && served.json()["phase"] == "attached" {
                    hub.api.post("/v1/publish", &body).await.expect(200);
                    return Ok(());
                }
            }
            Err(format!("no hub has {} of {seen:#?}", client.session()))
        })
        .await;
        let seen = client
            .wait("the last message", |seen| seen.received.iter().any(|text| text == "last") && seen.unacked == 0)
            .await;
        let mut wanted = before.to_vec();
        wanted.push("last");
        if seen.resets() == 0 {
            assert_eq!(seen.received, wanted, "everything once, in order");
            assert_eq!(seen.sent.len() as u64, received_of(hubs, client).await, "all of the client's counted once");
        } else {
            let places: Vec<Option<usize>> =
                seen.received.iter().map(|text| wanted.iter().position(|known| known == text)).collect();
            assert!(
                places.windows(2).all(|pair| pair[0] < pair[1]),
                "nothing twice, nothing out of order: {:?}",
                seen.received
            );
        }
    }
}

async fn received_of(hubs: &[&Hub], client: &Client) -> u64 {
    wait_until("the count of a client's messages", || async {
        for hub in hubs {
            let line = hub.api.get(&format!("/v1/sessions/{}", client.session())).await;
            if line.status == 200 {
                return Ok(line.json()["received"].as_u64().expect("a number"));
            }
        }
        Err("no hub has it".to_owned())
    })
    .await
}

/// The sessions that clients were told are no more.
fn replaced(seen: &Seen) -> Vec<String> {
    let replaced = seen.reports.iter().filter_map(|report| match report {
        Report::Reset { replaces, .. } => Some(replaces.to_string()),
        _ => None,
    });
    replaced.collect()
}

fn resets(clients: &[Client]) -> usize {
    clients.iter().map(|client| client.seen().resets()).sum()
}

#[derive(Clone, Copy, Debug)]
struct Break {
    at: &'static str,
    loss: Loss,
    manner: Manner,
}

/// Each step, before and after the message arrived; half of the links refuse, half are silent.
fn breaks() -> Vec<Break> {
    let both = |at| [(at, Loss::Call), (at, Loss::Answer)];
    let manners = [Manner::Refuse, Manner::Silence, Manner::Silence, Manner::Refuse];
    let cases = STEPS.into_iter().flat_map(both).enumerate();
    cases.map(|(n, (at, loss))| Break { at, loss, manner: manners[n % 4] }).collect()
}

#[tokio::test]
async fn a_link_that_breaks_at_any_step_and_heals_costs_time_and_nothing_else() {
    let cases = stream::iter(breaks()).map(|broken| async move {
        // Longer than the link stays broken: nobody is given up.
        let pair = Pair::start(|setup, _| quick(setup, "60s")).await;
        let clients = pair.clients(3).await;
        let owners = Owners::watch(&[&pair.a, &pair.b]);
        exchange(&pair.a, &clients, "before").await;
        pair.link.cut_at(broken.at, broken.loss, broken.manner);
        drain(&pair.a, at_once(28_000)).await;
        wait_until("the link breaks", || async {
            if pair.link.is_cut() { Ok(()) } else { Err(format!("{broken:?}")) }
        })
        .await;
        for client in &clients {
            client.send("meanwhile").await;
        }
        unheard(&pair.a, &pair.b.id().await).await;
        pair.link.heal();
        let report = report(&pair.a).await;
        assert_eq!(
            (report.sessions.counts.moved, report.messages.lost, report.cut),
            (3, 0, 0),
            "{broken:?}: {report:#?}"
        );
        all_are_served(&clients, &[&pair.b], &["before"]).await;
        assert_eq!(resets(&clients), 0, "{broken:?}: nobody is reset");
        owners.verdict().await;
    });
    cases.buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn a_link_that_breaks_at_any_step_for_good_leaves_each_session_one_owner_and_the_drain_an_end() {
    let cases = stream::iter(breaks()).map(|broken| async move {
        let pair = Pair::start(|setup, _| quick(setup, "3s")).await;
        let clients = pair.clients(3).await;
        let owners = Owners::watch(&[&pair.a, &pair.b]);
        exchange(&pair.a, &clients, "before").await;
        pair.link.cut_at(broken.at, broken.loss, broken.manner);
        drain(&pair.a, at_once(8_000)).await;
        wait_until("the link breaks", || async {
            if pair.link.is_cut() { Ok(()) } else { Err(format!("{broken:?}")) }
        })
        .await;
        // A network that parts the hubs parts the clients from the second one, too, in half of the cases.
        let parted = broken.manner == Manner::Silence;
        if parted {
            pair.door.refuse();
        }
        let report = report(&pair.a).await;
        let counts = report.sessions.counts;
        let arrived_late = counts.remaining;
        assert_eq!(
            counts.moved + counts.parked + counts.unconfirmed + counts.left,
            3 + counts.arrived - arrived_late,
            "{broken:?}: {report:#?}"
        );
        // What is parked is told safe, and goes on as soon as this hub serves again.
        pair.a.api.delete("/v1/drain").await.expect(200);
        all_are_served(&clients, &[&pair.a, &pair.b], &["before"]).await;
        // A client that is served nowhere and keeps asking the hub that cannot know is reset there (rule
        // 14); one that comes home is not, unless its session was given away.
        let given = counts.unconfirmed + counts.left + counts.moved;
        let resets = resets(&clients) as u64;
        assert!(
            !parted || resets <= given,
            "{broken:?}: {resets} were reset, and only {given} given away: {report:#?}"
        );
        if matches!(broken.at, "claim" | "snapshot") || (broken.at, broken.loss) == ("held", Loss::Call) {
            // Who was brought back here too often is unroutable, and stays.
            assert_eq!(counts.parked + report.unroutable, 3, "{broken:?}: nobody was given away: {report:#?}");
        }
        owners.verdict().await;
    });
    cases.buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn a_link_that_loses_some_of_everything_loses_nobody() {
    for loss in [Loss::Call, Loss::Answer] {
        let pair = Pair::start(|setup, _| quick(setup, "60s")).await;
        let clients = pair.clients(6).await;
        let owners = Owners::watch(&[&pair.a, &pair.b]);
        exchange(&pair.a, &clients, "before").await;
        for step in STEPS.into_iter().chain(["locate", "located"]) {
            pair.link.lose(step, 1, loss);
        }
        drain(&pair.a, at_once(28_000)).await;
        let report = report(&pair.a).await;
        // One lost post is a failed try for all that it carried; after three a session is parked, for want of
        // another peer, and goes on as soon as this hub serves again.
        let counts = report.sessions.counts;
        assert_eq!((counts.moved + counts.parked, report.messages.lost), (6, 0), "{loss:?}: {report:#?}");
        assert!(pair.link.lost() >= 5, "{loss:?}: {} were lost", pair.link.lost());
        pair.a.api.delete("/v1/drain").await.expect(200);
        all_are_served(&clients, &[&pair.a, &pair.b], &["before"]).await;
        assert_eq!(resets(&clients), 0, "{loss:?}");
        owners.verdict().await;
    }
}

#[tokio::test]
async fn a_successor_that_hangs_for_some_seconds_delays_the_drain_and_loses_nothing() {
    let pair = Pair::start(|setup, _| quick(setup, "60s")).await;
    let clients = pair.clients(12).await;
    let owners = Owners::watch(&[&pair.a, &pair.b]);
    exchange(&pair.a, &clients, "before").await;
    let policy = json!({"notice_ms": 0, "window_ms": 2000, "settle_ms": 1000, "deadline_ms": 28000, "stages": [100]});
    drain(&pair.a, policy).await;
    let b = pair.b.id().await;
    moved_at_least(&pair.a, 3).await;
    pair.b.signal(Signal::Stop);
    unheard(&pair.a, &b).await;
    for client in &clients {
        client.send("meanwhile").await;
    }
    pair.b.signal(Signal::Cont);
    let report = report(&pair.a).await;
    assert_eq!((report.sessions.counts.moved, report.messages.lost), (12, 0), "{report:#?}");
    all_are_served(&clients, &[&pair.b], &["before"]).await;
    assert_eq!(resets(&clients), 0);
    owners.verdict().await;
}

async fn moved_at_least(hub: &Hub, count: u64) {
    let enough = |sessions: Option<tidegate_protocol::control::SessionCounts>| {
        sessions.is_some_and(|counts| counts.moved >= count)
    };
    hub.wait_drain("some sessions have moved", |status| enough(status.sessions)).await;
}

/// The sessions that a hub lists in this phase.
async fn in_phase(hub: &Hub, phase: &str) -> BTreeSet<String> {
    let lines = hub.api.get("/v1/sessions?limit=1000").await.json();
    let lines = lines["sessions"].as_array().cloned().unwrap_or_default();
    let here = lines.iter().filter(|line| line["phase"] == phase);
    here.filter_map(|line| line["session"].as_str().map(str::to_owned)).collect()
}

/// Which of these clients are on this hub.
async fn on(hub: &Hub, clients: &[Client]) -> BTreeSet<String> {
    let here = in_phase(hub, "attached").await;
    clients.iter().map(Client::session).filter(|session| here.contains(session)).collect()
}

/// Who was live on the hub that died is told which session is no more; nobody else is.
fn only_these_were_reset(clients: &[(Client, String)], lost: &BTreeSet<String>, given: u64) {
    let mut others = 0;
    for (client, session) in clients {
        let seen = client.seen();
        if lost.contains(session) {
            assert_eq!(replaced(&seen), std::slice::from_ref(session), "it was live on the hub that died: {seen:#?}");
        } else {
            others += seen.resets() as u64;
        }
    }
    assert!(others <= given, "{others} were reset that were neither live there nor given away");
}

#[tokio::test]
async fn when_the_successor_dies_the_drain_goes_on_with_another_peer() {
    let [at_a, at_b, at_c] = [free_address(), free_address(), free_address()];
    let (door_b, door_c) = (Relay::to_all(&[]).await, Relay::to_all(&[]).await);
    let setup = |name: &str, at: SocketAddr| {
        let setup = Setup::new(name).in_cluster().at(SocketAddr::from(([127, 0, 0, 1], 0)), at);
        quick(setup.flag("--peer-url", format!("http://{at}")), "1s")
    };
    let (a, b, c) = tokio::join!(
        async { setup("A", at_a).peer(&at_b).peer(&at_c).start().await },
        async { setup("B", at_b).peer(&at_a).flag("--public-url", door_b.url("/connect")).start().await },
        async { setup("C", at_c).peer(&at_a).flag("--public-url", door_c.url("/connect")).start().await },
    );
    door_b.retarget(&[b.public]);
    door_c.retarget(&[c.public]);
    acquainted(&[&a, &b, &c]).await;
    let balancer = Relay::to(a.public).await;
    let clients = connect_all(&balancer.url("/connect"), 16).await;
    balancer.retarget(&[a.public, c.public]);
    let owners = Owners::watch(&[&a, &b, &c]);
    exchange(&a, &clients, "before").await;
    let named: Vec<String> = clients.iter().map(Client::session).collect();
    drain(&a, json!({"notice_ms": 0, "window_ms": 4000, "settle_ms": 2000, "deadline_ms": 28000, "stages": [100]}))
        .await;
    wait_until("two sessions are live on B", || async {
        let there = on(&b, &clients).await.len();
        if there >= 2 { Ok(()) } else { Err(format!("{there} are")) }
    })
    .await;
    // Whoever is live there now is there until it dies: nobody leaves it.
    let lost = on(&b, &clients).await;
    b.kill();
    let report = report(&a).await;
    let counts = report.sessions.counts;
    let by_hub =
        |hub: &str| report.successors.iter().find(|line| line.hub.to_string() == hub).map_or(0, |line| line.moved);
    let to_c = by_hub(&c.id().await);
    assert!(to_c >= 4, "the rest went to C: {report:#?}");
    assert_eq!(counts.forced + counts.parked, 0, "C took everybody: {report:#?}");
    assert!(counts.moved >= to_c + lost.len() as u64, "those on B had been confirmed: {report:#?}");
    all_are_served(&clients, &[&a, &c], &["before"]).await;
    let clients: Vec<(Client, String)> = clients.into_iter().zip(named).collect();
    only_these_were_reset(&clients, &lost, given_away_beyond(&report, &lost, to_c));
    owners.verdict().await;
}

/// How many were given to the hub that died beside those that were seen live there: confirmed while
/// we looked, or never.
fn given_away_beyond(report: &DrainReport, lost: &BTreeSet<String>, elsewhere: u64) -> u64 {
    let counts = report.sessions.counts;
    counts.moved + counts.unconfirmed + counts.left - elsewhere - lost.len() as u64
}

#[tokio::test]
async fn when_the_only_successor_dies_the_drain_holds_and_parks_at_its_deadline() {
    let pair = Pair::start(|setup, _| quick(setup, "1s")).await;
    let clients = pair.clients(16).await;
    let named: Vec<String> = clients.iter().map(Client::session).collect();
    let owners = Owners::watch(&[&pair.a, &pair.b]);
    exchange(&pair.a, &clients, "before").await;
    drain(
        &pair.a,
        json!({"notice_ms": 0, "window_ms": 5000, "settle_ms": 1000, "deadline_ms": 11000, "stages": [100]}),
    )
    .await;
    moved_at_least(&pair.a, 2).await;
    let lost = on(&pair.b, &clients).await;
    pair.b.kill();
    pair.door.refuse();
    let held = pair.a.wait_drain("it holds for want of a peer", |status| status.phase == Phase::Held).await;
    assert!(held.why.is_some_and(|why| why.contains("no")), "and says why");
    let report = report(&pair.a).await;
    let counts = report.sessions.counts;
    assert!(counts.parked >= 4 && counts.forced == 0, "the rest is parked: {report:#?}");
    let told = |client: &Client| client.seen().told_parked();
    assert_eq!(clients.iter().filter(|client| told(client)).count() as u64, counts.parked, "{report:#?}");
    pair.a.api.delete("/v1/drain").await.expect(200);
    all_are_served(&clients, &[&pair.a], &["before"]).await;
    let clients: Vec<(Client, String)> = clients.into_iter().zip(named).collect();
    only_these_were_reset(&clients, &lost, given_away_beyond(&report, &lost, 0));
    owners.verdict().await;
}

/// A pair in the middle of a handover: the link broke at this message, and the sessions have state and
/// a channel.
async fn broken_at(step: &'static str, orphan_after: &str) -> (Pair, Vec<Client>, Vec<String>) {
    let pair = Pair::start(|setup, _| quick(setup, orphan_after)).await;
    let clients = pair.clients(3).await;
    exchange(&pair.a, &clients, "before").await;
    for client in &clients {
        let path = format!("/v1/sessions/{}", client.session());
        pair.a.api.put_bytes(&format!("{path}/state"), b"kept").await.expect(204);
        pair.a.api.put(&format!("{path}/channels/kept")).await.expect(204);
    }
    let named = clients.iter().map(Client::session).collect();
    pair.link.cut_at(step, Loss::Call, Manner::Refuse);
    drain(&pair.a, at_once(28_000)).await;
    wait_until("the link breaks", || async { if pair.link.is_cut() { Ok(()) } else { Err(step.to_owned()) } }).await;
    (pair, clients, named)
}

async fn has_state_and_channel(hub: &Hub, client: &Client) {
    let info: Value = hub.api.get(&format!("/v1/sessions/{}", client.session())).await.json();
    assert_eq!(
        (&info["channels"], &info["state_bytes"]),
        (&json!(["kept"]), &json!(4)),
        "what a copy held goes on: {info}"
    );
}

/// A client that was told that its session is no more.
async fn first_reset(clients: &[Client]) -> &Client {
    wait_until("a client is reset", || async {
        clients.iter().find(|client| client.seen().resets() > 0).ok_or_else(|| format!("{:#?}", clients[0].seen()))
    })
    .await
}

#[tokio::test]
async fn a_predecessor_that_dies_between_commit_and_live_leaves_copies_that_clients_are_reset_from() {
    let (pair, clients, named) = broken_at("committed", "1s").await;
    // The others were still served by the hub that dies, and nothing is left of them.
    let copies = in_phase(&pair.b, "copy").await;
    assert!(!copies.is_empty(), "the successor holds what was committed");
    pair.a.kill();
    for (client, session) in clients.iter().zip(&named).filter(|(_, session)| copies.contains(*session)) {
        let seen = client.wait("a reset and a connection", |seen| seen.resets() == 1 && seen.connected).await;
        assert_eq!(replaced(&seen), std::slice::from_ref(session), "it is told which session is no more");
        assert_ne!(&client.session(), session, "and has a new one");
        has_state_and_channel(&pair.b, client).await;
    }
}

#[tokio::test]
async fn a_predecessor_that_dies_before_it_hears_live_takes_nothing_with_it() {
    let (pair, clients, _) = broken_at("live", "60s").await;
    pair.a.kill();
    let served = wait_until("clients that were taken over are served", || async {
        let here = on(&pair.b, &clients).await;
        if here.is_empty() { Err("nobody is".to_owned()) } else { Ok(here) }
    })
    .await;
    for client in clients.into_iter().filter(|client| served.contains(&client.session())) {
        all_are_served(std::slice::from_ref(&client), &[&pair.b], &["before"]).await;
    }
}

#[tokio::test]
async fn a_predecessor_that_is_back_under_a_new_run_ends_the_wait_at_once() {
    // Far beyond the test: only knowledge can end the wait.
    let (pair, clients, named) = broken_at("committed", "10m").await;
    let copies = in_phase(&pair.b, "copy").await;
    assert!(!copies.is_empty(), "the successor holds what was committed");
    pair.a.kill();
    let again = pair.a.successor_setup().start().await;
    pair.link.heal();
    for (client, _) in clients.iter().zip(&named).filter(|(_, session)| copies.contains(*session)) {
        client.wait("a reset and a connection", |seen| seen.resets() == 1 && seen.connected).await;
        let on_b = on(&pair.b, &clients).await.contains(&client.session());
        has_state_and_channel(if on_b { &pair.b } else { &again }, client).await;
    }
}

#[tokio::test]
async fn a_successor_that_dies_before_it_hears_of_the_commit_leaves_what_was_kept_to_reset_from() {
    let (pair, clients, _) = broken_at("committed", "1s").await;
    pair.b.kill();
    pair.door.refuse();
    let reset = first_reset(&clients).await;
    reset.wait("a connection", |seen| seen.connected).await;
    has_state_and_channel(&pair.a, reset).await;
}

#[tokio::test]
async fn a_successor_that_is_back_under_a_new_run_has_its_clients_reset_at_once_from_what_was_kept() {
    let (pair, clients, _) = broken_at("committed", "10m").await;
    pair.b.kill();
    let again = pair.b.successor_setup().start().await;
    pair.door.retarget(&[again.public]);
    pair.link.heal();
    let reset = first_reset(&clients).await;
    let reset_hub = reset.wait("a connection", |seen| seen.connected).await.hub.map(|hub| hub.to_string());
    let hub = if reset_hub == Some(pair.a.id().await) { &pair.a } else { &again };
    has_state_and_channel(hub, reset).await;
    let report = report(&pair.a).await;
    let counts = report.sessions.counts;
    assert_eq!(counts.unconfirmed + counts.forced, 0, "it is known what became of everybody: {report:#?}");
}
