//! Messages, back-pressure, closes, and an app that falls over.

use super::harness::{FakeApp, Guest, hub, until};
use crate::app::{self, AppError, DialError, Opening, Unopened};
use crate::hub::conn::Order;
use crate::message::Message;
use tidegate_protocol::app::GiveUp;
use tidegate_protocol::id::SessionId;
use tidegate_protocol::position::Epoch;
use tidegate_protocol::session::Event;
use tidegate_protocol::session::record::{Profile, Record};
use tokio_tungstenite::tungstenite::Message as WsMessage;

#[tokio::test]
async fn bytes_pass_both_ways_in_both_kinds() {
    let mut app = FakeApp::start().await;
    let (hub, _dir) = hub(&["--app", &app.url]).await;
    let guest = Guest::arrives(&hub, Guest::profile()).await;
    let mut dialled = app.dialled().await;
    let (text, bytes) = ("\u{1}ü\0", [0, 255, 1]);
    guest.says_text(text);
    guest.says(Message::binary(&bytes));
    assert_eq!(dialled.reads().await, WsMessage::text(text));
    assert_eq!(dialled.reads().await, WsMessage::binary(bytes.to_vec()));
    dialled.says(text).await;
    futures_util::SinkExt::send(&mut dialled.socket, WsMessage::binary(bytes.to_vec())).await.expect("open");
    assert_eq!(guest.hears().await, Message::text(text));
    assert_eq!(guest.hears().await, Message::binary(&bytes));
    until("both are taken", || guest.record().taken().0 == 2).await;
}

#[tokio::test]
async fn the_app_sees_the_clients_request_and_chooses_its_subprotocol() {
    let mut app = FakeApp::start().await;
    let (hub, _dir) = hub(&["--app", &format!("{}/base/", app.url)]).await;
    let profile = Profile {
        protocols: vec!["v2".into(), "chat".into()],
        headers: [("cookie", "id=7"), ("x-forwarded-for", "10.0.0.1")].into_iter().collect(),
        ..Guest::profile()
    };
    let guest = Guest::arrives(&hub, profile).await;
    let dialled = app.dialled().await;
    assert_eq!(dialled.uri.to_string(), "/base/room/1?a=b");
    let session = guest.cell.id.to_string();
    let expected = [
        ("cookie", "id=7"),
        ("sec-websocket-protocol", "v2, chat"),
        ("tidegate-session", session.as_str()),
        ("tidegate-user", "ann"),
        ("tidegate-resumed", "0"),
        ("tidegate-api", "http://127.0.0.1:8081"),
        ("tidegate-epoch", "1"),
        ("tidegate-offset", "0"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "http"),
    ];
    for (name, value) in expected {
        assert_eq!(dialled.header(name), value, "{name}");
    }
    assert_eq!(guest.record().profile.protocol.as_deref(), Some("chat"));
}

#[tokio::test]
async fn a_message_counts_as_taken_only_when_it_is_written_and_a_stuck_app_is_still_read() {
    const MESSAGES: u64 = 24;
    let mut app = FakeApp::start().await;
    let (hub, _dir) = hub(&["--app", &app.url]).await;
    let guest = Guest::arrives(&hub, Guest::profile()).await;
    let mut dialled = app.dialled().await;
    // More than any socket buffers, and the app reads none of it.
    let large = "x".repeat(1 << 20);
    (0..MESSAGES).for_each(|_| guest.says_text(&large));
    dialled.says("still here").await;
    assert_eq!(guest.hears().await, Message::text("still here"));
    let taken = guest.record().taken().0;
    assert!(taken < MESSAGES, "the app has read nothing, and {taken} of {MESSAGES} count as taken");
    for _ in 0..MESSAGES {
        assert_eq!(dialled.reads_text().await.len(), large.len());
    }
    until("all are taken", || guest.record().taken().0 == MESSAGES).await;
}

#[tokio::test]
async fn the_app_is_not_read_while_its_client_has_no_room() {
    const ROOM: u64 = 4;
    const MESSAGES: u64 = 50;
    let mut app = FakeApp::start().await;
    let (hub, _dir) = hub(&["--app", &app.url, "--limit-unacked-messages", &ROOM.to_string()]).await;
    let guest = Guest::arrives(&hub, Guest::profile()).await;
    let mut dialled = app.dialled().await;
    for n in 0..MESSAGES {
        dialled.says(&n.to_string()).await;
    }
    for n in 0..MESSAGES {
        assert_eq!(guest.hears().await, Message::text(&n.to_string()), "in order and without a gap");
        let numbered = guest.record().outbox.end().0;
        assert!(numbered <= n + ROOM, "{numbered} numbered with {n} acked and room for {ROOM}");
        guest.acks(n + 1);
    }
}

#[tokio::test]
async fn the_clients_code_and_reason_reach_the_app_after_its_last_message() {
    let mut app = FakeApp::start().await;
    let (hub, _dir) = hub(&["--app", &app.url]).await;
    let guest = Guest::arrives(&hub, Guest::profile()).await;
    let mut dialled = app.dialled().await;
    guest.says_text("save this");
    app::client_bye(&mut guest.cell.lock(), guest.conn.id, 4001, "done".into());
    guest.cell.feed(&hub, Event::Bye { conn: guest.conn.id });
    assert_eq!(dialled.reads_text().await, "save this");
    assert_eq!(dialled.reads_close().await, (4001, "done".into()));
}

