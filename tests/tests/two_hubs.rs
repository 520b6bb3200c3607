//! Hubs together, as processes: tokens, pushes, fleet-wide messages and calls across hubs.

#[path = "two_hubs/keys.rs"]
mod keys;

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegate_protocol::client::Settings;
use tidegate_protocol::close::Close;
use tidegate_protocol::control::SessionPhase;
use tidegate_protocol::id::ResumeToken;
use tidegate_tests::{
    AppSocket, Client, FakeApp, Heard, Hub, Kitchen, Pair, RawClient, Relay, Seen, Setup, acquainted, at_once,
    connect_all, drain, free_address, report, unheard, wait_until,
};
use tokio_tungstenite::tungstenite::protocol::Message;

const SECRET: &str = "a key of the two-hub tests, long enough for HS256";
/// Signed with [`SECRET`] by HS256, good until 2100: `sub` is ada, and bob.
const ADA: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9._U150i4E5gSa-K0xIgS8arLV3U_jKFFADph3FDO4KJA";
const BOB: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJib2IiLCJleHAiOjQxMDI0NDQ4MDB9.aLLXtkTkK7lypYA9PAWj00b4lDgzJcE6XWkKaIq4-QQ";

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A hub of a cluster at a known private address, without peers yet.
fn hub_at(name: &str, private: SocketAddr) -> Setup {
    Setup::new(name).in_cluster().at(anywhere(), private).flag("--peer-url", format!("http://{private}"))
}

async fn phase_of(hub: &Hub, session: &str) -> Option<SessionPhase> {
    let lines = hub.api.get("/v1/sessions?limit=1000").await.json();
    let line = lines["sessions"].as_array()?.iter().find(|line| line["session"] == session)?.clone();
    serde_json::from_value(line["phase"].clone()).ok()
}

/// What came with this prefix, without it.
fn numbers(seen: &Seen, prefix: &str) -> Vec<u64> {
    let rest = seen.received.iter().filter_map(|text| text.strip_prefix(prefix)?.strip_prefix(' ')?.parse().ok());
    rest.collect()
}

#[tokio::test]
async fn a_client_that_roams_takes_its_session_along_and_nothing_is_lost_on_the_way() {
    let [at_a, at_b, at_c] = [free_address(), free_address(), free_address()];
    let (a, b, c) = tokio::join!(
        async { hub_at("A", at_a).peer(&at_b).start().await },
        async { hub_at("B", at_b).peer(&at_c).start().await },
        async { hub_at("C", at_c).peer(&at_a).start().await },
    );
    acquainted(&[&a, &b, &c]).await;
    let balancer = Relay::to(a.public).await;
    let client = Client::connect(&balancer.url("/connect")).await;
    let session = client.session();
    let mut moves = 0;
    for (hub, before) in [(&b, &a), (&c, &b), (&a, &c), (&b, &a)] {
        moves += 1;
        balancer.retarget(&[hub.public]);
        balancer.refuse();
        client.wait("the loss of its connection", |seen| !seen.connected).await;
        // The owner numbers it while nobody is there.
        before.api.publish(&json!({"session": session}), &format!("away {moves}")).await;
        client.send(format!("from away {moves}")).await;
        balancer.heal();
        let id = hub.id().await;
        let here = |seen: &Seen| seen.connected && seen.hub.is_some_and(|hub| hub.to_string() == id);
        client.wait("its session on the hub that it came to", here).await;
        // The hub before it shows the way.
        before.api.publish(&json!({"session": session}), &format!("there {moves}")).await;
        client.wait("what was sent meanwhile", |seen| seen.received.len() == 2 * moves && seen.unacked == 0).await;
    }
    let seen = client.seen();
    let expected: Vec<String> = (1..=moves).flat_map(|n| [format!("away {n}"), format!("there {n}")]).collect();
    assert_eq!(seen.received, expected, "each once, in order");
    assert_eq!((seen.resets(), client.session()), (0, session.clone()), "it is the same session");
    let info = b.session(&session).await;
    assert_eq!(info.received, moves as u64, "each of the client's own counted once");
    assert!(info.generation.0 as usize > moves, "each move raised the generation: {info:?}");
}

