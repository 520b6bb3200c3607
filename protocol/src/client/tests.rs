use super::*;
use crate::frame::{Notice, Welcome, WireLimits};

type Machine = Client<String>;

const HUB_A: HubId = HubId(0xa);
const HUB_B: HubId = HubId(0xb);
const OLD: Conn = Conn(1);
const NEW: Conn = Conn(2);

fn settings() -> Settings {
    Settings::new("ws://hub.example:8080/connect")
}

fn step(client: &mut Machine, now_ms: u64, event: Event<String>) -> Vec<Action<String>> {
    client.step(&settings(), Millis(now_ms), 0, event)
}

fn token(text: &str) -> ResumeToken {
    ResumeToken(text.to_owned())
}

fn welcome(hub: HubId, resumed: bool, from: u64, received: u64) -> ServerFrame {
    ServerFrame::Welcome(Welcome {
        session: SessionId(7),
        token: token("first"),
        epoch: Epoch(1),
        generation: crate::position::Generation(1),
        resumed,
        from: Offset(from),
        received: Offset(received),
        heartbeat_ms: 25_000,
        hub,
        protocol: None,
        auth_expires_ms: None,
        limits: WireLimits { message_bytes: 1024 },
    })
}

fn order(seq: u32, url: Option<&str>) -> ServerFrame {
    ServerFrame::Move { drain: DrainId(9), seq, token: token("moved"), url: url.map(str::to_owned) }
}

fn retry(after_ms: u64) -> ServerFrame {
    ServerFrame::Retry { after_ms, why: "moving".into() }
}

/// A client at work on connection 1.
fn up() -> Machine {
    let mut client = Machine::new();
    step(&mut client, 0, Event::Timer);
    step(&mut client, 0, Event::Opened(OLD));
    step(&mut client, 0, Event::Frame(OLD, welcome(HUB_A, false, 0, 0)));
    client
}

/// A client that was told to move and has said hello on connection 2.
fn moving() -> Machine {
    let mut client = up();
    step(&mut client, 10, Event::Frame(OLD, order(1, None)));
    step(&mut client, 20, Event::Opened(NEW));
    client
}

fn hellos(actions: &[Action<String>]) -> Vec<Hello> {
    let hello = |action: &Action<String>| match action {
        Action::Send(_, ClientFrame::Hello(hello)) => Some(hello.clone()),
        _ => None,
    };
    actions.iter().filter_map(hello).collect()
}

fn messages(actions: &[Action<String>], over: Conn) -> Vec<&str> {
    let message = |action: &'_ Action<String>| matches!(action, Action::Message(conn, _) if *conn == over);
    actions
        .iter()
        .filter(|action| message(action))
        .map(|action| if let Action::Message(_, text) = action { text.as_str() } else { "" })
        .collect()
}

fn delivered(actions: &[Action<String>]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Deliver(_))).count()
}

fn reports(actions: &[Action<String>]) -> Vec<&Report<String>> {
    actions.iter().filter_map(|action| if let Action::Report(report) = action { Some(report) } else { None }).collect()
}

fn dials(actions: &[Action<String>]) -> Vec<Option<&str>> {
    actions
        .iter()
        .filter_map(|action| if let Action::Dial { url, .. } = action { Some(url.as_deref()) } else { None })
        .collect()
}

fn send(client: &mut Machine, text: &str) -> Vec<Action<String>> {
    step(client, 0, Event::Send(text.to_owned()))
}

fn app(client: &mut Machine, conn: Conn, text: &str) -> Vec<Action<String>> {
    step(client, 0, Event::App(conn, text.to_owned()))
}

#[test]
fn a_new_client_dials_home_at_once_and_asks_for_a_new_session_first() {
    let mut client = Machine::new();
    assert_eq!(client.poll_timeout(), Some(Millis(0)));
    let actions = step(&mut client, 0, Event::Timer);
    assert_eq!(actions, [Action::Dial { conn: OLD, url: None }]);
    let actions = step(&mut client, 1, Event::Opened(OLD));
    let hello = &hellos(&actions)[0];
    assert_eq!((&hello.token, hello.attempt, hello.old, hello.epoch), (&None, 1, Old::Lost, None));
    let actions = step(&mut client, 2, Event::Frame(OLD, welcome(HUB_A, false, 0, 0)));
    assert_eq!(reports(&actions), [&Report::Opened { session: SessionId(7), hub: HUB_A }]);
}

