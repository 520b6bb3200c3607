//! Canaries, holds, refusals, balancers that bring clients back, successors that die.

use super::*;

const STAGED: &str = r#"{"notice_ms":1000,"window_ms":5000,"settle_ms":2000,"deadline_ms":120000,"stages":[10,90],"gate":{"wait_max_ms":3000}}"#;

#[test]
fn a_canary_that_does_not_come_back_holds_the_drain_which_says_why_and_recovers() {
    let mut fleet = Fleet::new(STAGED, 100, 0);
    fleet.habit = Habit::Ignores;
    fleet.run("the canary to fail", |drain| drain.status(Millis(0)).why.is_some_and(|why| why.starts_with("canary")));
    assert_eq!(fleet.status().why.as_deref(), Some("canary: no client came back within 3000 ms"));
    assert_eq!(fleet.moves().len(), 10);
    fleet.pass(20_000);
    assert_eq!(fleet.drain.phase(), Phase::Held, "still nobody");
    assert!(fleet.moves().len() <= 14, "one is tried every five seconds: {}", fleet.moves().len());
    assert_eq!(fleet.pushes(), [], "and nobody is pushed to where no client was seen");
    fleet.habit = Habit::Comes(50);
    fleet.run_to(Phase::Releasing);
    let report = fleet.run_to_end();
    assert_eq!(
        account(&report),
        "drained: 100 + 0 = 100 moved, 0 parked, 0 left, 0 forced, 0 unconfirmed, 0 remaining; cut 0"
    );
}

#[test]
fn a_canary_that_is_refused_holds_the_drain_with_the_reason() {
    let mut fleet = Fleet::new(STAGED, 100, 0);
    fleet.refusing = Some("table full");
    fleet.run_to(Phase::Held);
    let why = fleet.status().why.unwrap();
    assert!(why.starts_with("canary: 3 moves in a row were refused: table full"), "{why}");
    fleet.pass(10_000);
    assert!(fleet.moves().len() < 20, "{} moves while held", fleet.moves().len());
    fleet.refusing = None;
    assert_eq!(fleet.run_to_end().sessions.counts.moved, 100);
}

#[test]
fn a_successor_that_takes_the_canary_and_never_says_live_holds_the_drain() {
    let mut fleet = Fleet::new(STAGED, 100, 0);
    fleet.silent_after_commit = true;
    fleet.run("the canary to fail", |drain| drain.status(Millis(0)).why.is_some_and(|why| why.starts_with("canary")));
    assert_eq!(fleet.status().why.as_deref(), Some("canary: none of 10 came back within 3000 ms"));
    assert_eq!(fleet.moves().len(), 10);
}

#[test]
fn a_refusal_now_and_then_does_not_hold_the_drain() {
    let mut fleet = Fleet::new(STAGED, 400, 0);
    fleet.pass(2_500);
    while fleet.drain.phase() != Phase::Drained {
        let ordered = fleet.drain.roster.awaited().find(|(_, seat)| matches!(seat.place, Place::Ordered { .. }));
        if let Some(id) = ordered.map(|(id, _)| id) {
            fleet.tell(Event::Refused { id, to: Some(PEER), why: "a moment".into() });
        }
        assert_ne!(fleet.status().phase, Phase::Held, "{:?}", fleet.status().why);
        fleet.pass(300);
    }
    assert_eq!(fleet.reports[0].sessions.counts.moved, 400);
}

#[test]
fn a_drain_that_refusals_hold_still_ends_by_its_deadline() {
    let mut fleet = Fleet::new(&STAGED.replace("120000", "30000"), 100, 0);
    fleet.pass(4_000);
    fleet.refusing = Some("table full");
    fleet.run_to(Phase::Held);
    fleet.run("the last seconds", |drain| drain.phase() == Phase::Settling);
    fleet.refusing = None;
    let report = fleet.run_to_end();
    let counts = report.sessions.counts;
    assert_eq!(counts.moved + counts.parked, 100, "pushed or parked in the time kept for it: {}", account(&report));
    assert!((29_000..=30_000).contains(&report.took_ms), "{} ms", report.took_ms);
}

