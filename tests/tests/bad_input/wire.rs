//! Bad words on the wire, and their close codes.

use crate::bystander::Scene;
use serde_json::{Value, json};
use tidegate_tests::{FakeApp, Heard, RawClient, Setup, wait_until, within};
use tokio_tungstenite::tungstenite::protocol::Message;

/// What a bad client does.
#[derive(Debug)]
enum Say {
    /// Before its welcome.
    First(Message),
    /// After it.
    Then(Message),
    /// After it, past the WebSocket.
    Bytes(Vec<u8>),
}

fn text(text: &str) -> Message {
    Message::text(text)
}

fn frame(frame: &Value) -> Message {
    Message::text(format!("\u{1}{frame}"))
}

async fn end_of(url: &str, say: Say) -> (Option<u16>, String) {
    let mut client = match &say {
        Say::First(_) => RawClient::open(url).await,
        Say::Then(_) | Say::Bytes(_) => RawClient::welcomed(url).await.0,
    };
    match say {
        Say::First(message) | Say::Then(message) => client.message(message).await,
        Say::Bytes(bytes) => client.bytes(&bytes).await,
    }
    client.closed().await
}

#[tokio::test]
async fn each_wrong_word_is_answered_by_its_close_code_and_a_reason_that_names_the_fault() {
    let scene = Scene::set(|setup| setup.flag("--limit-message-bytes", "70000")).await;
    let hello = |fields: Value| {
        let mut hello = json!({"type": "hello"});
        hello.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        frame(&hello)
    };
    let table = [
        ("an app text before hello", Say::First(text("hi")), 4500, "hello"),
        ("an app message of bytes before hello", Say::First(Message::binary(vec![1])), 4500, "hello"),
        ("an ack before hello", Say::First(frame(&json!({"type": "ack", "received": 0}))), 4500, "hello"),
        ("a second hello", Say::Then(frame(&json!({"type": "hello"}))), 4500, "hello again"),
        ("a try of 0", Say::First(hello(json!({"try": 0}))), 4500, "`try` is 0; expected 1 or more"),
        (
            "subprotocols of 9 KiB",
            Say::First(hello(json!({"protocols": vec!["p".repeat(1_022); 9]}))),
            4500,
            "protocols",
        ),
        ("a language that is none", Say::First(hello(json!({"language": "x".repeat(36)}))), 4500, "language"),
        ("a token that is no token", Say::First(hello(json!({"token": "zzz"}))), 4510, "token"),
        ("an ack of what was never sent", Say::Then(frame(&json!({"type": "ack", "received": 7}))), 4500, "never sent"),
        (
            "a word that only a hub says",
            Say::Then(frame(&json!({"type": "retry", "after_ms": 1, "why": "x"}))),
            4500,
            "retry",
        ),
        ("a message above the limit", Say::Then(Message::binary(vec![0; 70_001])), 1009, "70000"),
        ("a message far above the limit", Say::Then(Message::binary(vec![0; 300_000])), 1009, "at most"),
        ("a message of 20 MB", Say::Then(Message::binary(vec![0; 20 << 20])), 1009, "at most"),
        ("a hello of 20 MB", Say::First(text(&format!("\u{1}{}", "x".repeat(20 << 20)))), 1009, "at most"),
        ("a frame without a mask", Say::Bytes(b"\x81\x02hi".to_vec()), 1002, "mask"),
        ("a reserved opcode", Say::Bytes(b"\x83\x80\0\0\0\0".to_vec()), 1002, "opcode"),
        ("reserved bits", Say::Bytes(b"\xf1\x80\0\0\0\0".to_vec()), 1002, "bits"),
        (
            "a ping of 126 bytes",
            Say::Bytes([&b"\x89\xfe\x00\x7e\0\0\0\0"[..], &[0; 126]].concat()),
            1002,
            "ontrol frame",
        ),
        ("text that is not UTF-8", Say::Bytes(b"\x81\x82\0\0\0\0\xff\xfe".to_vec()), 1007, "UTF-8"),
    ];
    for (what, say, code, words) in table {
        let (got, reason) = within(&format!("{what} ends its connection"), end_of(&scene.url(), say)).await;
        assert_eq!(got, Some(code), "{what} is closed with {code}; the reason was \"{reason}\"");
        assert!(reason.contains(words), "{what}: expected \"{words}\" in \"{reason}\"");
        scene.nobody_noticed(what).await;
    }
}

#[tokio::test]
async fn every_frame_of_the_specifications_list_of_wrong_ones_is_closed_with_4500() {
    let scene = Scene::set(|setup| setup).await;
    let list: Value = serde_json::from_str(include_str!("../../../protocol/vectors/invalid.json")).expect("JSON");
    let frames = list["frames"].as_array().expect("a list of frames");
    assert!(frames.len() > 40, "the list is there");
    for wrong in frames.iter().filter(|wrong| wrong["from"] != "hub") {
        let (name, mut words) =
            (wrong["name"].as_str().expect("a name"), wrong["text"].as_str().expect("a text").to_owned());
        if let Some(bytes) = wrong["fill_bytes"].as_u64() {
            let fill = bytes as usize + 1 - (words.len() - 1);
            words = words.replacen('@', &"@".repeat(fill), 1);
        }
        for (moment, say) in [("first", Say::First(text(&words))), ("later", Say::Then(text(&words)))] {
            let (code, reason) = end_of(&scene.url(), say).await;
            assert_eq!(code, Some(4500), "{name}, said {moment}, is closed with 4500: {reason}");
            assert!(!reason.is_empty(), "{name}, said {moment}: the reason names the fault");
        }
    }
    scene.nobody_noticed("all wrong frames").await;
}

