//! How it ends: no peer, deadline, cancel, orphaned, the rest.

use super::*;
use crate::control::HeldKind;

/// As [`SHORT`], and gates that fail only delay.
const UNGATED: &str =
    r#"{"notice_ms":1000,"window_ms":2000,"settle_ms":1000,"deadline_ms":20000,"on_gate":"continue"}"#;
const SHORT: &str = r#"{"notice_ms":1000,"window_ms":2000,"settle_ms":1000,"deadline_ms":20000}"#;

#[test]
fn a_hub_that_is_alone_parks_everybody_after_the_notice() {
    let mut fleet = Fleet::with_peers(SHORT, 100, 20, &[]);
    fleet.tell(Event::Busy { id: id(5), ms: 4_000, why: "typing".into() });
    let report = fleet.run_to_end();
    assert_eq!(
        account(&report),
        "drained: 120 + 0 = 0 moved, 120 parked, 0 left, 0 forced, 0 unconfirmed, 0 remaining; cut 0"
    );
    let parks = fleet.actions(|action| matches!(action, Action::Park { .. }));
    assert_eq!((parks[0].0, parks[118].0), (1_000, 1_000), "all at once after the notice");
    assert!(
        matches!(parks[119], (4_000, Action::Park { id: who, .. }) if who == id(5)),
        "but the busy one after its grant: {:?}",
        parks[119]
    );
    assert!(fleet.drain.has_parked());
    fleet.pass(3_600_000);
    assert_eq!(fleet.drain.phase(), Phase::Drained, "for how long is not its business, but that of the claims");
    fleet.tell(Event::Cancel(None));
    assert_eq!(fleet.log.last().unwrap().1, Action::ServeAgain);
}

#[test]
fn a_peer_that_is_draining_itself_takes_nobody() {
    let draining = Successor { eligible: false, state: Some(HubState::Draining), ..peer(1) };
    let mut fleet = Fleet::with_peers(&may_park(SHORT), 10, 0, &[draining]);
    let report = fleet.run_to_end();
    assert_eq!((report.sessions.counts.parked, fleet.moves().len()), (10, 0));
    assert!(report.took_ms < 1_100);
}

#[test]
fn a_peer_that_is_not_ready_yet_is_waited_for_a_while() {
    let starting = Successor { eligible: false, ..peer(PEER.0) };
    let mut fleet = Fleet::with_peers(SHORT, 10, 0, std::slice::from_ref(&starting));
    fleet.run_to(Phase::Held);
    assert_eq!(fleet.status().held, Some(HeldKind::NoSuccessor));
    fleet.pass(300);
    fleet.tell(Event::PeersChanged(vec![peer(PEER.0)]));
    assert_eq!(fleet.run_to_end().sessions.counts.moved, 10);

    let mut fleet = Fleet::with_peers(&may_park(SHORT), 10, 0, &[starting]);
    let report = fleet.run_to_end();
    assert_eq!(report.sessions.counts.parked, 10, "it never came: parked");
    assert!(report.took_ms < 3_000, "{} ms", report.took_ms);
}