#[test]
fn when_the_only_successor_dies_the_drain_holds_and_goes_on_when_it_is_back() {
    let mut fleet = Fleet::new(STAGED, 100, 10);
    fleet.pass(3_000);
    fleet.refusing = Some("connection refused");
    fleet.tell(Event::PeersChanged(vec![]));
    assert_eq!(fleet.drain.phase(), Phase::Held);
    let orders = fleet.moves().len();
    fleet.pass(20_000);
    assert_eq!(fleet.moves().len(), orders, "nobody is sent nowhere");
    assert_eq!(fleet.status().sessions.unwrap().parked, 0, "nor parked while there is time");
    fleet.refusing = None;
    fleet.tell(Event::PeersChanged(vec![peer(PEER.0)]));
    assert_eq!(fleet.moves().len(), orders + 1, "one is tried at once");
    let report = fleet.run_to_end();
    assert_eq!(
        account(&report),
        "drained: 110 + 0 = 110 moved, 0 parked, 0 left, 0 forced, 0 unconfirmed, 0 remaining; cut 0"
    );
}

#[test]
fn when_the_only_successor_stays_dead_the_rest_is_parked_before_the_deadline() {
    let mut fleet = Fleet::new(&STAGED.replace("120000", "30000"), 100, 0);
    fleet.pass(3_000);
    fleet.tell(Event::PeersChanged(vec![]));
    let report = fleet.run_to_end();
    let counts = report.sessions.counts;
    assert_eq!(counts.moved + counts.parked, 100, "{}", account(&report));
    assert!(counts.parked > 50 && report.took_ms <= 30_000, "{}", account(&report));
}

#[test]
fn a_session_that_one_peer_refuses_three_times_goes_to_another() {
    let mut fleet = Fleet::with_peers(STAGED, 30, 0, &[peer(1), peer(2)]);
    fleet.habits.insert(id(4), Habit::Ignores);
    fleet.run("its order", |drain| matches!(drain.roster.get(id(4)).unwrap().place, Place::Ordered { .. }));
    fleet.tell(Event::HandoverBegan { id: id(4), to: HubId(1) });
    fleet.tell(Event::Blocked { id: id(4), to: Some(HubId(1)), why: "frozen too long".into() });
    fleet.run_to_end();
    let pushes = fleet.pushes();
    assert_eq!(pushes.len(), 1);
    assert_eq!(pushes[0].1, Action::Push { id: id(4), to: HubId(2) });
}

#[test]
fn a_session_that_every_peer_refuses_is_named_tried_more_and_more_seldom_and_parked_when_it_has_to_be() {
    let mut fleet = Fleet::with_peers(STAGED, 30, 0, &[peer(1), peer(2)]);
    fleet.unmovable.insert(id(4), "state too large");
    fleet.run("the others to be gone", |drain| drain.status(Millis(0)).sessions.unwrap().moved == 29);
    fleet.pass(10_000);
    let waiting = fleet.status().waiting_for;
    let named = waiting.iter().find(|waiting| waiting.session == id(4)).expect("it is named");
    assert_eq!(named.why, "refused, tried again: state too large");
    let report = fleet.run_to_end();
    assert_eq!(
        account(&report),
        "drained: 30 + 0 = 29 moved, 1 parked, 0 left, 0 forced, 0 unconfirmed, 0 remaining; cut 1"
    );
    assert!((118_000..=120_000).contains(&report.took_ms), "as long as there was time: {} ms", report.took_ms);
    let tries = fleet.actions(
        |action| matches!(action, Action::Move { id: who, .. } | Action::Push { id: who, .. } if *who == id(4)),
    );
    assert!((6..=20).contains(&tries.len()), "a round now and then: {tries:?}");
    let pushed_to =
        |hub| tries.iter().any(|(_, action)| matches!(action, Action::Push { to, .. } if *to == HubId(hub)));
    assert!(pushed_to(1) && pushed_to(2), "to either peer: {tries:?}");
}

#[test]
fn three_failed_freezes_while_settling_do_not_park_a_session_whose_deadline_is_far_off() {
    let mut fleet = Fleet::new(STAGED, 0, 3);
    fleet.unmovable.insert(id(1), "the freeze was not finished in time");
    fleet.run("the first round of refusals", |drain| drain.roster.get(id(1)).unwrap().refusals == 1);
    fleet.pass(3_000);
    assert_eq!(fleet.drain.phase(), Phase::Settling);
    assert_eq!(fleet.status().sessions.unwrap().parked, 0, "a minute and a half is left");
    fleet.unmovable.clear();
    let report = fleet.run_to_end();
    assert_eq!(
        account(&report),
        "drained: 3 + 0 = 3 moved, 0 parked, 0 left, 0 forced, 0 unconfirmed, 0 remaining; cut 0"
    );
    assert!(report.took_ms < 30_000, "soon after it could be moved: {} ms", report.took_ms);
}

