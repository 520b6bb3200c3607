//! The normal course, the dialogue, newcomers.

use super::*;

const SHORT: &str = r#"{"notice_ms":2000,"window_ms":10000,"settle_ms":2000,"deadline_ms":60000}"#;

#[test]
fn everybody_is_warned_then_moved_in_slots_and_accounted_for() {
    let mut fleet = Fleet::new(SHORT, 500, 0);
    let report = fleet.run_to_end();
    assert_eq!(
        account(&report),
        "drained: 500 + 0 = 500 moved, 0 parked, 0 left, 0 forced, 0 unconfirmed, 0 remaining; cut 0"
    );
    assert_eq!((report.sessions.resumed, report.clients.notified, report.messages.replayed), (500, 500, 500));
    assert_eq!((report.gap_ms.p50, report.gap_ms.p99, report.gap_ms.max), (Some(50), Some(50), Some(50)));
    let counts: Vec<_> = report.stages.iter().map(|stage| (stage.count, stage.back)).collect();
    assert_eq!(counts, [(5, 5), (45, 45), (150, 150), (300, 300)]);
    assert!((12_000..13_000).contains(&report.took_ms), "notice, window and one move: {} ms", report.took_ms);
    assert_eq!(fleet.pushes(), [], "clients come by themselves, nobody is pushed");
}

#[test]
fn each_client_is_moved_at_the_slot_that_its_notice_named() {
    let mut fleet = Fleet::new(SHORT, 500, 0);
    fleet.run_to_end();
    let told = fleet.actions(|action| matches!(action, Action::Notify { .. }));
    let told: BTreeMap<_, _> = told
        .into_iter()
        .map(|(at, action)| match action {
            Action::Notify { id, slot_in_ms, .. } => (id, at + slot_in_ms),
            other => panic!("expected a notice, got {other:?}"),
        })
        .collect();
    for (at, action) in fleet.moves() {
        let Action::Move { id, .. } = action else { panic!("expected a move, got {action:?}") };
        assert!(at >= told[&id] && at <= told[&id] + 500, "{id} was told {} and moved at {at}", told[&id]);
    }
}

#[test]
fn when_the_notices_went_out_late_the_moves_wait_for_them_to_age() {
    let mut fleet = Fleet::new(SHORT, 100, 0);
    fleet.now = fleet.now.plus(400);
    let report = fleet.run_to_end();
    assert_eq!(fleet.moves()[0].0, 2_400, "the fleet checks that no notice was younger");
    assert_eq!(report.sessions.counts.moved, 100);
}

#[test]
fn the_same_events_give_the_same_actions_and_the_same_machine() {
    let run = || {
        let mut fleet = Fleet::new(SHORT, 300, 50);
        fleet.run_to_end();
        (fleet.log, fleet.drain)
    };
    assert!(run() == run(), "two runs of the same drain differ");
}

#[test]
fn an_empty_hub_is_drained_at_once_and_has_a_report() {
    let mut fleet = Fleet::new("{}", 0, 0);
    let report = fleet.run_to_end();
    assert_eq!(report.took_ms, 0);
    assert_eq!(
        account(&report),
        "drained: 0 + 0 = 0 moved, 0 parked, 0 left, 0 forced, 0 unconfirmed, 0 remaining; cut 0"
    );
}

#[test]
fn a_hub_that_becomes_empty_is_drained_at_that_moment() {
    let mut fleet = Fleet::new("{}", 2, 1);
    fleet.pass(100);
    (0..3).for_each(|n| fleet.tell(Event::Left { id: id(n) }));
    let report = fleet.run_to_end();
    assert_eq!(report.took_ms, 100);
    assert_eq!(
        account(&report),
        "drained: 3 + 0 = 0 moved, 0 parked, 3 left, 0 forced, 0 unconfirmed, 0 remaining; cut 0"
    );
}

