//! The kitchen over real sockets, as a hub sees it.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tidegate_kitchen::{DEFAULT_LISTEN, Sdk, Settings, listen, serve};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

type Socket = WebSocketStream<TcpStream>;

/// A kitchen in this process, stopped when dropped.
struct Running {
    address: String,
    _stop: oneshot::Sender<()>,
}

struct Answer {
    status: u16,
    kind: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }
}

fn start(name: &str, push_ms: u64) -> Running {
    start_with(name, push_ms, Sdk::default())
}

fn start_with(name: &str, push_ms: u64, sdk: Sdk) -> Running {
    let listener = listen(DEFAULT_LISTEN).expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let settings = Settings {
        name: name.to_owned(),
        hub_url: "ws://127.0.0.1:8080".to_owned(),
        ledger_push_ms: push_ms,
        sessions_max: 4,
    };
    tokio::spawn(serve(listener, settings, sdk, async {
        let _ = stopped.await;
    }));
    Running { address, _stop: stop }
}

impl Running {
    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<bytes::Bytes>>();
        let mut request = axum::http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let answer = client.request(request.body(Full::from(body)).expect("a request")).await.expect("an answer");
        let kind = answer.headers().get("content-type").map(|kind| kind.to_str().expect("text").to_owned());
        Answer {
            status: answer.status().as_u16(),
            kind: kind.unwrap_or_default(),
            body: answer.into_body().collect().await.expect("a body").to_bytes().to_vec(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None).await
    }

    async fn event(&self, event: Value) -> Answer {
        self.ask("POST", "/tidegate/events", Some(event)).await
    }

    async fn dial(&self, path: &str, session: &str, resumed: bool) -> Result<Socket, Error> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request()?;
        if !session.is_empty() {
            request.headers_mut().insert("Tidegate-Session", session.parse().expect("a header"));
        }
        request.headers_mut().insert("Tidegate-Resumed", if resumed { "1" } else { "0" }.parse().expect("a header"));
        let stream = TcpStream::connect(&self.address).await?;
        client_async(request, stream).await.map(|(socket, _)| socket)
    }
}

async fn hear(socket: &mut Socket) -> String {
    let heard = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("the kitchen says something");
    match heard.expect("the socket is open").expect("the socket works") {
        Message::Text(text) => text.as_str().to_owned(),
        other => panic!("expected a text, got {other:?}"),
    }
}

async fn hear_json(socket: &mut Socket) -> Value {
    serde_json::from_str(&hear(socket).await).expect("JSON")
}

async fn say(socket: &mut Socket, text: impl Into<String>) {
    socket.send(Message::text(text.into())).await.expect("the socket works");
}