#[tokio::test]
async fn a_client_that_comes_back_hears_what_was_taken_for_the_ack_before_may_be_lost() {
    let pair = Pair::start(|setup, _| setup).await;
    let (mut client, welcome) = RawClient::welcomed(&pair.a.url("/connect")).await;
    client.text("one").await;
    client.expect("ack").await;
    // Nobody knows whether that ack arrived.
    drop(client);
    for (attempt, hub) in [(2, &pair.a), (3, &pair.b)] {
        let mut again = RawClient::back(&hub.url("/connect"), &welcome["token"], attempt, 0).await;
        assert_eq!(again.expect("welcome").await["received"], 1, "it was counted");
        let ack = loop {
            match again.next().await {
                Heard::Frame(frame) if frame["type"] == "ack" => break frame,
                Heard::Frame(_) => {}
                other => panic!("expected an ack, the hub sent {other:?}"),
            }
        };
        assert_eq!(ack["received"], 1, "and taken: attempt {attempt}");
    }
}

#[tokio::test]
async fn a_client_whose_trail_leads_to_a_hub_that_is_known_to_be_silent_is_answered_soon() {
    let pair = Pair::start(|setup, _| setup).await;
    let (client, welcome) = RawClient::welcomed(&pair.a.url("/connect")).await;
    drop(client);
    drain(&pair.a, at_once(20_000)).await;
    assert_eq!(report(&pair.a).await.sessions.counts.moved, 1, "it was pushed");
    let dead = pair.b.id().await;
    pair.b.kill();
    unheard(&pair.a, &dead).await;
    let mut back = RawClient::back(&pair.a.url("/connect"), &welcome["token"], 2, 0).await;
    let retry = back.expect("retry").await;
    assert_eq!(
        retry["why"], "peer_silent",
        "a claim that waits to its limit is told that it is being located: {retry}"
    );
}

#[tokio::test]
async fn sessions_without_a_connection_are_pushed_in_a_drain_and_resume_on_the_other_hub() {
    let pair = Pair::start(|setup, _| setup).await;
    let balancer = Relay::to(pair.a.public).await;
    let clients = connect_all(&balancer.url("/connect"), 5).await;
    balancer.refuse();
    for client in &clients {
        let detached =
            || async { phase_of(&pair.a, &client.session()).await.filter(|phase| *phase == SessionPhase::Detached) };
        wait_until("a detached session", || async { detached().await.ok_or("it is attached").map_err(str::to_owned) })
            .await;
        client.send("while away").await;
    }
    assert_eq!(pair.a.api.publish(&json!({"all": true}), "news").await, 5);
    drain(&pair.a, at_once(20_000)).await;
    let report = report(&pair.a).await;
    assert_eq!((report.sessions.counts.at_start, report.sessions.counts.moved), (5, 5), "{report:#?}");
    for client in &clients {
        assert_eq!(phase_of(&pair.b, &client.session()).await, Some(SessionPhase::Detached), "it waits on B");
    }
    balancer.retarget(&[pair.b.public]);
    balancer.heal();
    for client in &clients {
        let seen = client.wait("what was sent to it", |seen| !seen.received.is_empty() && seen.unacked == 0).await;
        assert_eq!(seen.received, ["news"]);
        assert_eq!(seen.resets(), 0);
        assert_eq!(pair.b.session(&client.session()).await.received, 1);
    }
}

/// Publishes `<prefix> 1`, `<prefix> 2` … on this hub until told to stop; gives the last number.
async fn publish_on(hub: &Hub, to: Value, prefix: &str, stop: &AtomicBool) -> u64 {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let body = json!({"to": to, "text": format!("{prefix} {n}")});
        let answer = hub.api.post("/v1/publish", &body).await.expect(200);
        assert_eq!(answer["unreachable"], json!([]), "both hubs take part in {prefix} {n}: {answer}");
    }
    n
}