#[tokio::test]
async fn the_apps_code_and_reason_reach_the_client_after_the_apps_last_message() {
    let mut app = FakeApp::start().await;
    let (hub, _dir) = hub(&["--app", &app.url]).await;
    let guest = Guest::arrives(&hub, Guest::profile()).await;
    let mut dialled = app.dialled().await;
    dialled.says("last").await;
    dialled.closes(4321, "closing time").await;
    assert_eq!(guest.hears().await, Message::text("last"));
    assert!(guest.cell.next_for(guest.conn.id, hub.now()).is_none(), "nothing more was said");
    until("the session is over", || guest.is_ended()).await;
    let orders = {
        let mut line = guest.conn.line();
        (line.next_order(), line.next_order())
    };
    match orders {
        (Some(Order::Frame(bye)), Some(Order::Close(code, reason))) => {
            assert_eq!(bye, "\u{1}{\"type\":\"bye\",\"code\":4321,\"reason\":\"closing time\"}");
            assert_eq!((code, reason.as_ref()), (4321, "closing time"));
        }
        other => panic!("expected bye and close, got {other:?}"),
    }
}

#[tokio::test]
async fn an_app_that_falls_over_or_restarts_is_dialled_again_and_gets_what_it_had_not_taken() {
    let mut app = FakeApp::start().await;
    let (hub, _dir) = hub(&["--app", &app.url]).await;
    let guest = Guest::arrives(&hub, Profile { protocols: vec!["v2".into(), "chat".into()], ..Guest::profile() }).await;
    let mut dialled = app.dialled().await;
    guest.says_text("one");
    assert_eq!(dialled.reads_text().await, "one");
    until("it is taken", || guest.record().taken().0 == 1).await;
    drop(dialled);
    let mut again = app.dialled().await;
    assert_eq!((again.header("tidegate-resumed"), again.header("tidegate-offset")), ("1", "1"));
    assert_eq!(again.header("sec-websocket-protocol"), "chat", "what was chosen first stays");
    until("the hub relays again", || !guest.is_waiting_for_app()).await;
    again.closes(1012, "restart").await;
    until("the hub knows of the close", || guest.is_waiting_for_app()).await;
    guest.says_text("two");
    let mut third = app.dialled().await;
    assert_eq!(third.reads_text().await, "two");
    third.says("welcome back").await;
    assert_eq!(guest.hears().await, Message::text("welcome back"));
    assert!(!guest.is_ended());
}

#[tokio::test]
async fn an_app_that_is_not_there_is_an_error_and_its_client_may_come_back() {
    // Nothing listens on the discard port.
    let (hub, _dir) = hub(&["--app", "ws://127.0.0.1:9"]).await;
    let mut record = Record::new(Epoch(1), Guest::profile());
    match app::open(&hub, SessionId(1), &mut record, Opening::New).await {
        Err(Unopened { why: AppError::Dial(DialError::Unreachable(_)), give_up: GiveUp::Away { .. } }) => {}
        other => panic!("expected an app that cannot be reached, got {other:?}"),
    }
}

#[tokio::test]
async fn headers_reach_the_app_with_all_their_values_and_bytes_and_a_user_in_a_safe_form() {
    let mut app = FakeApp::start().await;
    let (hub, _dir) = hub(&["--app", &app.url]).await;
    let headers = [("cookie", &b"b=2"[..]), ("user-agent", b"caf\xe9 \xc3\xa9"), ("cookie", b"a=1")];
    let profile =
        Profile { user: Some("Zo\u{eb}\r\nx: y".into()), headers: headers.into_iter().collect(), ..Guest::profile() };
    let _guest = Guest::arrives(&hub, profile).await;
    let dialled = app.dialled().await;
    let cookies: Vec<_> = dialled.headers.get_all("cookie").iter().map(|value| value.as_bytes()).collect();
    assert_eq!(cookies, [b"b=2", b"a=1"]);
    assert_eq!(dialled.headers["user-agent"].as_bytes(), b"caf\xe9 \xc3\xa9");
    assert_eq!(dialled.header("tidegate-user"), "Zo%C3%AB%0D%0Ax:%20y");
}

#[tokio::test]
async fn a_path_that_leads_elsewhere_is_never_dialled_whoever_brings_it() {
    let mut app = FakeApp::start().await;
    let (hub, _dir) = hub(&["--app", &app.url]).await;
    let mut record = Record::new(Epoch(1), Profile { path: Some("/a/../../admin".into()), ..Guest::profile() });
    match app::open(&hub, SessionId(1), &mut record, Opening::New).await {
        Err(Unopened { why: AppError::Dial(DialError::Path(_)), give_up: GiveUp::Refused }) => {}
        other => panic!("expected a path that is refused, got {other:?}"),
    }
    assert!(app.not_dialled());
}

#[tokio::test]
async fn a_session_that_is_evicted_closes_the_apps_socket() {
    let mut app = FakeApp::start().await;
    let (hub, _dir) = hub(&["--app", &app.url]).await;
    let guest = Guest::arrives(&hub, Guest::profile()).await;
    let mut dialled = app.dialled().await;
    guest.cell.feed(&hub, Event::End(tidegate_protocol::session::Left::Evicted));
    assert_eq!(dialled.reads_close().await.0, 1001);
}
