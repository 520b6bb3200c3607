//! Events: in order, numbered, at least once.

use super::harness::{FakeApp, Guest, hub, soon, until};
use crate::app::{self, Notice, Opening};
use tidegate_protocol::app::GiveUp;
use tidegate_protocol::id::{DrainId, SessionId};
use tidegate_protocol::position::Epoch;
use tidegate_protocol::session::Event;
use tidegate_protocol::session::record::Record;

async fn push_only(app: &mut FakeApp) -> (Guest, tempfile::TempDir) {
    let (hub, dir) = hub(&["--app-events", &app.events_url]).await;
    let arriving = tokio::spawn(async move { Guest::arrives(&hub, Guest::profile()).await });
    app.posted("opened").await.answer(200, b"");
    (soon("the guest is welcomed", arriving).await.expect("no panic"), dir)
}

#[tokio::test]
async fn events_are_numbered_in_order_and_say_whose_they_are() {
    let mut app = FakeApp::start().await;
    let (guest, _dir) = push_only(&mut app).await;
    app::notify_all(&guest.hub, &Notice::Drain { drain: DrainId(5), reason: "deploy".into(), deadline_ms: 60_000 });
    let drain = app.posted("drain").await.answer(200, b"");
    assert_eq!((drain["n"].as_u64(), drain["reason"].as_str()), (Some(2), Some("deploy")));
    app::notify_all(&guest.hub, &Notice::Recalled { drain: DrainId(5) });
    assert_eq!(app.posted("recalled").await.answer(204, b"")["n"], 3);
    app::client_bye(&mut guest.cell.lock(), guest.conn.id, 4001, "done".into());
    guest.cell.feed(&guest.hub, Event::Bye { conn: guest.conn.id });
    let ended = app.posted("ended").await.answer(200, b"");
    assert_eq!(ended["n"], 4);
    assert_eq!((ended["code"].as_u64(), ended["reason"].as_str()), (Some(4001), Some("done")));
    assert_eq!(
        (ended["session"].as_str(), ended["user"].as_str()),
        (Some(guest.cell.id.to_string().as_str()), Some("ann"))
    );
    assert_eq!((ended["path"].as_str(), ended["query"].as_str()), (Some("/room/1"), Some("a=b")));
}

#[tokio::test]
async fn an_event_that_the_app_cannot_take_now_comes_again_under_its_number_before_later_ones() {
    let mut app = FakeApp::start().await;
    let (guest, _dir) = push_only(&mut app).await;
    app::notify_all(&guest.hub, &Notice::Recalled { drain: DrainId(1) });
    let first = app.posted("recalled").await;
    guest.cell.feed(&guest.hub, Event::Bye { conn: guest.conn.id });
    first.answer(503, b"");
    assert_eq!(app.posted("recalled").await.answer(200, b"")["n"], 2);
    assert_eq!(app.posted("ended").await.answer(200, b"")["n"], 3);
}

#[tokio::test]
async fn a_session_that_moved_away_is_not_told_as_ended() {
    let mut app = FakeApp::start().await;
    let (guest, _dir) = push_only(&mut app).await;
    let handover = guest.freezes();
    app.posted("moving").await.answer(200, b"state");
    until("the app has settled", || guest.is_settled()).await;
    let held = tidegate_protocol::peer::PeerMessage::Held { session: guest.cell.id, handover };
    guest.cell.feed(&guest.hub, Event::Peer { from: super::harness::ELSEWHERE, message: held });
    assert!(guest.cell.lock().app.is_none(), "nothing of the app stays with a session that is elsewhere");
    // The next thing that the app hears is of another session.
    let other = tokio::spawn({
        let hub = guest.hub.clone();
        async move { Guest::arrives(&hub, Guest::profile()).await }
    });
    app.posted("opened").await.answer(200, b"");
    soon("the guest is welcomed", other).await.expect("no panic");
}

#[tokio::test]
async fn a_broken_socket_is_told_as_resumed_before_the_next_dial() {
    let mut app = FakeApp::start().await;
    let (url, events_url) = (app.url.clone(), app.events_url.clone());
    let (hub, _dir) = hub(&["--app", &url, "--app-events", &events_url]).await;
    let arriving = tokio::spawn(async move { Guest::arrives(&hub, Guest::profile()).await });
    app.posted("opened").await.answer(200, b"");
    drop(app.dialled().await);
    let guest = soon("the guest is welcomed", arriving).await.expect("no panic");
    let resumed = app.posted("resumed").await;
    assert!(app.not_dialled(), "resumed comes before the dial");
    assert_eq!(resumed.answer(500, b"")["why"], "socket_lost");
    app.posted("resumed").await.answer(200, b"");
    assert_eq!(app.dialled().await.header("tidegate-resumed"), "1");
    assert!(!guest.is_ended());
}

#[tokio::test]
async fn a_reset_says_what_it_replaces_and_a_refusal_of_it_may_be_final() {
    let mut app = FakeApp::start().await;
    let (hub, _dir) = hub(&["--app-events", &app.events_url]).await;
    let opening = tokio::spawn(async move {
        let mut record = Record::new(Epoch(2), Guest::profile());
        record.state = b"abc".to_vec();
        let opening = Opening::Reset { replaces: SessionId(7), why: "owner_lost" };
        app::open(&hub, SessionId(8), &mut record, opening).await.map(|_| ())
    });
    let reset = app.posted("reset").await.answer(401, b"");
    assert_eq!(reset["replaces"], serde_json::json!(SessionId(7)));
    assert_eq!((reset["why"].as_str(), reset["state_base64"].as_str()), (Some("owner_lost"), Some("YWJj")));
    let refused = soon("an answer", opening).await.expect("no panic").expect_err("the app refused");
    assert_eq!(refused.give_up, GiveUp::Refused, "{refused}");
}