#[test]
fn clients_that_do_not_move_are_pushed_and_the_drain_ends_long_before_its_deadline() {
    let mut fleet =
        Fleet::new(r#"{"notice_ms":1000,"window_ms":2000,"settle_ms":1000,"deadline_ms":60000,"stages":[100]}"#, 50, 0);
    fleet.habit = Habit::Ignores;
    let report = fleet.run_to_end();
    assert_eq!(
        account(&report),
        "drained: 50 + 0 = 50 moved, 0 parked, 0 left, 0 forced, 0 unconfirmed, 0 remaining; cut 0"
    );
    assert_eq!(report.sessions.resumed, 50);
    assert!(report.took_ms < 6_000, "{} ms", report.took_ms);
}

#[test]
fn near_the_deadline_everybody_left_is_pushed_and_counted_as_cut() {
    // A gate that half of a stage does not open, and that waits longer than there is time.
    let mut fleet = Fleet::new(&SHORT.replace("20000", r#"20000,"gate":{"wait_max_ms":60000}"#), 200, 0);
    for (n, id) in fleet.drain.plan().order.clone().into_iter().enumerate() {
        fleet.habits.insert(id, if n % 2 == 0 { Habit::Comes(50) } else { Habit::Ignores });
    }
    let report = fleet.run_to_end();
    assert_eq!(report.sessions.counts.moved, 200, "{}", account(&report));
    assert!(report.cut > 190, "{} cut", report.cut);
    assert!(report.took_ms <= 20_000, "{} ms", report.took_ms);
    assert_eq!(report.result, DrainResult::Drained);
}

#[test]
fn at_the_deadline_what_was_not_taken_is_parked_and_the_drain_ends() {
    let mut fleet = Fleet::new(UNGATED, 100, 0);
    fleet.refusing = Some("full");
    let report = fleet.run_to_end();
    let counts = report.sessions.counts;
    assert_eq!((counts.moved, counts.parked, counts.forced), (0, 100, 0), "{}", account(&report));
    assert!(report.took_ms <= 20_000, "{} ms", report.took_ms);
    assert!(report.cut > 0, "their connections were closed against their will");
}

#[test]
fn forced_are_those_for_whom_neither_push_nor_park_worked() {
    let mut fleet = Fleet::new(UNGATED, 30, 0);
    fleet.refusing = Some("full");
    fleet.disk_fails = true;
    let report = fleet.run_to_end();
    assert_eq!(
        account(&report),
        "forced: 30 + 0 = 0 moved, 0 parked, 0 left, 30 forced, 0 unconfirmed, 0 remaining; cut 0"
    );
    assert_eq!(fleet.actions(|action| matches!(action, Action::Force { .. })).len(), 30);
    assert!(report.took_ms <= 20_000, "{} ms", report.took_ms);
}

#[test]
fn a_park_that_fails_once_is_tried_again_before_anybody_is_forced() {
    let mut fleet = Fleet::with_peers(SHORT, 3, 0, &[]);
    fleet.disk_fails = true;
    fleet.pass(1_050);
    fleet.disk_fails = false;
    let report = fleet.run_to_end();
    assert_eq!(
        account(&report),
        "drained: 3 + 0 = 0 moved, 3 parked, 0 left, 0 forced, 0 unconfirmed, 0 remaining; cut 0"
    );
    assert_eq!(fleet.actions(|action| matches!(action, Action::Park { .. })).len(), 6);
}

#[test]
fn given_away_and_never_confirmed_is_unconfirmed_until_it_is() {
    let mut fleet = Fleet::new(UNGATED, 20, 0);
    fleet.silent_after_commit = true;
    let report = fleet.run_to_end();
    let counts = report.sessions.counts;
    assert!(counts.unconfirmed > 0, "{}", account(&report));
    assert_eq!((report.result, report.took_ms, counts.remaining), (DrainResult::Forced, 20_000, 0));
    let unconfirmed = counts.unconfirmed;
    let (late, _) =
        fleet.drain.roster.iter().find(|(_, seat)| matches!(seat.place, Place::Unconfirmed { .. })).unwrap();
    fleet.tell(Event::Live { id: late, to: PEER, had_connection: true, resume: None });
    let counts = fleet.status().sessions.unwrap();
    assert_eq!((counts.unconfirmed, counts.moved), (unconfirmed - 1, 1), "a late live corrects the account");
}

#[test]
fn cancel_recalls_who_was_warned_and_leaves_the_moved_moved() {
    let mut fleet = Fleet::new(SHORT, 100, 0);
    fleet.pass(2_000);
    fleet.tell(Event::Cancel(None));
    let moved = fleet.reports[0].sessions.counts.moved;
    assert!((40..60).contains(&moved), "half-way: {moved}");
    assert_eq!(fleet.reports[0].result, DrainResult::Cancelled);
    assert_eq!(fleet.drain.phase(), Phase::Serving);
    let recalls = fleet.actions(|action| matches!(action, Action::Recall { .. })).len() as u64;
    assert!(recalls >= 100 - moved - 5 && recalls <= 100 - moved, "{recalls} recalled of {}", 100 - moved);
    let orders = fleet.moves().len();
    fleet.pass(30_000);
    assert_eq!(fleet.moves().len(), orders, "nobody is moved any more");
    assert_eq!(fleet.drain.poll_timeout(), None);
}

#[test]
fn cancel_after_the_end_serves_again_and_takes_up_what_was_parked() {
    let mut fleet = Fleet::with_peers(SHORT, 5, 0, &[]);
    fleet.run_to_end();
    fleet.tell(Event::Cancel(None));
    assert_eq!((fleet.drain.phase(), &fleet.log.last().unwrap().1), (Phase::Serving, &Action::ServeAgain));
    assert_eq!(fleet.reports.len(), 1, "the report stays what it was");
    fleet.tell(Event::Cancel(None));
    assert_eq!(fleet.actions(|action| *action == Action::ServeAgain).len(), 1, "once is enough");
}

#[test]
fn a_cancel_says_who_did_it_and_a_drain_that_nobody_asks_about_goes_on() {
    let mut fleet =
        Fleet::new(r#"{"notice_ms":5000,"window_ms":30000,"lease_ms":3000,"on_orphan":"recall"}"#, 1_000, 0);
    fleet.pass(13_000);
    assert_eq!(fleet.drain.phase(), Phase::Releasing, "leases are the claims' business");
    fleet.tell(Event::Cancel(Some("an operator".to_owned())));
    assert_eq!(fleet.reports[0].result, DrainResult::Cancelled);
    assert_eq!(fleet.reports[0].why.as_deref(), Some("an operator"));
}

#[test]
fn after_the_balancer_let_go_the_rest_is_pushed_newcomers_and_unroutable_ones_too() {
    let mut fleet = Fleet::new(SHORT, 20, 0);
    fleet.habit = Habit::Sticky;
    let report = fleet.run_to_end();
    assert_eq!((report.sessions.counts.remaining, report.unroutable), (20, 20), "{}", account(&report));
    let facts = Facts { connected: true, ..Facts::default() };
    fleet.tell(Event::Arrived { id: id(100), facts });
    fleet.tell(Event::PushAndParkRest);
    fleet.pass(1_000);
    let counts = fleet.status().sessions.unwrap();
    assert_eq!((counts.moved, counts.remaining), (21, 0));
}

#[test]
fn the_rest_is_parked_when_nobody_takes_it() {
    let mut fleet = Fleet::new(SHORT, 20, 0);
    fleet.pass(500);
    fleet.tell(Event::PeersChanged(vec![]));
    fleet.tell(Event::PushAndParkRest);
    let report = fleet.run_to_end();
    assert_eq!((report.sessions.counts.parked, report.took_ms), (20, 505));
}

#[test]
fn once_the_balancer_let_go_it_keeps_so_while_resumes_are_awaited_and_after_the_end() {
    let mut fleet = Fleet::new(SHORT, 5, 0);
    fleet.habit = Habit::Ignores;
    fleet.pass(10);
    fleet.tell(Event::PushAndParkRest);
    fleet.pass(100);
    assert_eq!(fleet.drain.phase(), Phase::Settling, "clients of pushed sessions are awaited at their successors");
    assert!(fleet.drain.takes_along(), "who comes now goes at once");
    fleet.tell(Event::Arrived { id: id(100), facts: Facts { connected: true, ..Facts::default() } });
    fleet.pass(60);
    assert_eq!(fleet.status().sessions.unwrap().moved, 6, "the newcomer was pushed like everybody else");
    fleet.run_to_end();
    assert!(fleet.drain.takes_along(), "that does not end with the drain");
    fleet.tell(Event::Arrived { id: id(101), facts: Facts { connected: true, ..Facts::default() } });
    fleet.pass(60);
    assert_eq!(fleet.status().sessions.unwrap().moved, 7);
    fleet.tell(Event::Cancel(None));
    assert!(!fleet.drain.takes_along(), "but with a cancel");
}

#[test]
fn whoever_was_forced_is_served_again_after_a_recall_and_does_not_count_as_forced_any_more() {
    let mut fleet = Fleet::with_peers(&SHORT.replace("20000", "10000"), 18, 0, &[]);
    fleet.disk_fails = true;
    fleet.run_to(Phase::Forcing);
    fleet.future.clear();
    (0..5).for_each(|n| fleet.tell(Event::ParkFailed { id: id(n), why: "disk full".into() }));
    assert_eq!(fleet.status().sessions.unwrap().forced, 5);
    fleet.tell(Event::Cancel(None));
    let report = fleet.reports[0].clone();
    assert_eq!((report.result, report.sessions.counts.forced), (DrainResult::Cancelled, 0), "{}", account(&report));
    assert_eq!(report.sessions.counts.remaining, 18, "{}", account(&report));

    let mut fleet = Fleet::with_peers(&SHORT.replace("20000", "10000"), 18, 0, &[]);
    fleet.disk_fails = true;
    let report = fleet.run_to_end();
    assert_eq!((report.result, report.sessions.counts.forced), (DrainResult::Forced, 18), "{}", account(&report));
    fleet.tell(Event::Cancel(None));
    let counts = fleet.status().sessions.unwrap();
    assert_eq!((counts.forced, counts.remaining), (0, 18), "they are served: {counts:?}");
}

#[test]
fn a_park_that_is_done_a_moment_after_the_deadline_corrects_the_account() {
    let mut fleet = Fleet::with_peers(SHORT, 3, 0, &[]);
    fleet.run("a park", |drain| drain.roster.tally().parking == 3);
    fleet.future.clear();
    let report = fleet.run_to_end();
    assert_eq!(report.sessions.counts.forced, 3, "{}", account(&report));
    fleet.tell(Event::Parked { id: id(1) });
    let counts = fleet.status().sessions.unwrap();
    assert_eq!((counts.forced, counts.parked), (2, 1));
}

#[test]
fn a_drain_whose_deadline_finds_everybody_safe_is_drained_and_says_whom_it_cut() {
    let mut fleet = Fleet::new(&STAGED_ALONE.replace("120000", "30000"), 10, 0);
    fleet.pass(1_500);
    fleet.tell(Event::PeersChanged(vec![]));
    let report = fleet.run_to_end();
    assert_eq!(report.result, DrainResult::Drained, "nobody was forced: {}", account(&report));
    assert!(report.cut > 0 && report.why.as_ref().is_some_and(|why| why.contains("were closed")), "{report:#?}");
}

const STAGED_ALONE: &str = r#"{"notice_ms":1000,"window_ms":5000,"settle_ms":2000,"deadline_ms":120000,"stages":[10,90],"gate":{"wait_max_ms":3000}}"#;
