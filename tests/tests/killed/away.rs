//! A hub that is away while sessions lie on its disk: they are safe, and its peers know it.

use serde_json::json;
use tidegate_protocol::control::HubState;
use tidegate_protocol::frame::ServerFrame;
use tidegate_tests::{Client, Pair, Relay, Seen, Signal, acquainted, connect_all, report, wait_until};

/// Clients of the first hub, whose peer takes nobody for now, behind a balancer.
async fn nobody_takes_them() -> (Pair, Relay, Vec<Client>) {
    let quick =
        |setup: tidegate_tests::Setup, _| setup.flag("--orphan-after", "1s").flag("--limit-peer-call-time", "500ms");
    let pair = Pair::start(quick).await;
    let relay = Relay::to(pair.a.public).await;
    let clients = connect_all(&relay.url("/connect"), 4).await;
    pair.b.api.post("/v1/drain", &json!({"notice_ms": 600_000, "deadline_ms": 900_000})).await.expect(202);
    let b = pair.b.id().await;
    wait_until("the first hub knows that its peer drains", || async {
        let info: tidegate_protocol::control::HubInfo = pair.a.api.get("/v1/hub").await.read();
        let drains = info.peers.iter().any(|peer| {
            peer.hub.is_some_and(|hub| hub.to_string() == b)
                && peer.state.is_some_and(|state| state != HubState::Serving)
        });
        if drains { Ok(()) } else { Err(format!("{:?}", info.peers)) }
    })
    .await;
    (pair, relay, clients)
}

/// How often a client was told to wait for what is parked.
fn told_to_wait(seen: &Seen) -> usize {
    let waits = |frame: &&ServerFrame| matches!(frame, ServerFrame::Retry { why, .. } if why == "parked");
    seen.frames.iter().filter(waits).count()
}

/// The peer alone is there, for longer than an orphan waits; then the first hub is back.
async fn wait_and_come_back(pair: &Pair, relay: &Relay, clients: &[Client]) {
    pair.b.api.delete("/v1/drain").await.expect(200);
    let before: Vec<usize> = clients.iter().map(|client| told_to_wait(&client.seen())).collect();
    relay.retarget(&[pair.b.public]);
    relay.cut();
    for (client, before) in clients.iter().zip(before) {
        // A second each: the orphan's time is over by then.
        client
            .wait("to be told to wait, again and again", |seen| told_to_wait(seen) >= before + 4 || seen.resets() > 0)
            .await;
        assert_eq!(client.seen().resets(), 0, "it is safe on disk: {:#?}", client.seen().reports);
    }
    let again = pair.a.successor_setup().start().await;
    acquainted(&[&again, &pair.b]).await;
    for client in clients {
        let seen = client.wait("its session", |seen| seen.connected && seen.resumes() > 0).await;
        assert_eq!(seen.resets(), 0, "{:#?}", seen.reports);
    }
}

#[tokio::test]
async fn who_is_safe_on_disk_is_not_reset_by_a_peer_while_his_hub_restarts() {
    let (pair, relay, clients) = nobody_takes_them().await;
    pair.a.stop().await;
    for client in &clients {
        client.wait("1012 parked", Seen::told_parked).await;
    }
    wait_and_come_back(&pair, &relay, &clients).await;
}

#[tokio::test]
async fn who_is_safe_on_disk_is_not_reset_by_a_peer_after_his_hub_was_killed() {
    let (pair, relay, clients) = nobody_takes_them().await;
    pair.a.api.post("/v1/drain", &crate::scene::soon(9_000)).await.expect(202);
    let report = report(&pair.a).await;
    assert_eq!(report.sessions.counts.parked, 4, "{report:#?}");
    for client in &clients {
        client.wait("1012 parked", Seen::told_parked).await;
    }
    wait_until("the peer knows what lies there", || async {
        let text = pair.b.api.get("/metrics").await;
        let text = String::from_utf8_lossy(&text.body).into_owned();
        let line = text.lines().find(|line| line.starts_with("tidegate_parked_elsewhere ")).map(str::to_owned);
        if line.as_deref() == Some("tidegate_parked_elsewhere 4") { Ok(()) } else { Err(format!("{line:?}")) }
    })
    .await;
    pair.a.signal(Signal::Kill);
    wait_and_come_back(&pair, &relay, &clients).await;
}
