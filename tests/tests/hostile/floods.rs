//! Floods: pings, frames of ours, acks of nonsense, hellos, channels.

use crate::calm::{Calm, Going};
use serde_json::{Value, json};
use tidegate_protocol::frame::MARK;
use tidegate_tests::{RawClient, Refused};
use tokio_tungstenite::tungstenite::protocol::Message;

/// Attackers of one kind at a time.
const ATTACKERS: usize = 4;

/// Sends this message without a pause and without reading, from several welcomed clients. A client that is
/// closed is replaced by the next, which must be rare: a flood that is refused attacks something else.
async fn flood(url: String, message: impl Fn(u64) -> Message + Clone + Send + 'static, going: Going) {
    let mut attackers = tokio::task::JoinSet::new();
    for _ in 0..ATTACKERS {
        let (url, message, going) = (url.clone(), message.clone(), going.clone());
        attackers.spawn(async move {
            let (mut sent, mut clients) = (0, 0);
            while going.on() {
                let Ok(mut client) = hello(&url).await else { continue };
                clients += 1;
                while going.on() && !client.over {
                    client.send(message(sent), &going).await;
                    sent += 1;
                }
            }
            (sent, clients)
        });
    }
    let (mut all, mut clients) = (0, 0);
    while let Some(attacker) = attackers.join_next().await {
        let (sent, needed) = attacker.expect("an attacker does not fail");
        (all, clients) = (all + sent, clients + needed);
    }
    assert!(all > 500, "that was no flood: {all} messages");
    assert!(clients * 100 < all, "that was a flood of refusals: {all} messages by {clients} clients");
}

/// A client that only writes.
struct Writer {
    client: RawClient,
    over: bool,
}

impl Writer {
    /// A hub that reads no more holds it back; then it waits for the end of the attack.
    async fn send(&mut self, message: Message, going: &Going) {
        tokio::select! {
            sent = self.client.try_message(message) => self.over = !sent,
            () = going.hold(()) => {}
        }
    }
}

async fn hello(url: &str) -> Result<Writer, Refused> {
    let mut client = RawClient::try_open(url, &[("sec-websocket-protocol", "tidegate.v1")]).await?;
    client.frame(&json!({"type": "hello"})).await;
    client.expect("welcome").await;
    Ok(Writer { client, over: false })
}

fn frame(frame: &Value) -> Message {
    Message::text(format!("{MARK}{frame}"))
}

#[tokio::test]
async fn floods_of_pings_of_either_kind_are_held_back_by_their_own_socket() {
    let calm = Calm::start(|setup| setup).await;
    let url = calm.hub.url("/connect");
    // Whoever reads nothing leaves pongs in the hub; one that is closed for it is replaced at once, and the allocator
    // gives memory back with a delay. 4 MiB were measured.
    calm.under("WebSocket pings", 24, {
        let url = url.clone();
        move |going| flood(url, |n| Message::Ping(n.to_be_bytes().repeat(15).into()), going)
    })
    .await;
    calm.under("ping frames", 8, move |going| flood(url, |_| frame(&json!({"type": "ping"})), going)).await;
    calm.unharmed();
}

#[tokio::test]
async fn floods_of_acks_and_drain_words_that_mean_nothing_change_nothing() {
    let calm = Calm::start(|setup| setup).await;
    let url = calm.hub.url("/connect");
    calm.under("acks of nothing", 8, {
        let url = url.clone();
        move |going| flood(url, |_| frame(&json!({"type": "ack", "received": 0})), going)
    })
    .await;
    calm.under("acks of nonsense", 8, {
        let url = url.clone();
        move |going| flood(url, |n| frame(&json!({"type": "ack", "received": (n * 7_919) % (1 << 40)})), going)
    })
    .await;
    calm.under("busy outside a drain", 8, move |going| {
        let drain = format!("{:032x}", 1);
        flood(
            url,
            move |_| frame(&json!({"type": "busy", "drain": drain, "ms": 9_000_000, "why": "w".repeat(900)})),
            going,
        )
    })
    .await;
    calm.unharmed();
}

#[tokio::test]
async fn a_flood_of_hellos_fills_the_table_of_sessions_to_its_limit_and_not_beyond() {
    const SESSIONS: u64 = 300;
    let calm = Calm::start(|setup| setup.flag("--limit-sessions", SESSIONS).flag("--session-ttl", "30s")).await;
    let (url, api) = (calm.hub.url("/connect"), calm.hub.api.clone());
    calm.under("hellos", 16, move |going| async move {
        let mut attackers = tokio::task::JoinSet::new();
        for _ in 0..ATTACKERS {
            let (url, going) = (url.clone(), going.clone());
            attackers.spawn(async move {
                while going.on() {
                    // Gone without a word: each leaves a session that waits for its client.
                    if let Ok(mut client) =
                        RawClient::try_open(&url, &[("sec-websocket-protocol", "tidegate.v1")]).await
                    {
                        client.frame(&json!({"type": "hello"})).await;
                        drop(client.next().await);
                    }
                }
            });
        }
        while attackers.join_next().await.is_some() {}
        let listed = api.get("/v1/sessions?limit=1000").await.json();
        let count = listed["sessions"].as_array().map_or(0, Vec::len) as u64;
        assert!(count <= SESSIONS, "{count} sessions; at most {SESSIONS}");
    })
    .await;
    calm.unharmed();
}

#[tokio::test]
async fn huge_names_and_too_many_channels_are_refused_and_cost_nothing() {
    let calm = Calm::start(|setup| setup).await;
    let (url, api) = (calm.hub.url("/connect"), calm.hub.api.clone());
    calm.under("channels", 8, move |going| async move {
        let (client, welcome) = RawClient::welcomed(&url).await;
        let path = format!("/v1/sessions/{}/channels", welcome["session"].as_str().expect("an id"));
        let (mut joined, mut refused) = (0, 0);
        for n in 0..200 {
            match api.put(&format!("{path}/room-{n}")).await.status.as_u16() {
                204 => joined += 1,
                409 | 422 | 503 => refused += 1,
                other => panic!("a join was answered {other}"),
            }
        }
        assert_eq!((joined, refused), (64, 136), "--limit-channels");
        for length in [300, 4_000, 14_000] {
            let answer = api.put(&format!("{path}/{}", "n".repeat(length))).await;
            assert!(matches!(answer.status.as_u16(), 400 | 414 | 422 | 431), "{length} bytes: {}", answer.status);
        }
        going.hold(client).await;
    })
    .await;
    calm.unharmed();
}
