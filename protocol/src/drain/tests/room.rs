//! Room, and the lack of it: who is sent where, who waits, and when he is parked.

use super::*;
use crate::control::HeldKind;

const POLICY: &str = r#"{"notice_ms":2000,"window_ms":10000,"settle_ms":2000,"deadline_ms":60000,"stages":[100],"gate":{"wait_max_ms":3000}}"#;

fn with_room(hub: u64, places: u64, told_at: u64) -> Successor {
    Successor { eligible: places > 0, room: Some(Room { places, told_at: Millis(told_at) }), ..peer(hub) }
}

#[test]
fn only_who_finds_a_place_is_moved_and_the_others_wait_until_it_is_time_to_park() {
    let mut fleet = Fleet::with_peers(POLICY, 80, 0, &[with_room(PEER.0, 31, 1)]);
    fleet.pass(40_000);
    assert_eq!(
        fleet.status().sessions.map(|counts| (counts.moved, counts.parked, counts.remaining)),
        Some((31, 0, 49))
    );
    fleet.tell(Event::PeersChanged(vec![with_room(PEER.0, 0, 2)]));
    let status = fleet.status();
    assert_eq!((status.phase, status.held), (Phase::Held, Some(HeldKind::NoSuccessor)));
    assert!(status.why.as_deref().is_some_and(|why| why.starts_with("no successor: ")), "{:?}", status.why);
    assert_eq!(status.blockers, ["hub 000000000000000b takes nobody: it has no room for another session"]);
    let report = fleet.run_to_end();
    let parks = fleet.actions(|action| matches!(action, Action::Park { .. }));
    let push_at_ms = 60_000 - fleet.drain.plan().push_reserve_ms;
    assert!(parks.iter().all(|(at, _)| *at >= push_at_ms), "in time before the deadline, and not sooner");
    assert_eq!((report.sessions.counts.moved, report.sessions.counts.parked, report.cut), (31, 49, 49));
    let why = report.why.expect("nobody is parked in silence");
    assert!(why.contains("49 sessions were parked: "), "{why}");
}

#[test]
fn who_agreed_to_parking_waits_for_room_as_long_as_for_a_gate() {
    let mut fleet = Fleet::with_peers(&may_park(POLICY), 80, 0, &[with_room(PEER.0, 31, 1)]);
    fleet.pass(7_000);
    fleet.tell(Event::PeersChanged(vec![with_room(PEER.0, 0, 2)]));
    let held_at = fleet.elapsed();
    let report = fleet.run_to_end();
    let parks = fleet.actions(|action| matches!(action, Action::Park { .. }));
    assert_eq!(parks[0].0, held_at + 3_000);
    assert_eq!((report.sessions.counts.moved, report.sessions.counts.parked, report.cut), (31, 49, 0));
}

#[test]
fn who_agreed_to_parking_is_not_parked_because_a_hub_fell_silent_for_a_while() {
    for silent_at_ms in [7_000, 50_000] {
        let mut fleet = Fleet::with_peers(&may_park(POLICY), 40, 10, &[with_room(PEER.0, 90, 1)]);
        fleet.pass(silent_at_ms);
        fleet.tell(Event::PeersChanged(Vec::new()));
        // Longer than a gate waits.
        fleet.pass(5_000);
        let told_at = fleet.now.0;
        fleet.tell(Event::PeersChanged(vec![with_room(PEER.0, 90, told_at)]));
        let report = fleet.run_to_end();
        assert_eq!((report.sessions.counts.moved, report.sessions.counts.parked), (50, 0), "{silent_at_ms}");
    }
}

#[test]
fn a_drain_that_waits_for_room_goes_on_when_there_is_some() {
    let mut fleet = Fleet::with_peers(POLICY, 40, 10, &[with_room(PEER.0, 20, 1)]);
    fleet.pass(8_000);
    fleet.tell(Event::PeersChanged(vec![with_room(PEER.0, 0, 2)]));
    fleet.pass(5_000);
    assert_eq!(fleet.status().held, Some(HeldKind::NoSuccessor));
    let told_at = fleet.now.0;
    fleet.tell(Event::PeersChanged(vec![with_room(PEER.0, 30, told_at)]));
    let report = fleet.run_to_end();
    assert_eq!((report.sessions.counts.moved, report.sessions.counts.parked), (50, 0));
}

#[test]
fn a_place_is_kept_for_whoever_is_on_the_way_to_it_and_given_free_when_it_is_refused() {
    let mut fleet = Fleet::with_peers(POLICY, 0, 3, &[with_room(PEER.0, 1, 1)]);
    fleet.refusing = Some("no room after all");
    fleet.pass(2_000);
    assert_eq!((fleet.pushes().len(), fleet.status().successors[0].room), (1, Some(0)));
    fleet.refusing = None;
    fleet.pass(5_000);
    let counts = fleet.status().sessions.expect("a drain has an account");
    assert_eq!((counts.moved, counts.remaining), (1, 2), "one place, one session");
}

#[test]
fn hubs_that_are_drained_all_at_once_hold_and_park_in_time_before_the_deadline() {
    let draining = Successor { eligible: false, state: Some(HubState::Draining), ..peer(PEER.0) };
    let mut fleet = Fleet::with_peers(POLICY, 10, 2, &[draining]);
    fleet.pass(30_000);
    let status = fleet.status();
    assert_eq!((status.phase, status.held), (Phase::Held, Some(HeldKind::NoSuccessor)));
    assert_eq!(status.sessions.map(|counts| counts.parked), Some(0), "nobody is parked unasked");
    let report = fleet.run_to_end();
    assert_eq!((report.result.as_str(), report.sessions.counts.parked), ("drained", 12));
    assert!(report.took_ms < 60_000, "before the deadline: {} ms", report.took_ms);
}

#[test]
fn when_one_of_them_is_called_off_the_others_move_there() {
    let draining = Successor { eligible: false, state: Some(HubState::Draining), ..peer(PEER.0) };
    let mut fleet = Fleet::with_peers(POLICY, 10, 2, &[draining]);
    fleet.pass(30_000);
    fleet.tell(Event::PeersChanged(vec![peer(PEER.0)]));
    assert_eq!(fleet.run_to_end().sessions.counts.moved, 12);
}

#[test]
fn the_order_to_push_and_park_the_rest_asks_nobody() {
    let draining = Successor { eligible: false, state: Some(HubState::Draining), ..peer(PEER.0) };
    let mut fleet = Fleet::with_peers(POLICY, 10, 2, &[draining]);
    fleet.tell(Event::PushAndParkRest);
    fleet.pass(100);
    assert_eq!(fleet.status().sessions.map(|counts| counts.parked), Some(12));
}

#[test]
fn a_word_that_was_on_its_way_while_sessions_were_given_does_not_count_them() {
    let mut fleet = Fleet::with_peers(POLICY, 0, 3, &[with_room(PEER.0, 2, 1)]);
    fleet.pass(3_000);
    assert_eq!(fleet.pushes().len(), 2);
    // Heard now, and said before the two were there.
    let told_at = fleet.now.0;
    fleet.tell(Event::PeersChanged(vec![with_room(PEER.0, 2, told_at)]));
    fleet.pass(100);
    assert_eq!(fleet.pushes().len(), 2, "both places are taken");
    fleet.pass(5_000);
    let told_at = fleet.now.0;
    fleet.tell(Event::PeersChanged(vec![with_room(PEER.0, 1, told_at)]));
    assert_eq!(fleet.run_to_end().sessions.counts.moved, 3, "a later word counts them");
}
