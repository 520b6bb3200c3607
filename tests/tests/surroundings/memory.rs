//! Memory that others fill, before anybody believes them.

use crate::sockets::{answer, sent};
use serde_json::{Value, json};
use std::time::Duration;
use tidegate::hub::entrance::HALF_HELLOS_MAX;
use tidegate_protocol::control::SessionPhase;
use tidegate_protocol::frame::MARK;
use tidegate_tests::{RawClient, Setup, wait_until, within};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::protocol::Message;

/// The beginning of a binary frame of so many bytes, masked with zeros, so that the payload is what it is.
fn frame_head(payload_bytes: u64) -> Vec<u8> {
    let mut head = vec![0x82, 0xff];
    head.extend_from_slice(&payload_bytes.to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    head
}

#[tokio::test]
async fn nothing_longer_than_a_hello_is_waited_for_before_the_hello() {
    let hub = Setup::new("A").flag("--limit-hello-time", "60s").start().await;
    let mut client = RawClient::open(&hub.url("/connect")).await;
    client.bytes(&frame_head(1 << 20)).await;
    let (code, reason) = client.closed().await;
    assert_eq!(code, Some(1009), "at its first bytes: {reason}");
}

#[tokio::test]
async fn hellos_that_come_in_parts_have_places_and_whoever_gets_none_is_told_to_come_back() {
    const PARTS: usize = 600;
    const PART_BYTES: usize = 60_000;
    let hub = Setup::new("A").flag("--limit-hello-time", "60s").start().await;
    let mut opening = JoinSet::new();
    for _ in 0..PARTS {
        let url = hub.url("/connect");
        opening.spawn(async move {
            let mut client = RawClient::open(&url).await;
            let mut part = frame_head(PART_BYTES as u64 + 1);
            part.resize(part.len() + PART_BYTES, b'x');
            let _ = client.try_bytes(&part).await;
            client
        });
    }
    let mut closing = JoinSet::new();
    for mut client in opening.join_all().await {
        closing.spawn(async move { client.closed().await });
    }
    for _ in HALF_HELLOS_MAX as usize..PARTS {
        let closed = within("whoever has no place is closed", closing.join_next()).await;
        let (code, reason) = closed.expect("there is one").expect("it is told");
        assert_eq!(code, Some(1013), "{reason}");
    }
    // Whoever is here is served.
    within("a newcomer is welcomed", RawClient::welcomed(&hub.url("/connect"))).await;
}

#[tokio::test]
async fn a_call_between_hubs_is_judged_by_its_head_and_nothing_of_its_body_is_waited_for() {
    let hub = Setup::new("A").start().await;
    for path in ["hello", "messages", "call", "publish", "goodbye"] {
        let head = format!(
            "POST /peer/v1/{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 8000000\r\n\r\n"
        );
        let mut stream = sent(hub.private, head.as_bytes()).await;
        let said = answer(&mut stream).await.unwrap_or_default();
        assert!(said.starts_with("HTTP/1.1 401"), "{path}: {said}");
    }
}

#[tokio::test]
async fn a_body_that_drips_in_has_an_end() {
    let hub = Setup::new("A").flag("--limit-body-time", "300ms").start().await;
    let head = b"POST /v1/publish HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{";
    let stream = sent(hub.private, head).await;
    let (mut reading, mut writing) = tokio::io::split(stream);
    let dripping = tokio::spawn(async move {
        while writing.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut said = Vec::new();
    within("an answer before the body is here", tokio::io::AsyncReadExt::read_buf(&mut reading, &mut said))
        .await
        .expect("an answer");
    assert!(String::from_utf8_lossy(&said).starts_with("HTTP/1.1 4"), "{}", String::from_utf8_lossy(&said));
    dripping.abort();
}

#[tokio::test]
async fn a_flood_of_busy_in_a_drain_holds_one_word_a_session() {
    const FLOODERS: usize = 4;
    const FRAMES: usize = 6_000;
    let hub = Setup::new("A").start().await;
    let mut clients = Vec::new();
    for _ in 0..FLOODERS {
        clients.push(RawClient::welcomed(&hub.url("/connect")).await.0);
    }
    let policy = json!({"notice_ms": 120_000, "window_ms": 1_000, "settle_ms": 1_000, "deadline_ms": 240_000});
    hub.api.post("/v1/drain", &policy).await.expect(202);
    let mut flooding = JoinSet::new();
    let before_kib = hub.memory_kib();
    for mut client in clients {
        let notice = client.expect("notice").await;
        let busy = json!({"type": "busy", "drain": notice["drain"], "ms": 5_000, "why": "w".repeat(20_000)});
        let ready = json!({"type": "busy", "drain": notice["drain"], "ms": 1});
        let (busy, ready) = (format!("{MARK}{busy}"), format!("{MARK}{ready}"));
        flooding.spawn(async move {
            for n in 0..FRAMES {
                let said = if n % 8 == 0 { &busy } else { &ready };
                assert!(client.try_message(Message::text(said.clone())).await, "its connection stays");
            }
            // All of it was read when the answer to what came after it is here.
            client.frame(&json!({"type": "ping"})).await;
            client.expect("pong").await;
            client
        });
    }
    let mut peak_kib = 0;
    while !flooding.is_empty() {
        tokio::select! {
            client = flooding.join_next() => drop(client.expect("there is one").expect("it was served")),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        peak_kib = peak_kib.max(hub.memory_kib());
    }
    let grown_kib = peak_kib.saturating_sub(before_kib);
    assert!(grown_kib < 12 * 1024, "{FLOODERS} clients made it hold {grown_kib} KiB");
    hub.drain().await;
}

#[tokio::test]
async fn what_absent_clients_are_kept_for_is_bounded_in_sum_and_who_went_first_is_told_of_a_gap() {
    const ABSENT: usize = 20;
    let hub = Setup::new("A").flag("--limit-away-bytes", "2MiB").start().await;
    let mut welcomes = Vec::new();
    for n in 0..ABSENT {
        let (client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
        drop(client);
        let session = welcome["session"].as_str().expect("an id").to_owned();
        wait_until("it is gone", async || match hub.session(&session).await.phase {
            SessionPhase::Detached => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        for part in 0..10 {
            let text = format!("{n} {part} {}", "x".repeat(20_000));
            assert_eq!(hub.api.publish(&json!({"session": session}), &text).await, 1);
        }
        welcomes.push(welcome);
    }
    wait_until("the sum is within its bound", async || {
        let text = hub.api.get("/metrics").await;
        let text = String::from_utf8_lossy(&text.body).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("tidegate_unacked_bytes ")).unwrap_or_default();
        if line.parse::<f64>().is_ok_and(|bytes| bytes > 0.0 && bytes <= 2_097_152.0) {
            Ok(())
        } else {
            Err(format!("{line} bytes"))
        }
    })
    .await;
    let back = async |welcome: &Value| {
        let mut client = RawClient::back(&hub.url("/connect"), &welcome["token"], 2, 0).await;
        client.expect("welcome").await;
        client
    };
    let mut first = back(&welcomes[0]).await;
    let gap = first.expect("gap").await;
    assert!(gap["to"].as_u64() > gap["from"].as_u64(), "{gap}");
    assert!(first.expect_text().await.starts_with("0 7 "), "the newest are kept");
    let mut last = back(&welcomes[ABSENT - 1]).await;
    assert!(last.expect_text().await.starts_with("19 0 "), "who went last has everything");
}