#[test]
fn what_was_sent_before_the_first_welcome_travels_after_it_in_order() {
    let mut client = Machine::new();
    assert_eq!(send(&mut client, "a"), [], "nothing may travel before welcome");
    send(&mut client, "b");
    step(&mut client, 0, Event::Timer);
    step(&mut client, 0, Event::Opened(OLD));
    let actions = step(&mut client, 0, Event::Frame(OLD, welcome(HUB_A, false, 0, 0)));
    assert_eq!(messages(&actions, OLD), ["a", "b"]);
}

#[test]
fn a_move_is_acted_on_at_once_while_both_directions_go_on_over_the_old_connection() {
    let mut client = up();
    let actions = step(&mut client, 10, Event::Frame(OLD, order(1, None)));
    assert_eq!(dials(&actions), [None]);
    let actions = step(&mut client, 20, Event::Opened(NEW));
    let hello = &hellos(&actions)[0];
    assert_eq!((&hello.token, hello.attempt, hello.old), (&Some(token("moved")), 2, Old::Open));
    assert_eq!((hello.received, hello.epoch), (Offset(0), Some(Epoch(1))));
    assert_eq!(messages(&send(&mut client, "up"), OLD), ["up"]);
    assert_eq!(delivered(&app(&mut client, OLD, "down")), 1);
}

#[test]
fn at_welcome_the_client_goes_deaf_on_the_old_resends_the_rest_and_drops_what_it_has() {
    let mut client = moving();
    for text in ["one", "two", "three"] {
        send(&mut client, text);
    }
    app(&mut client, OLD, "d1");
    let actions = step(&mut client, 30, Event::Frame(NEW, welcome(HUB_B, true, 0, 1)));
    assert!(matches!(actions[0], Action::Close(OLD, 1000, _)), "the old one is closed first: {actions:?}");
    assert_eq!(messages(&actions, NEW), ["two", "three"]);
    assert_eq!(reports(&actions), [&Report::Moved { hub: HUB_B }]);
    assert_eq!(app(&mut client, OLD, "late"), [], "the old connection is deaf");
    assert_eq!(delivered(&app(&mut client, NEW, "d1")), 0, "d1 came over the old connection already");
    assert_eq!(delivered(&app(&mut client, NEW, "d2")), 1);
    assert_eq!(client.received(), Offset(2));
}

#[test]
fn after_a_retry_the_old_connection_stays_and_the_next_hello_has_a_higher_try() {
    let mut client = moving();
    step(&mut client, 30, Event::Frame(NEW, retry(400)));
    assert_eq!(client.connection(), Some(OLD));
    assert_eq!(step(&mut client, 31, Event::Closed(NEW, Some(1013))), [], "a late close of a dropped connection");
    assert_eq!(client.poll_timeout(), Some(Millis(430)));
    assert_eq!(dials(&step(&mut client, 430, Event::Timer)), [None]);
    let actions = step(&mut client, 431, Event::Opened(Conn(3)));
    assert_eq!((hellos(&actions)[0].attempt, hellos(&actions)[0].old), (3, Old::Open));
}

#[test]
fn a_lost_old_connection_is_said_in_the_next_hello() {
    let mut client = up();
    step(&mut client, 10, Event::Frame(OLD, order(1, None)));
    step(&mut client, 11, Event::Closed(OLD, Some(1012)));
    let actions = step(&mut client, 12, Event::Opened(NEW));
    assert_eq!(hellos(&actions)[0].old, Old::Lost);
    let actions = step(&mut client, 13, Event::Frame(NEW, welcome(HUB_B, true, 0, 0)));
    assert_eq!(reports(&actions), [&Report::Resumed { hub: HUB_B }]);
}

#[test]
fn the_first_retry_too_waits_for_the_floor_and_failures_double_the_range_up_to_the_limit() {
    let mut client = up();
    step(&mut client, 100, Event::Closed(OLD, None));
    assert_eq!(client.poll_timeout(), Some(Millis(200)), "floor of 100 ms with chance 0");
    let backoff = settings().backoff;
    assert_eq!(backoff.wait_ms(0, 500), 600);
    assert_eq!(backoff.wait_ms(2, 2_000), 2_100);
    assert!((0..60).all(|failures| backoff.wait_ms(failures, u64::MAX - 1) <= 20_000));
}

#[test]
fn failures_are_forgotten_only_after_the_connection_was_good_for_the_stable_time() {
    let mut client = up();
    step(&mut client, 100, Event::Closed(OLD, None));
    step(&mut client, 200, Event::Timer);
    step(&mut client, 200, Event::Opened(NEW));
    step(&mut client, 200, Event::Frame(NEW, welcome(HUB_A, true, 0, 0)));
    let mut early = client.clone();
    early.step(&settings(), Millis(300), 1_000, Event::Closed(NEW, None));
    assert_eq!(early.poll_timeout(), Some(Millis(300 + 100 + 1_000)), "the range was doubled");
    client.step(&settings(), Millis(5_200), 1_000, Event::Closed(NEW, None));
    assert_eq!(client.poll_timeout(), Some(Millis(5_200 + 100 + 1_000 % 501)), "back to the first range");
}

