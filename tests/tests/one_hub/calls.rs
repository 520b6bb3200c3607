//! The private API against live sessions: publish, channels, state, listing, evict.

use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;
use tidegate_tests::{RawClient, Setup, Signal, wait_until};

/// Metrics of the contract, with the values that one idle client makes.
const METRICS: [&str; 8] = [
    "tidegate_sessions{phase=\"attached\"} 1",
    "tidegate_connections 1",
    "tidegate_messages_total",
    "tidegate_drain_phase",
    "tidegate_drain_sessions",
    "tidegate_handover_seconds",
    "tidegate_gap_seconds",
    "tidegate_rejected_total",
];

/// From a call to a hub that stands still to its end, and from there until the hub goes on.
const APART: Duration = Duration::from_millis(60);

fn id(welcome: &Value) -> &str {
    welcome["session"].as_str().expect("a session has an id")
}

#[tokio::test]
async fn publish_reaches_a_session_a_channel_or_everybody_and_says_how_many() {
    let hub = Setup::new("A").start().await;
    let (mut one, first) = RawClient::welcomed(&hub.url("/connect")).await;
    let (mut two, second) = RawClient::welcomed(&hub.url("/connect")).await;
    let to_one = hub.api.post("/v1/publish", &json!({"to": {"session": id(&first)}, "text": "to one"})).await;
    assert_eq!(to_one.expect(200), json!({"sessions": 1, "hubs": 1, "unreachable": []}));

    hub.api.put(&format!("/v1/sessions/{}/channels/news", id(&second))).await.expect(204);
    assert_eq!(hub.api.publish(&json!({"channel": "news"}), "to the channel").await, 1);
    assert_eq!(hub.api.publish(&json!({"all": true}), "to all").await, 2);
    assert_eq!(hub.api.publish(&json!({"channel": "nobody"}), "lost").await, 0);
    assert_eq!(hub.api.publish(&json!({"user": "nobody"}), "lost").await, 0);

    assert_eq!([one.expect_text().await, one.expect_text().await], ["to one", "to all"]);
    assert_eq!([two.expect_text().await, two.expect_text().await], ["to the channel", "to all"]);

    hub.api.delete(&format!("/v1/sessions/{}/channels/news", id(&second))).await.expect(204);
    assert_eq!(hub.api.publish(&json!({"channel": "news"}), "after leaving").await, 0);
}