#[tokio::test]
async fn fleet_wide_messages_reach_everyone_once_and_in_order_while_sessions_move() {
    let add = |setup: Setup, _| {
        let key = setup.file("jwt.key", SECRET);
        setup.flag("--auth", "jwt").flag("--jwt-key-file", key.display()).flag("--jwt-algorithm", "HS256")
    };
    let pair = Pair::start(add).await;
    let user = |hub: &Hub, jwt: &str| Settings {
        auth: Some(ResumeToken(jwt.to_owned())),
        ..Client::settings(&hub.url("/connect"))
    };
    let mut clients = Vec::new();
    for n in 0..24 {
        let hub = if n % 4 == 3 { &pair.b } else { &pair.a };
        let client = Client::start(user(hub, if n % 2 == 0 { ADA } else { BOB }));
        client.wait("a welcome", |seen| seen.connected).await;
        if n % 3 == 0 {
            // Asked on A for sessions of both hubs.
            pair.a.api.put(&format!("/v1/sessions/{}/channels/news", client.session())).await.expect(204);
        }
        clients.push(client);
    }
    let stop = AtomicBool::new(false);
    let (all, ada, news) = (json!({"all": true}), json!({"user": "ada"}), json!({"channel": "news"}));
    let publishing = async {
        tokio::join!(
            publish_on(&pair.a, all.clone(), "all A", &stop),
            publish_on(&pair.b, all.clone(), "all B", &stop),
            publish_on(&pair.a, ada.clone(), "ada", &stop),
            publish_on(&pair.b, news.clone(), "news", &stop),
        )
    };
    let moving = async {
        let policy =
            json!({"notice_ms": 100, "window_ms": 1500, "settle_ms": 1000, "deadline_ms": 25000, "stages": [20, 80]});
        drain(&pair.a, policy).await;
        let report = report(&pair.a).await;
        stop.store(true, Ordering::Relaxed);
        report
    };
    let ((all_a, all_b, ada, news), report) = tokio::join!(publishing, moving);
    assert_eq!((report.sessions.counts.moved, report.messages.lost), (18, 0), "{report:#?}");
    for (n, client) in clients.iter().enumerate() {
        let expected = [
            ("all A", all_a),
            ("all B", all_b),
            ("ada", if n % 2 == 0 { ada } else { 0 }),
            ("news", if n % 3 == 0 { news } else { 0 }),
        ];
        let total: u64 = expected.iter().map(|(_, count)| count).sum();
        let seen = client.wait("all that was published", |seen| seen.received.len() as u64 >= total).await;
        for (prefix, count) in expected {
            let wanted: Vec<u64> = (1..=count).collect();
            assert_eq!(numbers(&seen, prefix), wanted, "client {n}: each of \"{prefix}\" once, in order");
        }
        assert_eq!(seen.resets(), 0);
    }
    assert!(all_a > 20 && all_b > 20, "the drain was long enough to publish in it: {all_a} and {all_b}");
}

#[tokio::test]
async fn a_message_of_scope_hub_stays_on_the_hub_that_it_was_posted_to() {
    let pair = Pair::start(|setup, _| setup).await;
    let here = pair.clients(1).await.remove(0);
    let there = Client::connect(&pair.b.url("/connect")).await;
    let local = json!({"to": {"all": true}, "text": "local", "scope": "hub"});
    assert_eq!(pair.a.api.post("/v1/publish", &local).await.expect(200)["sessions"], 1);
    assert_eq!(pair.a.api.publish(&json!({"all": true}), "everywhere").await, 2);
    let seen = here.wait("both messages", |seen| seen.received.len() == 2).await;
    assert_eq!(seen.received, ["local", "everywhere"]);
    let seen = there.wait("the one for everybody", |seen| !seen.received.is_empty()).await;
    assert_eq!(seen.received, ["everywhere"]);
}

/// Every call about one session, made on this hub, for a session of whatever hub.
async fn all_calls_on(hub: &Hub, client: &Client, round: &str) {
    let path = format!("/v1/sessions/{}", client.session());
    hub.api.put_bytes(&format!("{path}/state"), round.as_bytes()).await.expect(204);
    assert_eq!(
        hub.api.get(&format!("{path}/state")).await.body,
        round.as_bytes(),
        "the state comes back as it was put"
    );
    hub.api.put(&format!("{path}/channels/{round}")).await.expect(204);
    let info = hub.session(&client.session()).await;
    assert!(info.channels.iter().any(|name| name == round), "{info:?}");
    assert_eq!((info.phase, info.state_bytes), (SessionPhase::Attached, round.len() as u64), "{info:?}");
    assert_eq!(hub.api.publish(&json!({"channel": round}), &format!("to {round}")).await, 1);
    assert_eq!(hub.api.publish(&json!({"session": client.session()}), &format!("also {round}")).await, 1);
    hub.api.delete(&format!("{path}/channels/{round}")).await.expect(204);
    assert_eq!(hub.api.publish(&json!({"channel": round}), "nobody").await, 0);
    let both = [format!("to {round}"), format!("also {round}")];
    client.wait("both messages", |seen| both.iter().all(|text| seen.received.contains(text))).await;
}

