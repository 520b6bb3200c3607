//! The listing, and what is done to one session.

use super::*;
use serde_json::json;
use tidegate_protocol::session::{Event, State};

fn ids(page: &Value) -> Vec<String> {
    let sessions = page["sessions"].as_array().expect("a list");
    sessions.iter().map(|session| session["session"].as_str().expect("an id").to_owned()).collect()
}

/// Parks a session, and waits until it is on disk.
pub(super) async fn park(bench: &Bench, cell: &Arc<Cell>) {
    cell.feed(&bench.hub, Event::Park);
    let parked = async {
        while !(bench.hub.is_parked(cell.id) && matches!(cell.lock().session.state(), State::Parked { .. })) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), parked).await.expect("it should have been parked");
}

#[tokio::test]
async fn the_listing_goes_through_everybody_in_the_order_of_ids_parked_ones_too() {
    let bench = bench(&[]).await;
    for number in [5, 3, 1, 4] {
        bench.session(number, None, &[]);
    }
    park(&bench, &bench.session(2, Some("ann"), &["news"])).await;
    let all: Vec<String> = (1..=5).map(id).collect();
    let whole = bench.get("/v1/sessions").await.ok(200);
    assert_eq!((ids(&whole), &whole["next"]), (all.clone(), &Value::Null));
    let phases: Vec<&str> = whole["sessions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["phase"].as_str().expect("a phase"))
        .collect();
    assert_eq!(phases, ["attached", "parked", "attached", "attached", "attached"]);
    let (mut seen, mut path) = (Vec::new(), "/v1/sessions?limit=2".to_owned());
    for left in [3, 1, 0] {
        let page = bench.get(&path).await.ok(200);
        seen.extend(ids(&page));
        assert_eq!(page["next"].is_null(), left == 0, "{page}");
        path = format!("/v1/sessions?limit=2&after={}", page["next"].as_str().unwrap_or_default());
    }
    assert_eq!(seen, all);
    assert_eq!(ids(&bench.get(&format!("/v1/sessions?after={}", id(4))).await.ok(200)), [id(5)]);
    let past = bench.get(&format!("/v1/sessions?after={}", id(5))).await.ok(200);
    assert_eq!(past, json!({"sessions": [], "next": null}));
}

#[tokio::test]
async fn a_page_that_is_exactly_full_has_no_next_one() {
    let bench = bench(&[]).await;
    for number in 1..=2 {
        bench.session(number, None, &[]);
    }
    assert_eq!(bench.get("/v1/sessions?limit=2").await.ok(200)["next"], Value::Null);
}

#[tokio::test]
async fn one_session_is_shown_with_every_field_of_the_contract() {
    let bench = bench(&[]).await;
    bench.session(1, Some("ann"), &["b", "a"]);
    bench.publish(r#"{"to":{"user":"ann"},"text":"x"}"#).await.ok(200);
    let mut shown = bench.get(&format!("/v1/sessions/{}", id(1))).await.ok(200);
    for clock in ["connected_ms", "idle_ms"] {
        assert!(shown[clock].is_u64(), "{clock}: {shown}");
        shown[clock] = json!(0);
    }
    let expected = json!({
        "session": id(1), "user": "ann", "channels": ["a", "b"], "state_bytes": 0, "phase": "attached", "generation": 1, "epoch": 1,
        "connected_ms": 0, "idle_ms": 0, "sent": 1, "acked": 0, "received": 0
    });
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn looking_at_a_parked_session_leaves_it_parked_and_a_publish_takes_it_up() {
    let bench = bench(&[]).await;
    let cell = bench.session(1, Some("ann"), &["news"]);
    let (path, state) = (format!("/v1/sessions/{}", id(1)), format!("/v1/sessions/{}/state", id(1)));
    bench.typed("PUT", &state, "application/octet-stream", "kept").await.ok(204);
    park(&bench, &cell).await;
    let shown = bench.get(&path).await.ok(200);
    assert_eq!((&shown["phase"], &shown["user"], &shown["state_bytes"]), (&json!("parked"), &json!("ann"), &json!(4)));
    assert_eq!(bench.get(&state).await.body, "kept");
    assert!(bench.hub.is_parked(SessionId(1)), "looking must not take it up");
    bench.publish(format!(r#"{{"to":{{"session":"{}"}},"text":"x"}}"#, id(1))).await.ok(200);
    assert!(!bench.hub.is_parked(SessionId(1)));
    assert_eq!(bench.get(&path).await.ok(200)["phase"], "detached");
    assert_eq!(bench.get("/v1/sessions").await.ok(200)["sessions"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn an_evicted_session_is_gone_for_good() {
    let bench = bench(&[]).await;
    bench.session(1, Some("ann"), &[]);
    let path = format!("/v1/sessions/{}", id(1));
    let answer = bench.call("DELETE", &path).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    bench.get(&path).await.problem(404);
    bench.call("DELETE", &path).await.problem(404);
    assert_eq!(ids(&bench.get("/v1/sessions").await.ok(200)), Vec::<String>::new());
    assert_eq!(bench.publish(r#"{"to":{"user":"ann"},"text":"x"}"#).await.ok(200)["sessions"], 0);
}

#[tokio::test]
async fn channels_are_joined_and_left_and_both_may_be_repeated() {
    let bench = bench(&[]).await;
    let cell = bench.session(1, None, &[]);
    let path = format!("/v1/sessions/{}/channels/r%C3%B6m%2F1", id(1));
    let reached = async || bench.publish(r#"{"to":{"channel":"röm/1"},"text":"x"}"#).await.ok(200)["sessions"].clone();
    assert_eq!(reached().await, 0);
    for (method, sessions) in [("PUT", 1), ("PUT", 1), ("DELETE", 0), ("DELETE", 0)] {
        bench.call(method, &path).await.ok(204);
        assert_eq!(reached().await, sessions, "after {method}");
    }
    assert_eq!(outbox(&cell).len(), 2);
}

#[tokio::test]
async fn the_apps_state_comes_back_byte_for_byte() {
    let bench = bench(&[]).await;
    bench.session(1, None, &[]);
    let path = format!("/v1/sessions/{}/state", id(1));
    let empty = bench.get(&path).await;
    assert_eq!((empty.status.as_u16(), empty.body.len()), (200, 0));
    for (content_type, bytes) in [
        ("application/octet-stream", &[0u8, 255, 10][..]),
        ("application/json", b"{ not json"),
        ("application/octet-stream", b""),
    ] {
        bench.typed("PUT", &path, content_type, bytes.to_vec()).await.ok(204);
        let read = bench.get(&path).await;
        assert_eq!(read.body, bytes);
        assert_eq!(read.headers[header::CONTENT_TYPE], "application/octet-stream");
    }
}
