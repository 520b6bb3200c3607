//! Rule 10 between real hubs: the bulk of a session is copied before the freeze, the freeze carries the
//! difference; and what the drain's report says of messages that went twice.

use serde_json::{Value, json};
use tidegate_protocol::control::{DrainReport, SessionPhase};
use tidegate_tests::{Heard, Loss, Pair, RawClient, at_once, drain, report, wait_until};

const KIB: usize = 1024;
/// Longer than any frame of a session without a bulk, and far shorter than a bulk.
const LITTLE_BYTES: u64 = 4 * KIB as u64;

/// A client that acks nothing, its session, and what its next hello needs.
struct Silent {
    client: RawClient,
    session: Value,
    token: Value,
}

impl Silent {
    async fn at(url: &str) -> Self {
        let (client, welcome) = RawClient::welcomed(url).await;
        Self { client, session: welcome["session"].clone(), token: welcome["token"].clone() }
    }

    fn id(&self) -> &str {
        self.session.as_str().expect("a session id is a text")
    }

    /// So many messages of this length, all read by the client and none acked.
    async fn hears(&mut self, pair: &Pair, messages: usize, bytes: usize) {
        for n in 0..messages {
            pair.a.api.publish(&json!({"session": self.session}), &message(n, bytes)).await;
        }
        for n in 0..messages {
            assert!(self.client.expect_text().await == message(n, bytes), "message {n} comes as it was sent");
        }
    }
}

fn message(n: usize, bytes: usize) -> String {
    format!("{n:>bytes$}")
}

/// How long freezes have been at this hub so far, in all, and how many there were.
async fn frozen(pair: &Pair) -> (f64, f64) {
    let answer = pair.a.api.get("/metrics").await;
    let text = String::from_utf8_lossy(&answer.body);
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        line.unwrap_or(0.0)
    };
    (value("tidegate_handover_seconds_sum"), value("tidegate_handover_seconds_count"))
}

/// Moves the session by coming to the second hub, and gives the new connection and the freeze in milliseconds.
async fn comes_to_b(pair: &Pair, silent: &Silent) -> (RawClient, f64) {
    let before = frozen(pair).await;
    let mut attempt = 1;
    // A hub that is slow to answer sends its client away with `retry`, which is no failure.
    let client = loop {
        attempt += 1;
        let mut client = RawClient::back(&pair.b.url("/connect"), &silent.token, attempt, 0).await;
        match client.next().await {
            Heard::Frame(frame) if frame["type"] == "welcome" => break client,
            Heard::Frame(frame) if frame["type"] == "retry" && attempt < 50 => {}
            other => panic!("expected welcome or retry, the hub sent {other:?}"),
        }
    };
    let committed = |now: (f64, f64)| if now.1 > before.1 { Ok(now) } else { Err(format!("{now:?}")) };
    let after = wait_until("the freeze in the metrics", || async { committed(frozen(pair).await) }).await;
    (client, (after.0 - before.0) * 1000.0)
}

#[tokio::test]
async fn the_freeze_of_a_heavy_session_carries_little_more_than_that_of_a_small_one() {
    const MESSAGES: usize = 60;
    let pair = Pair::start(|setup, _| setup).await;
    let mut small = Silent::at(&pair.a.url("/connect")).await;
    small.hears(&pair, 1, 16).await;
    let (mut at_b, small_ms) = comes_to_b(&pair, &small).await;
    assert_eq!(at_b.expect_text().await, message(0, 16));
    assert_eq!(pair.link.carried("bulk"), 0, "a small session goes without a round trip more");
    let small_bytes = pair.link.bytes("snapshot");

    let mut heavy = Silent::at(&pair.a.url("/connect")).await;
    pair.a.api.put_bytes(&format!("/v1/sessions/{}/state", heavy.id()), &[7; 64 * KIB]).await.expect(204);
    heavy.hears(&pair, MESSAGES, 17 * KIB).await;
    let (mut at_b, heavy_ms) = comes_to_b(&pair, &heavy).await;
    for n in 0..MESSAGES {
        assert!(at_b.expect_text().await == message(n, 17 * KIB), "message {n} of the bulk");
    }
    let state = pair.b.api.get(&format!("/v1/sessions/{}/state", heavy.id())).await;
    assert_eq!(state.status, 200, "{state}");
    let (bulk_bytes, freeze_bytes) = (pair.link.bytes("bulk"), pair.link.bytes("difference"));

    // The same session again, but its bulk is lost: the freeze carries everything.
    let mut whole = Silent::at(&pair.a.url("/connect")).await;
    pair.a.api.put_bytes(&format!("/v1/sessions/{}/state", whole.id()), &[7; 64 * KIB]).await.expect(204);
    whole.hears(&pair, MESSAGES, 17 * KIB).await;
    pair.link.lose("bulk", u64::MAX, Loss::Call);
    let (mut at_b, whole_ms) = comes_to_b(&pair, &whole).await;
    assert!(at_b.expect_text().await == message(0, 17 * KIB));
    let whole_bytes = pair.link.bytes("snapshot") - small_bytes;

    println!(
        "freeze: small {small_ms:.1} ms, {small_bytes} bytes; heavy {heavy_ms:.1} ms, {freeze_bytes} bytes after a bulk of {bulk_bytes}; \
         without the bulk {whole_ms:.1} ms, {whole_bytes} bytes"
    );
    assert!(bulk_bytes > (MESSAGES * 17 * KIB + 64 * KIB) as u64, "the bulk was {bulk_bytes} bytes");
    assert!(freeze_bytes < LITTLE_BYTES && small_bytes < LITTLE_BYTES, "{freeze_bytes} and {small_bytes} bytes");
    assert!(whole_bytes > (MESSAGES * 17 * KIB) as u64, "{whole_bytes} bytes without the bulk");
}

