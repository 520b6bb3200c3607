//! The drain machine of `protocol/` under exhaustive search: two or three sessions, one or two peers, and
//! every order in which clients, peers and disk may answer, refuse, or say nothing at all, while time passes.
//! What must hold is safety alone: **past the deadline there is no state without a report**.
#![allow(unreachable_pub, reason = "one binary: what its modules share is public among them")]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the search itself has a clock; what it searches has not"
)]

mod trouble;
mod world;

use stateright::{Checker, HasDiscoveries, Model, Property};
use std::time::{Duration, Instant};
use tidegate_protocol::control::Phase;
use trouble::Trouble;
use world::{Step, World};

/// A search that takes longer has a trouble too many; it fails and is never cut off in silence.
const TIME_MAX: Duration = Duration::from_secs(120);

/// One population and what may go wrong with it.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    name: &'static str,
    connected: u64,
    detached: u64,
    peers: u64,
    /// For how many sessions each of them has room; none: they do not tell.
    room: Option<u64>,
    policy: &'static str,
    trouble: Trouble,
    /// A rule to drop.
    mutant: Option<Mutant>,
}

/// A rule of the drain dropped on purpose, at the border of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Rule 21, invariant 7: nobody wakes the machine at its deadline.
    SleepsThroughDeadline,
    /// Rule 22: an outcome that is told twice counts twice (it is told of another session).
    CountsTwice,
    /// Rule 8: a session that was given away counts as moved before it is live.
    MovedBeforeLive,
    /// Rule 23: what the peers tell of their room is not heard.
    ForgetsRoom,
    /// Rule 23: parking counts as agreed.
    ParksUnasked,
}

impl Model for Scenario {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.policy, self.connected, self.detached, (self.peers, self.room), self.trouble, self.mutant)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.steps(steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        next.apply(&step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("past the deadline no state without a report", |_, world: &World| {
                !world.is_past_deadline() || world.reports == 1
            }),
            Property::always("at most one report", |_, world: &World| world.reports <= 1),
            Property::always("every session has one outcome or remains", |_, world: &World| world.adds_up()),
            Property::always("the machine keeps to its own bounds", |_, world: &World| world.fault.is_none()),
            Property::sometimes("it ends drained", |_, world: &World| {
                world.reports == 1 && world.drain.phase() == Phase::Drained
            }),
        ]
    }
}

fn search(scenario: Scenario) -> (Option<&'static str>, usize) {
    let begun = Instant::now();
    let checker =
        scenario.checker().threads(2).timeout(TIME_MAX).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    let broken = checker.discoveries().into_iter().find(|(name, _)| !name.starts_with("it ends"));
    let name = scenario.name;
    println!("drain: {name}: {states} states, depth {depth}, {} ms", begun.elapsed().as_millis());
    if let Some((property, path)) = broken {
        let last = path.last_state().clone();
        let steps: Vec<String> = path.into_actions().iter().map(|step| format!("{step:?}")).collect();
        println!("{name}: broken: {property} after\n  {}\n{:?}\n{:?}", steps.join("\n  "), last.fault, last.status());
        return (Some(property), states);
    }
    assert!(begun.elapsed() < TIME_MAX, "{name}: stopped after {states} states, before it had seen all");
    assert!(checker.is_done(), "{name}: the search ended before it had seen all");
    (None, states)
}

fn prove(scenario: Scenario) {
    let (broken, states) = search(scenario);
    assert_eq!(broken, None, "{}", scenario.name);
    assert!(states > 100, "{}: {states} states are no search", scenario.name);
}

/// Two seconds between slots, everything else in proportion.
const POLICY: &str = r#"{"notice_ms":1000,"window_ms":2000,"settle_ms":2000,"deadline_ms":12000,"stages":[100]}"#;
const STAGES: &str = r#"{"notice_ms":1000,"window_ms":2000,"settle_ms":2000,"deadline_ms":12000,"stages":[50,50],"max_in_flight":1,"gate":{"back_min_percent":100,"wait_max_ms":2000}}"#;

