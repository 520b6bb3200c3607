//! One hub with its clients and its app: traffic, returns, a client that is too slow, an app that is away, a log that
//! nobody reads.

use crate::book::Book;
use serde_json::json;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use tidegate_tests::{FakeApp, Private, RawClient, Setup, Surroundings, wait_until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What a pipe of Linux holds.
const PIPE_BYTES: usize = 65_536;
/// What a session keeps for its client in these scenes.
const UNACKED: usize = 4;

pub(crate) async fn traffic_returns_and_a_slow_client(book: &Book) {
    let app = FakeApp::echo().await;
    let hub = Setup::new("A").app_with_events(&app.address).flag("--limit-unacked-messages", UNACKED).start().await;
    book.watch(&hub);
    let (url, checks) = (hub.url("/game"), Private::new(hub.public));
    let (mut client, welcome) = RawClient::welcomed(&url).await;
    client.text("to the app and back").await;
    client.expect_text().await;
    // The connection of the check stays for the next one.
    checks.get("/healthz/ready").await;
    book.wait(&["tidegate_connections", "tidegate_http_connections", "tidegate_unacked_bytes", "tidegate_room"]).await;
    for direction in ["from_client", "to_client", "from_app", "to_app"] {
        let of = |name: &str| format!("{name}{{direction=\"{direction}\"}}");
        book.wait(&[&of("tidegate_messages_total"), &of("tidegate_bytes_total")]).await;
    }
    for n in 0..UNACKED + 2 {
        hub.api.publish(&json!({"all": true}), &n.to_string()).await;
    }
    let to_it = json!({"to": {"session": welcome["session"]}, "text": "one more"});
    assert_eq!(hub.api.post("/v1/publish", &to_it).await.status.as_u16(), 503, "it has acked nothing");
    drop(client);
    let mut again = RawClient::back(&url, &welcome["token"], 2, 0).await;
    again.expect("welcome").await;
    for _ in 0..UNACKED {
        again.expect_text().await;
    }
    again.frame(&json!({"type": "ack", "received": UNACKED})).await;
    book.wait(&["tidegate_gaps_total"]).await;
    again.close(1000, "").await;
    again.closed().await;
    RawClient::back(&url, &welcome["token"], 3, 0).await.expect("reset").await;
    book.wait_rejected(&["slow_consumer"]).await;
    book.wait(&[
        "tidegate_resumes_total",
        "tidegate_replayed_messages_total",
        "tidegate_resets_total",
        "tidegate_app_events_total",
        "tidegate_admission_seconds",
    ])
    .await;
}

pub(crate) async fn an_app_that_is_away(book: &Book) {
    let app = FakeApp::echo().await;
    let hub = Setup::new("A").app(&app.address).flag("--limit-app-redials", 2).start().await;
    book.watch(&hub);
    app.refuse_with(Some(503));
    let mut client = RawClient::open(&hub.url("/game")).await;
    client.frame(&json!({"type": "hello"})).await;
    client.expect("retry").await;
    book.wait(&["tidegate_app_dials_total{result=\"refused\"}", "tidegate_app_troubles_total"]).await;
}

pub(crate) async fn a_log_that_nobody_reads(book: &Book) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe can be made");
    writer.write_all(&[b'.'; PIPE_BYTES]).expect("a new pipe takes this much");
    let into = Surroundings { stderr: Some(OwnedFd::from(writer).into()), ..Surroundings::default() };
    let hub = Setup::new("A").flag("--log-level", "debug").start_into(into).await;
    book.watch(&hub);
    // More than waits for a reader, by far: every connection that breaks is a line.
    wait_until("lines are dropped and counted", async || {
        let mut broken = JoinSet::new();
        for _ in 0..300 {
            let address = hub.public;
            broken.spawn(async move {
                let mut stream = TcpStream::connect(address).await.expect("the kernel takes it");
                stream.write_all(b"\x01 is no request\r\n\r\n").await.expect("the kernel takes it");
                within("an answer, or the end", stream.read_to_end(&mut Vec::new())).await.unwrap_or_default()
            });
        }
        broken.join_all().await;
        if book.has("tidegate_log_lines_dropped_total") { Ok(()) } else { Err("none so far".to_owned()) }
    })
    .await;
    // From here on it is read, so that the hub can end.
    std::thread::spawn(move || std::io::BufReader::new(reader).read_to_end(&mut Vec::new()));
    hub.stop().await;
}
