//! What a gate takes for evidence, and what becomes of a drain whose gate fails.

use super::*;

const STAGED: &str = r#"{"notice_ms":1000,"window_ms":10000,"settle_ms":2000,"deadline_ms":30000,"stages":[1,99],"gate":{"wait_max_ms":3000}}"#;

fn staged(on_gate: &str) -> Fleet {
    let mut fleet = Fleet::new(&STAGED.replace("\"stages\"", &format!("\"on_gate\":\"{on_gate}\",\"stages\"")), 100, 0);
    fleet.habit = Habit::Ignores;
    fleet
}

fn stage_of(drain: &Drain) -> Option<u64> {
    drain.status(Millis(u64::MAX)).stage
}

#[test]
fn a_drain_whose_gate_is_shut_at_its_deadline_is_called_off_and_nobody_was_pushed() {
    let mut fleet = Fleet::new(STAGED, 100, 0);
    fleet.habit = Habit::Ignores;
    fleet.run("the end", |drain| !drain.state.is_running());
    assert_eq!(fleet.drain.phase(), Phase::Serving, "its sessions are served on");
    let report = fleet.reports[0].clone();
    assert_eq!((report.result, report.took_ms), (DrainResult::GateFailed, 30_000));
    assert_eq!(
        account(&report),
        "gate_failed: 100 + 0 = 0 moved, 0 parked, 0 left, 0 forced, 0 unconfirmed, 100 remaining; cut 0"
    );
    assert_eq!(report.why.as_deref(), Some("none of 1 came back within 3000 ms"));
    assert_eq!((fleet.pushes().len(), stage_of(&fleet.drain)), (0, None), "and no further stage was opened");
    assert!(report.stages[1].began_ms.is_none(), "{report:#?}");
    let recalls = fleet.actions(|action| matches!(action, Action::Recall { .. })).len();
    assert_eq!(recalls, 100, "who was told is told that it is void");
}

#[test]
fn a_gate_that_recalls_does_so_as_soon_as_it_fails() {
    let mut fleet = staged("recall");
    fleet.run("the recall", |drain| drain.phase() == Phase::Serving);
    assert_eq!((fleet.reports[0].result, fleet.elapsed()), (DrainResult::GateFailed, 4_000));
    assert_eq!(fleet.reports[0].why.as_deref(), Some("none of 1 came back within 3000 ms"));
}

#[test]
fn a_gate_that_lets_everything_through_only_delays() {
    let mut fleet = staged("continue");
    let report = fleet.run_to_end();
    assert_eq!((report.result, report.sessions.counts.moved), (DrainResult::Drained, 100), "{}", account(&report));
    assert!(fleet.pushes().len() == 100 && report.took_ms < 25_000, "pushed: {}", account(&report));
}

#[test]
fn somebody_who_has_looked_lets_one_gate_through_and_the_drain_goes_on() {
    let mut fleet = staged("hold");
    fleet.tell(Event::Continue);
    assert!(!fleet.drain.is_held_at_a_gate());
    fleet.run("the gate to fail", |drain| drain.state.failed_gate().is_some());
    let held = fleet.elapsed();
    fleet.pass(8_000);
    assert!(fleet.drain.is_held_at_a_gate(), "nobody has looked");
    fleet.habit = Habit::Comes(50);
    fleet.tell(Event::Continue);
    fleet.pass(1);
    assert_eq!((fleet.drain.phase(), stage_of(&fleet.drain)), (Phase::Releasing, Some(2)));
    let report = fleet.run_to_end();
    assert_eq!((report.result, report.sessions.counts.moved), (DrainResult::Drained, 100), "{}", account(&report));
    assert!(report.stages[1].began_ms >= Some(held + 8_000), "{report:#?}");
}

