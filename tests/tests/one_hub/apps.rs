//! Apps behind the hub: what they are told at the upgrade, how ends pass, and how they may fail.

use serde_json::{Value, json};
use tidegate_tests::{AppSocket, FakeApp, RawClient, Setup, wait_until};
use tokio_tungstenite::tungstenite::protocol::Message;

#[tokio::test]
async fn the_app_sees_path_query_cookies_and_whose_session_it_is() {
    let app = FakeApp::echo().await;
    let hub = Setup::new("A").app(&app.address).start().await;
    let headers = [("sec-websocket-protocol", "tidegate.v1"), ("cookie", "id=42"), ("origin", "http://localhost")];
    let mut client = RawClient::try_open(&hub.url("/desk/7?lang=de"), &headers).await.expect("an upgrade");
    client.frame(&json!({"type": "hello"})).await;
    let welcome = client.expect("welcome").await;
    let upgrades = wait_until("the app is dialled", || async {
        let upgrades = app.upgrades();
        if upgrades.is_empty() { Err("no upgrade".to_owned()) } else { Ok(upgrades) }
    })
    .await;
    let (target, headers) = &upgrades[0];
    assert_eq!(target, "/desk/7?lang=de");
    let api = format!("http://{}", hub.private);
    for (name, value) in [
        ("cookie", "id=42"),
        ("tidegate-session", welcome["session"].as_str().expect("an id")),
        ("tidegate-resumed", "0"),
        ("tidegate-api", api.as_str()),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(headers.get(name).and_then(|value| value.to_str().ok()), Some(value), "header {name}");
    }
}

#[tokio::test]
async fn the_apps_close_code_reaches_the_client_in_bye() {
    let app = FakeApp::start(|mut socket: AppSocket| async move {
        socket.next().await;
        socket.close(4321, "the game is over").await;
    })
    .await;
    let hub = Setup::new("A").app(&app.address).start().await;
    let (mut client, _) = RawClient::welcomed(&hub.url("/game")).await;
    client.text("my move").await;
    let bye = client.expect("bye").await;
    assert_eq!((&bye["code"], &bye["reason"]), (&json!(4321), &json!("the game is over")));
    client.closed().await;
}

#[tokio::test]
async fn the_clients_bye_reaches_the_app_with_its_code() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let app = FakeApp::start(move |mut socket: AppSocket| {
        let tell = tell.clone();
        async move {
            while let Some(message) = socket.next().await {
                if let Message::Close(Some(frame)) = message {
                    drop(tell.send((u16::from(frame.code), frame.reason.as_str().to_owned())).await);
                }
            }
        }
    })
    .await;
    let hub = Setup::new("A").app(&app.address).start().await;
    let (mut client, _) = RawClient::welcomed(&hub.url("/game")).await;
    client.frame(&json!({"type": "bye", "code": 4100, "reason": "gone fishing"})).await;
    let seen = tidegate_tests::within("the app sees the end", told.recv()).await;
    assert_eq!(seen, Some((4100, "gone fishing".to_owned())));
}

#[tokio::test]
async fn the_events_of_a_session_are_told_in_order_and_keyed() {
    let app = FakeApp::echo().await;
    let hub = Setup::new("A").app_with_events(&app.address).start().await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/game")).await;
    client.close(1000, "").await;
    client.closed().await;
    let events = wait_until("opened and ended are told", || async {
        let events = app.events();
        if events.iter().any(|event| event["event"] == "ended") { Ok(events) } else { Err(format!("{events:?}")) }
    })
    .await;
    let of_session: Vec<&Value> = events.iter().filter(|event| event["session"] == welcome["session"]).collect();
    let names: Vec<&Value> = of_session.iter().map(|event| &event["event"]).collect();
    assert_eq!(names, ["opened", "ended"]);
    let numbers: Vec<u64> = of_session.iter().filter_map(|event| event["n"].as_u64()).collect();
    assert!(numbers.len() == 2 && numbers[0] < numbers[1], "numbered in order: {numbers:?}");
    assert!(of_session.iter().all(|event| event["epoch"] == welcome["epoch"]), "{of_session:?}");
}

#[tokio::test]
async fn an_app_that_is_not_there_means_try_again_and_nothing_else() {
    let app = FakeApp::echo().await;
    let address = app.address;
    drop(app);
    let hub = Setup::new("A").app(&address).flag("--limit-app-dial-time", "500ms").start().await;
    let mut client = RawClient::open(&hub.url("/game")).await;
    client.frame(&json!({"type": "hello"})).await;
    let retry = client.expect("retry").await;
    assert_eq!(retry["why"], "app_unavailable", "{retry}");
    assert_eq!(client.closed().await.0, Some(1013));
}

#[tokio::test]
async fn an_app_that_does_not_read_holds_back_its_own_session_and_no_other() {
    let app = FakeApp::start(|mut socket: AppSocket| async move {
        if socket.target == "/deaf" {
            return std::future::pending().await;
        }
        while let Some(message @ (Message::Text(_) | Message::Binary(_))) = socket.next().await {
            socket.send(message).await;
        }
    })
    .await;
    let hub = Setup::new("A").app(&app.address).start().await;
    let (mut deaf, welcome) = RawClient::welcomed(&hub.url("/deaf")).await;
    let block = vec![7; 200_000];
    let flood = tokio::spawn(async move {
        // Back-pressure ends this early: neither hub nor app takes it all.
        for _ in 0..200 {
            deaf.message(Message::binary(block.clone())).await;
        }
        deaf
    });
    let (mut other, _) = RawClient::welcomed(&hub.url("/echo")).await;
    for n in 0..50 {
        other.text(&n.to_string()).await;
        assert_eq!(other.expect_text().await, n.to_string());
    }
    let info = hub.session(welcome["session"].as_str().expect("an id")).await;
    assert!(info.received < 200, "40 MB are not swallowed for a deaf app: {info:?}");
    flood.abort();
}
