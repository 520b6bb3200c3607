use super::*;
use crate::control::{DrainRequest, HubState};
use crate::id::HubId;
use crate::position::Millis;

fn successor(hub: u64) -> Successor {
    Successor {
        hub: HubId(hub),
        url: None,
        eligible: true,
        state: Some(HubState::Serving),
        sessions: Some(0),
        room: Some(Room { places: u64::MAX, told_at: Millis(1) }),
        admission: None,
    }
}

fn plan(json: &str, connected: u64, detached: u64, successors: &[Successor]) -> Plan {
    let policy = serde_json::from_str::<DrainRequest>(json).unwrap().resolve().unwrap();
    let population = (0..connected + detached)
        .map(|n| (SessionId(u128::from(n)), Facts { connected: n < connected, ..Facts::default() }));
    Plan::new(policy, population, successors, 7)
}

#[track_caller]
fn check(json: &str, connected: u64, detached: u64, successors: &[Successor], expected: &str) {
    let picture = plan(json, connected, detached, successors).to_string();
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let seen: Vec<&str> = picture.lines().collect();
    assert!(seen == expected, "expected\n{}\ngot\n{picture}", expected.join("\n"));
}

#[test]
fn the_default_policy_for_twenty_thousand_sessions() {
    check(
        "{}",
        20_000,
        0,
        &[successor(1), successor(2)],
        "notice       0.0 s
         stage 1     15.0 s +   0.6 s      200 sessions   every 3.0 ms
         stage 2     15.6 s +   5.4 s     1800 sessions   every 3.0 ms
         stage 3     21.0 s +  18.0 s     6000 sessions   every 3.0 ms
         stage 4     39.0 s +  36.0 s    12000 sessions   every 3.0 ms
         settle      75.0 s +  10.0 s
         deadline   300.0 s -  20.0 s for pushing: fits
         to        0000000000000001    10000 sessions
         to        0000000000000002    10000 sessions",
    );
}

#[test]
fn a_few_sessions_have_a_canary_of_one_and_no_empty_stages() {
    check(
        r#"{"notice_ms":1000,"window_ms":3000,"settle_ms":500}"#,
        3,
        2,
        &[successor(1)],
        "notice       0.0 s
         stage 1      1.0 s +   1.0 s        1 sessions   every 1000.0 ms
         stage 2      2.0 s +   1.0 s        1 sessions   every 1000.0 ms
         stage 3      3.0 s +   1.0 s        1 sessions   every 1000.0 ms
         push         1.0 s                   2 sessions   without a connection
         settle       4.0 s +   0.5 s
         deadline   300.0 s -   0.5 s for pushing: fits
         to        0000000000000001        5 sessions",
    );
}

#[test]
fn a_window_of_zero_is_unpaced() {
    check(
        r#"{"notice_ms":0,"window_ms":0,"settle_ms":0,"stages":[100]}"#,
        100,
        0,
        &[successor(1)],
        "notice       0.0 s
         stage 1      0.0 s +   0.0 s      100 sessions   unpaced
         settle       0.0 s +   0.0 s
         deadline   300.0 s -   0.5 s for pushing: fits
         to        0000000000000001      100 sessions",
    );
}

#[test]
fn a_hub_that_is_alone_is_told_that_it_will_park() {
    check(
        r#"{"deadline_ms":60000,"allow_park":true}"#,
        10,
        0,
        &[Successor { eligible: false, state: Some(HubState::WillDrain), ..successor(3) }],
        "notice       0.0 s
         park         3.0 s                  10 sessions   the one other hub that is known takes nobody
         blocker   hub 0000000000000003 takes nobody: it is will_drain
         blocker   the one other hub that is known takes nobody: 10 sessions would be parked in the data directory",
    );
}