#[test]
fn a_reset_takes_effect_at_the_welcome_of_the_new_session_and_gives_back_what_was_not_acked() {
    let mut client = moving();
    send(&mut client, "lost?");
    let reset = ServerFrame::Reset { why: "unknown".into(), replaces: SessionId(7) };
    assert_eq!(step(&mut client, 30, Event::Frame(NEW, reset)), []);
    assert_eq!(delivered(&app(&mut client, OLD, "d1")), 1, "until then the old connection is the connection");
    let ServerFrame::Welcome(mut fresh) = welcome(HUB_B, false, 0, 0) else { unreachable!() };
    fresh.session = SessionId(8);
    fresh.epoch = Epoch(2);
    let actions = step(&mut client, 31, Event::Frame(NEW, ServerFrame::Welcome(fresh)));
    let expected = Report::Reset {
        why: "unknown".into(),
        replaces: SessionId(7),
        session: SessionId(8),
        hub: HUB_B,
        unsent: vec!["lost?".to_owned()],
    };
    assert_eq!(reports(&actions), [&expected]);
    assert_eq!(messages(&actions, NEW), [] as [&str; 0], "never resent by itself");
    assert_eq!(client.received(), Offset(0));
}

#[test]
fn a_gap_moves_the_position_and_is_told_once_for_what_is_really_missing() {
    let mut client = up();
    app(&mut client, OLD, "d1");
    let gap = ServerFrame::Gap { from: Offset(1), to: Offset(4), why: "buffer".into() };
    let actions = step(&mut client, 0, Event::Frame(OLD, gap.clone()));
    assert_eq!(reports(&actions), [&Report::Gap { from: Offset(1), to: Offset(4), why: "buffer".into() }]);
    assert_eq!(delivered(&app(&mut client, OLD, "d5")), 1);
    let actions = step(&mut client, 0, Event::Frame(OLD, gap));
    assert!(
        matches!(reports(&actions)[..], [Report::Ended { code: 4500, .. }]),
        "the position is 5, not 1: {actions:?}"
    );
}

#[test]
fn a_gap_that_counts_nothing_is_told_too_and_changes_nothing() {
    let mut client = up();
    app(&mut client, OLD, "d1");
    let gap = ServerFrame::Gap { from: Offset(1), to: Offset(1), why: "fan_ring_short".into() };
    let actions = step(&mut client, 0, Event::Frame(OLD, gap));
    assert_eq!(reports(&actions), [&Report::Gap { from: Offset(1), to: Offset(1), why: "fan_ring_short".into() }]);
    assert_eq!(client.received(), Offset(1));
    assert_eq!(delivered(&app(&mut client, OLD, "d2")), 1);
}

#[test]
fn an_ack_goes_out_after_thirty_two_messages_or_a_quarter_of_a_second() {
    let mut client = up();
    for _ in 0..31 {
        assert!(app(&mut client, OLD, "d").iter().all(|action| matches!(action, Action::Deliver(_))));
    }
    let ack = |received| Action::Send(OLD, ClientFrame::Ack { received: Offset(received) });
    assert!(app(&mut client, OLD, "d").contains(&ack(32)));
    app(&mut client, OLD, "d");
    assert_eq!(client.poll_timeout(), Some(Millis(250)));
    assert_eq!(step(&mut client, 250, Event::Timer), [ack(33)]);
}

#[test]
fn a_frame_of_a_drain_that_was_seen_already_is_ignored() {
    let mut client = up();
    let notice = |seq| {
        ServerFrame::Notice(Notice {
            drain: DrainId(9),
            seq,
            reason: "deployment".into(),
            text: "pausing".into(),
            language: "en".into(),
            deadline_ms: 1_000,
            slot_ms: 10,
        })
    };
    assert_eq!(reports(&step(&mut client, 0, Event::Frame(OLD, notice(2)))).len(), 1);
    assert_eq!(step(&mut client, 0, Event::Frame(OLD, notice(2))), []);
    assert_eq!(step(&mut client, 0, Event::Frame(OLD, order(1, None))), [], "an older move");
    assert_eq!(step(&mut client, 0, Event::Ready), [Action::Send(OLD, ClientFrame::Ready { drain: DrainId(9) })]);
}