#[tokio::test]
async fn publish_keeps_the_senders_bytes_whatever_they_are() {
    let hub = Setup::new("A").start().await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    let to = format!("{{\"to\":{{\"session\":\"{}\"}},", id(&welcome));
    let json_kind = [("content-type", "application/json")];
    for (body, arrives) in [
        (r#""json":{"b": 1,  "a":[1.0, 2e3]}}"#, r#"{"b": 1,  "a":[1.0, 2e3]}"#),
        (r#""json":"text"}"#, r#""text""#),
        ("\"text\":\"\\u0001mark\"}", "\u{1}\u{1}mark"),
    ] {
        hub.api.send(http::Method::POST, "/v1/publish", &json_kind, format!("{to}{body}")).await.expect(200);
        assert_eq!(client.expect_text().await, arrives);
    }
    hub.api.post("/v1/publish", &json!({"to": {"session": id(&welcome)}, "base64": "AAEC/w=="})).await.expect(200);
    assert_eq!(client.expect_binary().await, [0, 1, 2, 255]);
}

#[tokio::test]
async fn a_publish_repeated_with_its_key_is_done_once() {
    let hub = Setup::new("A").start().await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    let body = json!({"to": {"session": id(&welcome)}, "text": "once", "idempotency_key": "k1"});
    let first = hub.api.post("/v1/publish", &body).await.expect(200);
    assert_eq!(hub.api.post("/v1/publish", &body).await.expect(200), first);
    hub.api.publish(&json!({"session": id(&welcome)}), "next").await;
    assert_eq!([client.expect_text().await, client.expect_text().await], ["once", "next"]);
}

#[tokio::test]
async fn one_callers_publishes_arrive_in_the_order_of_their_answers() {
    let hub = Setup::new("A").start().await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    for n in 0..100 {
        hub.api.publish(&json!({"session": id(&welcome)}), &n.to_string()).await;
    }
    for n in 0..100 {
        assert_eq!(client.expect_text().await, n.to_string());
    }
}

#[tokio::test]
async fn state_is_kept_byte_for_byte_and_shows_in_the_session() {
    let hub = Setup::new("A").start().await;
    let (_client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    let path = format!("/v1/sessions/{}/state", id(&welcome));
    assert!(hub.api.get(&path).await.body.is_empty(), "no state at first");
    let state: Vec<u8> = (0..=255).collect();
    hub.api.put_bytes(&path, &state).await.expect(204);
    let answer = hub.api.get(&path).await;
    assert_eq!(answer.headers["content-type"], "application/octet-stream");
    assert_eq!(answer.body, state);
    assert_eq!(hub.session(id(&welcome)).await.state_bytes, 256);
}

#[tokio::test]
async fn the_listing_shows_every_session_once_page_by_page() {
    let hub = Setup::new("A").start().await;
    let mut clients = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let (client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
        ids.push(id(&welcome).to_owned());
        clients.push(client);
    }
    ids.sort_unstable();
    let mut listed = Vec::new();
    let mut path = "/v1/sessions?limit=2".to_owned();
    loop {
        let page = hub.api.get(&path).await.expect(200);
        let sessions = page["sessions"].as_array().expect("a list").clone();
        assert!(sessions.len() <= 2, "a page keeps its limit: {page}");
        listed.extend(sessions.iter().map(|one| id(one).to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/sessions?limit=2&after={next}"),
            None => break,
        }
    }
    assert_eq!(listed, ids);
    let one = hub.api.get(&format!("/v1/sessions/{}", ids[0])).await.expect(200);
    for field in [
        "session",
        "user",
        "channels",
        "state_bytes",
        "phase",
        "generation",
        "epoch",
        "connected_ms",
        "idle_ms",
        "sent",
        "acked",
        "received",
    ] {
        assert!(one.get(field).is_some(), "a session has the field {field}: {one}");
    }
    assert_eq!(one["phase"], "attached");
}

#[tokio::test]
async fn an_evicted_client_is_told_by_whom_and_its_session_is_gone() {
    let hub = Setup::new("A").start().await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    hub.api.delete(&format!("/v1/sessions/{}", id(&welcome))).await.expect(204);
    let bye = client.expect("bye").await;
    assert_eq!(bye["code"], 4530, "{bye}");
    assert_eq!(client.closed().await.0, Some(4530));
    hub.api.get(&format!("/v1/sessions/{}", id(&welcome))).await.problem(404);
    let mut back = RawClient::back(&hub.url("/connect"), &welcome["token"], 2, 0).await;
    assert_eq!(back.expect("reset").await["replaces"], welcome["session"]);
}

#[tokio::test]
async fn health_metrics_and_the_hub_itself_are_there_to_be_watched() {
    let hub = Setup::new("A").start().await;
    let (_client, _) = RawClient::welcomed(&hub.url("/connect")).await;
    for path in ["/healthz/live", "/healthz/ready"] {
        assert_eq!(hub.api.get(path).await.status, 200, "{path}");
    }
    wait_until("every metric of the contract, and one attached session", || async {
        let metrics = String::from_utf8(hub.api.get("/metrics").await.body.to_vec()).expect("text");
        let missing: Vec<_> = METRICS.into_iter().filter(|name| !metrics.contains(name)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("without {missing:?}:\n{metrics}")) }
    })
    .await;
    let info = hub.api.get("/v1/hub").await.expect(200);
    assert_eq!((&info["state"], &info["peers"]), (&json!("serving"), &json!([])), "{info}");
    hub.api.get("/v1/drain/report").await.problem(404);
    assert_eq!(hub.api.get("/v1/drain").await.expect(200)["phase"], "serving");
    assert_eq!(hub.api.delete("/v1/drain").await.expect(200)["phase"], "serving");
}

#[tokio::test]
async fn a_call_to_a_hub_that_stands_still_is_heard_although_its_caller_has_gone() {
    let hub = Setup::new("A").start().await;
    let (_client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    for nth in 0..25 {
        hub.signal(Signal::Stop);
        // The kernel takes the call, and later its end; the hub finds both when it goes on.
        let mut gone = std::net::TcpStream::connect(hub.private).expect("the listen queue takes it");
        let channel = format!("/v1/sessions/{}/channels/c{nth}", id(&welcome));
        write!(gone, "PUT {channel} HTTP/1.1\r\nhost: {}\r\n\r\n", hub.private).expect("written");
        tokio::time::sleep(APART).await;
        drop(gone);
        tokio::time::sleep(APART).await;
        hub.signal(Signal::Cont);
        wait_until(&format!("call {nth} is heard"), async || {
            let channels = hub.session(id(&welcome)).await.channels;
            channels.contains(&format!("c{nth}")).then_some(()).ok_or(format!("{channels:?}"))
        })
        .await;
    }
}