#[test]
fn a_plan_without_anybody_to_move_to_says_that_and_when_everybody_would_be_parked() {
    let alone = plan("{}", 7, 2, &[]).answer();
    let parks = alone.parks.expect("everybody is parked");
    assert_eq!((parks.sessions, parks.at_ms, alone.total_ms, alone.fits), (9, 15_000, 15_000, true));
    assert_eq!(parks.why, "no other hub is known (--peer, --peers-file)");
    let at_once = crate::control::PlanStage { begin_ms: 15_000, span_ms: 0, count: 9 };
    assert_eq!((alone.stages, alone.successors), (vec![at_once], vec![]));

    let silent = Successor { eligible: false, state: None, ..successor(3) };
    let agreed = plan(r#"{"allow_park":true}"#, 7, 2, std::slice::from_ref(&silent)).answer();
    let parks = agreed.parks.expect("everybody is parked");
    assert_eq!(parks.at_ms, 25_000, "the notice, and the wait for a hub that may come back");
    let hoping = plan("{}", 7, 2, std::slice::from_ref(&silent)).answer();
    let parks = hoping.parks.clone().expect("everybody is parked");
    assert_eq!(parks.at_ms, 300_000 - hoping.push_reserve_ms, "unasked no sooner than it must be");
    assert!(hoping.needs_consent && !hoping.fits, "{hoping:?}");
    assert_eq!(hoping.blockers[0], "hub 0000000000000003 takes nobody: it is silent");

    let with_one = plan("{}", 7, 2, &[silent, successor(4)]).answer();
    assert_eq!(with_one.parks, None, "one is enough");
    assert_eq!(plan("{}", 0, 0, &[]).answer().parks, None, "nobody is there to be parked");
}

#[test]
fn a_drain_without_anybody_to_move_to_parks_everybody_at_the_moment_that_its_plan_names() {
    use crate::drain::{Action, Drain};
    let silent = Successor { eligible: false, state: None, ..successor(3) };
    let leaving = Successor { eligible: false, state: Some(HubState::Draining), ..successor(3) };
    let agreed = r#"{"allow_park":true}"#;
    for (json, successors) in [
        ("{}", vec![]),
        (agreed, vec![silent.clone()]),
        (agreed, vec![leaving.clone()]),
        ("{}", vec![silent]),
        ("{}", vec![leaving]),
    ] {
        let plan = plan(json, 5, 2, &successors);
        let at_ms = plan.answer().parks.expect("everybody is parked").at_ms;
        let mut drain = Drain::start(crate::id::DrainId(1), plan, &successors, String::new(), Millis(0));
        let parks_at = |drain: &mut Drain, ms| {
            std::iter::from_fn(|| drain.poll_action(Millis(ms)))
                .filter(|action| matches!(action, Action::Park { .. }))
                .count()
        };
        assert_eq!(parks_at(&mut drain, 14_999), 0, "{successors:?}");
        let early = if at_ms > 15_000 { parks_at(&mut drain, 15_000) + parks_at(&mut drain, at_ms - 1) } else { 0 };
        assert_eq!(early, 0, "{successors:?}");
        assert_eq!(parks_at(&mut drain, at_ms), 7, "{successors:?}");
    }
}

#[test]
fn a_plan_that_does_not_fit_says_so_and_a_window_that_is_too_short_says_what_would_do() {
    check(
        r#"{"notice_ms":1000,"window_ms":8000,"settle_ms":1000,"deadline_ms":10000,"stages":[100]}"#,
        8_000,
        0,
        &[successor(1)],
        "notice       0.0 s
         stage 1      1.0 s +   8.0 s     8000 sessions   every 1.0 ms
         settle       9.0 s +   1.0 s
         deadline    10.0 s -   2.5 s for pushing: does not fit
         to        0000000000000001     8000 sessions
         blocker   8000 sessions in a window of 8000 ms are more than 500 per second: window_ms 16000 would do
         blocker   notice 1000 ms + window 8000 ms + settle 1000 ms with 2500 ms kept for pushing do not fit before the deadline of 10000 ms",
    );
}

#[test]
fn an_empty_hub_takes_no_time() {
    let empty = plan("{}", 0, 0, &[]);
    assert_eq!((empty.total_ms(), empty.fits(), empty.blockers.len()), (0, true, 0));
}

#[test]
fn ready_and_idle_go_first_busy_last_and_chance_decides_among_equals() {
    let facts = |n: u64| match n % 4 {
        0 => Facts { connected: true, ready: true, ..Facts::default() },
        1 => Facts { connected: true, idle_ms: IDLE_AFTER_MS, ..Facts::default() },
        2 => Facts { connected: true, ..Facts::default() },
        _ => Facts { connected: true, busy: true, ..Facts::default() },
    };
    let population = || (0..400).map(|n| (SessionId(u128::from(n)), facts(n)));
    let order = |seed| Plan::new(Policy::default(), population(), &[], seed).order;
    let class: Vec<u128> = order(1).iter().map(|id| id.0 % 4).collect();
    assert!(class[..200].iter().all(|class| *class < 2), "ready and idle first");
    assert!(class[200..300].iter().all(|class| *class == 2), "then the rest");
    assert!(class[300..].iter().all(|class| *class == 3), "the busy last");
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2), "another seed, another order");
    let mut backwards: Vec<_> = population().collect();
    backwards.reverse();
    assert_eq!(Plan::new(Policy::default(), backwards, &[], 1).order, order(1), "whatever the order they came in");
}

