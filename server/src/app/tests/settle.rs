//! Freezing: the app finishes, or is late.

use super::harness::{FakeApp, Guest, hub, soon, until};
use crate::message::Message;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use std::time::Duration;

async fn with_events(options: &[&str]) -> (FakeApp, Guest, super::harness::Dialled, tempfile::TempDir) {
    let mut app = FakeApp::start().await;
    let (url, events_url) = (app.url.clone(), app.events_url.clone());
    let mut all = vec!["--app", &url, "--app-events", &events_url];
    all.extend(options);
    let (hub, dir) = hub(&all).await;
    let arriving = tokio::spawn(async move { Guest::arrives(&hub, Guest::profile()).await });
    app.posted("opened").await.answer(200, b"");
    let dialled = app.dialled().await;
    let guest = soon("the guest is welcomed", arriving).await.expect("no panic");
    (app, guest, dialled, dir)
}

#[tokio::test]
async fn a_settle_collects_the_last_messages_and_the_state() {
    let (mut app, guest, mut dialled, _dir) = with_events(&[]).await;
    dialled.says("before").await;
    assert_eq!(guest.hears().await, Message::text("before"));
    guest.freezes();
    let moving = app.posted("moving").await;
    dialled.says("one more").await;
    dialled.says("and the last").await;
    assert_eq!(dialled.reads_close().await.0, 1012, "the hub closes that session's socket");
    assert!(dialled.socket.next().await.is_none_or(|end| end.is_err()), "and that was all");
    assert!(!guest.is_settled(), "the state is not in yet");
    let told = moving.answer(200, b"seven soups");
    assert_eq!(told["n"], 2);
    until("the app has settled", || guest.is_settled()).await;
    let record = guest.record();
    assert_eq!(record.state, b"seven soups");
    assert_eq!(record.outbox.end().0, 3, "every message that the app sent is numbered");
    assert_eq!(record.app_events, 2);
}

#[tokio::test]
async fn a_settle_without_events_reads_to_the_close() {
    let mut app = FakeApp::start().await;
    let (hub, _dir) = hub(&["--app", &app.url]).await;
    let guest = Guest::arrives(&hub, Guest::profile()).await;
    let mut dialled = app.dialled().await;
    dialled.says("last").await;
    guest.freezes();
    assert_eq!(dialled.reads_close().await.0, 1012);
    // The answer to the close goes out with the next read.
    assert!(dialled.socket.next().await.is_none_or(|end| end.is_err()));
    until("the app has settled", || guest.is_settled()).await;
    assert_eq!(guest.record().outbox.end().0, 1);
}

/// Options with which an app is given all the time that a test may take.
const PATIENT: [&str; 6] =
    ["--limit-app-quiet", "60s", "--limit-app-quiet-wait", "60s", "--limit-app-moving-time", "60s"];

#[tokio::test]
async fn an_app_that_owes_an_answer_gets_no_close_before_it_was_quiet_for_a_while() {
    let mut app = FakeApp::start().await;
    let url = app.url.clone();
    let (hub, _dir) = hub(&[&["--app", &url][..], &PATIENT].concat()).await;
    let guest = Guest::arrives(&hub, Guest::profile()).await;
    let mut dialled = app.dialled().await;
    guest.says_text("a question");
    assert_eq!(dialled.reads_text().await, "a question");
    guest.freezes();
    // A stock library answers a close at once, and drops what it had yet to say.
    let close = tokio::time::timeout(Duration::from_millis(200), dialled.reads()).await;
    assert!(close.is_err(), "the app thinks, and is closed meanwhile: {close:?}");
    dialled.says("the late answer").await;
    until("the answer is numbered", || guest.record().outbox.end().0 == 1).await;
    dialled.closes(1000, "by itself").await;
    until("the app has settled", || guest.is_settled()).await;
}

#[tokio::test]
async fn an_app_that_takes_events_is_asked_before_it_is_closed_and_closed_when_it_has_answered() {
    let (mut app, guest, mut dialled, _dir) = with_events(&PATIENT).await;
    guest.freezes();
    let moving = app.posted("moving").await;
    let close = tokio::time::timeout(Duration::from_millis(200), dialled.reads()).await;
    assert!(close.is_err(), "it was asked, and is closed before it has answered: {close:?}");
    dialled.says("one more").await;
    moving.answer(200, b"state");
    assert_eq!(dialled.reads_close().await.0, 1012);
    drop(dialled);
    until("the app has settled", || guest.is_settled()).await;
    assert_eq!((guest.record().outbox.end().0, guest.record().state.as_slice()), (1, &b"state"[..]));
}

