//! An app that refuses, flaps, hangs or falls silent: its clients are told within bounds, and nobody is left on an
//! open connection behind which nothing is.

use serde_json::{Value, json};
use tidegate_protocol::close::slot_ms;
use tidegate_tests::{AppSocket, FakeApp, Hub, RawClient, Setup, wait_until};
use tokio_tungstenite::tungstenite::protocol::Message;

/// An app that echoes, and ends a socket with 1011 when it is told to `fall`.
async fn falling() -> FakeApp {
    FakeApp::start(|mut socket: AppSocket| async move {
        while let Some(message @ (Message::Text(_) | Message::Binary(_))) = socket.next().await {
            if message == Message::text("fall") {
                return socket.close(1011, "fell over").await;
            }
            socket.send(message).await;
        }
    })
    .await
}

async fn metrics(hub: &Hub) -> String {
    String::from_utf8_lossy(&hub.api.get("/metrics").await.body).into_owned()
}

/// A client whose app fell over and answers with this status from then on.
async fn fallen(app: &FakeApp, hub: &Hub, status: u16) -> (RawClient, Value) {
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/game")).await;
    client.text("hello").await;
    assert_eq!(client.expect_text().await, "hello");
    app.refuse_with(Some(status));
    client.text("fall").await;
    (client, welcome)
}

