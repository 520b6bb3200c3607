//! Hello, welcome, messages both ways, coming back, and who may have a session.

use serde_json::{Value, json};
use tidegate_tests::{Client, FakeApp, Hub, Kitchen, RawClient, Relay, Setup, wait_until};

use crate::moments::{assert_ledger, settle};

#[tokio::test]
async fn a_hello_of_nothing_but_its_type_is_welcomed_with_everything_a_client_needs() {
    let hub = Setup::new("A").start().await;
    let mut client = RawClient::open(&hub.url("/connect")).await;
    client.text("\u{1}{\"type\":\"hello\"}").await;
    let welcome = client.expect("welcome").await;
    assert_eq!(welcome["session"].as_str().map(str::len), Some(32), "{welcome}");
    assert!(welcome["token"].as_str().is_some_and(|token| token.len() > 32), "{welcome}");
    for (field, value) in [
        ("resumed", json!(false)),
        ("from", json!(0)),
        ("received", json!(0)),
        ("epoch", json!(1)),
        ("heartbeat_ms", json!(25_000)),
        ("hub", json!(hub.id().await)),
        ("limits", json!({"message_bytes": 1_048_576})),
    ] {
        assert_eq!(welcome[field], value, "{field} of {welcome}");
    }
    assert!(welcome["generation"].is_u64(), "{welcome}");
}

#[tokio::test]
async fn without_an_app_messages_are_counted_and_acked_and_the_hub_says_so_at_its_start() {
    let hub = Setup::new("A").start().await;
    let (mut client, _) = RawClient::welcomed(&hub.url("/connect")).await;
    client.text("one").await;
    client.binary(b"two").await;
    let mut acked = json!(0);
    while acked != json!(2) {
        acked = client.expect("ack").await["received"].clone();
    }
    wait_until("the log tells that there is no app", || async {
        let said = hub.stderr().join("\n");
        if said.contains("--app") { Ok(()) } else { Err(said) }
    })
    .await;
}

#[tokio::test]
async fn messages_pass_byte_for_byte_both_ways_through_an_app() {
    let app = FakeApp::echo().await;
    let hub = Setup::new("A").app(&app.address).start().await;
    let (mut client, _) = RawClient::welcomed(&hub.url("/any/path?room=7")).await;
    for text in ["hello", "", "naïve ✓ 漢字", "{\"type\":\"hello\"}", "\u{1}\u{1}begins with the mark"] {
        client.text(text).await;
        assert_eq!(client.expect_text().await, text);
    }
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    client.binary(&bytes).await;
    assert!(client.expect_binary().await == bytes, "70,000 bytes come back as they went");
}

#[tokio::test]
async fn a_client_that_is_cut_again_and_again_loses_nothing_and_gets_nothing_twice() {
    let kitchen = Kitchen::start("A").await;
    let hub = Setup::new("A").app_with_events(&kitchen.address).start().await;
    let relay = Relay::to(hub.public).await;
    let client = Client::connect(&relay.url("/ledger")).await;
    let session = client.session();
    for round in 1..=8_usize {
        for n in 1..=10 {
            client.send(format!("u {}", (round - 1) * 10 + n)).await;
        }
        client.wait("some answers before the cut", |seen| seen.received.len() >= round * 5).await;
        relay.cut();
        client.wait("its return", |seen| seen.resumes() >= round).await;
    }
    let sum = settle(&client).await;
    assert_eq!(client.session(), session, "one session all the time");
    assert_ledger(&client.seen(), &sum, 80);
}

#[tokio::test]
async fn a_client_that_did_not_see_the_cut_displaces_its_old_connection() {
    let hub = Setup::new("A").start().await;
    let (mut old, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    let mut new = RawClient::back(&hub.url("/connect"), &welcome["token"], 2, 0).await;
    let again = new.expect("welcome").await;
    assert_eq!((&again["resumed"], &again["session"]), (&json!(true), &welcome["session"]));
    let (code, reason) = old.closed().await;
    assert_eq!(code, Some(4513), "the old one is displaced: {reason}");
    assert_eq!(hub.api.publish(&json!({"session": welcome["session"]}), "to the new one").await, 1);
    assert_eq!(new.expect_text().await, "to the new one");
}

#[tokio::test]
async fn what_was_not_received_is_sent_again_after_a_return_and_what_was_is_not() {
    let hub = Setup::new("A").start().await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    let to = json!({"session": welcome["session"]});
    for n in 1..=5 {
        hub.api.publish(&to, &format!("message {n}")).await;
        assert_eq!(client.expect_text().await, format!("message {n}"));
    }
    drop(client);
    hub.api.publish(&to, "message 6").await;
    // Two of the five had reached the application; nothing was acked.
    let mut client = RawClient::back(&hub.url("/connect"), &welcome["token"], 2, 2).await;
    assert_eq!(client.expect("welcome").await["from"], json!(2));
    for n in 3..=6 {
        assert_eq!(client.expect_text().await, format!("message {n}"));
    }
}

#[tokio::test]
async fn a_closed_tab_ends_its_session_and_a_broken_connection_does_not() {
    let hub = Setup::new("A").start().await;
    let (mut tab, ended) = RawClient::welcomed(&hub.url("/connect")).await;
    let (broken, kept) = RawClient::welcomed(&hub.url("/connect")).await;
    tab.close(1001, "").await;
    tab.closed().await;
    drop(broken);
    wait_phase(&hub, &kept, "detached").await;
    let listed = hub.api.get("/v1/sessions").await.expect(200);
    let ids: Vec<&Value> = listed["sessions"].as_array().expect("a list").iter().map(|one| &one["session"]).collect();
    assert_eq!(ids, [&kept["session"]], "only the broken one waits; {} has ended", ended["session"]);
}

#[tokio::test]
async fn a_session_whose_client_stays_away_too_long_is_gone_and_its_client_is_told() {
    let hub = Setup::new("A").flag("--session-ttl", "1s").start().await;
    let (client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    drop(client);
    tidegate_tests::wait_until("the session expires", || async {
        let answer = hub.api.get(&format!("/v1/sessions/{}", text(&welcome["session"]))).await;
        if answer.status == 404 { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
    let mut client = RawClient::back(&hub.url("/connect"), &welcome["token"], 2, 0).await;
    let reset = client.expect("reset").await;
    assert_eq!(reset["replaces"], welcome["session"]);
    let fresh = client.expect("welcome").await;
    assert_eq!(fresh["resumed"], json!(false));
    assert_ne!(fresh["session"], welcome["session"]);
    assert!(fresh["epoch"].as_u64() > welcome["epoch"].as_u64(), "a new epoch: {fresh}");
}

async fn wait_phase(hub: &Hub, welcome: &Value, phase: &str) {
    tidegate_tests::wait_until(&format!("the session is {phase}"), || async {
        let info = hub.api.get(&format!("/v1/sessions/{}", text(&welcome["session"]))).await.expect(200);
        if info["phase"] == phase { Ok(()) } else { Err(info.to_string()) }
    })
    .await;
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