#[tokio::test]
async fn an_app_that_breaks_its_socket_while_it_finishes_ends_the_session_and_the_client_is_told() {
    use crate::hub::conn::Order;
    let mut app = FakeApp::start().await;
    let url = app.url.clone();
    let (hub, _dir) = hub(&[&["--app", &url][..], &PATIENT].concat()).await;
    let guest = Guest::arrives(&hub, Guest::profile()).await;
    let mut dialled = app.dialled().await;
    guest.says_text("a question");
    assert_eq!(dialled.reads_text().await, "a question");
    guest.freezes();
    dialled.writes(&[0x81, 2, 0xff, 0xfe]).await;
    until("the session is over", || guest.is_ended()).await;
    let orders = {
        let mut line = guest.conn.line();
        (line.next_order(), line.next_order())
    };
    match orders {
        (Some(Order::Frame(bye)), Some(Order::Close(1012, reason))) => {
            assert!(bye.contains("\"code\":1012") && reason.starts_with("app error: "), "{bye} {reason}");
        }
        other => panic!("expected bye and close, got {other:?}"),
    }
    assert_eq!(dialled.reads_close().await.0, 1007, "its developer sees why");
}

#[tokio::test]
async fn nothing_that_comes_after_the_freeze_is_written_to_the_app() {
    let (mut app, guest, mut dialled, _dir) = with_events(&[]).await;
    let handover = guest.freezes();
    let moving = app.posted("moving").await;
    // Thawed while it settles: this is counted, and has to wait for the next socket.
    guest.thaws(handover);
    guest.says_text("for later");
    assert_eq!(dialled.reads_close().await.0, 1012);
    assert!(app.not_dialled(), "the old socket is closed first");
    drop(dialled);
    moving.answer(200, b"state");
    let resumed = app.posted("resumed").await;
    assert!(app.not_dialled(), "resumed comes before the dial");
    let told = resumed.answer(200, b"");
    assert_eq!(told["state_base64"], STANDARD.encode("state"));
    assert_eq!(told["n"], 3);
    let mut again = app.dialled().await;
    assert_eq!(again.header("tidegate-resumed"), "1");
    assert_eq!(again.reads_text().await, "for later");
}

#[tokio::test]
async fn a_thaw_after_the_settle_tells_resumed_and_dials() {
    let (mut app, guest, mut dialled, _dir) = with_events(&[]).await;
    let handover = guest.freezes();
    let moving = app.posted("moving").await;
    assert_eq!(dialled.reads_close().await.0, 1012);
    drop(dialled);
    moving.answer(200, b"state");
    until("the app has settled", || guest.is_settled()).await;
    guest.thaws(handover);
    assert_eq!(app.posted("resumed").await.answer(200, b"")["state_base64"], STANDARD.encode("state"));
    let mut again = app.dialled().await;
    guest.says_text("on we go");
    assert_eq!(again.reads_text().await, "on we go");
}

#[tokio::test]
async fn an_app_that_is_slow_to_move_delays_its_session_up_to_the_limit_and_keeps_the_old_state() {
    let (mut app, guest, mut dialled, _dir) = with_events(&["--limit-app-moving-time", "150ms"]).await;
    guest.cell.lock().session.record_mut(false).expect("it serves").state = b"old".to_vec();
    guest.freezes();
    let moving = app.posted("moving").await;
    assert_eq!(dialled.reads_close().await.0, 1012);
    until("the hub waits no longer", || guest.is_settled()).await;
    moving.answer(200, b"too late");
    assert_eq!(guest.record().state, b"old");
}

#[tokio::test]
async fn a_hub_that_stood_still_hears_what_its_app_said_meanwhile_and_does_not_hold_the_time_against_it() {
    let (mut app, guest, mut dialled, _dir) = with_events(&["--limit-app-moving-time", "150ms"]).await;
    guest.freezes();
    let moving = app.posted("moving").await;
    dialled.says("while it stands still").await;
    // The standstill itself: hub and app are tasks of this very thread.
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(dialled.reads_close().await.0, 1012);
    moving.answer(200, b"state");
    assert!(dialled.socket.next().await.is_none_or(|end| end.is_err()), "the hub reads to the end");
    until("the app has settled", || guest.is_settled()).await;
    assert_eq!(guest.record().outbox.end().0, 1, "what the app said is numbered");
    assert_eq!(guest.record().state, b"state");
}

#[tokio::test]
async fn an_app_that_never_closes_its_socket_delays_its_session_up_to_the_limit() {
    let (mut app, guest, dialled, _dir) = with_events(&["--limit-app-moving-time", "150ms"]).await;
    guest.freezes();
    app.posted("moving").await.answer(200, b"state");
    until("the hub waits no longer", || guest.is_settled()).await;
    assert_eq!(guest.record().state, b"state", "what it did say holds");
    drop(dialled);
}

#[tokio::test]
async fn an_answer_that_is_empty_or_above_the_limit_keeps_the_old_state() {
    for answer in [&b""[..], b"12345"] {
        let (mut app, guest, dialled, _dir) = with_events(&["--limit-state-bytes", "4B"]).await;
        guest.cell.lock().session.record_mut(false).expect("it serves").state = b"old".to_vec();
        guest.freezes();
        app.posted("moving").await.answer(200, answer);
        // A socket that breaks is as good as one that is closed.
        drop(dialled);
        until("the app has settled", || guest.is_settled()).await;
        assert_eq!(guest.record().state, b"old");
    }
}
