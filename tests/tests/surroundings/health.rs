//! Connections that are no sessions: health checks, half requests, idle ones. They keep nobody out.

use crate::sockets::{answer, probe, sent};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tidegate_tests::{Private, RawClient, Setup, Surroundings, wait_until, within};
use tokio::io::AsyncWriteExt;

const CHECK: &[u8] = b"GET /healthz/live HTTP/1.1\r\nhost: localhost\r\n\r\n";
const LIVE: &str = "HTTP/1.1 200 OK";

#[tokio::test]
async fn health_checks_that_keep_their_connections_keep_nobody_out() {
    const CHECKERS: usize = 60;
    let hub = Setup::new("A").flag("--limit-half-open", 16).flag("--limit-http-connections", 8).start().await;
    let (going, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let checkers: Vec<_> = (0..CHECKERS)
        .map(|_| {
            let (going, asked, address) = (going.clone(), asked.clone(), hub.public);
            tokio::spawn(async move {
                while going.load(Ordering::Relaxed) {
                    let mut stream = sent(address, CHECK).await;
                    // As long as it is answered on the same connection, and then on the next.
                    while let Some(said) = answer(&mut stream).await {
                        assert!(said.starts_with(LIVE), "{said}");
                        asked.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        if !going.load(Ordering::Relaxed) || stream.write_all(CHECK).await.is_err() {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    wait_until("everybody checks", || async {
        let asked = asked.load(Ordering::Relaxed);
        if asked > 4 * CHECKERS as u64 { Ok(()) } else { Err(format!("{asked} checks")) }
    })
    .await;
    for _ in 0..3 {
        assert_eq!(probe(hub.public).await, LIVE);
        within("a newcomer is welcomed among them", RawClient::welcomed(&hub.url("/connect"))).await;
    }
    let metrics = hub.api.get("/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let open = metrics.lines().find_map(|line| line.strip_prefix("tidegate_http_connections ")?.parse::<u64>().ok());
    assert!(open.is_some_and(|open| open <= 8), "those that stay are counted, and bounded: {open:?}");
    going.store(false, Ordering::Relaxed);
    for checker in checkers {
        checker.await.expect("every check was answered");
    }
}

#[tokio::test]
async fn half_open_connections_leave_descriptors_to_the_private_listener_and_make_room_for_newcomers() {
    const SILENT: usize = 300;
    // They would have their time for as long as the test lasts.
    let setup = Setup::new("A").flag("--limit-header-time", "60s");
    let around = Surroundings { open_files: Some([200, 200]), ..Surroundings::default() };
    let hub = setup.start_into(around).await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    let mut silent = Vec::new();
    for n in 0..SILENT {
        // Some have begun a request, some have not.
        silent.push(sent(hub.public, if n % 2 == 0 { b"GET /connect HTTP/1.1\r\n" } else { b"" }).await);
    }
    for n in 0..20 {
        // Each on a connection of its own.
        assert_eq!(Private::new(hub.private).get("/v1/hub").await.status, 200);
        assert_eq!(probe(hub.private).await, LIVE);
        let to = serde_json::json!({"session": welcome["session"]});
        assert_eq!(hub.api.publish(&to, &format!("{n}")).await, 1);
        assert_eq!(client.expect_text().await, n.to_string());
    }
    within("a newcomer is welcomed among them", RawClient::welcomed(&hub.url("/connect"))).await;
    assert_eq!(probe(hub.public).await, LIVE);
    drop(silent);
}

#[tokio::test]
async fn a_connection_may_rest_between_two_checks_for_long_and_has_an_end() {
    let hub = Setup::new("A").flag("--limit-header-time", "300ms").flag("--limit-idle-time", "3s").start().await;
    for address in [hub.public, hub.private] {
        let mut stream = sent(address, CHECK).await;
        assert!(answer(&mut stream).await.is_some_and(|said| said.starts_with(LIVE)));
        // Longer than a request may take to arrive.
        tokio::time::sleep(Duration::from_millis(900)).await;
        stream.write_all(CHECK).await.expect("it is still open");
        assert!(answer(&mut stream).await.is_some_and(|said| said.starts_with(LIVE)), "{address} answers again");
        assert_eq!(answer(&mut stream).await, None, "and closes in the end");
    }
}
