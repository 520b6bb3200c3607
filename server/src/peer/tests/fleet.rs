//! Hubs that meet, part, and speak.

use super::*;
use crate::hub::calls::{Call, CallError, Reply};
use crate::hub::fan::Entry;
use crate::peer::{Asked, FanOutcome, publish_again, publish_everywhere};
use tidegate_protocol::control::{HubState, Target};
use tidegate_protocol::id::HubId;
use tidegate_protocol::peer::{ClaimId, PeerMessage, SNAPSHOT_VERSION};
use tidegate_protocol::session::{Event, Place};

fn text(text: &str) -> Message {
    Message::text(text)
}

#[test]
fn two_hubs_meet_although_only_one_names_the_other() {
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    let seen = a.hub.peers.describe();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].hub, seen[0].incarnation), (Some(b.hub.id), Some(b.hub.incarnation)));
    assert!(seen[0].reachable && seen[0].version.as_deref() == Some(env!("CARGO_PKG_VERSION")), "{seen:?}");
    assert_eq!(a.hub.peers.public_url(b.hub.id), Some(format!("ws://{}/", b.hub.private)));
    assert!(b.hub.peers.all_seeds_heard(), "its only seed has answered");
}

#[test]
fn hubs_learn_of_others_from_each_other_and_from_a_file_that_changes_and_never_meet_themselves() {
    let stage = Stage::new();
    let file = stage.path("peers");
    std::fs::write(&file, "").expect("a file");
    let a = stage.start("a", &["--peers-file", &file]);
    let b = stage.start("b", &["--peer", &a.url]);
    let c = stage.start("c", &["--peer", &b.url]);
    until("a learns of c by hearsay", || a.hub.peers.known().contains(&c.hub.id) && reaches(&a, &c));
    let d = stage.start("d", &[]);
    std::fs::write(&file, format!("{}\n{}\n", a.url, d.url)).expect("a file");
    until("everybody knows everybody", || {
        let all = [&a, &b, &c, &d];
        all.iter().all(|one| {
            let mut known = one.hub.peers.known();
            known.sort();
            let mut others: Vec<_> = all.iter().map(|other| other.hub.id).filter(|id| *id != one.hub.id).collect();
            others.sort();
            known == others
        })
    });
}

#[test]
fn while_a_seed_has_not_answered_somebody_unknown_is_waited_for() {
    let stage = Stage::new();
    // Nobody listens there: the port was free a moment ago.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let a = stage.start("a", &["--peer", &format!("http://{nobody}")]);
    assert_eq!(a.hub.peers.known().len(), 1, "before the first look, too");
    until("the address is tried", || a.hub.peers.describe().len() == 1);
    assert_eq!(a.hub.peers.known().len(), 1);
    assert!(!a.hub.peers.all_seeds_heard());
    let unknown = a.hub.peers.known()[0];
    a.hub.peers.say(unknown, PeerMessage::Locate { session: SessionId(1), claim: ClaimId(1) });
    assert_eq!(a.hub.peers.successors(), [], "it is nobody to move to");
}

#[test]
fn a_hub_started_anew_is_noticed_and_its_old_run_is_not_heard_again() {
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    let (id, first) = (b.hub.id, b.hub.incarnation);
    drop(b);
    let b = stage.start("b", &["--peer", &a.url]);
    assert_eq!(b.hub.id, id);
    assert!(b.hub.incarnation > first);
    until("a knows the new run", || a.hub.peers.book().table.run_of(id) == Some(b.hub.incarnation));
    until("and reaches it at its new address", || reaches(&a, &b) && a.hub.peers.describe()[0].url.starts_with(&b.url));
    let hello = a.hub.peers.hello(&a.hub);
    let table = &mut a.hub.peers.book().table;
    let late = crate::peer::wire::Hello { from: id, incarnation: first, ..hello };
    let heard = table.hear(a.hub.peers.now(), &late, crate::peer::standing::By::Coming(None));
    assert_eq!(heard, crate::peer::standing::Heard::Over);
}