#[test]
fn a_recall_stops_a_move_that_was_not_said_hello_for_and_leaves_one_that_was() {
    let recall = ServerFrame::Recall { drain: DrainId(9), seq: 2 };
    let mut dialling = up();
    step(&mut dialling, 0, Event::Frame(OLD, order(1, None)));
    let actions = step(&mut dialling, 0, Event::Frame(OLD, recall.clone()));
    assert!(matches!(actions[0], Action::Close(NEW, 4000, _)), "{actions:?}");
    assert_eq!(step(&mut dialling, 0, Event::Opened(NEW)), []);
    let mut greeted = moving();
    step(&mut greeted, 0, Event::Frame(OLD, recall));
    let actions = step(&mut greeted, 0, Event::Frame(NEW, welcome(HUB_B, true, 0, 0)));
    assert_eq!(reports(&actions), [&Report::Moved { hub: HUB_B }]);
}

#[test]
fn a_move_leads_to_its_url_only_on_the_same_host_and_never_out_of_tls() {
    let mut client = up();
    let actions = step(&mut client, 0, Event::Frame(OLD, order(1, Some("ws://hub.example:9090/connect"))));
    assert_eq!(dials(&actions), [Some("ws://hub.example:9090/connect")]);
    let mut client = up();
    let actions = step(&mut client, 0, Event::Frame(OLD, order(1, Some("ws://elsewhere.example/connect"))));
    assert_eq!(dials(&actions), [None], "a foreign host: the known URL instead");
    let tls = Settings { foreign_hosts: true, ..Settings::new("wss://hub.example/connect") };
    assert!(!tls.may_follow("ws://hub.example/connect") && tls.may_follow("wss://other.example/connect"));
    assert!(!tls.may_follow("https://hub.example/") && !tls.may_follow("hub.example"));
    assert!(Settings::new("ws://[::1]:80/c").may_follow("ws://[::1]:81/c"));
}

#[test]
fn when_the_named_url_fails_the_known_one_is_tried_in_turn() {
    let mut client = up();
    step(&mut client, 0, Event::Frame(OLD, order(1, Some("ws://hub.example:9090/"))));
    step(&mut client, 0, Event::Closed(NEW, None));
    assert_eq!(dials(&step(&mut client, 100, Event::Timer)), [None]);
    step(&mut client, 100, Event::Closed(Conn(3), None));
    assert_eq!(dials(&step(&mut client, 20_000, Event::Timer)), [Some("ws://hub.example:9090/")]);
}

#[test]
fn an_answer_that_never_comes_is_given_up_and_the_old_connection_stays() {
    let mut client = moving();
    assert_eq!(client.poll_timeout(), Some(Millis(15_010)));
    let actions = step(&mut client, 15_010, Event::Timer);
    assert!(matches!(actions[..], [Action::Close(NEW, 4000, _)]), "{actions:?}");
    assert_eq!(client.connection(), Some(OLD));
}

#[test]
fn three_silent_heartbeats_lose_the_connection_and_any_byte_starts_over() {
    let mut client = up();
    assert_eq!(step(&mut client, 25_000, Event::Timer), [Action::Send(OLD, ClientFrame::Ping {})]);
    step(&mut client, 26_000, Event::Heard(OLD));
    assert_eq!(client.poll_timeout(), Some(Millis(51_000)));
    step(&mut client, 51_000, Event::Timer);
    step(&mut client, 76_000, Event::Timer);
    let actions = step(&mut client, 101_000, Event::Timer);
    assert!(matches!(actions[0], Action::Close(OLD, 4000, _)), "{actions:?}");
    assert_eq!(client.connection(), None);
}

#[test]
fn final_codes_end_the_client_and_give_back_what_was_not_acked() {
    let mut client = up();
    send(&mut client, "a");
    let actions = step(&mut client, 0, Event::Closed(OLD, Some(4530)));
    assert!(
        matches!(&reports(&actions)[..], [Report::Ended { code: 4530, unsent, .. }] if unsent == &["a"]),
        "{actions:?}"
    );
    assert_eq!((client.ended(), client.poll_timeout()), (Some(4530), None));
    assert_eq!(send(&mut client, "b"), [Action::Report(Report::Refused("b".to_owned()))]);
}

#[test]
fn being_displaced_by_its_own_second_hello_does_not_end_the_client() {
    let mut client = moving();
    step(&mut client, 30, Event::Closed(OLD, Some(4513)));
    let actions = step(&mut client, 31, Event::Frame(NEW, welcome(HUB_A, true, 0, 0)));
    assert_eq!(reports(&actions), [&Report::Resumed { hub: HUB_A }]);
    let mut duplicated = up();
    step(&mut duplicated, 30, Event::Closed(OLD, Some(4513)));
    assert_eq!(duplicated.ended(), Some(4513), "a duplicated tab must not steal back");
}

