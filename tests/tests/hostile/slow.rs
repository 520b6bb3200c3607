//! Clients that are slow, read nothing, or are busy for ever.

use crate::calm::Calm;
use serde_json::json;
use std::time::Duration;
use tidegate_protocol::control::DrainReport;
use tidegate_tests::{Client, Hub, RawClient, Setup, connect_all, report, wait_until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Slow clients of one kind.
const MANY: usize = 150;

/// Sends a request head byte by byte, and tells whether it was cut off before its end.
async fn drip(address: std::net::SocketAddr, pause: Duration) -> bool {
    let mut stream = TcpStream::connect(address).await.expect("the kernel takes it");
    let head = format!("GET /connect HTTP/1.1\r\nhost: a\r\nx-slow: {}", "y".repeat(4_000));
    let (mut reads, mut writes) = stream.split();
    let writing = async {
        for byte in head.as_bytes() {
            if writes.write_all(&[*byte]).await.is_err() {
                return true;
            }
            tokio::time::sleep(pause).await;
        }
        false
    };
    let mut buffer = [0; 1024];
    let reading = async { while reads.read(&mut buffer).await.is_ok_and(|count| count > 0) {} };
    tokio::select! {
        cut_off = writing => cut_off,
        () = reading => true,
    }
}

#[tokio::test]
async fn a_head_that_drips_in_is_cut_off_at_its_time_and_costs_nobody_else() {
    let calm = Calm::start(|setup| setup).await;
    let address = calm.hub.public;
    calm.under("slow heads", 8, move |going| async move {
        let mut drips = tokio::task::JoinSet::new();
        for _ in 0..MANY {
            drips.spawn(drip(address, Duration::from_millis(50)));
        }
        while let Some(borne) = drips.join_next().await {
            // `--limit-header-time 1s`; the head would take 200 s.
            assert!(borne.expect("it ends"), "a head has its time");
            if going.on() {
                drips.spawn(drip(address, Duration::from_millis(50)));
            }
        }
    })
    .await;
    calm.unharmed();
}

#[tokio::test]
async fn a_hello_that_never_comes_costs_its_time_and_no_more() {
    let calm = Calm::start(|setup| setup).await;
    let url = calm.hub.url("/connect");
    calm.under("no hello", 8, move |going| async move {
        while going.on() {
            let mut mute = Vec::new();
            for _ in 0..MANY {
                mute.push(RawClient::open(&url).await);
            }
            for client in &mut mute {
                let (code, reason) = client.closed().await;
                assert!(code.is_some_and(|code| code >= 4000), "the hub says why: {code:?} {reason}");
            }
        }
    })
    .await;
    calm.unharmed();
}

#[tokio::test]
async fn a_reader_that_never_reads_holds_its_own_limit_of_memory_and_its_publishers_are_told() {
    let calm = Calm::start(|setup| setup).await;
    let (url, api) = (calm.hub.url("/connect"), calm.hub.api.clone());
    const DEAF: u64 = 8;
    // A MiB of unacked messages each by default, once more in buffers on the way, and the calls themselves.
    calm.under("readers that never read", DEAF * 3 + 16, move |going| async move {
        let mut deaf = Vec::new();
        for _ in 0..DEAF {
            deaf.push(RawClient::welcomed(&url).await);
        }
        let text = "x".repeat(60_000);
        let (mut numbered, mut refused) = (0, 0);
        for _ in 0..60 {
            for (_, welcome) in &deaf {
                let body = json!({"to": {"session": welcome["session"]}, "text": text});
                match api.post("/v1/publish", &body).await.status.as_u16() {
                    200 => numbered += 1,
                    503 | 409 | 429 => refused += 1,
                    other => panic!("a publish to a full session was answered {other}"),
                }
            }
        }
        assert!(numbered >= DEAF && refused > 10 * DEAF, "numbered {numbered}, refused {refused}");
        going.hold(deaf).await;
    })
    .await;
    calm.unharmed();
}

async fn drain_with_a_busy_one(hub: &Hub, clients: &[Client]) -> DrainReport {
    let policy = json!({"notice_ms": 500, "window_ms": 500, "settle_ms": 500, "deadline_ms": 6_000, "stages": [100]});
    hub.api.post("/v1/drain", &policy).await.expect(202);
    let report = async {
        tokio::select! {
            report = report(hub) => report,
            // At every moment, not only when it is asked.
            () = async { loop { clients[0].busy(3_600_000).await; tokio::time::sleep(Duration::from_millis(20)).await } } => unreachable!(),
        }
    };
    within("the end of the drain", report).await
}

#[tokio::test]
async fn a_client_that_is_busy_for_ever_delays_itself_until_the_deadline_and_nobody_else() {
    let hub = Setup::new("A").start().await;
    let clients = connect_all(&hub.url("/connect"), 5).await;
    let others = async {
        for client in &clients[1..] {
            client.wait("its release", tidegate_tests::Seen::told_parked).await;
        }
        hub.in_phase("attached").await
    };
    let (report, left) = tokio::join!(drain_with_a_busy_one(&hub, &clients), others);
    assert_eq!(left.len(), 1, "the others went long before it");
    let counts = report.sessions.counts;
    assert_eq!((counts.parked, counts.forced), (5, 0), "{report:#?}");
    assert!(report.took_ms >= 5_000, "at the deadline: {report:#?}");
}

/// Slow is not only the reader: a client that takes a large message byte by byte is served, and only itself.
#[tokio::test]
async fn a_client_that_reads_slowly_gets_everything_in_the_end() {
    let calm = Calm::start(|setup| setup).await;
    let (mut slow, welcome) = RawClient::welcomed(&calm.hub.url("/connect")).await;
    let text = "z".repeat(200_000);
    for _ in 0..4 {
        let body = json!({"to": {"session": welcome["session"]}, "text": text});
        calm.hub.api.post("/v1/publish", &body).await.expect(200);
    }
    calm.under("a slow reader", 16, move |going| async move {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(slow.expect_text().await.len(), 200_000);
        }
        going.hold(slow).await;
    })
    .await;
    wait_until("both are served", || async {
        let attached = calm.hub.in_phase("attached").await.len();
        if attached >= 1 { Ok(()) } else { Err(format!("{attached}")) }
    })
    .await;
    calm.unharmed();
}