#[test]
fn a_goodbye_is_taken_at_once_and_only_a_later_run_is_met_again() {
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    b.wait(b.hub.peers.goodbye());
    assert_eq!(a.hub.peers.known(), [], "it is forgotten when goodbye is answered");
    assert!(a.hub.peers.is_forgotten(b.hub.id));
    let id = b.hub.id;
    assert_eq!(a.hub.peers.describe(), []);
    // Its hellos go on for the moment that the process has left, and change nothing.
    b.hub.peers.set_state(HubState::Draining);
    drop(b);
    assert!(a.hub.peers.is_forgotten(id));
    let b = stage.start("b", &["--peer", &a.url]);
    until("the next run is met", || a.knows(&b) && !a.hub.peers.is_forgotten(id));
}

#[test]
fn what_a_hub_says_before_its_goodbye_is_heard_before_it() {
    const SESSIONS: u128 = 300;
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    let cells: Vec<_> = (1..=SESSIONS).map(|id| a.session(id)).collect();
    b.wait(async {
        for id in 1..=SESSIONS {
            b.hub.peers.say(a.hub.id, PeerMessage::Replaced { session: SessionId(id) });
        }
        b.hub.peers.goodbye().await;
    });
    let owned = cells.iter().filter(|cell| cell.lock().session.is_owner()).count();
    assert_eq!(owned, 0, "of {SESSIONS} sessions that b said were replaced");
    assert!(a.hub.peers.is_forgotten(b.hub.id));
}

#[test]
fn what_a_hub_is_doing_is_known_to_its_peers_soon_and_decides_who_may_take_sessions() {
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    b.hub.peers.set_state(HubState::Draining);
    until("a does not move sessions to b", || !reaches(&a, &b));
    assert_eq!(a.hub.peers.successors()[0].state, Some(HubState::Draining));
    a.wait(async { tokio::time::timeout(PATIENCE, a.hub.peers.changed()).await })
        .expect("the drain is told of a change");
    b.hub.peers.set_state(HubState::Serving);
    until("a moves sessions to b again", || reaches(&a, &b));
}

#[test]
fn a_call_is_carried_out_where_the_session_is_and_its_answer_comes_back() {
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    let cell = b.session(7);
    let call = |call: Call| a.wait(a.hub.peers.call(b.hub.id, SessionId(7), &call, &Asked::default()));
    assert!(matches!(call(Call::Publish(text("x"))), Ok(Reply::Done)));
    assert_eq!(Running::numbered(&cell), 1);
    assert!(matches!(call(Call::SetState(b"state".to_vec())), Ok(Reply::Done)));
    assert!(matches!(call(Call::GetState), Ok(Reply::State(state)) if state == b"state"));
    assert!(
        matches!(call(Call::Describe), Ok(Reply::Described(info)) if info.session == SessionId(7) && info.sent == 1)
    );
    let unknown = a.wait(a.hub.peers.call(b.hub.id, SessionId(8), &Call::GetState, &Asked::default()));
    assert_eq!(unknown.err(), Some(CallError::Unknown(SessionId(8))));
    // And by the way that the API takes: find the owner first.
    let found = a.wait(a.hub.call(SessionId(7), Call::Publish(text("y")), true));
    assert!(matches!(found, Ok(Reply::Done)), "{found:?}");
    assert_eq!(Running::numbered(&cell), 2);
}

#[test]
fn a_call_finds_a_session_that_went_on_from_where_this_hub_gave_it() {
    let stage = Stage::new();
    let a = stage.start("a", &[]);
    let b = stage.start("b", &["--peer", &a.url]);
    let c = stage.start("c", &["--peer", &a.url]);
    let (all, conn) = ([&a, &b, &c], ConnectionId(u64::MAX));
    until("all three reach each other", || {
        all.iter().all(|from| all.iter().all(|to| from.hub.id == to.hub.id || reaches(from, to)))
    });
    let lost = a.session(7);
    a.wait(async { lost.feed(&a.hub, Event::ConnectionLost { conn }) });
    let push = |from: &Running, to: &Running| {
        let cell = from.hub.cell(SessionId(7)).expect("the session is there");
        from.wait(async { cell.feed(&from.hub, Event::Push { to: to.hub.id, version: SNAPSHOT_VERSION }) });
        let lives = |hub: &Hub| hub.cell(SessionId(7)).is_some_and(|cell| cell.lock().session.place() == Place::Here);
        until("the session lives at the next hub and the trail is laid", || lives(&to.hub) && !lives(&from.hub));
    };
    push(&a, &b);
    push(&b, &c);
    let answer = a.wait(a.hub.call(SessionId(7), Call::Publish(text("x")), true));
    assert!(matches!(answer, Ok(Reply::Done)), "it lives at the third hub: {answer:?}");
    let cell = c.hub.cell(SessionId(7)).expect("it lives there");
    assert_eq!(Running::numbered(&cell), 1);
}