#[test]
fn being_displaced_by_a_second_hello_that_was_given_up_since_does_not_end_the_client() {
    let mut client = moving();
    step(&mut client, 30, Event::Closed(NEW, None));
    assert_eq!(client.connection(), Some(OLD));
    let actions = step(&mut client, 31, Event::Closed(OLD, Some(4513)));
    assert_eq!(reports(&actions), [&Report::Reconnecting { code: Some(4513) }], "its welcome was lost, that is all");
    assert_eq!(client.ended(), None);
}

#[test]
fn a_final_refusal_of_a_move_leaves_the_old_connection_at_work() {
    let mut client = moving();
    assert_eq!(step(&mut client, 30, Event::Closed(NEW, Some(4512))), []);
    assert_eq!((client.connection(), client.ended()), (Some(OLD), None));
    assert_eq!(
        dials(&step(&mut client, 40, Event::Frame(OLD, order(2, None)))),
        [None],
        "the next move has a new token"
    );
}

#[test]
fn the_apps_own_code_in_bye_outranks_the_close_that_follows() {
    let mut client = up();
    let actions = step(&mut client, 0, Event::Frame(OLD, ServerFrame::Bye { code: 4042, reason: "kicked".into() }));
    assert!(matches!(reports(&actions)[..], [Report::Ended { code: 4042, .. }]));
    assert_eq!(step(&mut client, 1, Event::Closed(OLD, Some(1012))), []);
    assert_eq!(client.ended(), Some(4042));
}

#[test]
fn a_hub_that_breaks_the_rules_of_welcome_is_closed_with_4500() {
    for (bad, why) in [
        (welcome(HUB_B, true, 1, 0), "from above received"),
        (welcome(HUB_B, true, 0, 5), "received above what was sent"),
        (welcome(HUB_B, false, 0, 0), "a new session without reset"),
    ] {
        let mut client = moving();
        let actions = step(&mut client, 0, Event::Frame(NEW, bad));
        assert!(matches!(actions[0], Action::Close(NEW, 4500, _)), "{why}: {actions:?}");
    }
    let mut early = moving();
    assert!(matches!(app(&mut early, NEW, "x")[0], Action::Close(NEW, 4500, _)), "an app message before welcome");
}

#[test]
fn a_full_buffer_gives_the_message_back_and_an_ack_makes_room() {
    let mut client = up();
    let small = Settings { unacked: crate::replay::ReplayLimits { messages_max: 1, bytes_max: 100 }, ..settings() };
    client.step(&small, Millis(0), 0, Event::Send("a".into()));
    let refused = client.step(&small, Millis(0), 0, Event::Send("b".into()));
    assert_eq!(refused, [Action::Report(Report::Refused("b".to_owned()))]);
    step(&mut client, 0, Event::Frame(OLD, ServerFrame::Ack { received: Offset(1) }));
    assert_eq!(client.step(&small, Millis(0), 0, Event::Send("b".into())), [Action::Message(OLD, "b".to_owned())]);
}

#[test]
fn ending_says_bye_with_the_apps_code_and_closes_for_good() {
    let mut client = moving();
    let actions = step(&mut client, 0, Event::End { code: Some(4001), reason: None });
    assert_eq!(actions[0], Action::Send(OLD, ClientFrame::Bye { code: Some(4001), reason: None }));
    let closed: Vec<_> = actions.iter().filter(|action| matches!(action, Action::Close(_, 1000, _))).collect();
    assert_eq!(closed.len(), 2, "both connections: {actions:?}");
}

#[test]
fn an_application_that_is_busy_for_ever_at_any_length_says_what_the_hub_can_read() {
    let mut client = up();
    let notice = Notice {
        drain: DrainId(9),
        seq: 1,
        reason: String::new(),
        text: String::new(),
        language: String::new(),
        deadline_ms: 1_000,
        slot_ms: 500,
    };
    step(&mut client, 10, Event::Frame(OLD, ServerFrame::Notice(notice)));
    let said = step(&mut client, 20, Event::Busy { ms: u64::MAX, why: Some("ß".repeat(100_000)) });
    let [Action::Send(OLD, frame)] = &said[..] else { panic!("expected one frame, got {said:?}") };
    assert_eq!(ClientFrame::decode(&frame.encode()[1..]).as_ref(), Ok(frame), "the hub takes it");
}
