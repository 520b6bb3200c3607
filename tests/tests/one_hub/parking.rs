//! No peer: sessions are parked on disk, and the next process on the data directory takes them up.

use crate::moments::{assert_ledger, crowd, publish, settle};
use serde_json::json;
use tidegate_protocol::client::Report;
use tidegate_protocol::control::Phase;
use tidegate_tests::{Client, Hub, Kitchen, RawClient, Relay, Seen, Setup, Signal, hook, wait_until};

const QUICK: [&str; 9] = ["drain", "--notice", "300ms", "--window", "600ms", "--settle", "1s", "--deadline", "20s"];

#[tokio::test]
async fn clients_in_full_traffic_are_parked_and_go_on_with_the_next_process_without_loss() {
    let kitchen = Kitchen::start("A").await;
    let hub = Setup::new("A").app_with_events(&kitchen.address).start().await;
    let relay = Relay::to(hub.public).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(&relay.url("/ledger")).await);
    }
    let sessions: Vec<String> = clients.iter().map(Client::session).collect();
    let trigger = hook(&QUICK).to(&hub).start();
    // Traffic goes on before, during and after: a number at each sign of life, and some while parked.
    let mut sent = vec![0; clients.len()];
    for (client, sent) in clients.iter().zip(&mut sent) {
        while !client.seen().told_parked() {
            *sent += 1;
            client.send(format!("u {sent}")).await;
            let heard = client.seen().received.len();
            client.wait("an answer, or parked", |seen| seen.received.len() > heard || seen.told_parked()).await;
        }
        for _ in 0..5 {
            *sent += 1;
            client.send(format!("u {sent}")).await;
        }
    }
    let end = trigger.end().await;
    assert_eq!(end.code, Some(0), "the trigger says:\n{}\n{}", end.stdout, end.stderr);
    let status = hub.drain().await;
    assert_eq!(status.phase, Phase::Drained);
    assert_eq!(status.sessions.map(|sessions| (sessions.parked, sessions.remaining)), Some((20, 0)), "{status:?}");

    let next = succeed(&hub, &relay).await;
    for ((client, sent), session) in clients.iter().zip(&sent).zip(&sessions) {
        client.wait("its return", |seen| seen.resumes() >= 1).await;
        let sum = settle(client).await;
        assert_eq!(&client.session(), session, "the same session goes on");
        assert_ledger(&client.seen(), &sum, *sent);
    }
    drop(next);
}

#[tokio::test]
async fn messages_in_flight_arrive_once_and_in_order_after_the_restart() {
    let hub = Setup::new("A").start().await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    let session = json!({"session": welcome["session"]});
    for n in 1..=5 {
        hub.api.publish(&session, &format!("message {n}")).await;
        assert_eq!(client.expect_text().await, format!("message {n}"));
    }
    let path = format!("/v1/sessions/{}/state", welcome["session"].as_str().expect("an id"));
    hub.api.put_bytes(&path, b"kept").await.expect(204);
    let end = hook(&QUICK).to(&hub).run().await;
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    let (code, reason) = client.closed().await;
    assert_eq!(code, Some(1012), "{reason}");
    assert!(reason.contains("park"), "a parked client is told so: {reason}");
    assert_eq!(hub.api.get(&path).await.body, b"kept"[..], "state of a parked session can be read");

    hub.stop().await;
    let next = hub.setup().start().await;
    let listed = next.api.get("/v1/sessions").await.expect(200);
    assert_eq!(
        (&listed["sessions"][0]["session"], &listed["sessions"][0]["phase"]),
        (&welcome["session"], &json!("parked"))
    );
    // The client had delivered two of the five and acked none.
    let mut client = RawClient::back(&next.url("/connect"), &welcome["token"], 2, 2).await;
    let again = client.expect("welcome").await;
    assert_eq!((&again["resumed"], &again["from"]), (&json!(true), &json!(2)), "{again}");
    assert!(again["generation"].as_u64() >= welcome["generation"].as_u64(), "{again}");
    next.api.publish(&session, "message 6").await;
    for n in 3..=6 {
        assert_eq!(client.expect_text().await, format!("message {n}"));
    }
    assert_eq!(next.api.get(&path).await.body, b"kept"[..]);
}

#[tokio::test]
async fn a_publish_to_a_parked_session_of_the_next_process_waits_for_its_client() {
    let hub = Setup::new("A").start().await;
    let relay = Relay::to(hub.public).await;
    let clients = crowd(&hub, &relay, 3).await;
    relay.refuse();
    hub.stop().await;
    let next = hub.setup().start().await;
    for client in &clients {
        publish(&next, client, "while away").await;
    }
    relay.retarget(&[next.public]);
    relay.heal();
    for client in &clients {
        let seen = client.wait("what was sent while it was away", |seen| seen.received.len() >= 3).await;
        assert_eq!(seen.received, ["first", "second", "while away"]);
        assert_eq!(seen.resets(), 0);
    }
}

/// The gaps that a client was told of.
fn gaps(seen: &Seen) -> usize {
    seen.reports.iter().filter(|report| matches!(report, Report::Gap { .. })).count()
}