#[tokio::test]
async fn a_heavy_session_is_pushed_whole_whatever_is_lost_between_the_hubs() {
    for (kind, loss) in [
        ("bulk", Loss::Call),
        ("bulk", Loss::Answer),
        ("bulk_held", Loss::Call),
        ("difference", Loss::Call),
        ("difference", Loss::Answer),
        ("held", Loss::Call),
        ("committed", Loss::Call),
        ("live", Loss::Call),
    ] {
        let pair = Pair::start(|setup, _| setup).await;
        let mut silent = Silent::at(&pair.a.url("/connect")).await;
        silent.hears(&pair, 4, 17 * KIB).await;
        drop(silent.client);
        pair.link.lose(kind, 1, loss);
        drain(&pair.a, at_once(60_000)).await;
        let report = report(&pair.a).await;
        assert_eq!(report.sessions.counts.moved, 1, "{kind} {loss:?}: {report:#?}");
        assert_eq!(pair.link.lost(), 1, "{kind} was lost once");
        let mut at_b = RawClient::back(&pair.b.url("/connect"), &silent.token, 2, 1).await;
        assert_eq!(at_b.expect("welcome").await["from"], 1, "{kind} {loss:?}");
        for n in 1..4 {
            assert!(at_b.expect_text().await == message(n, 17 * KIB), "{kind} {loss:?}: message {n}");
        }
    }
}

/// Drains the first hub while a client that has read `messages` and acked none is asked to move and comes to
/// the second one, where it says that it has received so many.
async fn moved_with(messages: usize, received: u64) -> DrainReport {
    let pair = Pair::start(|setup, _| setup).await;
    let mut silent = Silent::at(&pair.a.url("/connect")).await;
    silent.hears(&pair, messages, 16).await;
    let away = Silent::at(&pair.a.url("/connect")).await;
    drop(away.client);
    drain(&pair.a, at_once(60_000)).await;
    let order = loop {
        if let Heard::Frame(frame) = silent.client.next().await
            && frame["type"] == "move"
        {
            break frame;
        }
    };
    let mut at_b = RawClient::back(&pair.b.url("/connect"), &order["token"], 2, received).await;
    at_b.expect("welcome").await;
    let report = report(&pair.a).await;
    assert_eq!((report.sessions.counts.moved, report.sessions.resumed), (2, 1), "{report:#?}");
    assert_eq!(pair.b.session(silent.id()).await.phase, SessionPhase::Attached);
    report
}

#[tokio::test]
async fn the_report_counts_what_went_over_both_connections_and_whose_offsets_nobody_has_compared() {
    let report = moved_with(5, 2).await;
    let messages = report.messages;
    assert_eq!((messages.replayed, messages.duplicates_dropped), (3, 3), "3, 4 and 5 went twice: {messages:?}");
    assert_eq!((messages.lost, messages.gaps), (0, 0));
    assert_eq!(messages.unreconciled, 1, "the one whose client stayed away: {messages:?}");
}

#[tokio::test]
async fn a_client_that_says_what_it_has_is_sent_nothing_twice() {
    let messages = moved_with(5, 5).await.messages;
    assert_eq!((messages.replayed, messages.duplicates_dropped, messages.unreconciled), (0, 0, 1), "{messages:?}");
}