/// Closes as a hub does in a handover, and reads what the kitchen still says; returns it.
async fn close_1012(socket: &mut Socket) -> Vec<String> {
    let frame = CloseFrame { code: 1012.into(), reason: "moving".into() };
    socket.send(Message::Close(Some(frame))).await.expect("the socket works");
    let mut rest = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message {
            rest.push(text.as_str().to_owned());
        }
    }
    rest
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test]
async fn an_order_is_cooked_and_each_step_is_pushed() {
    let kitchen = start("A", 0);
    kitchen.event(json!({"event": "opened", "session": "s", "epoch": 1, "n": 1, "hub": "h1"})).await;
    let mut socket = kitchen.dial("/kitchen/any/where?x=1", "s", false).await.expect("dialled");
    let board = hear_json(&mut socket).await;
    let expected =
        json!({"type": "board", "kitchen": "A", "hub": "h1", "remembered": true, "tickets": [], "picked_up": 0});
    assert_eq!(board, expected);

    say(&mut socket, r#"{"order":"bread"}"#).await;
    let ticket = hear_json(&mut socket).await;
    assert_eq!(ticket["ticket"]["state"], "cooking", "got {ticket}");
    let ready = hear_json(&mut socket).await;
    assert_eq!((&ready["ticket"]["id"], &ready["ticket"]["state"]), (&json!(1), &json!("ready")), "got {ready}");

    say(&mut socket, r#"{"pick_up":1}"#).await;
    assert_eq!(hear_json(&mut socket).await, json!({"type": "picked_up", "id": 1, "picked_up": 1}));
    say(&mut socket, r#"{"order":""}"#).await;
    assert_eq!(hear_json(&mut socket).await["type"], "refused");
    say(&mut socket, "one soup please").await;
    let refused = hear_json(&mut socket).await;
    assert!(refused["why"].as_str().is_some_and(|why| why.starts_with("not understood")), "got {refused}");
}

#[tokio::test]
async fn a_session_moves_to_another_kitchen_with_every_order_that_was_written_before_the_close() {
    let (here, there) = (start("A", 0), start("B", 0));
    here.event(json!({"event": "opened", "session": "s", "epoch": 1, "n": 1})).await;
    let mut socket = here.dial("/kitchen", "s", false).await.expect("dialled");
    hear(&mut socket).await;
    say(&mut socket, r#"{"order":"curry"}"#).await;
    hear(&mut socket).await;

    // The hub posts `moving`, and what a guest typed in the last moment goes in front of the close.
    let moving = here.event(json!({"event": "moving", "session": "s", "epoch": 1, "n": 2}));
    let closing = async {
        tokio::task::yield_now().await;
        say(&mut socket, r#"{"order":"tart"}"#).await;
        close_1012(&mut socket).await
    };
    let (moving, said) = tokio::join!(moving, closing);
    assert_eq!((moving.status, moving.kind.as_str()), (200, "application/octet-stream"));
    assert!(said.iter().any(|text| text.contains("tart")), "the last answer came before the close: {said:?}");

    let state = base64(&moving.body);
    let resumed = json!({"event": "resumed", "session": "s", "epoch": 1, "n": 3, "hub": "h2", "state_base64": state});
    assert_eq!(there.event(resumed.clone()).await.status, 200);
    assert_eq!(there.event(resumed).await.status, 200, "at least once means it may come twice");
    let mut socket = there.dial("/kitchen", "s", true).await.expect("dialled");
    let board = hear_json(&mut socket).await;
    assert_eq!((&board["kitchen"], &board["hub"], &board["remembered"]), (&json!("B"), &json!("h2"), &json!(true)));
    let orders: Vec<_> = board["tickets"].as_array().expect("a list").iter().map(|ticket| &ticket["order"]).collect();
    assert_eq!(orders, ["curry", "tart"]);
    let left = board["tickets"][0]["remaining_ms"].as_u64().expect("a number");
    // On a quick machine not a millisecond has passed since the order.
    assert!((5_000..=11_000).contains(&left), "the curry cooks on with what was left, not {left} ms");
}

#[tokio::test]
async fn a_socket_that_is_not_closed_makes_moving_fail_in_time_and_the_guest_notices_nothing() {
    let kitchen = start("A", 0);
    let mut socket = kitchen.dial("/kitchen", "s", false).await.expect("dialled");
    hear(&mut socket).await;
    let begun = std::time::Instant::now();
    let answer = kitchen.event(json!({"event": "moving", "session": "s", "epoch": 1, "n": 2})).await;
    assert_eq!(answer.status, 503, "said: {}", answer.text());
    assert!(begun.elapsed() < Duration::from_millis(1_000), "the hub waits 1 s, we took {:?}", begun.elapsed());
    say(&mut socket, r#"{"order":"soup"}"#).await;
    assert_eq!(hear_json(&mut socket).await["ticket"]["order"], "soup");
}

#[tokio::test]
async fn the_ledger_answers_pushes_and_sums_and_moves_with_its_session() {
    let (here, there) = (start("A", 20), start("B", 0));
    let mut socket = here.dial("/ledger", "s", false).await.expect("dialled");
    for n in [1, 2, 4, 4, 3] {
        say(&mut socket, format!("u {n}")).await;
    }
    let (mut answers, mut pushes, mut last) = (Vec::new(), 0, 0);
    while answers.len() < 5 || pushes < 3 {
        let line = hear(&mut socket).await;
        let numbers: Vec<u64> = line.split(' ').skip(1).map(|n| n.parse().expect("a number")).collect();
        assert_eq!(numbers[0], last + 1, "the app counts without a hole: {line}");
        last = numbers[0];
        if numbers[1] == 0 { pushes += 1 } else { answers.push(numbers[1]) }
    }
    assert_eq!(answers, [1, 2, 4, 4, 3]);

    let moving = here.event(json!({"event": "moving", "session": "s", "epoch": 1, "n": 1}));
    let (moving, rest) = tokio::join!(moving, close_1012(&mut socket));
    let sent = last + rest.len() as u64;
    let state = base64(&moving.body);
    there.event(json!({"event": "resumed", "session": "s", "epoch": 1, "n": 2, "state_base64": state})).await;
    let mut socket = there.dial("/ledger", "s", true).await.expect("dialled");
    say(&mut socket, "u 5").await;
    assert_eq!(hear(&mut socket).await, format!("d {} 5", sent + 1), "the app's own counter goes on");
    say(&mut socket, "sum").await;
    assert_eq!(hear(&mut socket).await, format!("sum 5 0 1 1 {}", sent + 1));
    say(&mut socket, "u nothing").await;
    assert!(hear(&mut socket).await.starts_with("not understood"));
}

#[tokio::test]
async fn a_second_socket_of_a_session_replaces_the_first() {
    let kitchen = start("A", 0);
    let mut first = kitchen.dial("/kitchen", "s", false).await.expect("dialled");
    hear(&mut first).await;
    let mut second = kitchen.dial("/kitchen", "s", true).await.expect("dialled");
    assert_eq!(hear_json(&mut second).await["remembered"], true);
    let end = tokio::time::timeout(Duration::from_secs(5), first.next()).await.expect("the first is told");
    match end {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 4000),
        other => panic!("expected a close with 4000, got {other:?}"),
    }
}

#[tokio::test]
async fn a_session_whose_state_is_lost_or_damaged_is_told_so() {
    let kitchen = start("A", 0);
    let event = json!({"event": "resumed", "session": "s", "epoch": 1, "n": 5, "state_base64": base64(b"not ours")});
    assert_eq!(kitchen.event(event).await.status, 200, "the hub has nothing better");
    let mut socket = kitchen.dial("/kitchen", "s", true).await.expect("dialled");
    assert_eq!(hear_json(&mut socket).await["remembered"], false);
}

#[tokio::test]
async fn what_is_not_from_a_hub_is_refused_with_the_reason() {
    let kitchen = start("A", 0);
    match kitchen.dial("/kitchen", "", false).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 400),
        other => panic!("expected 400 without a session, got {other:?}"),
    }
    let answer = kitchen.ask("POST", "/tidegate/events", Some(json!({"session": "s"}))).await;
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("missing field `event`"), "said: {}", answer.text());
    for at in 0..4 {
        kitchen.event(json!({"event": "opened", "session": format!("s{at}"), "epoch": 1, "n": 1})).await;
    }
    let full = kitchen.event(json!({"event": "opened", "session": "one more", "epoch": 1, "n": 1})).await;
    assert_eq!(full.status, 503);
    assert!(full.text().contains("4 sessions"), "said: {}", full.text());
    assert_eq!(kitchen.event(json!({"event": "ended", "session": "s0", "epoch": 1, "n": 2})).await.status, 200);
    let more = kitchen.event(json!({"event": "opened", "session": "one more", "epoch": 1, "n": 1})).await;
    assert_eq!(more.status, 200);
    assert_eq!(kitchen.event(json!({"event": "drain", "hub": "h1"})).await.status, 200, "events without a session");
}

#[tokio::test]
async fn the_page_its_modules_and_the_sdk_are_served_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let none = Sdk::read(directory.path()).expect_err("there is no index.js").to_string();
    assert!(none.contains("client-sdk-js/dist"), "said: {none}");
    std::fs::create_dir(directory.path().join("deep")).expect("a directory");
    for (name, body) in [("index.js", "export {};"), ("deep/more.js", "1;"), ("secret.txt", "no")] {
        std::fs::write(directory.path().join(name), body).expect("written");
    }
    let kitchen = start_with("A", 0, Sdk::read(directory.path()).expect("an SDK"));

    let page = kitchen.get("/").await;
    assert_eq!(page.kind, "text/html; charset=utf-8");
    for link in page.text().split('"').filter(|part| part.starts_with('/') && part.contains('.')) {
        assert_eq!(kitchen.get(link).await.status, 200, "the page names {link}");
    }
    for module in ["app", "board", "drain"] {
        let module = kitchen.get(&format!("/js/{module}.js")).await;
        assert_eq!((module.status, module.kind.as_str()), (200, "text/javascript; charset=utf-8"));
    }
    let config: Value = serde_json::from_str(kitchen.get("/config.json").await.text()).expect("JSON");
    assert_eq!(config, json!({"kitchen": "A", "hub": "ws://127.0.0.1:8080"}));
    assert_eq!(kitchen.get("/sdk/index.js").await.text(), "export {};");
    assert_eq!(kitchen.get("/sdk/deep/more.js").await.text(), "1;");
    for hidden in ["/sdk/secret.txt", "/sdk/%2e%2e/index.js", "/js/other.js", "/connect"] {
        assert_eq!(kitchen.get(hidden).await.status, 404, "{hidden} must not be served");
    }
}