#[tokio::test]
async fn calls_for_a_session_reach_it_from_either_hub_before_and_after_it_moved() {
    let pair = Pair::start(|setup, _| setup).await;
    let client = pair.clients(1).await.remove(0);
    all_calls_on(&pair.a, &client, "a-at-home").await;
    all_calls_on(&pair.b, &client, "b-never-heard-of-it").await;
    pair.a.api.put(&format!("/v1/sessions/{}/channels/kept", client.session())).await.expect(204);
    pair.a.api.put_bytes(&format!("/v1/sessions/{}/state", client.session()), b"\0kept\xff").await.expect(204);
    drain(&pair.a, at_once(20_000)).await;
    assert_eq!(report(&pair.a).await.sessions.counts.moved, 1);
    let state = pair.b.api.get(&format!("/v1/sessions/{}/state", client.session())).await;
    assert_eq!(&state.body[..], b"\0kept\xff", "the state moved with it, byte for byte");
    assert_eq!(pair.b.session(&client.session()).await.channels, ["kept"], "and so did its channels");
    assert_eq!(pair.a.api.publish(&json!({"channel": "kept"}), "kept").await, 1);
    all_calls_on(&pair.a, &client, "a-after-it-left").await;
    all_calls_on(&pair.b, &client, "b-at-home").await;
    pair.a.api.delete(&format!("/v1/sessions/{}", client.session())).await.expect(204);
    let seen = client.wait("the end of its session", |seen| seen.ended().is_some()).await;
    assert_eq!(
        (seen.ended(), seen.resets()),
        (Some(Close::Evicted.code()), 0),
        "evicted from the hub that it had left"
    );
    let gone = format!("/v1/sessions/{}", client.session());
    wait_until("both hubs know nothing of it", || async {
        let (a, b) = (pair.a.api.get(&gone).await, pair.b.api.get(&gone).await);
        if a.status == 404 && b.status == 404 { Ok(()) } else { Err(format!("{a}, {b}")) }
    })
    .await;
}

#[tokio::test]
async fn hubs_find_each_other_by_url_by_name_and_by_a_file_that_changes() {
    let [at_a, at_b, at_c, at_d] = [free_address(), free_address(), free_address(), free_address()];
    let a = hub_at("A", at_a).start().await;
    let by_url = hub_at("B", at_b).flag("--peer", format!("http://{at_a}")).start().await;
    acquainted(&[&a, &by_url]).await;
    let by_name = hub_at("C", at_c).flag("--peer", format!("http://localhost:{}", at_a.port())).start().await;
    acquainted(&[&a, &by_url, &by_name]).await;
    let by_file = hub_at("D", at_d);
    let list = by_file.file("peers", "# nobody yet\n");
    let by_file = by_file.flag("--peers-file", list.display()).start().await;
    assert_eq!(by_file.api.get("/v1/hub").await.json()["peers"], json!([]), "an empty file names nobody");
    by_file.setup().file("peers", &format!("http://{at_b}\n"));
    acquainted(&[&a, &by_url, &by_name, &by_file]).await;
    let client = Client::connect(&by_file.url("/connect")).await;
    assert_eq!(a.api.publish(&json!({"session": client.session()}), "hello").await, 1);
    client.wait("a message by way of another hub", |seen| seen.received == ["hello"]).await;
    by_file.stop().await;
    for hub in [&a, &by_url, &by_name] {
        wait_until("who said goodbye is forgotten at once", || async {
            let peers = hub.api.get("/v1/hub").await.json()["peers"].to_string();
            if peers.contains(&at_d.to_string()) { Err(peers) } else { Ok(()) }
        })
        .await;
    }
}