const MAY_PARK: &str = r#"{"notice_ms":1000,"window_ms":2000,"settle_ms":2000,"deadline_ms":12000,"stages":[100],"gate":{"wait_max_ms":2000},"allow_park":true}"#;

const QUIET: Scenario = Scenario {
    name: "quiet",
    connected: 2,
    detached: 0,
    peers: 1,
    room: None,
    policy: POLICY,
    trouble: Trouble::NONE,
    mutant: None,
};

#[test]
fn a_drain_whose_clients_and_peers_answer_or_never_do_ends_with_a_report() {
    prove(Scenario { name: "silence", trouble: Trouble { silences: 2, ..Trouble::NONE }, ..QUIET });
}

#[test]
fn a_drain_whose_peer_refuses_ends_with_a_report() {
    prove(Scenario { name: "refusals", trouble: Trouble { refusals: 2, ..Trouble::NONE }, ..QUIET });
}

#[test]
fn a_drain_whose_peer_vanishes_at_any_moment_ends_with_a_report() {
    let trouble = Trouble { vanishes: 1, returns: 1, ..Trouble::NONE };
    prove(Scenario { name: "vanishing peer", trouble, ..QUIET });
}

#[test]
fn a_drain_that_is_cancelled_at_any_moment_has_a_report() {
    prove(Scenario { name: "cancel", trouble: Trouble { cancels: 1, refusals: 1, ..Trouble::NONE }, ..QUIET });
}

#[test]
fn a_drain_whose_sessions_leave_and_lose_their_connections_ends_with_a_report() {
    prove(Scenario { name: "leaving", trouble: Trouble { leaves: 1, losses: 1, ..Trouble::NONE }, ..QUIET });
}

#[test]
fn a_drain_to_which_sessions_come_ends_with_a_report() {
    let trouble = Trouble { arrivals: 1, leaves: 1, ..Trouble::NONE };
    prove(Scenario { name: "coming", connected: 1, trouble, ..QUIET });
}

#[test]
fn a_drain_whose_clients_are_busy_or_bounce_ends_with_a_report() {
    prove(Scenario { name: "busy and sticky", trouble: Trouble { busy: 1, bounces: 3, ..Trouble::NONE }, ..QUIET });
}

#[test]
fn a_drain_whose_client_comes_back_more_often_than_chance_explains_ends_with_a_report() {
    let trouble = Trouble { bounces: 11, losses: 1, rests: 1, ..Trouble::NONE };
    prove(Scenario { name: "beyond chance", connected: 1, trouble, ..QUIET });
}

#[test]
fn a_drain_whose_disk_fails_until_it_is_cancelled_has_a_report() {
    let trouble = Trouble { disk: 3, cancels: 1, ..Trouble::NONE };
    prove(Scenario { name: "cancelled by force", peers: 0, trouble, ..QUIET });
}

#[test]
fn a_drain_in_stages_with_a_gate_ends_with_a_report() {
    let trouble = Trouble { silences: 1, refusals: 1, ..Trouble::NONE };
    prove(Scenario { name: "stages", policy: STAGES, trouble, ..QUIET });
}

#[test]
fn a_drain_that_a_gate_holds_is_called_off_goes_on_or_parks_and_has_a_report() {
    let trouble = Trouble { silences: 1, continues: 1, stops: 1, ..Trouble::NONE };
    prove(Scenario { name: "gate", policy: STAGES, trouble, ..QUIET });
    let trouble = Trouble { silences: 1, busy: 1, losses: 1, ..Trouble::NONE };
    let policy = STAGES.replace("\"stages\"", "\"on_gate\":\"recall\",\"stages\"");
    prove(Scenario { name: "gate that recalls", policy: policy.leak(), trouble, ..QUIET });
}