#[tokio::test]
async fn what_is_published_to_all_while_sessions_are_parked_comes_with_the_next_process_or_is_told_as_a_gap() {
    for crash in [false, true] {
        let hub = Setup::new("A").start().await;
        let relay = Relay::to(hub.public).await;
        let clients = crowd(&hub, &relay, 3).await;
        let end = hook(&QUICK).to(&hub).run().await;
        assert_eq!(end.code, Some(0), "{}", end.stderr);
        relay.refuse();
        assert_eq!(hub.api.publish(&json!({"all": true}), "meanwhile").await, 3, "they lie on disk, and count");
        if crash {
            hub.signal(Signal::Kill);
            hub.exit().await;
        } else {
            hub.stop().await;
        }
        let next = hub.setup().start().await;
        assert_eq!(next.api.publish(&json!({"all": true}), "later").await, 3);
        relay.retarget(&[next.public]);
        relay.heal();
        for client in &clients {
            let seen = client.wait("the last message", |seen| seen.received.iter().any(|text| text == "later")).await;
            assert_eq!(seen.resets(), 0, "{:?}", seen.reports);
            if crash {
                client.wait("to be told that something may be missing", |seen| gaps(seen) > 0).await;
            } else {
                assert_eq!(seen.received, ["first", "second", "meanwhile", "later"]);
                assert_eq!(gaps(&seen), 0, "{:?}", seen.reports);
            }
        }
    }
}

#[tokio::test]
async fn sigterm_parks_too_and_tells_every_client() {
    let hub = Setup::new("A").start().await;
    let relay = Relay::to(hub.public).await;
    let clients = crowd(&hub, &relay, 30).await;
    hub.signal(Signal::Term);
    for client in &clients {
        client.wait("1012 parked", Seen::told_parked).await;
    }
    assert_eq!(hub.exit().await.code, Some(0));
    let next = hub.setup().start().await;
    relay.retarget(&[next.public]);
    for client in &clients {
        client.wait("its return", |seen| seen.resumes() == 1).await;
        publish(&next, client, "third").await;
        let seen = client.wait("all messages", |seen| seen.received.len() >= 3).await;
        assert_eq!(seen.received, ["first", "second", "third"]);
    }
}

#[tokio::test]
async fn a_second_process_waits_for_the_data_directory_and_says_so() {
    let hub = Setup::new("A").start().await;
    let relay = Relay::to(hub.public).await;
    let clients = crowd(&hub, &relay, 3).await;
    let id = hub.id().await;
    let second = hub.setup().launch();
    wait_until("the second process says that it waits", || async {
        let said = second.stderr().join("\n");
        if said.contains("in use by") { Ok(()) } else { Err(said) }
    })
    .await;
    assert_eq!(second.stdout(), Vec::<String>::new(), "it is not ready while the first one lives");
    hub.stop().await;
    let second = Hub::ready(hub.setup(), second).await;
    assert_eq!(second.id().await, id, "the hub's id lives in the data directory");
    relay.retarget(&[second.public]);
    for client in &clients {
        client.wait("its return", |seen| seen.resumes() == 1).await;
    }
}

#[tokio::test]
async fn after_drained_a_cancel_serves_the_parked_sessions_again() {
    let hub = Setup::new("A").start().await;
    let relay = Relay::to(hub.public).await;
    let clients = crowd(&hub, &relay, 10).await;
    let end = hook(&QUICK).to(&hub).run().await;
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    for client in &clients {
        client.wait("1012 parked", Seen::told_parked).await;
    }
    let report = hub.api.get("/v1/drain/report").await.expect(200);
    assert_eq!((&report["result"], &report["sessions"]["parked"]), (&json!("drained"), &json!(10)), "{report}");
    // Until then nobody is served: the next process will.
    let mut newcomer = RawClient::open(&hub.url("/connect")).await;
    newcomer.frame(&json!({"type": "hello"})).await;
    assert_eq!(newcomer.expect("retry").await["why"], "parked");

    assert_eq!(hub.api.delete("/v1/drain").await.expect(200)["phase"], "serving");
    for client in &clients {
        client.wait("its return to the same process", |seen| seen.resumes() == 1).await;
        publish(&hub, client, "third").await;
        let seen = client.wait("all messages", |seen| seen.received.len() >= 3).await;
        assert_eq!(seen.received, ["first", "second", "third"]);
    }
    RawClient::welcomed(&hub.url("/connect")).await;
}

#[tokio::test]
async fn an_empty_hub_is_drained_at_once_and_has_a_report() {
    let hub = Setup::new("A").start().await;
    let end = hook(&["drain", "--strict"]).to(&hub).run().await;
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    let report = hub.api.get("/v1/drain/report").await.expect(200);
    assert_eq!((&report["result"], &report["sessions"]["at_start"]), (&json!("drained"), &json!(0)), "{report}");
}

#[tokio::test]
async fn a_cancel_before_the_first_move_recalls_everybody_who_was_told() {
    let hub = Setup::new("A").start().await;
    let relay = Relay::to(hub.public).await;
    let clients = crowd(&hub, &relay, 5).await;
    hub.api.post("/v1/drain", &json!({"notice_ms": 60_000, "text": "back in a moment"})).await.expect(202);
    for client in &clients {
        let told = |seen: &Seen| seen.reports.iter().any(|report| format!("{report:?}").contains("back in a moment"));
        client.wait("the notice and its text", told).await;
    }
    assert_eq!(hub.api.post("/v1/drain", &json!({})).await.expect(202)["joined"], true);
    hub.api.delete("/v1/drain").await.expect(200);
    for client in &clients {
        client.wait("the recall", |seen| seen.reports.iter().any(|report| format!("{report:?}") == "Recalled")).await;
        publish(&hub, client, "third").await;
        let seen = client.wait("messages on the same connection", |seen| seen.received.len() == 3).await;
        assert_eq!((seen.dials, seen.resets()), (1, 0));
    }
    assert_eq!(hub.api.get("/v1/drain/report").await.expect(200)["result"], "cancelled");
}

/// Ends the process in order, starts the next one on its data directory, and leads the clients there.
async fn succeed(hub: &Hub, relay: &Relay) -> Hub {
    hub.stop().await;
    let next = hub.setup().start().await;
    relay.retarget(&[next.public]);
    next
}