#[test]
fn sessions_without_a_connection_are_pushed_first_and_cost_no_move() {
    let mut fleet = Fleet::new(SHORT, 20, 100);
    let report = fleet.run_to_end();
    assert_eq!(report.sessions.counts.moved, 120);
    assert_eq!(report.clients.notified, 20, "nobody is there to be notified");
    let pushes = fleet.pushes();
    assert_eq!(pushes.len(), 100);
    assert!(
        pushes.iter().all(|(at, _)| (2_000..5_000).contains(at)),
        "after the notice, and before the window is over: {pushes:?}"
    );
}

#[test]
fn who_says_ready_goes_before_the_others() {
    let mut fleet = Fleet::new(SHORT, 100, 0);
    fleet.pass(500);
    let ready: Vec<_> = (0..10).map(|n| id(n * 7)).collect();
    ready.iter().for_each(|id| fleet.tell(Event::Ready { id: *id }));
    let report = fleet.run_to_end();
    let first: std::collections::BTreeSet<_> = fleet.moves()[..10]
        .iter()
        .map(|(_, action)| match action {
            Action::Move { id, .. } => *id,
            other => panic!("expected a move, got {other:?}"),
        })
        .collect();
    assert_eq!(first, ready.into_iter().collect());
    assert_eq!(report.clients.ready, 10);
}

#[test]
fn a_busy_client_is_granted_its_time_and_not_moved_before_it_is_over() {
    let mut fleet = Fleet::new(SHORT, 50, 0);
    fleet.pass(100);
    fleet.tell(Event::Busy { id: id(3), ms: 20_000, why: "typing".into() });
    let grants = fleet.actions(|action| matches!(action, Action::Grant { .. }));
    assert_eq!(grants, [(100, Action::Grant { id: id(3), slot_in_ms: 20_000 })]);
    fleet.pass(15_000);
    assert_eq!(fleet.drain.phase(), Phase::Settling, "{:#?}", fleet.status());
    let waiting = fleet.status().waiting_for;
    assert_eq!(
        (waiting.len(), waiting[0].session, waiting[0].why.as_str(), waiting[0].since_ms),
        (1, id(3), "busy: typing", 15_000)
    );
    let report = fleet.run_to_end();
    let moved =
        fleet.moves().into_iter().find(|(_, action)| matches!(action, Action::Move { id: who, .. } if *who == id(3)));
    assert_eq!(moved.expect("the busy client is moved in the end").0, 20_100);
    assert_eq!((report.clients.busy, report.clients.granted, report.sessions.counts.moved), (1, 1, 50));
}

#[test]
fn a_busy_client_that_says_ready_goes_at_once() {
    let mut fleet = Fleet::new(SHORT, 50, 0);
    fleet.tell(Event::Busy { id: id(3), ms: 30_000, why: "typing".into() });
    fleet.pass(13_500);
    fleet.tell(Event::Ready { id: id(3) });
    assert_eq!(fleet.run_to_end().took_ms, 13_560);
}

#[test]
fn a_grant_ends_before_the_time_that_is_kept_for_pushing() {
    let mut fleet = Fleet::new(SHORT, 50, 0);
    fleet.pass(100);
    fleet.tell(Event::Busy { id: id(3), ms: 3_600_000, why: "the whole day".into() });
    let report = fleet.run_to_end();
    let push_at = 60_000 - fleet.drain.plan().push_reserve_ms;
    let grants = fleet.actions(|action| matches!(action, Action::Grant { .. }));
    let Action::Grant { slot_in_ms, .. } = grants[0].1 else { panic!("expected a grant, got {grants:?}") };
    assert!(100 + slot_in_ms < push_at, "granted until {} and pushing begins at {push_at}", 100 + slot_in_ms);
    assert_eq!(
        account(&report),
        "drained: 50 + 0 = 50 moved, 0 parked, 0 left, 0 forced, 0 unconfirmed, 0 remaining; cut 0"
    );
    fleet.tell(Event::Busy { id: id(3), ms: 1_000, why: String::new() });
    assert_eq!(fleet.actions(|action| matches!(action, Action::Grant { .. })).len(), 1, "who is gone is not answered");
}