#[test]
fn behind_a_plain_balancer_everybody_gets_through_in_the_end() {
    let mut fleet = Fleet::new(STAGED, 200, 0);
    // One client in eight comes back here three times, one in 64 six times.
    for n in 0..200u64 {
        let bounces = if n % 64 == 0 {
            6
        } else if n % 8 == 0 {
            3
        } else {
            (n % 3) as u8
        };
        fleet.habits.insert(id(n), Habit::BouncesFirst(bounces));
    }
    let report = fleet.run_to_end();
    assert_eq!(
        account(&report),
        "drained: 200 + 0 = 200 moved, 0 parked, 0 left, 0 forced, 0 unconfirmed, 0 remaining; cut 0"
    );
    assert_eq!(report.unroutable, 0);
}

#[test]
fn behind_a_sticky_balancer_sessions_stay_and_are_handed_on_once_it_lets_go() {
    let mut fleet = Fleet::new(STAGED, 60, 0);
    (0..50).for_each(|n| _ = fleet.habits.insert(id(n), Habit::Sticky));
    let report = fleet.run_to_end();
    assert_eq!(
        account(&report),
        "unroutable: 60 + 0 = 10 moved, 0 parked, 0 left, 0 forced, 0 unconfirmed, 50 remaining; cut 0"
    );
    assert_eq!(report.unroutable, 50);
    assert!(report.why.as_ref().is_some_and(|why| why.starts_with("50 sessions stay: ")), "{:?}", report.why);
    assert!(report.took_ms < 60_000, "in time, not at the deadline: {} ms", report.took_ms);
    let status = fleet.status();
    assert_eq!(status.waiting_for.len(), 10, "the first ten are named");
    assert!(status.waiting_for[0].why.starts_with("unroutable: its client came back here"), "{:?}", status.waiting_for);
    fleet.habits.clear();
    fleet.tell(Event::TriggerEnded);
    fleet.pass(8_000);
    let counts = fleet.status().sessions.unwrap();
    assert_eq!((counts.moved, counts.remaining, fleet.status().unroutable), (60, 0, Some(0)));
}

#[test]
fn unroutable_sessions_do_not_wait_for_the_deadline_but_for_nothing_longer_either() {
    let mut fleet = Fleet::new(&STAGED.replace("120000", "15000"), 20, 0);
    fleet.habit = Habit::Sticky;
    let report = fleet.run_to_end();
    assert_eq!((report.unroutable, report.sessions.counts.remaining, report.cut), (20, 20, 0));
    assert!(report.took_ms < 15_000, "{} ms", report.took_ms);
    assert_eq!(report.result, DrainResult::Unroutable, "nobody was forced: {}", account(&report));
}

#[test]
fn nobody_is_found_unroutable_before_half_of_the_settle_however_often_he_came_back() {
    let mut fleet = Fleet::new(&STAGED.replace("\"settle_ms\":2000", "\"settle_ms\":20000"), 1, 0);
    fleet.habit = Habit::Ignores;
    fleet.run("the order", |drain| drain.status(Millis(u64::MAX)).in_flight > Some(0));
    for _ in 0..100 {
        fleet.tell(Event::Bounced { id: id(0) });
        fleet.pass(99);
        assert_eq!(fleet.status().unroutable, Some(0));
    }
    fleet.pass(100);
    fleet.tell(Event::Bounced { id: id(0) });
    assert_eq!(fleet.status().unroutable, Some(1), "and then at once");
    assert_eq!(fleet.drain.sends_away(id(0)), None, "it is taken in when it comes again");
}

#[test]
fn a_client_is_told_to_try_again_forty_times_within_the_settle_and_never_more_seldom_than_twice_a_second() {
    let after_ms = |settle_ms: u64| {
        let mut fleet = Fleet::new(&STAGED.replace("\"settle_ms\":2000", &format!("\"settle_ms\":{settle_ms}")), 1, 0);
        fleet.habit = Habit::Ignores;
        assert_eq!(fleet.drain.sends_away(id(0)), None, "nobody has asked it to go");
        fleet.run("the order", |drain| drain.status(Millis(u64::MAX)).in_flight > Some(0));
        fleet.drain.sends_away(id(0))
    };
    assert_eq!((after_ms(4_000), after_ms(10_000), after_ms(60_000)), (Some(100), Some(250), Some(500)));
}

