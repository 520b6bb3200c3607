//! On a quiet fleet the plan is what happens: each client at its slot, each hub its share.

use crate::config;
use crate::fleet::{BEGAN, id};
use crate::scenario::facts;
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_protocol::control::{DrainRequest, DrainResult, GateRequest, HubState};
use tidegate_protocol::drain::{Action, Drain, Event, Facts, Plan, Resume, Successor};
use tidegate_protocol::id::{DrainId, HubId, SessionId};
use tidegate_protocol::position::Millis;

fn hub(n: u64, sessions: u64) -> Successor {
    Successor {
        hub: HubId(n),
        url: Some(format!("wss://hub-{n}.example")),
        eligible: true,
        state: Some(HubState::Serving),
        sessions: Some(sessions),
        room: None,
        admission: None,
    }
}

/// Runs a drain in which every order is done in the moment in which it is given. Gives the moves with their
/// times since the begin, and the drain.
fn run(plan: Plan, hubs: &[Successor]) -> (Vec<(u64, SessionId)>, Drain, Millis) {
    let mut drain = Drain::start(DrainId(7), plan, hubs, String::new(), BEGAN);
    let (mut now, mut moves) = (BEGAN, Vec::new());
    loop {
        while let Some(action) = drain.poll_action(now) {
            let (id, to, connected) = match action {
                Action::Move { id, to } => {
                    moves.push((now.since(BEGAN), id));
                    (id, to.expect("every hub has a name here"), true)
                }
                Action::Push { id, to } => (id, to, false),
                _ => continue,
            };
            let resume = connected.then(Resume::default);
            drain.handle(Event::HandoverBegan { id, to }, now);
            drain.handle(Event::Committed { id, to, exchange_ms: None }, now);
            drain.handle(Event::Live { id, to, had_connection: connected, resume }, now);
        }
        match drain.poll_timeout() {
            Some(at) if drain.status(now).phase != tidegate_protocol::control::Phase::Drained => now = at.max(now),
            _ => return (moves, drain, now),
        }
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn the_plan_equals_what_is_executed_on_a_quiet_fleet(
        population in vec(facts(), 0..120),
        held in vec(0u64..80, 1..5),
        notice_ms in 0u64..10_000,
        window_ms in prop_oneof![Just(0u64), 1u64..60_000],
        stages in prop_oneof![Just(vec![100]), Just(vec![1, 9, 30, 60]), Just(vec![50, 50])],
    ) {
        let request = DrainRequest {
            notice_ms: Some(notice_ms),
            window_ms: Some(window_ms),
            settle_ms: Some(1_000),
            deadline_ms: Some(300_000),
            max_in_flight: Some(1_000),
            stages: Some(stages),
            gate: Some(GateRequest { back_min_percent: Some(100), wait_max_ms: None }),
            ..DrainRequest::default()
        };
        let hubs: Vec<Successor> = held.iter().zip(1..).map(|(held, n)| hub(n, *held)).collect();
        let named: Vec<(SessionId, Facts)> = population.iter().zip(0..).map(|(facts, n)| (id(n), *facts)).collect();
        let plan = Plan::new(request.resolve().expect("a good policy"), named, &hubs, 3);
        let slots: Vec<(u64, SessionId)> = plan.order.iter().enumerate().map(|(n, id)| (plan.slot_ms(n), *id)).collect();
        let shares: Vec<(HubId, u64)> = plan.shares.iter().map(|share| (share.hub, share.sessions)).collect();
        let (total_ms, sessions) = (plan.total_ms(), plan.sessions());
        let (moves, drain, end) = run(plan, &hubs);
        let report = drain.report(end);
        prop_assert_eq!(moves, slots, "each at its slot and in the order of the plan");
        let moved: Vec<(HubId, u64)> = report.successors.iter().map(|to| (to.hub, to.moved)).collect();
        prop_assert_eq!(moved, shares, "each hub its share");
        prop_assert_eq!(report.result, DrainResult::Drained);
        prop_assert_eq!(report.sessions.counts.moved, sessions);
        prop_assert!(report.took_ms <= total_ms, "{} ms, {total_ms} were planned", report.took_ms);
        for (stage, planned) in report.stages.iter().zip(&drain.plan().stages) {
            // A stage is open as soon as the last one is back; its first slot comes when it was to.
            prop_assert!(stage.began_ms.is_some_and(|at| at <= planned.begin_ms), "{:?} of {:?}", stage, planned);
            prop_assert_eq!(stage.back, planned.count as u64);
        }
    }

    #[test]
    fn shares_add_up_and_leave_the_hubs_as_level_as_can_be(
        sessions in 0u64..500,
        held in vec(0u64..300, 1..8),
    ) {
        let hubs: Vec<Successor> = held.iter().zip(1..).map(|(held, n)| hub(n, *held)).collect();
        let population = (0..sessions).map(|n| (id(n), Facts { connected: true, ..Facts::default() }));
        let plan = Plan::new(DrainRequest::default().resolve().expect("the default"), population, &hubs, 1);
        prop_assert_eq!(plan.shares.iter().map(|share| share.sessions).sum::<u64>(), sessions);
        let ends: Vec<u64> = plan.shares.iter().zip(&held).map(|(share, held)| share.sessions + held).collect();
        let least = ends.iter().min().expect("there are hubs");
        for (share, end) in plan.shares.iter().zip(&ends) {
            prop_assert!(share.sessions == 0 || *end <= least + 1, "who was sent somebody is no fuller than need be: {:?}", ends);
        }
    }
}
