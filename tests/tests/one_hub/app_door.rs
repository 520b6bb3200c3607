//! What of a client's request reaches the app: paths, headers, subprotocols, byte for byte or not at all.

use serde_json::json;
use tidegate_tests::{FakeApp, Hub, RawClient, Setup, wait_until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request for this target with these header lines, and a hello right behind it; what was answered until it says
/// welcome or ends.
async fn answer_to(hub: &Hub, target: &str, lines: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(hub.public).await.expect("the hub listens");
    let mut request = format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: tidegate.v1\r\n",
        hub.public
    )
    .into_bytes();
    for line in lines {
        request.extend_from_slice(line);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let hello = b"\x01{\"type\":\"hello\"}";
    request.extend_from_slice(&[0x81, 0x80 | hello.len() as u8, 0, 0, 0, 0]);
    request.extend_from_slice(hello);
    within("the request is written", stream.write_all(&request)).await.expect("the hub reads");
    let mut answer = Vec::new();
    let reads = async {
        let mut piece = [0; 4096];
        while let Ok(bytes @ 1..) = stream.read(&mut piece).await {
            answer.extend_from_slice(&piece[..bytes]);
            let text = String::from_utf8_lossy(&answer);
            let is_refusal = text.contains("\r\n\r\n") && !text.starts_with("HTTP/1.1 101");
            if is_refusal || text.contains("\"welcome\"") {
                return;
            }
        }
    };
    within("an answer", reads).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_path_that_leads_out_of_the_apps_is_refused_before_the_app_is_dialled() {
    let app = FakeApp::echo().await;
    let below = Setup::new("A").flag("--app", format!("ws://{}/app", app.address)).start().await;
    let root = Setup::new("B").app(&app.address).start().await;
    for (hub, target, word) in [
        (&below, "/../../admin", "segment"),
        (&root, "/../../admin", "segment"),
        (&root, "/a/./b", "segment"),
        (&root, "/%2e%2E/admin", "segment"),
        (&root, "/..%2fadmin", "segment"),
        (&root, "/..;x/admin", "segment"),
        (&root, "http://elsewhere/../admin", "segment"),
        (&root, "/a\\b", "backslash"),
        (&root, "/a%5cb", "backslash"),
        (&root, "/a%00b", "NUL"),
        (&below, "/a%2fb", "slash"),
    ] {
        let answer = answer_to(hub, target, &[]).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(word), "{target}: {answer}");
    }
    assert!(app.upgrades().is_empty(), "the app was not asked");
    for fine in ["/a%2fb?x=/../", "/a.b/..c"] {
        assert!(answer_to(&root, fine, &[]).await.contains("welcome"), "{fine}");
    }
    assert_eq!(app.upgrades().len(), 2);
}

#[tokio::test]
async fn repeated_headers_and_bytes_that_are_not_ascii_reach_the_app_as_they_came() {
    let app = FakeApp::echo().await;
    let hub = Setup::new("A").app(&app.address).start().await;
    let lines: [&[u8]; 6] = [
        b"Cookie: b=2",
        b"User-Agent: caf\xe9 \xc3\xa9",
        b"Cookie: a=1",
        b"X-Forwarded-For: 10.0.0.1",
        b"X-Forwarded-For: 10.0.0.2, 10.0.0.3",
        b"Tidegate-User: root",
    ];
    assert!(answer_to(&hub, "/game", &lines).await.contains("welcome"));
    let (_, headers) = app.upgrades().remove(0);
    let all = |name: &str| headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>();
    assert_eq!(all("cookie"), [b"b=2", b"a=1"], "in their order");
    assert_eq!(all("user-agent"), [b"caf\xe9 \xc3\xa9"]);
    assert_eq!(all("x-forwarded-for"), [b"10.0.0.1, 10.0.0.2, 10.0.0.3, 127.0.0.1"]);
    assert!(all("tidegate-user").is_empty(), "nobody gives himself a name");
}

#[tokio::test]
async fn a_long_subprotocol_is_passed_on_and_only_more_than_eight_kib_are_refused() {
    let app = FakeApp::echo().await;
    let hub = Setup::new("A").app(&app.address).start().await;
    let token = format!("bearer.{}", "a".repeat(8_000));
    let mut client = RawClient::open(&hub.url("/game")).await;
    client.frame(&json!({"type": "hello", "protocols": ["chat", token]})).await;
    client.expect("welcome").await;
    let offered = app.upgrades().remove(0).1["sec-websocket-protocol"].to_str().expect("tokens").to_owned();
    assert_eq!(offered, format!("chat, {token}"));
    let mut greedy = RawClient::open(&hub.url("/game")).await;
    greedy.frame(&json!({"type": "hello", "protocols": ["chat", token, "b".repeat(200)]})).await;
    let (code, reason) = greedy.closed().await;
    assert!(code == Some(4500) && reason.contains("8192"), "{code:?} {reason}");
}

#[tokio::test]
async fn the_report_says_of_which_apps_it_does_not_know_whether_they_were_done() {
    let app = FakeApp::echo().await;
    for (with_events, field) in [(false, "assumed"), (true, "said")] {
        let setup = Setup::new("A");
        let setup = if with_events { setup.app_with_events(&app.address) } else { setup.app(&app.address) };
        let hub = setup.start().await;
        let (_client, _) = RawClient::welcomed(&hub.url("/game")).await;
        hub.api.post("/v1/drain", &json!({"notice_ms": 0, "window_ms": 0})).await.expect(202);
        let report = wait_until("the report", || async {
            let answer = hub.api.get("/v1/drain/report").await;
            if answer.status == 200 { Ok(answer.json()) } else { Err(answer.to_string()) }
        })
        .await;
        assert_eq!(report["sessions"]["parked"], 1, "{report}");
        assert_eq!(report["messages"]["app"][field], 1, "{report}");
    }
}