#[test]
fn a_call_that_comes_twice_is_carried_out_once() {
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    let cell = b.session(7);
    let calling = crate::peer::wire::Calling {
        from: a.hub.id,
        incarnation: a.hub.incarnation,
        to: Some(b.hub.incarnation),
        n: 1,
        again: false,
        session: SessionId(7),
        call: Call::Publish(text("x")),
    };
    for _ in 0..3 {
        let answer = b.wait(crate::peer::calling::carry_out(b.hub.clone(), calling.clone()));
        assert!(matches!(answer, Ok(Reply::Done)), "{answer:?}");
    }
    assert_eq!(Running::numbered(&cell), 1);
}

#[test]
fn a_call_to_a_hub_that_is_gone_says_that_nobody_knows() {
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    let id = b.hub.id;
    drop(b);
    let answer = a.wait(a.hub.peers.call(id, SessionId(7), &Call::GetState, &Asked::default()));
    assert_eq!(answer.err(), Some(CallError::Unreachable(id)));
}

#[test]
fn machine_messages_arrive_also_when_there_are_many() {
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    b.session(7);
    let owner = a.wait(a.hub.locate_owner(SessionId(7)));
    assert_eq!(owner, Ok(Some(b.hub.id)));
    let many = 500;
    for claim in 0..many {
        a.hub.peers.say(b.hub.id, PeerMessage::Locate { session: SessionId(7), claim: ClaimId(claim) });
    }
    let sent = |hub: &Running, kind: &str| -> u64 {
        let line = format!("tidegate_peer_messages_total{{kind=\"{kind}\",result=\"ok\"}} ");
        let text = hub.hub.metrics.render();
        text.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |count| count.parse().expect("a count"))
    };
    until("every message is taken", || sent(&a, "locate") == many + 1);
    until("and answered", || sent(&b, "located") == many + 1);
}

#[test]
fn fleet_wide_messages_reach_every_hub_in_order_and_once() {
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    let (here, there) = (a.session(1), b.session(2));
    let count = 200;
    let outcomes = a.wait(async {
        let hub = &a.hub;
        futures_util::future::join_all((0..count).map(|n| publish_everywhere(hub, Target::All, text(&n.to_string()))))
            .await
    });
    assert!(
        outcomes.iter().all(|(_, outcome)| *outcome == FanOutcome { sessions: 2, hubs: 2, unreachable: vec![] }),
        "{outcomes:?}"
    );
    for cell in [&here, &there] {
        let inner = cell.lock();
        let record = inner.session.record().expect("it is served");
        let got: Vec<Message> = record.outbox.iter().cloned().collect();
        let sent: Vec<Message> = (0..count).map(|n| text(&n.to_string())).collect();
        assert_eq!(got, sent);
    }
    let again = Entry { origin: a.hub.incarnation, n: 1, to: Target::All, message: text("again") };
    let outcome = a.wait(a.hub.peers.fan_out(&again, None)).summed(None);
    assert_eq!(
        outcome,
        FanOutcome { sessions: 1, hubs: 1, unreachable: vec![] },
        "a stamp that was applied changes nothing, and is answered as it was"
    );
    assert_eq!(Running::numbered(&there), count);
}

#[test]
fn a_hub_that_does_not_answer_is_named_and_the_others_get_the_message() {
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    let c = stage.start("c", &["--peer", &a.url]);
    until("a reaches c", || reaches(&a, &c));
    c.session(3);
    let dead = b.hub.id;
    drop(b);
    let (_, outcome) = a.wait(publish_everywhere(&a.hub, Target::All, text("x")));
    assert_eq!(outcome, FanOutcome { sessions: 1, hubs: 2, unreachable: vec![dead] });
}

/// The texts that were numbered for a session, and whether its client is to be told that some may be missing.
fn had(cell: &Cell) -> (Vec<Message>, bool) {
    let inner = cell.lock();
    let record = inner.session.record().expect("it is served");
    (record.outbox.iter().cloned().collect(), record.has_missed())
}

