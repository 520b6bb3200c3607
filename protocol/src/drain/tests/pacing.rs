//! The rate, the bound, the gates.

use super::*;

fn busiest_second(moves: &[(u64, Action)]) -> u64 {
    let mut busiest = 0;
    let mut first = 0;
    for (last, (at, _)) in moves.iter().enumerate() {
        while moves[first].0 + 1_000 <= *at {
            first += 1;
        }
        busiest = busiest.max(last - first + 1);
    }
    busiest as u64
}

#[test]
fn no_second_sees_more_than_the_planned_rate_by_a_twentieth() {
    let mut fleet = Fleet::new(r#"{"notice_ms":1000,"window_ms":20000,"settle_ms":5000}"#, 10_000, 0);
    let report = fleet.run_to_end();
    assert_eq!(report.sessions.counts.moved, 10_000);
    let busiest = busiest_second(&fleet.moves());
    assert!(busiest <= 525, "500 a second were planned, {busiest} were seen");
    assert!((21_000..24_000).contains(&report.took_ms), "the window is kept: {} ms", report.took_ms);
}

#[test]
fn the_rate_is_kept_when_the_bound_held_it_up_before() {
    let mut fleet = Fleet::new(
        r#"{"notice_ms":1000,"window_ms":10000,"settle_ms":5000,"max_in_flight":20,"stages":[100]}"#,
        1_000,
        0,
    );
    fleet.habit = Habit::Comes(3_000);
    fleet.pass(15_000);
    assert_eq!(fleet.most_in_flight, 20);
    fleet.habit = Habit::Comes(10);
    fleet.run_to_end();
    let after: Vec<_> = fleet.moves().into_iter().filter(|(at, _)| *at > 18_500).collect();
    let busiest = busiest_second(&after);
    assert!(busiest <= 105 + 20, "100 a second were planned (and 20 were in flight), {busiest} were seen");
}

#[test]
fn a_client_that_does_not_come_where_it_was_sent_counts_in_one_share_only() {
    let named = |hub: u64, sessions| Successor {
        url: Some(format!("wss://hub-{hub}.example")),
        sessions: Some(sessions),
        ..peer(hub)
    };
    for late in 0..12 {
        let json = r#"{"notice_ms":0,"window_ms":600,"settle_ms":2000,"deadline_ms":25000,"stages":[100]}"#;
        let mut fleet = Fleet::with_peers(json, 12, 0, &[named(1, 12), named(2, 0)]);
        fleet.habits.insert(id(late), Habit::Ignores);
        let report = fleet.run_to_end();
        let moved: Vec<_> = report.successors.iter().map(|to| to.moved).collect();
        assert_eq!(moved, [0, 12], "pushed to the hub that it was sent to before, which still has the fewest");
    }
}

#[test]
fn no_more_than_the_bound_are_ordered_and_not_live() {
    for (window_ms, habit) in [(0, Habit::Comes(70)), (5_000, Habit::Comes(900)), (0, Habit::Ignores)] {
        let json = format!(
            r#"{{"notice_ms":0,"window_ms":{window_ms},"settle_ms":3000,"deadline_ms":60000,"max_in_flight":17,"on_gate":"continue"}}"#
        );
        let mut fleet = Fleet::new(&json, 400, 100);
        fleet.habit = habit;
        let report = fleet.run_to_end();
        assert_eq!(report.sessions.counts.moved, 500, "{json} {habit:?}: {}", account(&report));
        assert!(fleet.most_in_flight <= 17, "{json} {habit:?}: {} in flight", fleet.most_in_flight);
    }
}

#[test]
fn without_a_window_only_the_bound_and_the_gates_slow_it_down() {
    let mut fleet = Fleet::new(r#"{"notice_ms":0,"window_ms":0,"settle_ms":1000}"#, 10_000, 0);
    let report = fleet.run_to_end();
    assert_eq!(report.sessions.counts.moved, 10_000);
    assert!(report.took_ms < 10_000 / 256 * 70 + 1_000, "256 every 60 ms: {} ms", report.took_ms);
}

#[test]
fn the_next_stage_waits_until_enough_of_the_last_is_back() {
    let json = r#"{"notice_ms":0,"window_ms":1000,"settle_ms":1000,"stages":[50,50],"gate":{"back_min_percent":90,"wait_max_ms":20000}}"#;
    let mut fleet = Fleet::new(json, 100, 0);
    fleet.habit = Habit::Comes(4_000);
    fleet.run_to(Phase::Held);
    let status = fleet.status();
    assert_eq!(status.why.as_deref(), Some("gate of stage 1: 0 of 50 are back, 90 % are needed"));
    assert_eq!((status.stage, status.stages, status.in_flight), (Some(1), Some(2), Some(50)));
    let report = fleet.run_to_end();
    let second_begins = fleet.moves()[50].0;
    assert!(
        (4_440..=4_470).contains(&second_begins),
        "45 of 50 are back 440 ms + 4,010 ms after the begin: {second_begins}"
    );
    assert_eq!(report.stages[1].began_ms, Some(second_begins));
    assert_eq!((report.sessions.counts.moved, report.stages[0].pushed), (100, 0));
}

#[test]
fn a_gate_opens_after_its_longest_wait_and_stragglers_are_pushed_and_counted() {
    let json = r#"{"notice_ms":0,"window_ms":1000,"settle_ms":1000,"stages":[50,50],"gate":{"wait_max_ms":3000}}"#;
    let mut fleet = Fleet::new(json, 100, 0);
    let drain = &fleet.drain;
    let lazy: Vec<_> = drain.plan().order[..10].to_vec();
    lazy.iter().for_each(|id| _ = fleet.habits.insert(*id, Habit::Ignores));
    let report = fleet.run_to_end();
    assert_eq!(report.stages[0].pushed, 10);
    assert_eq!(report.sessions.resumed, 100, "the report waits for the clients of pushed sessions");
    assert!((2_900..=3_600).contains(&report.stages[1].began_ms.unwrap()), "{:?}", report.stages);
}

#[test]
fn refusals_and_rising_latency_at_the_successor_slow_the_rate_down() {
    let json = r#"{"notice_ms":0,"window_ms":20000,"settle_ms":1000}"#;
    let mut fleet = Fleet::new(json, 1_000, 0);
    fleet.pass(5_000);
    let in_second =
        |fleet: &Fleet, from: u64| fleet.moves().iter().filter(|(at, _)| (from..from + 1_000).contains(at)).count();
    assert!((48..=53).contains(&in_second(&fleet, 4_000)), "{} at full speed", in_second(&fleet, 4_000));
    for second in 0..5 {
        let admission = Some(Admission { second, p99_ms: 20, refused: 5, ..Admission::default() });
        fleet.tell(Event::PeersChanged(vec![Successor { admission, ..peer(PEER.0) }]));
        fleet.pass(1_000);
    }
    let slowed = in_second(&fleet, 9_000);
    assert!(slowed <= 15, "{slowed} a second after five bad seconds");
    fleet.tell(Event::PeersChanged(vec![peer(PEER.0)]));
    fleet.pass(18_000);
    let recovered = in_second(&fleet, 27_000);
    assert!((46..=53).contains(&recovered), "{recovered} a second after eighteen good ones");
    assert_eq!(fleet.run_to_end().sessions.counts.moved, 1_000);
}

/// Drains 2,000 sessions at a planned 100 a second into a hub that can welcome 50, which tells how it goes
/// or does not. Gives the longest time that a client waited for its welcome, and the report.
fn into_a_hub_of_half_the_speed(tells: bool) -> (u64, DrainReport) {
    let json = r#"{"notice_ms":1000,"window_ms":20000,"settle_ms":5000,"max_in_flight":2000,"stages":[1,99]}"#;
    let mut fleet = Fleet::new(json, 2_000, 0);
    fleet.queue = Some(Queue::new(20));
    while fleet.drain.phase() != Phase::Drained {
        fleet.pass(1_000);
        let admission = fleet.queue.as_ref().and_then(|queue| queue.window.seen(fleet.now)).filter(|_| tells);
        fleet.tell(Event::PeersChanged(vec![Successor { admission, ..peer(PEER.0) }]));
        assert!(fleet.elapsed() < 200_000, "it ends well before its deadline: {:#?}", fleet.status());
    }
    (fleet.queue.map_or(0, |queue| queue.longest_ms), fleet.reports[0].clone())
}

#[test]
fn a_hub_that_cannot_keep_up_sets_the_pace_by_what_it_measures() {
    let (blind_ms, _) = into_a_hub_of_half_the_speed(false);
    assert!(blind_ms > 8_000, "without its word clients would queue there: {blind_ms} ms");
    let (paced_ms, report) = into_a_hub_of_half_the_speed(true);
    assert!(paced_ms < 3_000, "{paced_ms} ms, and blindly {blind_ms} ms");
    assert_eq!(report.sessions.counts.moved, 2_000, "{}", account(&report));
    let planned_ms = 21_000;
    assert!(report.took_ms < planned_ms * 4, "it is slowed down and not stopped: {} ms", report.took_ms);
}

#[test]
fn a_hub_that_keeps_up_is_given_the_planned_rate_whatever_its_latency() {
    let json = r#"{"notice_ms":0,"window_ms":20000,"settle_ms":1000}"#;
    let mut fleet = Fleet::new(json, 2_000, 0);
    for second in 0..20 {
        let admission = Some(Admission { second, welcomed: 100, p99_ms: 450 + second % 3 * 40, refused: 0 });
        fleet.tell(Event::PeersChanged(vec![Successor { admission, ..peer(PEER.0) }]));
        fleet.pass(1_000);
    }
    assert!(fleet.moves().len() >= 1_980, "{} in twenty seconds", fleet.moves().len());
    assert_eq!(fleet.status().successors[0].admission_ms, Some(490), "and the status tells it");
}

#[test]
fn one_bad_sample_that_is_told_again_and_again_is_judged_once() {
    let mut fleet = Fleet::new(r#"{"notice_ms":0,"window_ms":20000,"settle_ms":1000}"#, 1_000, 0);
    for _ in 0..8 {
        let admission = Some(Admission { second: 7, refused: 5, ..Admission::default() });
        fleet.tell(Event::PeersChanged(vec![Successor { admission, ..peer(PEER.0) }]));
        fleet.pass(1_000);
    }
    let last_second = fleet.moves().iter().filter(|(at, _)| (7_000..8_000).contains(at)).count();
    assert!(last_second >= 46, "cut once and recovered since: {last_second} a second");
}

#[test]
fn twenty_thousand_sessions_and_their_events_cost_a_fraction_of_a_second() {
    let mut fleet = Fleet::new("{}", 20_000, 0);
    let report = fleet.run_to_end();
    assert_eq!(
        account(&report),
        "drained: 20000 + 0 = 20000 moved, 0 parked, 0 left, 0 forced, 0 unconfirmed, 0 remaining; cut 0"
    );
    assert!((75_000..79_000).contains(&report.took_ms), "{} ms", report.took_ms);
    let busiest = busiest_second(&fleet.moves());
    assert!(busiest <= 350, "333 a second were planned, {busiest} were seen");
}

#[test]
fn a_peer_that_comes_and_goes_does_not_speed_the_drain_up() {
    let mut fleet = Fleet::new(r#"{"notice_ms":0,"window_ms":40000,"settle_ms":1000,"stages":[100]}"#, 10, 0);
    fleet.pass(100);
    for _ in 0..30 {
        fleet.pass(500);
        fleet.tell(Event::PeersChanged(Vec::new()));
        fleet.tell(Event::PeersChanged(vec![peer(PEER.0)]));
    }
    let busiest = busiest_second(&fleet.moves());
    assert_eq!(busiest, 1, "one in four seconds was planned: {:?}", fleet.moves());
    assert!(fleet.moves().len() >= 3, "and it goes on all the same: {:?}", fleet.moves());
    assert_eq!(fleet.run_to_end().sessions.counts.moved, 10);
}
