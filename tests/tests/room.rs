//! Room of the other hubs, and the word that a drain needs before it parks although there are any.

use serde_json::json;
use tidegate_protocol::control::{HubInfo, Phase};
use tidegate_tests::{Hub, Pair, RawClient, connect_all, drain, hook, report, wait_until};

/// Two hubs; the second takes so many sessions.
async fn pair_with_room(sessions: usize) -> Pair {
    let limit = |setup: tidegate_tests::Setup, which| match which {
        1 => setup.flag("--limit-sessions", sessions),
        _ => setup,
    };
    Pair::start(limit).await
}

fn policy(allow_park: bool) -> serde_json::Value {
    let gate = json!({"back_min_percent": 0, "wait_max_ms": 1500});
    json!({"notice_ms": 0, "window_ms": 300, "settle_ms": 500, "deadline_ms": 25_000, "stages": [100], "gate": gate, "allow_park": allow_park})
}

async fn metric(hub: &Hub, series: &str) -> Option<f64> {
    let text = String::from_utf8(hub.api.get("/metrics").await.body.to_vec()).expect("text");
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test]
async fn a_drain_into_too_little_room_asks_first_and_then_moves_who_finds_a_place() {
    let pair = pair_with_room(2).await;
    let _clients = pair.clients(5).await;
    let plan = pair.a.api.post("/v1/drain/plan", &policy(false)).await.expect(200);
    assert_eq!(
        (&plan["fits"], &plan["needs_consent"], &plan["parks"]["sessions"]),
        (&json!(false), &json!(true), &json!(3))
    );
    assert_eq!(plan["successors"][0]["room"], 2, "{plan}");
    let refused = pair.a.api.post("/v1/drain", &policy(false)).await;
    let detail = refused.problem(409);
    assert!(detail.contains("room for 2 of 5 sessions") && detail.contains("allow_park"), "{detail}");
    assert_eq!((&refused.json()["room"], &refused.json()["parks"]), (&json!(2), &json!(3)));
    assert_eq!(pair.a.drain().await.phase, Phase::Serving, "nothing was begun");
    assert_eq!(metric(&pair.a, "tidegate_drain_refused_total").await, Some(1.0));
    drain(&pair.a, policy(true)).await;
    let report = report(&pair.a).await;
    assert_eq!((report.sessions.counts.moved, report.sessions.counts.parked), (2, 3), "{report:#?}");
    assert!(report.why.as_deref().is_some_and(|why| why.starts_with("3 sessions were parked")), "{report:#?}");
}

#[tokio::test]
async fn the_trigger_ends_with_seven_where_the_hub_asks_and_goes_on_when_it_is_told_to_park() {
    let pair = pair_with_room(1).await;
    let _clients = pair.clients(3).await;
    let args = ["drain", "--notice", "100ms", "--window", "100ms", "--settle", "500ms", "--deadline", "20s"];
    let asked = hook(&args).to(&pair.a).run().await;
    assert_eq!(asked.code, Some(7), "{asked:#?}");
    assert!(asked.stdout.contains("the hub asks first") && asked.stdout.contains("--allow-park"), "{asked:#?}");
    let agreed = hook(&[&args[..], &["--allow-park"]].concat()).to(&pair.a).run().await;
    assert_eq!(agreed.code, Some(0), "{agreed:#?}");
    assert!(agreed.stdout.contains("moved 1, parked 2"), "{agreed:#?}");
}

#[tokio::test]
async fn hubs_that_are_drained_all_at_once_do_not_park_everybody_unasked() {
    let pair = Pair::start(|setup, _| setup).await;
    let _here = pair.clients(2).await;
    let _there = connect_all(&pair.b.url("/connect"), 1).await;
    let slow = json!({"notice_ms": 600_000, "deadline_ms": 3_600_000});
    drain(&pair.b, slow).await;
    wait_until("the first hears that the second drains", async || {
        let info: HubInfo = pair.a.api.get("/v1/hub").await.read();
        let state = info.peers.first().and_then(|peer| peer.state).map(|state| state.as_str());
        if state == Some("draining") { Ok(()) } else { Err(format!("{info:?}")) }
    })
    .await;
    pair.a.api.post("/v1/drain", &policy(false)).await.problem(409);
}

#[tokio::test]
async fn when_the_last_successor_vanishes_the_drain_holds_and_says_why_and_parks_before_its_deadline() {
    let pair = Pair::start(|setup, _| setup).await;
    let _clients = pair.clients(2).await;
    let later = json!({"notice_ms": 6_000, "window_ms": 300, "settle_ms": 500, "deadline_ms": 20_000, "stages": [100]});
    drain(&pair.a, later).await;
    pair.b.kill();
    let held = pair.a.wait_drain("a hold", |status| status.held.is_some()).await;
    assert_eq!(serde_json::to_value(held.held).expect("a word"), "no_successor", "{held:?}");
    wait_until("the hold is a metric", async || {
        let seen = metric(&pair.a, "tidegate_drain_held{why=\"no_successor\"}").await;
        if seen == Some(1.0) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    let said = pair.a.stderr().join("\n");
    assert!(said.contains("a drain is held") && said.contains("no successor: "), "the log says why: {said}");
    let report = report(&pair.a).await;
    assert_eq!((report.sessions.counts.parked, report.cut), (2, 2), "{report:#?}");
    assert_eq!(metric(&pair.a, "tidegate_drain_cut").await, Some(2.0));
}

#[tokio::test]
async fn the_others_tell_of_sessions_that_a_hub_left_on_its_disk() {
    let pair = pair_with_room(1).await;
    let (_there, _) = RawClient::welcomed(&pair.b.url("/connect")).await;
    let _here = pair.clients(2).await;
    wait_until("the first hears that the second is full", async || {
        let info: HubInfo = pair.a.api.get("/v1/hub").await.read();
        if info.peers.first().is_some_and(|peer| peer.room == Some(0)) { Ok(()) } else { Err(format!("{info:?}")) }
    })
    .await;
    pair.a.stop().await;
    wait_until("a metric", async || match metric(&pair.b, "tidegate_parked_elsewhere").await {
        Some(2.0) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let info: HubInfo = pair.b.api.get("/v1/hub").await.read();
    assert_eq!(info.parked_elsewhere.iter().map(|gone| gone.sessions).collect::<Vec<_>>(), [2], "{info:?}");
    let notes = pair.b.drain().await.notes;
    assert!(notes[0].starts_with("2 sessions are parked in the data directory of hub "), "{notes:?}");
    let said = pair.b.stderr().join("\n");
    assert!(said.contains("left sessions parked in its data directory"), "{said}");
}