#[test]
fn a_peer_that_forgets_to_answer_a_push_costs_a_retry_and_not_the_drain() {
    let mut fleet = Fleet::new(&STAGED.replace("120000", "100000"), 0, 1);
    fleet.drain.handle(Event::PeersChanged(vec![peer(PEER.0)]), fleet.now);
    fleet.now = fleet.now.plus(1_000);
    let push = fleet.drain.poll_action(fleet.now);
    assert_eq!(push, Some(Action::Push { id: id(0), to: PEER }), "and the answer is lost");
    let report = fleet.run_to_end();
    assert_eq!(report.sessions.counts.moved, 1);
    assert!((32_000..34_000).contains(&report.took_ms), "{} ms", report.took_ms);
}

#[test]
fn a_client_whose_connection_broke_after_its_order_is_ordered_again_when_it_is_back() {
    let mut fleet = Fleet::new(STAGED, 30, 0);
    let first = fleet.drain.plan().order[0];
    fleet.habits.insert(first, Habit::Ignores);
    fleet.run("its order", |drain| matches!(drain.roster.get(first).unwrap().place, Place::Ordered { .. }));
    fleet.tell(Event::ConnectionLost { id: first });
    fleet.pass(500);
    fleet.habits.insert(first, Habit::Comes(50));
    fleet.tell(Event::ConnectionBack { id: first });
    let ordered =
        fleet.moves().iter().filter(|(_, action)| matches!(action, Action::Move { id, .. } if *id == first)).count();
    assert_eq!(ordered, 2);
    let report = fleet.run_to_end();
    assert_eq!((report.sessions.counts.moved, fleet.pushes().len()), (30, 0));
}

#[test]
fn repeated_and_late_events_change_nothing() {
    let mut fleet = Fleet::new(STAGED, 30, 0);
    fleet.pass(4_000);
    let moved = fleet.moves()[0].1.clone();
    let Action::Move { id, .. } = moved else { panic!("expected a move, got {moved:?}") };
    let before = fleet.status().sessions;
    for event in [
        Event::Live { id, to: PEER, had_connection: true, resume: None },
        Event::Committed { id, to: PEER, exchange_ms: None },
        Event::Left { id },
        Event::Parked { id },
        Event::Forced { id },
        Event::Bounced { id },
        Event::Refused { id, to: None, why: "late".into() },
        Event::Busy { id, ms: 1, why: String::new() },
        Event::Ready { id },
        Event::ConnectionLost { id },
        Event::ConnectionBack { id },
        Event::HandoverBegan { id, to: PEER },
        Event::ParkFailed { id, why: "late".into() },
        Event::Resumed { id, resume: Resume::default() },
    ] {
        fleet.tell(event);
    }
    assert_eq!(fleet.status().sessions, before);
    assert_eq!(fleet.run_to_end().sessions.resumed, 30);
}

#[test]
fn a_grant_outlives_a_refused_handover_and_a_broken_line() {
    let mut fleet =
        Fleet::new(r#"{"notice_ms":2000,"window_ms":10000,"settle_ms":2000,"deadline_ms":60000,"stages":[100]}"#, 3, 0);
    fleet.habit = Habit::Ignores;
    fleet.run("the first order", |drain| drain.status(Millis(u64::MAX)).in_flight > Some(0));
    let Action::Move { id: first, .. } = fleet.moves()[0].1 else { panic!("expected a move") };
    let granted = fleet.elapsed() + 10_000;
    fleet.tell(Event::Busy { id: first, ms: 10_000, why: "typing".into() });
    fleet.tell(Event::HandoverBegan { id: first, to: PEER });
    fleet.tell(Event::Refused { id: first, to: Some(PEER), why: "busy".into() });
    let other = fleet.drain.plan().order.iter().copied().find(|id| *id != first).expect("three are here");
    fleet.tell(Event::Busy { id: other, ms: 10_000, why: "typing".into() });
    fleet.tell(Event::ConnectionLost { id: other });
    fleet.pass(500);
    fleet.tell(Event::ConnectionBack { id: other });
    fleet.habit = Habit::Comes(50);
    fleet.run_to_end();
    for who in [first, other] {
        let again =
            fleet.moves().into_iter().rfind(|(_, action)| matches!(action, Action::Move { id, .. } if *id == who));
        let (at, _) = again.expect("it is asked in the end");
        assert!(at >= granted, "{who} had time until {granted} and was asked at {at}");
    }
}