#[test]
fn what_a_silent_hub_did_not_take_it_gets_later_in_order_and_a_repeat_tells_how_it_went() {
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    let there = b.session(2);
    // Its address leads nowhere for a while.
    let right = a.hub.peers.url_of(b.hub.id).expect("it is known");
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let lead = |to: http::Uri| a.hub.peers.book().table.lead(b.hub.id, to);
    lead(format!("http://{nowhere}").parse().expect("a URL"));
    let (n, outcome) = a.wait(publish_everywhere(&a.hub, Target::All, text("one")));
    assert_eq!(outcome, FanOutcome { sessions: 0, hubs: 1, unreachable: vec![b.hub.id] });
    lead(right);
    let again = a.wait(publish_again(&a.hub, n, &[b.hub.id]));
    assert_eq!(again, FanOutcome { sessions: 1, hubs: 1, unreachable: vec![] }, "it is sent where it was missing");
    let (_, next) = a.wait(publish_everywhere(&a.hub, Target::All, text("two")));
    assert_eq!(next, FanOutcome { sessions: 1, hubs: 2, unreachable: vec![] });
    assert_eq!(had(&there), (vec![text("one"), text("two")], false));
    // Nobody repeats it: the hub that says that it lacks something gets it all the same.
    lead(format!("http://{nowhere}").parse().expect("a URL"));
    a.wait(publish_everywhere(&a.hub, Target::All, text("three")));
    lead(b.url.parse().expect("a URL"));
    until("it gets what it lacks", || had(&there) == (vec![text("one"), text("two"), text("three")], false));
}

#[test]
fn what_no_ring_has_any_more_is_told_to_the_sessions_of_the_hub_that_missed_it() {
    let stage = Stage::new();
    let a = stage.start("a", &["--limit-ring-messages", "1"]);
    let b = stage.start("b", &["--peer", &a.url]);
    until("they reach each other", || reaches(&a, &b) && reaches(&b, &a));
    let there = b.session(2);
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    a.hub.peers.book().table.lead(b.hub.id, format!("http://{nowhere}").parse().expect("a URL"));
    for lost in ["one", "two"] {
        let (_, outcome) = a.wait(publish_everywhere(&a.hub, Target::All, text(lost)));
        assert_eq!(outcome.unreachable, [b.hub.id]);
    }
    a.hub.peers.book().table.lead(b.hub.id, b.url.parse().expect("a URL"));
    until("the rest is there, and the hole is told", || had(&there) == (vec![text("two")], true));
}

#[test]
fn a_hub_that_was_away_gives_who_lay_on_its_disk_what_was_published_meanwhile() {
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    let cell = b.session(2);
    a.wait(publish_everywhere(&a.hub, Target::All, text("before")));
    b.wait(async { cell.feed(&b.hub, Event::Park) });
    until("it lies on disk", || b.hub.is_parked(SessionId(2)));
    b.wait(b.hub.leave_ledger());
    b.wait(b.hub.peers.goodbye());
    let id = b.hub.id;
    drop(b);
    let (_, outcome) = a.wait(publish_everywhere(&a.hub, Target::All, text("meanwhile")));
    assert_eq!(outcome.unreachable, [], "it said goodbye");
    let b = stage.start("b", &["--peer", &a.url]);
    assert_eq!(b.hub.id, id);
    until("they have met", || reaches(&a, &b) && reaches(&b, &a));
    b.wait(b.hub.take_up(SessionId(2))).expect("it lies there");
    let cell = b.hub.cell(SessionId(2)).expect("it is here again");
    until("it has what came meanwhile", || had(&cell) == (vec![text("before"), text("meanwhile")], false));
}

#[test]
fn a_session_between_two_hubs_counts_once_in_the_answer() {
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    let (moving, _other) = (a.session(1), b.session(2));
    // Frozen, and nobody to take it: its snapshot goes to a hub that is not there.
    a.wait(async { moving.feed(&a.hub, Event::Push { to: HubId(99), version: SNAPSHOT_VERSION }) });
    assert_eq!(moving.lock().session.place(), Place::Wait);
    let (_, outcome) = a.wait(publish_everywhere(&a.hub, Target::All, text("x")));
    assert_eq!(outcome, FanOutcome { sessions: 2, hubs: 2, unreachable: vec![] });
    a.wait(async { moving.feed(&a.hub, Event::PeerGone { hub: HubId(99) }) });
    until("it has it once it goes on", || had(&moving).0 == [text("x")]);
}
