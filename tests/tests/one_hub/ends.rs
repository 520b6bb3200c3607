//! Data and an end in one read: what came before the end counts, and whoever it is for hears it at once.

use serde_json::json;
use tidegate_tests::{AppSocket, FakeApp, Heard, RawClient, Setup, within};
use tokio_tungstenite::tungstenite::protocol::Message;

/// Nothing wakes a task by chance while nobody pings.
const NO_PINGS: (&str, &str) = ("--limit-heartbeat", "1h");

/// A text frame of a server, and a close with this code behind it.
fn text_and_close(text: &str, code: u16) -> Vec<u8> {
    let mut bytes = vec![0x81, text.len() as u8];
    bytes.extend_from_slice(text.as_bytes());
    bytes.extend_from_slice(&[0x88, 2]);
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes
}

/// The same from a client: masked, with a mask that changes nothing.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    bytes.extend_from_slice(payload);
    bytes
}

/// An app that ends its sockets on `/game`, unasked, when somebody on `/boss` says so: with a last word and this
/// behind it, in one write. Its clients are quiet, so nothing else wakes anybody.
async fn last_words(end: &'static [u8]) -> FakeApp {
    let (tell, _) = tokio::sync::broadcast::channel(4);
    FakeApp::start(move |mut socket: AppSocket| {
        let tell = tell.clone();
        async move {
            let mut told = tell.subscribe();
            if socket.target == "/boss" {
                while let Some(Message::Text(_)) = socket.next().await {
                    // Nobody may be there yet; then the test fails by itself.
                    drop(tell.send(()));
                    socket.send(Message::text("done")).await;
                }
            } else if told.recv().await.is_ok() {
                socket.bytes(&[&[0x81, 4][..], b"last", end].concat()).await;
                while socket.next().await.is_some() {}
            }
        }
    })
    .await
}

/// A client that has heard the last word, after the boss had it said.
async fn hears_the_last_word(hub: &tidegate_tests::Hub) -> RawClient {
    let (mut boss, _) = RawClient::welcomed(&hub.url("/boss")).await;
    let (mut client, _) = RawClient::welcomed(&hub.url("/game")).await;
    boss.text("end it").await;
    assert_eq!(boss.expect_text().await, "done");
    assert_eq!(client.expect_text().await, "last");
    client
}

#[tokio::test]
async fn a_message_and_the_close_of_the_app_in_one_read_both_reach_the_client() {
    // 4321 in its two bytes.
    let app = last_words(&[0x88, 2, 0x10, 0xe1]).await;
    let hub = Setup::new("A").app(&app.address).flag(NO_PINGS.0, NO_PINGS.1).start().await;
    let mut client = hears_the_last_word(&hub).await;
    assert_eq!(client.expect("bye").await["code"], json!(4321));
    assert_eq!(client.closed().await.0, Some(4321));
}

#[tokio::test]
async fn a_message_before_a_restart_of_the_app_in_one_read_reaches_the_client() {
    // 1012.
    let app = last_words(&[0x88, 2, 0x03, 0xf4]).await;
    let hub = Setup::new("A").app(&app.address).flag(NO_PINGS.0, NO_PINGS.1).start().await;
    hears_the_last_word(&hub).await;
}

#[tokio::test]
async fn a_message_before_a_broken_frame_of_the_app_reaches_the_client_and_then_why_it_ends() {
    // A frame with a reserved bit: nothing can be read after it.
    let app = last_words(&[0xc1, 0]).await;
    let hub = Setup::new("A").app(&app.address).flag(NO_PINGS.0, NO_PINGS.1).start().await;
    let mut client = hears_the_last_word(&hub).await;
    assert_eq!(client.expect("bye").await["code"], json!(1012));
    let (code, reason) = client.closed().await;
    assert!(code == Some(1012) && reason.starts_with("app error: "), "{code:?} {reason:?}");
}

/// What a client says together with the end of its connection reaches the app, and its session goes on.
async fn reaches_the_app(end: &[u8]) {
    let (tell, mut told) = tokio::sync::mpsc::channel(4);
    let app = FakeApp::start(move |mut socket: AppSocket| {
        let tell = tell.clone();
        async move {
            while let Some(message) = socket.next().await {
                drop(tell.send(message).await);
            }
        }
    })
    .await;
    let hub = Setup::new("A").app(&app.address).flag(NO_PINGS.0, NO_PINGS.1).start().await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/game")).await;
    client.bytes(&[&masked(1, b"save this"), end].concat()).await;
    let said = within("the app hears what came before the end", told.recv()).await;
    assert_eq!(said, Some(Message::text("save this")));
    client.closed().await;
    let mut client = RawClient::back(&hub.url("/game"), &welcome["token"], 2, 0).await;
    let again = client.expect("welcome").await;
    assert_eq!((&again["resumed"], &again["received"]), (&json!(true), &json!(1)));
}

#[tokio::test]
async fn a_message_and_the_close_of_the_client_in_one_read_both_count() {
    reaches_the_app(&masked(8, &4001u16.to_be_bytes())).await;
}

#[tokio::test]
async fn a_message_before_a_broken_frame_of_the_client_counts() {
    reaches_the_app(&[0xc1, 0x80, 0, 0, 0, 0]).await;
}

#[tokio::test]
async fn a_message_before_a_frame_that_breaks_the_protocol_counts() {
    reaches_the_app(&masked(1, b"\x01{\"type\":\"nonsense\"}")).await;
}

#[tokio::test]
async fn an_app_that_says_a_word_and_goodbye_with_its_very_answer_is_heard_to_the_end() {
    let app = FakeApp::start(|mut socket: AppSocket| async move {
        socket.bytes(&text_and_close("not today", 4400)).await;
        while socket.next().await.is_some() {}
    })
    .await;
    let hub = Setup::new("A").app(&app.address).flag(NO_PINGS.0, NO_PINGS.1).start().await;
    let (mut client, _) = RawClient::welcomed(&hub.url("/game")).await;
    assert_eq!(client.expect_text().await, "not today");
    assert_eq!(client.expect("bye").await["code"], json!(4400));
    assert!(matches!(client.next().await, Heard::Close(Some(4400), _)));
}