#[test]
fn a_drain_without_a_peer_whose_disk_fails_ends_with_a_report() {
    let trouble = Trouble { disk: 4, silences: 1, ..Trouble::NONE };
    prove(Scenario { name: "alone", peers: 0, connected: 1, detached: 1, trouble, ..QUIET });
}

#[test]
fn a_drain_that_is_told_to_push_and_park_the_rest_at_any_moment_ends_with_a_report() {
    let trouble = Trouble { rests: 1, silences: 1, disk: 1, ..Trouble::NONE };
    prove(Scenario { name: "the rest", connected: 1, detached: 1, trouble, ..QUIET });
}

#[test]
fn three_sessions_and_two_peers_end_with_a_report() {
    let trouble = Trouble { refusals: 1, ..Trouble::NONE };
    prove(Scenario { name: "three sessions", connected: 2, detached: 1, peers: 2, trouble, ..QUIET });
}

#[test]
fn a_drain_into_too_little_room_sends_nobody_who_has_no_place_and_parks_the_others_in_time() {
    let trouble = Trouble { refusals: 1, ..Trouble::NONE };
    prove(Scenario { name: "little room", connected: 2, detached: 1, room: Some(1), trouble, ..QUIET });
}

#[test]
fn a_drain_into_too_little_room_whose_peer_vanishes_ends_with_a_report() {
    let trouble = Trouble { vanishes: 1, returns: 1, rests: 1, ..Trouble::NONE };
    prove(Scenario { name: "little room, vanishing", room: Some(1), trouble, ..QUIET });
}

#[test]
fn a_drain_that_may_park_ends_with_a_report_when_its_peer_vanishes_or_is_full() {
    let trouble = Trouble { vanishes: 1, returns: 1, disk: 1, ..Trouble::NONE };
    prove(Scenario { name: "may park", room: Some(1), policy: MAY_PARK, trouble, ..QUIET });
}

#[test]
fn a_machine_that_does_not_hear_of_room_is_caught() {
    let mutant = Some(Mutant::ForgetsRoom);
    let (broken, _) = search(Scenario { name: "mutant: forgets room", room: Some(1), mutant, ..QUIET });
    assert_eq!(broken, Some("the machine keeps to its own bounds"));
}

#[test]
fn a_machine_that_parks_unasked_is_caught() {
    let (trouble, mutant) = (Trouble { vanishes: 1, ..Trouble::NONE }, Some(Mutant::ParksUnasked));
    let (broken, _) = search(Scenario { name: "mutant: parks unasked", trouble, mutant, ..QUIET });
    assert_eq!(broken, Some("the machine keeps to its own bounds"));
}

#[test]
fn a_machine_that_nobody_wakes_at_its_deadline_is_caught() {
    let trouble = Trouble { silences: 2, ..Trouble::NONE };
    let (broken, _) =
        search(Scenario { name: "mutant: sleeps", trouble, mutant: Some(Mutant::SleepsThroughDeadline), ..QUIET });
    // It breaks both promises, and two threads look for either: which is found first is chance.
    let by = ["past the deadline no state without a report", "every session has one outcome or remains"];
    assert!(broken.is_some_and(|broken| by.contains(&broken)), "caught by {broken:?}; expected one of {by:?}");
}

#[test]
fn an_outcome_of_a_session_that_is_told_for_another_is_caught() {
    let (broken, _) = search(Scenario { name: "mutant: counts twice", mutant: Some(Mutant::CountsTwice), ..QUIET });
    assert_eq!(broken, Some("every session has one outcome or remains"));
}

#[test]
fn a_session_that_counts_as_moved_before_it_is_live_is_caught() {
    let trouble = Trouble { silences: 1, ..Trouble::NONE };
    let (broken, _) =
        search(Scenario { name: "mutant: moved early", trouble, mutant: Some(Mutant::MovedBeforeLive), ..QUIET });
    assert_eq!(broken, Some("every session has one outcome or remains"));
}