#[test]
fn slots_never_come_faster_than_the_interval_and_fill_the_window() {
    for connected in [1, 2, 3, 7, 99, 1_000, 7_001] {
        let plan = plan("{}", connected, 0, &[]);
        assert_eq!(plan.stages.iter().map(|stage| stage.count as u64).sum::<u64>(), connected);
        assert_eq!(plan.stages.iter().map(|stage| stage.span_ms).sum::<u64>(), 60_000);
        for pair in plan.stages.windows(2) {
            assert_eq!(pair[0].begin_ms + pair[0].span_ms, pair[1].begin_ms, "stages follow each other without a gap");
            assert_eq!(pair[0].first + pair[0].count, pair[1].first);
        }
        assert_eq!(plan.slot_ms(0), 15_000);
        assert!(plan.interval_us() * connected >= 60_000_000);
    }
}

#[test]
fn a_million_sessions_are_planned_once_over_with_shares_and_answer() {
    let plan = plan("{}", 1_000_000, 0, &[successor(1), successor(2), successor(3)]);
    let answer = plan.answer();
    assert_eq!(answer.sessions, 1_000_000);
    assert_eq!(answer.successors.iter().map(|share| share.sessions).collect::<Vec<_>>(), [333_334, 333_333, 333_333]);
    assert_eq!((answer.push_reserve_ms, answer.total_ms, answer.fits), (75_000, 85_000, true));
    let mut ids = plan.order.clone();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1_000_000, "everybody has one slot");
}

#[test]
fn shares_level_out_what_the_hubs_hold_already() {
    let shares = |sessions: u64, held: &[u64]| -> Vec<u64> {
        let peers: Vec<_> =
            held.iter().zip(1..).map(|(held, hub)| Successor { sessions: Some(*held), ..successor(hub) }).collect();
        plan("{}", sessions, 0, &peers).shares.iter().map(|share| share.sessions).collect()
    };
    assert_eq!(shares(36, &[0, 36]), [36, 0], "the hub that was restarted takes what the next one gives");
    assert_eq!(shares(24, &[24, 24]), [12, 12]);
    assert_eq!(shares(10, &[5, 0, 100]), [3, 7, 0], "8 and 7: who is far above the level gets nobody");
    assert_eq!(shares(3, &[7, 7, 7]), [1, 1, 1]);
    assert_eq!(shares(4, &[7, 7, 7]), [2, 1, 1]);
    assert_eq!(shares(2, &[9, 1, 9]), [0, 2, 0]);
    assert_eq!(shares(5, &[u64::MAX, 0]), [0, 5], "whatever a hub may say of itself");
    assert_eq!(shares(0, &[3, 4]), [0, 0]);
}
