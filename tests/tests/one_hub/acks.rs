//! When a client hears that its messages were taken, and how long a frame may be.

use serde_json::{Value, json};
use tidegate_tests::{FakeApp, Heard, Hub, RawClient, Setup};

/// A hub in front of an echo, whose acks by time come long after these tests are over.
async fn slow_to_ack(app: &FakeApp) -> Hub {
    Setup::new("A").app(&app.address).flag("--limit-ack-time", "10s").start().await
}

/// The acks that come before the app's next message, and that message's length.
async fn acks_before_message(client: &mut RawClient) -> (Vec<Value>, usize) {
    let mut acks = Vec::new();
    loop {
        match client.next().await {
            Heard::Text(text) => return (acks, text.len()),
            Heard::Binary(bytes) => return (acks, bytes.len()),
            Heard::Frame(frame) if frame["type"] == "ack" => acks.push(frame["received"].clone()),
            Heard::Frame(_) => {}
            Heard::Close(code, why) => panic!("closed with {code:?}: {why}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_asks_by_a_ping_is_acked_at_once_what_the_app_has() {
    let app = FakeApp::echo().await;
    let hub = slow_to_ack(&app).await;
    let (mut client, _) = RawClient::welcomed(&hub.url("/connect")).await;
    client.text("one").await;
    assert_eq!(acks_before_message(&mut client).await, (Vec::new(), 3), "nobody asked for an ack yet");
    client.frame(&json!({"type": "ping"})).await;
    client.expect("pong").await;
    client.text("again").await;
    assert_eq!(acks_before_message(&mut client).await, (vec![json!(1)], 5), "asked for");
}

#[tokio::test]
async fn a_client_that_sends_much_is_acked_before_its_room_is_full() {
    let app = FakeApp::echo().await;
    let hub = slow_to_ack(&app).await;
    let (mut client, _) = RawClient::welcomed(&hub.url("/connect")).await;
    client.binary(&vec![7; 70_000]).await;
    let (mut acks, bytes) = acks_before_message(&mut client).await;
    client.text("behind it").await;
    acks.extend(acks_before_message(&mut client).await.0);
    assert_eq!((acks, bytes), (vec![json!(1)], 70_000), "it was taken, and an ack came for it alone");
}

#[tokio::test]
async fn a_frame_of_64_kib_is_read_whatever_the_limit_of_messages_is_and_its_mark_does_not_count() {
    let hub = Setup::new("A").flag("--limit-message-bytes", "1KiB").start().await;
    let (mut client, _) = RawClient::welcomed(&hub.url("/connect")).await;
    let of = |bytes: usize| {
        let (start, end) = (r#"{"type":"ping","x":""#, r#""}"#);
        format!("\u{1}{start}{}{end}", "x".repeat(bytes - start.len() - end.len()))
    };
    client.text(&of(65_536)).await;
    client.expect("pong").await;
    client.text(&of(65_537)).await;
    assert_eq!(client.closed().await, (Some(4500), "frame of 65537 bytes; at most 65536".to_owned()));
}