/// Comes back until it is welcomed; says with which try.
async fn welcomed_back(hub: &Hub, token: &Value, mut attempt: u32) -> RawClient {
    wait_until("the session is welcomed back", || {
        attempt += 1;
        let now = attempt;
        async move {
            let mut client = RawClient::back(&hub.url("/game"), token, now, 1).await;
            match client.next().await {
                tidegate_tests::Heard::Frame(frame) if frame["type"] == "welcome" => {
                    assert_eq!(frame["resumed"], json!(true), "the session was kept: {frame}");
                    Ok(client)
                }
                other => Err(format!("{other:?}")),
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_client_whose_app_is_away_is_sent_away_with_a_slot_and_let_in_again_when_it_is_back() {
    for status in [503, 403, 404] {
        let app = falling().await;
        let hub = Setup::new("A").app(&app.address).flag("--limit-app-redials", "3").start().await;
        let (mut client, welcome) = fallen(&app, &hub, status).await;
        let (code, reason) = client.closed().await;
        assert_eq!(code, Some(1013), "{reason}");
        assert!(reason.starts_with("app unavailable: ") && reason.contains(&status.to_string()), "{reason}");
        assert!(slot_ms(1013, &reason).is_some_and(|slot| slot >= 1_000), "it carries a slot: {reason}");
        // It comes back too early: there is still nothing behind the hub.
        let mut early = RawClient::back(&hub.url("/game"), &welcome["token"], 2, 1).await;
        assert_eq!(early.expect("retry").await["why"], "app_unavailable");
        assert_eq!(early.closed().await.0, Some(1013));
        app.refuse_with(None);
        let mut client = welcomed_back(&hub, &welcome["token"], 2).await;
        client.text("again").await;
        assert_eq!(client.expect_text().await, "again");
    }
}

#[tokio::test]
async fn an_app_that_refuses_for_good_ends_it_for_newcomers_and_for_those_who_are_here_alike() {
    for (flags, status) in [(&[][..], 401), (&[("--app-final-status", "403")][..], 403)] {
        let app = falling().await;
        let mut setup = Setup::new("A").app(&app.address);
        for (flag, value) in flags {
            setup = setup.flag(flag, value);
        }
        let hub = setup.start().await;
        let (mut client, _) = fallen(&app, &hub, status).await;
        assert_eq!(client.expect("bye").await["code"], json!(1008));
        assert_eq!(client.closed().await.0, Some(1008));
        let mut newcomer = RawClient::open(&hub.url("/game")).await;
        newcomer.frame(&json!({"type": "hello"})).await;
        let (code, reason) = newcomer.closed().await;
        assert!(code == Some(1008) && reason.contains(&status.to_string()), "{code:?} {reason}");
    }
}

#[tokio::test]
async fn what_an_ingress_says_without_an_endpoint_is_not_final_for_a_newcomer_either() {
    let app = falling().await;
    let hub = Setup::new("A").app(&app.address).flag("--limit-app-redials", "2").start().await;
    for status in [403, 404, 502] {
        app.refuse_with(Some(status));
        let mut newcomer = RawClient::open(&hub.url("/game")).await;
        newcomer.frame(&json!({"type": "hello"})).await;
        assert_eq!(newcomer.expect("retry").await["why"], "app_unavailable", "{status}");
    }
}

#[tokio::test]
async fn an_app_that_opens_and_ends_at_once_is_dialled_so_many_times_and_no_more() {
    const REDIALS: usize = 4;
    let app = FakeApp::start(|mut socket: AppSocket| async move { socket.close(1011, "not today").await }).await;
    let hub = Setup::new("A").app(&app.address).flag("--limit-app-redials", REDIALS).start().await;
    let (mut client, _) = RawClient::welcomed(&hub.url("/game")).await;
    let (code, reason) = client.closed().await;
    assert!(code == Some(1013) && reason.starts_with("app unavailable: "), "{code:?} {reason}");
    assert_eq!(app.upgrades().len(), REDIALS);
}

#[tokio::test]
async fn an_app_that_never_answers_a_dial_is_given_up_when_its_time_is_over() {
    let app = falling().await;
    let hub = Setup::new("A").app(&app.address).flag("--limit-app-redial-time", "1s").start().await;
    let (mut client, _) = fallen(&app, &hub, 0).await;
    let (code, reason) = client.closed().await;
    assert!(code == Some(1013) && reason.starts_with("app unavailable: "), "{code:?} {reason}");
}

#[tokio::test]
async fn a_path_to_the_app_that_died_without_a_word_is_found_and_another_one_taken() {
    let sockets = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let app = FakeApp::start(move |mut socket: AppSocket| {
        let first = sockets.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        async move {
            if first {
                // It is open, and nobody will ever read it: as a balancer that forgot the connection.
                return std::future::pending().await;
            }
            while let Some(message @ (Message::Text(_) | Message::Binary(_))) = socket.next().await {
                socket.send(message).await;
            }
        }
    })
    .await;
    let hub = Setup::new("A").app(&app.address).flag("--limit-heartbeat", "500ms").start().await;
    let (_client, welcome) = RawClient::welcomed(&hub.url("/game")).await;
    wait_until("the dead path is given up and another one opened", || async {
        let dials = app.upgrades().len();
        if dials >= 2 { Ok(()) } else { Err(format!("{dials} dials")) }
    })
    .await;
    // The client of the test reads nothing meanwhile, and may be closed for that.
    let mut client = RawClient::back(&hub.url("/game"), &welcome["token"], 2, 0).await;
    client.expect("welcome").await;
    client.text("still there?").await;
    assert_eq!(client.expect_text().await, "still there?");
    let metrics = metrics(&hub).await;
    assert!(!metrics.contains("tidegate_app_troubles_total{why=\"silent\"} 0"), "{metrics}");
}

/// What an app says that cannot be passed on: bytes, the code that it gets, and a word of the reason.
async fn ends_with_app_error(bytes: Vec<u8>, why: &str, words: &str) {
    let (tell, mut told) = tokio::sync::mpsc::channel(4);
    let app = FakeApp::start(move |mut socket: AppSocket| {
        let (bytes, tell) = (bytes.clone(), tell.clone());
        async move {
            socket.next().await;
            socket.bytes(&[&[0x81, 2, b'o', b'k'][..], &bytes, &[0x81, 4, b'n', b'e', b'x', b't']].concat()).await;
            while let Some(message) = socket.next().await {
                if let Message::Close(Some(frame)) = message {
                    tell.send(u16::from(frame.code)).await.expect("the test waits for it");
                }
            }
        }
    })
    .await;
    let hub = Setup::new("A").app(&app.address).start().await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/game")).await;
    client.text("go").await;
    assert_eq!(client.expect_text().await, "ok", "what came before counts");
    let bye = client.expect("bye").await;
    assert_eq!(bye["code"], json!(1012));
    let (code, reason) = client.closed().await;
    assert!(code == Some(1012) && reason.starts_with("app error: ") && reason.contains(words), "{code:?} {reason}");
    let code = tidegate_tests::within("the app is told why", told.recv()).await;
    assert!(matches!(code, Some(1002 | 1007 | 1009)), "{code:?}");
    let metrics = metrics(&hub).await;
    assert!(metrics.contains(&format!("tidegate_app_troubles_total{{why=\"{why}\"}} 1")), "{metrics}");
    // Whoever comes back with the token is told that its session is over.
    let mut back = RawClient::back(&hub.url("/game"), &welcome["token"], 2, 1).await;
    assert_eq!(back.expect("reset").await["replaces"], welcome["session"]);
}

#[tokio::test]
async fn a_message_of_the_app_above_the_limit_is_told_to_its_client() {
    let mut message = vec![0x82, 127];
    message.extend_from_slice(&(2u64 << 20).to_be_bytes());
    message.extend(std::iter::repeat_n(7, 2 << 20));
    ends_with_app_error(message, "too_large", "at most").await;
}

#[tokio::test]
async fn a_broken_frame_of_the_app_is_told_to_its_client() {
    ends_with_app_error(vec![0xf1, 0], "protocol", "").await;
}

#[tokio::test]
async fn a_text_of_the_app_that_is_not_utf8_is_told_to_its_client() {
    ends_with_app_error(vec![0x81, 2, 0xc3, 0x28], "utf8", "UTF-8").await;
}