#[test]
fn where_a_gate_failed_a_process_that_ends_parks_everybody_and_pushes_nobody() {
    let mut fleet = staged("hold");
    fleet.run("the gate to fail", |drain| drain.state.failed_gate().is_some());
    fleet.tell(Event::Stopping);
    fleet.tell(Event::PushAndParkRest);
    fleet.tell(Event::Arrived { id: id(200), facts: Facts { connected: true, ..Facts::default() } });
    fleet.run_to_end();
    fleet.pass(100);
    let counts = fleet.status().sessions.unwrap();
    assert_eq!((counts.parked, counts.remaining, fleet.pushes().len()), (101, 0, 0), "the newcomer, too: {counts:?}");

    let mut fleet = staged("hold");
    fleet.pass(500);
    fleet.tell(Event::Stopping);
    fleet.tell(Event::PushAndParkRest);
    assert_eq!(fleet.run_to_end().sessions.counts.moved, 100, "no gate has failed: they go to the peer");
}

#[test]
fn a_busy_canary_is_not_a_canary_that_passed_and_the_next_in_order_is_asked_in_its_place() {
    let mut fleet = staged("hold");
    let canary = fleet.drain.plan().order[0];
    fleet.pass(500);
    fleet.tell(Event::Busy { id: canary, ms: 20_000, why: "typing".into() });
    fleet.run("the gate to fail", |drain| drain.state.failed_gate().is_some());
    assert_eq!(fleet.moves().len(), 1, "one other was asked: {:?}", fleet.moves());
    assert!(!matches!(fleet.moves()[0].1, Action::Move { id, .. } if id == canary));
    assert_eq!(stage_of(&fleet.drain), Some(1));
}

#[test]
fn a_canary_that_becomes_busy_ends_or_loses_its_connection_after_its_order_opens_no_gate() {
    for what in ["busy", "left", "lost"] {
        let mut fleet = staged("hold");
        let canary = fleet.drain.plan().order[0];
        fleet.run("its order", |drain| drain.status(Millis(u64::MAX)).in_flight == Some(1));
        fleet.tell(match what {
            "busy" => Event::Busy { id: canary, ms: 20_000, why: "typing".into() },
            "left" => Event::Left { id: canary },
            _ => Event::ConnectionLost { id: canary },
        });
        fleet.pass(2_500);
        assert_eq!(stage_of(&fleet.drain), Some(1), "{what}");
        fleet.habit = Habit::Comes(50);
        let report = fleet.run_to_end();
        let second = report.stages[1].began_ms.expect("it began");
        let first_back = fleet.drain.plan().slot_ms(1);
        assert!(second > first_back, "{what}: somebody else came back first: {report:#?}");
        assert_eq!(report.result, DrainResult::Drained, "{what}: {}", account(&report));
    }
}

#[test]
fn where_everybody_is_busy_the_first_whose_time_is_over_is_the_canary() {
    let mut fleet = staged("hold");
    fleet.pass(500);
    for n in 0..100 {
        fleet.tell(Event::Busy { id: id(n), ms: 5_000 + n * 100, why: "typing".into() });
    }
    fleet.run("the gate to fail", |drain| drain.state.failed_gate().is_some());
    assert_eq!(stage_of(&fleet.drain), Some(1));
    assert!(fleet.moves().len() < 40, "only those whose time was over meanwhile: {}", fleet.moves().len());
    fleet.habit = Habit::Comes(50);
    let report = fleet.run_to_end();
    assert_eq!((report.result, report.sessions.counts.moved), (DrainResult::Drained, 100), "{}", account(&report));
}

#[test]
fn clients_that_cannot_reach_the_hub_that_they_are_sent_to_by_name_fail_the_gate_and_are_not_put_down_to_the_balancer()
{
    let named = Successor { url: Some("wss://b.example".into()), ..peer(PEER.0) };
    let mut fleet = Fleet::with_peers(STAGED, 100, 0, &[named]);
    fleet.habit = Habit::Sticky;
    fleet.run("the end", |drain| !drain.state.is_running());
    let report = fleet.reports[0].clone();
    assert_eq!(report.result, DrainResult::GateFailed, "{report:#?}");
    let why = report.why.unwrap_or_default();
    assert!(why.contains("--public-url") && !why.contains("balancer"), "{why}");
    assert!(report.unroutable_by.public_url > 0 && report.unroutable_by.balancer == 0, "{:?}", report.unroutable_by);
    assert!(report.stages[1].began_ms.is_none(), "no further stage was opened");
}