#[tokio::test]
async fn an_app_gives_its_state_when_asked_and_the_other_instance_gets_it_before_the_socket() {
    let count = |mut socket: AppSocket| async move {
        while let Some(Message::Text(text)) = socket.next().await {
            socket.send(Message::text(format!("heard {text}"))).await;
        }
    };
    let moving = |event: &Value| match event["event"].as_str() {
        Some("moving") => (200, format!("state of {}", event["session"]).into_bytes()),
        _ => (200, Vec::new()),
    };
    let (old, new) = (FakeApp::start_with_events(count, moving).await, FakeApp::start_with_events(count, moving).await);
    let apps = [old.address, new.address];
    let pair = Pair::start(|setup, which| setup.app_with_events(&apps[which])).await;
    let client = pair.clients(1).await.remove(0);
    client.send("one").await;
    client.wait("an echo", |seen| seen.received == ["heard one"]).await;
    drain(&pair.a, at_once(20_000)).await;
    assert_eq!(report(&pair.a).await.sessions.counts.moved, 1);
    client.send("two").await;
    let seen = client.wait("an echo from the other instance", |seen| seen.received.len() == 2).await;
    assert_eq!((seen.resets(), seen.received), (0, vec!["heard one".to_owned(), "heard two".to_owned()]));
    let of_type =
        |app: &FakeApp, kind: &str| app.events().into_iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    assert_eq!(of_type(&old, "moving").len(), 1, "{:?}", old.events());
    let resumed = of_type(&new, "resumed");
    assert_eq!(resumed.len(), 1, "{:?}", new.events());
    assert_eq!(of_type(&new, "opened").len(), 0, "it is not a new session there");
    let state = format!("state of \"{}\"", client.session());
    assert!(resumed[0].to_string().contains(&encoded(state.as_bytes())), "{} carries {state}", resumed[0]);
    let (_, headers) = new.upgrades().remove(0);
    assert_eq!(headers.get("tidegate-resumed").map(|value| value.as_bytes()), Some(&b"1"[..]));
}

/// Base64, as events carry states.
fn encoded(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sign = SIGNS[(word >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place <= chunk.len() { sign } else { '=' });
        }
    }
    text
}

#[tokio::test]
async fn two_kitchens_count_every_message_of_a_drain_once() {
    let (old, new) = tokio::join!(Kitchen::start("old"), Kitchen::start("new"));
    let apps = [old.address, new.address];
    let pair = Pair::start(|setup, which| setup.app_with_events(&apps[which])).await;
    let clients = connect_all(&pair.a.url("/ledger"), 8).await;
    let stop = AtomicBool::new(false);
    let talking = async {
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            for client in &clients {
                client.send(format!("u {n}")).await;
                let answer = format!(" {n}");
                client.wait("the answer", |seen| seen.received.iter().rev().any(|text| text.ends_with(&answer))).await;
            }
        }
        n
    };
    let moving = async {
        let policy =
            json!({"notice_ms": 100, "window_ms": 1000, "settle_ms": 1000, "deadline_ms": 25000, "stages": [100]});
        drain(&pair.a, policy).await;
        let report = report(&pair.a).await;
        stop.store(true, Ordering::Relaxed);
        report
    };
    let (sent, report) = tokio::join!(talking, moving);
    assert_eq!((report.sessions.counts.moved, report.messages.lost), (8, 0), "{report:#?}");
    for client in &clients {
        client.send("sum").await;
        let seen = client.wait("its sum", |seen| seen.received.iter().any(|text| text.starts_with("sum"))).await;
        let sum = seen.received.iter().find(|text| text.starts_with("sum")).expect("it was waited for");
        assert!(sum.starts_with(&format!("sum {sent} 0 0 0 ")), "all {sent} once and in order, says the app: {sum}");
        let pushed: Vec<u64> =
            seen.received.iter().filter_map(|text| text.strip_prefix("d ")?.split(' ').next()?.parse().ok()).collect();
        assert_eq!(pushed, (1..=pushed.len() as u64).collect::<Vec<_>>(), "and all of the app's, says the client");
    }
}
