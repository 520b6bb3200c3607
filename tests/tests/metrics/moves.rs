//! Hubs that hand sessions over, and what stands in the way of that.

use crate::book::Book;
use serde_json::{Value, json};
use tidegate_tests::{
    Client, Pair, RawClient, Relay, Setup, acquainted, connect_all, drain, free_address, report, wait_until,
};

fn policy(allow_park: bool) -> Value {
    let gate = json!({"back_min_percent": 0, "wait_max_ms": 1500});
    json!({"notice_ms": 0, "window_ms": 300, "settle_ms": 500, "deadline_ms": 25_000, "stages": [100], "gate": gate, "allow_park": allow_park})
}

pub(crate) async fn too_little_room(book: &Book) {
    let small = |setup: Setup, which| if which == 1 { setup.flag("--limit-sessions", 2) } else { setup };
    let pair = Pair::start(small).await;
    book.watch(&pair.a);
    book.watch(&pair.b);
    let _clients = pair.clients(5).await;
    book.wait(&["tidegate_sessions{phase=\"attached\"}", "tidegate_peers", "tidegate_peer_messages_total"]).await;
    pair.a.api.post("/v1/drain", &policy(false)).await.problem(409);
    drain(&pair.a, policy(true)).await;
    let counts = report(&pair.a).await.sessions.counts;
    assert_eq!((counts.moved, counts.parked), (2, 3));
    book.wait(&[
        "tidegate_drain_refused_total",
        "tidegate_drain_claims",
        "tidegate_drain_phase",
        "tidegate_drain_sessions{outcome=\"moved\"}",
        "tidegate_drain_sessions{outcome=\"parked\"}",
        "tidegate_handover_seconds",
        "tidegate_gap_seconds",
        "tidegate_parked_bytes",
    ])
    .await;
    pair.a.stop().await;
    book.wait(&["tidegate_parked_elsewhere"]).await;
}

pub(crate) async fn a_successor_that_vanishes(book: &Book) {
    let pair = Pair::start(|setup, _| setup).await;
    book.watch(&pair.a);
    let _clients = pair.clients(2).await;
    let later = json!({"notice_ms": 6_000, "window_ms": 300, "settle_ms": 500, "deadline_ms": 14_000, "stages": [100]});
    drain(&pair.a, later).await;
    // The notice is long enough for that to be noticed: else clients are sent there by name and come back.
    pair.b.kill();
    book.wait(&["tidegate_drain_held{why=\"no_successor\"}", "tidegate_drain_blockers", "tidegate_peers_failing"])
        .await;
    report(&pair.a).await;
    book.wait(&["tidegate_drain_cut"]).await;
}

pub(crate) async fn a_successor_that_nobody_reaches(book: &Book) {
    let pair = Pair::start(|setup, _| setup).await;
    book.watch(&pair.a);
    let _clients = pair.clients(4).await;
    pair.door.refuse();
    let gate = json!({"wait_max_ms": 1_000});
    let halves = json!({"notice_ms": 200, "window_ms": 400, "settle_ms": 1_000, "deadline_ms": 20_000, "stages": [50, 50], "gate": gate});
    drain(&pair.a, halves).await;
    book.wait(&["tidegate_drain_in_flight", "tidegate_drain_held{why=\"canary\"}"]).await;
}

/// Some of the first stage go where they are told, some stay where they are: the gate waits for these.
pub(crate) async fn clients_that_do_not_go(book: &Book) {
    let pair = Pair::start(|setup, _| setup).await;
    book.watch(&pair.a);
    let _going = pair.clients(4).await;
    let mut staying = Vec::new();
    for _ in 0..4 {
        staying.push(RawClient::welcomed(&pair.a.url("/connect")).await);
    }
    let gate = json!({"back_min_percent": 100, "wait_max_ms": 5_000});
    let most = json!({"notice_ms": 200, "window_ms": 400, "settle_ms": 1_000, "deadline_ms": 25_000, "stages": [75, 25], "gate": gate});
    drain(&pair.a, most).await;
    book.wait(&["tidegate_drain_held{why=\"gate\"}"]).await;
}

pub(crate) async fn a_balancer_that_brings_them_back(book: &Book) {
    let [at_a, at_b] = [free_address(), free_address()];
    let hub = |name: &str, own, other| {
        let setup = Setup::new(name).in_cluster().at(free_address(), own).peer(other);
        setup.flag("--peer-url", format!("http://{own}"))
    };
    let (a, b) = (hub("A", at_a, &at_b), hub("B", at_b, &at_a));
    let (a, b) = tokio::join!(a.start(), b.start());
    acquainted(&[&a, &b]).await;
    book.watch(&a);
    let balancer = Relay::to(a.public).await;
    let clients: Vec<Client> = connect_all(&balancer.url("/connect"), 5).await;
    let policy = json!({"notice_ms": 200, "window_ms": 200, "settle_ms": 2_500, "deadline_ms": 28_000});
    drain(&a, policy).await;
    book.wait(&["tidegate_drain_unroutable"]).await;
    wait_until("they are served where they are", async || {
        let here = clients.iter().filter(|client| client.seen().connected).count();
        if here == clients.len() { Ok(()) } else { Err(format!("{here} are")) }
    })
    .await;
}
