//! What becomes of a socket and of what hangs on it: restarts, sockets that a drain does not see, clients that do
//! not listen.

use serde_json::{Value, json};
use tidegate_tests::{AppSocket, Client, FakeApp, Heard, Pair, RawClient, Relay, Setup, at_once, drain, report};
use tokio_tungstenite::tungstenite::protocol::Message;

/// An app whose sessions hold what a user has half done, and give it away when they move.
async fn app_with_drafts() -> FakeApp {
    let serve = |mut socket: AppSocket| async move { while let Some(Message::Text(_)) = socket.next().await {} };
    FakeApp::start_with_events(serve, |event: &Value| match event["event"].as_str() {
        Some("moving") => (200, b"half a sentence, not yet sent".to_vec()),
        _ => (200, Vec::new()),
    })
    .await
}

/// Failure 2: what a user had half done is gone with each deployment.
#[tokio::test]
async fn what_a_user_had_half_done_in_the_app_is_there_after_the_deployment() {
    let (old, new) = (app_with_drafts().await, app_with_drafts().await);
    let apps = [old.address, new.address];
    let pair = Pair::start(|setup, which| setup.app_with_events(&apps[which])).await;
    let client = pair.clients(1).await.remove(0);
    drain(&pair.a, at_once(20_000)).await;
    assert_eq!(report(&pair.a).await.sessions.counts.moved, 1);
    let resumed = tidegate_tests::wait_until("the other instance is told of the session", || async {
        let events = new.events();
        let resumed = events.iter().find(|event| event["event"] == "resumed").cloned();
        resumed.ok_or_else(|| format!("{events:?}"))
    })
    .await;
    assert_eq!(resumed["session"], client.session(), "the same session");
    // "half a sentence, not yet sent", as events carry states.
    assert_eq!(resumed["state_base64"], "aGFsZiBhIHNlbnRlbmNlLCBub3QgeWV0IHNlbnQ=");
    assert_eq!(new.events().iter().filter(|event| event["event"] == "opened").count(), 0, "and no new one");
}

/// Failure 3: recovery works for a blip of the network and not for a restart.
#[tokio::test]
async fn a_restart_is_survived_as_a_blip_is() {
    let hub = Setup::new("A").start().await;
    let relay = Relay::to(hub.public).await;
    let client = Client::connect(&relay.url("/connect")).await;
    let (session, to) = (client.session(), json!({"session": client.session()}));
    let mut hub = hub;
    for (round, restart) in [(1, false), (2, true), (3, false), (4, true)] {
        let resumes = client.seen().resumes();
        relay.refuse();
        client.wait("the loss of its connection", |seen| !seen.connected).await;
        hub.api.publish(&to, &format!("while away {round}")).await;
        client.send(format!("from away {round}")).await;
        if restart {
            hub.stop().await;
            hub = hub.setup().start().await;
            relay.retarget(&[hub.public]);
        }
        relay.heal();
        let back = |seen: &tidegate_tests::Seen| seen.received.len() == round && seen.unacked == 0;
        let seen = client.wait("what was said while it was away", back).await;
        assert!(seen.resumes() > resumes, "the session was resumed: {:?}", seen.reports);
    }
    let expected: Vec<String> = (1..=4).map(|round| format!("while away {round}")).collect();
    let seen = client.seen();
    assert_eq!((seen.received.clone(), seen.unsent()), (expected, Vec::new()), "each once and in order");
    assert_eq!(client.session(), session, "it is the same session all along");
    assert_eq!(hub.session(&session).await.received, 4, "and each of the client's own was counted once");
}

/// A client without any SDK, which says hello and then only reads.
async fn dumb(pair: &Pair, count: usize) -> Vec<(RawClient, Value)> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(RawClient::welcomed(&pair.a.url("/connect")).await);
    }
    clients
}

/// Everything that a connection is told, to its end.
async fn to_the_end(client: &mut RawClient) -> (Vec<String>, Option<u16>, String) {
    let mut told = Vec::new();
    loop {
        match client.next().await {
            Heard::Frame(frame) => told.push(frame["type"].as_str().unwrap_or_default().to_owned()),
            Heard::Text(_) | Heard::Binary(_) => {}
            Heard::Close(code, reason) => return (told, code, reason),
        }
    }
}

/// Failure 4: upgraded sockets are invisible to the drain and ride along until they are torn down without a word.
#[tokio::test]
async fn each_socket_is_told_of_the_drain_and_closed_with_a_code_that_means_come_back() {
    let pair = Pair::start(|setup, _| setup).await;
    let mut clients = dumb(&pair, 3).await;
    let policy = json!({
        "notice_ms": 200, "window_ms": 200, "settle_ms": 500, "deadline_ms": 10000, "stages": [100],
        "gate": {"wait_max_ms": 500},
    });
    drain(&pair.a, policy).await;
    for (client, _) in &mut clients {
        let (told, code, reason) = to_the_end(client).await;
        let place = |kind: &str| told.iter().position(|told| told == kind);
        assert!(
            place("notice").is_some() && place("notice") < place("move"),
            "first the notice, then the order: {told:?}"
        );
        assert_eq!(code, Some(1012), "every common client comes back after it: {told:?}, {reason:?}");
    }
    let report = report(&pair.a).await;
    assert_eq!((report.sessions.counts.moved, report.sessions.counts.forced), (3, 0), "{report:#?}");
}

/// Failure 7: there is a notice, and clients ignore it or cannot see it.
#[tokio::test]
async fn a_client_that_ignores_every_word_of_the_drain_finds_its_session_on_the_other_hub() {
    let pair = Pair::start(|setup, _| setup).await;
    let (mut client, welcome) = dumb(&pair, 1).await.remove(0);
    client.text("before the drain").await;
    let to = json!({"session": welcome["session"]});
    assert_eq!(pair.a.api.publish(&to, "one").await, 1);
    assert_eq!(client.expect_text().await, "one");
    drain(&pair.a, at_once(20_000)).await;
    assert_eq!(to_the_end(&mut client).await.1, Some(1012));
    assert_eq!(report(&pair.a).await.sessions.counts.moved, 1, "handed over without its help");
    assert_eq!(pair.a.api.publish(&to, "two").await, 1, "the app reaches it all the while");
    // It comes back as any client does that was closed so: with the token it was given at its welcome.
    let mut again = RawClient::back(&pair.b.url("/connect"), &welcome["token"], 2, 1).await;
    let welcome_again = again.expect("welcome").await;
    assert_eq!(welcome_again["session"], welcome["session"]);
    assert_eq!((&welcome_again["resumed"], &welcome_again["received"]), (&json!(true), &json!(1)));
    assert_eq!(again.expect_text().await, "two", "what it missed, and nothing twice");
}