#[tokio::test]
async fn subprotocols_that_are_no_tokens_never_reach_the_app_as_a_header() {
    let app = FakeApp::echo().await;
    let hub = Setup::new("A").app(&app.address).start().await;
    for bad in ["chat\r\nx-evil: 1", "a\u{1}b", "two words", "a,b", "", "caf\u{e9}"] {
        let hello = frame(&json!({"type": "hello", "protocols": ["chat", bad]}));
        let (code, reason) = end_of(&hub.url("/chat"), Say::First(hello)).await;
        assert_eq!(code, Some(4500), "{bad:?}: {reason}");
        assert!(reason.contains("hello.protocols"), "{bad:?}: {reason}");
    }
    assert_eq!(app.upgrades().len(), 0, "the app was never asked");
    let mut good = RawClient::open(&hub.url("/chat")).await;
    good.frame(&json!({"type": "hello", "protocols": ["chat", "x!#$%&'*+-.^_`|~9"]})).await;
    good.expect("welcome").await;
    assert_eq!(app.upgrades()[0].1["sec-websocket-protocol"], "chat, x!#$%&'*+-.^_`|~9");
}

#[tokio::test]
async fn a_hello_that_never_comes_is_not_waited_for() {
    let scene =
        Scene::set(|setup| setup.flag("--limit-hello-time", "300ms").flag("--limit-header-time", "300ms")).await;
    let mut silent = RawClient::open(&scene.url()).await;
    let (code, reason) = silent.closed().await;
    assert_eq!(code, Some(4002), "{reason}");
    assert!(reason.contains("300 ms"), "{reason}");
    // A WebSocket ping is no hello.
    let mut pinging = RawClient::open(&scene.url()).await;
    pinging.message(Message::Ping(Vec::new().into())).await;
    assert_eq!(pinging.closed().await.0, Some(4002));
    scene.nobody_noticed("silent clients").await;
}

async fn hello_again(url: &str, token: &Value, attempt: u32) -> (Option<u16>, String) {
    RawClient::back(url, token, attempt, 0).await.closed().await
}

#[tokio::test]
async fn stale_and_forged_tokens_are_refused_and_the_session_goes_on() {
    let scene = Scene::set(|setup| setup).await;
    let (client, first) = RawClient::welcomed(&scene.url()).await;
    let mut now = RawClient::back(&scene.url(), &first["token"], 5, 0).await;
    let second = now.expect("welcome").await;
    let mut third = RawClient::back(&scene.url(), &second["token"], 6, 0).await;
    let current = third.expect("welcome").await;
    drop(client);

    let (code, reason) = hello_again(&scene.url(), &first["token"], 9).await;
    assert_eq!(code, Some(4512), "a token that a later one has voided: {reason}");
    let (code, reason) = hello_again(&scene.url(), &current["token"], 6).await;
    assert_eq!(code, Some(4512), "a try that is not above the highest seen: {reason}");

    let token = current["token"].as_str().expect("a token");
    let mut forged = token.to_owned().into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let forged = json!(String::from_utf8(forged).expect("base64url"));
    let (code, reason) = hello_again(&scene.url(), &forged, 9).await;
    assert_eq!(code, Some(4510), "a forged token: {reason}");
    let (code, reason) = hello_again(&scene.url(), &json!(token[..middle]), 9).await;
    assert_eq!(code, Some(4510), "half a token: {reason}");

    let other = Setup::new("B").start().await;
    let (_theirs, foreign) = RawClient::welcomed(&other.url("/connect")).await;
    let (code, reason) = hello_again(&scene.url(), &foreign["token"], 9).await;
    assert_eq!(code, Some(4510), "a token of another fleet: {reason}");

    third.text("still here").await;
    assert_eq!(third.expect_text().await, "still here");
    scene.nobody_noticed("wrong tokens").await;
}

#[tokio::test]
async fn a_good_token_of_an_unknown_session_is_reset_and_told() {
    let scene = Scene::set(|setup| setup).await;
    let (mut ended, welcome) = RawClient::welcomed(&scene.url()).await;
    ended.close(1000, "").await;
    ended.closed().await;
    let mut client = RawClient::back(&scene.url(), &welcome["token"], 2, 0).await;
    let reset = client.expect("reset").await;
    assert_eq!((&reset["why"], &reset["replaces"]), (&json!("unknown"), &welcome["session"]));
    assert_ne!(client.expect("welcome").await["session"], welcome["session"]);
    scene.nobody_noticed("an unknown session").await;
}

#[tokio::test]
async fn a_session_of_a_hub_that_nobody_can_ask_is_waited_for_and_then_reset() {
    let elsewhere = Setup::new("B").in_cluster().start().await;
    let (_theirs, welcome) = RawClient::welcomed(&elsewhere.url("/connect")).await;
    let scene = Scene::set(|setup| setup.in_cluster().flag("--orphan-after", "500ms")).await;
    let mut client = RawClient::back(&scene.url(), &welcome["token"], 2, 0).await;
    assert_eq!(client.expect("retry").await["why"], "peer_silent", "one silent hub is no knowledge");
    let mut attempt = 2;
    let reset = wait_until("a reset, once the owner was silent for long enough", || {
        attempt += 1;
        let (url, token) = (scene.url(), welcome["token"].clone());
        async move {
            match RawClient::back(&url, &token, attempt, 0).await.next().await {
                Heard::Frame(frame) if frame["type"] == "reset" => Ok(frame),
                other => Err(format!("{other:?}")),
            }
        }
    })
    .await;
    assert_eq!((&reset["why"], &reset["replaces"]), (&json!("owner_lost"), &welcome["session"]));
    scene.nobody_noticed("a session of a hub that nobody can ask").await;
}
