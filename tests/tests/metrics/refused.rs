//! What is turned away: at the upgrade, before the hello, for its words, its token or its call.

use crate::book::Book;
use http::Method;
use serde_json::json;
use tidegate::hub::entrance::HALF_HELLOS_MAX;
use tidegate::keys::{ClusterKeys, TokenBody, TokenMint};
use tidegate_protocol::id::{HubId, SessionId};
use tidegate_protocol::position::Generation;
use tidegate_tests::{FakeApp, RawClient, Setup, within};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const OFFERED: (&str, &str) = ("sec-websocket-protocol", "tidegate.v1");

pub(crate) async fn at_the_door(book: &Book) {
    let app = FakeApp::echo().await;
    let picky = Setup::new("A").app(&app.address).flag("--allowed-origin", "https://app.example.com").start().await;
    book.watch(&picky);
    let foreign = [OFFERED, ("origin", "https://evil.example.com")];
    for (path, headers) in [("/game", &foreign[..]), ("/game", &[]), ("/a%5cb", &[OFFERED])] {
        RawClient::try_open(&picky.url(path), headers).await.expect_err(path);
    }
    let small = Setup::new("A").flag("--limit-sessions", 1).start().await;
    book.watch(&small);
    let (_first, _) = RawClient::welcomed(&small.url("/connect")).await;
    let mut second = RawClient::open(&small.url("/connect")).await;
    second.frame(&json!({"type": "hello"})).await;
    second.expect("retry").await;
    book.wait_rejected(&["origin", "subprotocol", "path", "sessions"]).await;
}

pub(crate) async fn before_the_hello(book: &Book) {
    let hasty = Setup::new("A").flag("--limit-hello-time", "300ms").flag("--limit-header-time", "300ms");
    let hub = hasty.start().await;
    book.watch(&hub);
    let _says_nothing = TcpStream::connect(hub.public).await.expect("the kernel takes it");
    RawClient::open(&hub.url("/connect")).await.closed().await;
    book.wait_rejected(&["handshake_timeout", "hello_timeout"]).await;
    let setup = Setup::new("B");
    let key = setup.file("jwt.key", "a secret of thirty-two bytes or more");
    let hub = setup.flag("--auth", "jwt").flag("--jwt-key-file", key.display()).start().await;
    book.watch(&hub);
    let mut nobody = RawClient::open(&hub.url("/connect")).await;
    nobody.frame(&json!({"type": "hello"})).await;
    nobody.closed().await;
    book.wait_rejected(&["unauthorized"]).await;
}

pub(crate) async fn words_and_tokens(book: &Book) {
    let setup = Setup::new("A").in_cluster().flag("--limit-message-bytes", 1_000);
    let keys = ClusterKeys::from_file(&setup.path("cluster.key")).expect("the key of the tests");
    let hub = setup.start().await;
    book.watch(&hub);
    let url = hub.url("/connect");
    let mut early = RawClient::open(&url).await;
    early.text("no hello").await;
    early.closed().await;
    let (mut long, _) = RawClient::welcomed(&url).await;
    long.text(&"x".repeat(2_000)).await;
    long.closed().await;
    let (_first, welcome) = RawClient::welcomed(&url).await;
    RawClient::back(&url, &welcome["token"], 2, 0).await.expect("welcome").await;
    let (session, hub_id, generation) = (SessionId(1), HubId(1), Generation(1));
    let old = TokenBody { session, serial: 1, hub: hub_id, generation, expires_unix_ms: 1_000, user: None };
    let old = json!(TokenMint::new(&keys).issue(&old).0);
    for token in [&welcome["token"], &json!("no token"), &old] {
        RawClient::back(&url, token, 2, 0).await.closed().await;
    }
    book.wait_rejected(&["protocol", "too_large", "token_reuse", "token_forged", "token_expired"]).await;
}

pub(crate) async fn calls(book: &Book) {
    let hub = Setup::new("A").in_cluster().flag("--limit-channels", 1).start().await;
    book.watch(&hub);
    let (_client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    let session = welcome["session"].as_str().expect("a session has an id");
    for (channel, status) in [("one", 204), ("two", 422)] {
        let answer = hub.api.put(&format!("/v1/sessions/{session}/channels/{channel}")).await;
        assert_eq!(answer.status.as_u16(), status, "{answer}");
    }
    let page = [("origin", "https://evil.example.com")];
    hub.api.send(Method::GET, "/v1/hub", &page, "").await.problem(403);
    hub.api.post("/peer/v1/hello", &json!({})).await.problem(401);
    book.wait_rejected(&["channels", "private_call", "peer_call"]).await;
}

/// Longer ones than most are, that nobody ends: they have so many places.
pub(crate) async fn hellos_in_parts(book: &Book) {
    const PART_BYTES: usize = 60_000;
    let hub = Setup::new("A").flag("--limit-hello-time", "60s").start().await;
    book.watch(&hub);
    let mut opening = JoinSet::new();
    for _ in 0..HALF_HELLOS_MAX + 20 {
        let url = hub.url("/connect");
        opening.spawn(async move {
            let mut client = RawClient::open(&url).await;
            // A binary frame of one byte more than comes, masked with zeros.
            let mut part = vec![0x82, 0xff];
            part.extend_from_slice(&(PART_BYTES as u64 + 1).to_be_bytes());
            part.resize(part.len() + 4 + PART_BYTES, 0);
            client.try_bytes(&part).await;
            client
        });
    }
    let _open = within("they are all here", opening.join_all()).await;
    book.wait_rejected(&["queue_full"]).await;
}