#[test]
fn a_newcomer_is_counted_as_an_arrival_and_handed_on_at_once() {
    let mut fleet = Fleet::new(SHORT, 100, 0);
    fleet.pass(5_000);
    let facts = Facts { connected: true, fresh: true, ..Facts::default() };
    fleet.tell(Event::Arrived { id: id(1_000), facts });
    fleet.pass(300);
    let moved = fleet
        .moves()
        .into_iter()
        .find(|(_, action)| matches!(action, Action::Move { id: who, .. } if *who == id(1_000)));
    assert!(moved.expect("the newcomer is moved").0 <= 5_200);
    let report = fleet.run_to_end();
    assert_eq!(
        account(&report),
        "drained: 100 + 1 = 101 moved, 0 parked, 0 left, 0 forced, 0 unconfirmed, 0 remaining; cut 0"
    );
}

#[test]
fn a_newcomer_with_work_under_way_gets_its_notice_first() {
    let mut fleet = Fleet::new(SHORT, 100, 0);
    fleet.pass(5_000);
    fleet.tell(Event::Arrived { id: id(1_000), facts: Facts { connected: true, ..Facts::default() } });
    let notices = fleet.actions(|action| matches!(action, Action::Notify { id: who, .. } if *who == id(1_000)));
    assert_eq!(notices, [(5_000, Action::Notify { id: id(1_000), deadline_in_ms: 55_000, slot_in_ms: 2_000 })]);
    let report = fleet.run_to_end();
    assert_eq!((report.sessions.counts.arrived, report.sessions.counts.moved), (1, 101));
}

#[test]
fn whoever_comes_after_the_end_is_handed_on() {
    let mut fleet = Fleet::new(SHORT, 10, 0);
    fleet.run_to_end();
    fleet.habits.insert(id(50), Habit::Sticky);
    let facts = Facts { connected: true, fresh: true, ..Facts::default() };
    fleet.tell(Event::Arrived { id: id(50), facts });
    fleet.tell(Event::Arrived { id: id(51), facts });
    fleet.pass(6_000);
    let status = fleet.status();
    assert_eq!((status.phase, status.unroutable), (Phase::Drained, Some(1)));
    let counts = status.sessions.unwrap();
    assert_eq!((counts.arrived, counts.moved, counts.remaining), (2, 11, 1));
    fleet.habits.insert(id(50), Habit::Comes(50));
    fleet.pass(HAND_ON_EVERY_MS);
    assert_eq!(fleet.status().sessions.unwrap().remaining, 0, "tried again, and this time it got through");
    assert_eq!(fleet.reports.len(), 1);
}

#[test]
fn a_client_that_lost_its_connection_is_pushed_and_one_that_is_back_is_asked() {
    let mut fleet = Fleet::new(SHORT, 100, 0);
    fleet.pass(3_000);
    let last = fleet.drain.timetable[99];
    let before = fleet.drain.timetable[98];
    fleet.tell(Event::ConnectionLost { id: last });
    fleet.tell(Event::ConnectionLost { id: before });
    fleet.pass(1_000);
    fleet.tell(Event::ConnectionBack { id: before });
    let report = fleet.run_to_end();
    let pushed: Vec<_> = fleet.pushes();
    assert_eq!(pushed, [(5_000, Action::Push { id: last, to: PEER })], "after two seconds of grace");
    assert_eq!((report.sessions.counts.moved, report.sessions.resumed), (100, 99));
}

#[test]
fn clients_are_sent_by_name_only_to_a_hub_that_has_one_and_shares_are_even() {
    let named = Successor { url: Some("wss://b.example".into()), ..peer(2) };
    let mut fleet = Fleet::with_peers(SHORT, 40, 20, &[peer(1), named]);
    let report = fleet.run_to_end();
    assert!(fleet.moves().iter().all(|(_, action)| matches!(action, Action::Move { to: Some(HubId(2)), .. })));
    let moved: Vec<_> = report.successors.iter().map(|successor| (successor.hub.0, successor.moved)).collect();
    assert_eq!(moved.iter().map(|(_, moved)| moved).sum::<u64>(), 60);
    assert!(moved[0].1 >= 10, "pushes go to the one that got less: {moved:?}");
}
