//! How a scenario is explored, and what it must show.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the search itself has a clock and takes turns; what it searches has not"
)]

use crate::bounds::{Budget, Grain, Mutant};
use crate::ledger::Fault;
use crate::recovery::{Ending, recover};
use crate::world::{Step, World};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tidegate_protocol::session::State;

/// A search that takes longer has a bound too many; it fails and is never cut off in silence.
const TIME_MAX: Duration = Duration::from_secs(180);

/// Each search uses both cores.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// One dimension of trouble, explored to its end.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// For reports.
    pub name: &'static str,
    /// How many hubs.
    pub hubs: usize,
    /// How much trouble.
    pub budget: Budget,
    /// How fine.
    pub grain: Grain,
    /// The way back is tried from every n-th state (by hash); 1: from all, 0: from none.
    pub recover_one_in: u64,
    /// A rule to drop.
    pub mutant: Mutant,
}

impl Model for Scenario {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.hubs, self.budget, self.grain, self.mutant)]
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
        fn kept(world: &World, broken: impl Fn(Fault) -> bool) -> bool {
            !world.ledger.fault.is_some_and(broken)
        }
        vec![
            Property::always("never two owners", |_, world| kept(world, |fault| fault == Fault::TwoOwners)),
            Property::always("the generation rises from owner to owner", |_, world| {
                kept(world, |fault| fault == Fault::GenerationDidNotRise)
            }),
            Property::always("the client gets every message once, in order, without a false gap", |_, world| {
                kept(world, |fault| {
                    matches!(fault, Fault::NumberedTwice | Fault::DeliveredOutOfOrder | Fault::FalseGap)
                })
            }),
            Property::always("the client's messages are counted and taken once, in order", |_, world| {
                kept(world, |fault| matches!(fault, Fault::CountedOutOfOrder | Fault::TakenOutOfOrder))
            }),
            Property::always("what is acked was taken", |_, world| {
                kept(world, |fault| fault == Fault::AckedBeforeTaken)
            }),
            Property::always("moved means served at the successor, and every session has one outcome", |_, world| {
                kept(world, |fault| matches!(fault, Fault::MovedWithoutLive | Fault::OutcomeWithoutSession))
            }),
            Property::always("a client that keeps to the rules is never closed for good", |_, world| {
                kept(world, |fault| matches!(fault, Fault::ClientEnded(_) | Fault::SessionEnded))
            }),
            Property::always("no reset while a hub has the session", |_, world| {
                kept(world, |fault| matches!(fault, Fault::NeedlessReset | Fault::ResetWhileParked))
            }),
            Property::always("no reset unless a hub lost its memory or the client waited", |_, world: &World| {
                let ledger = &world.ledger;
                !ledger.reset || ledger.data_lost || ledger.orphaned || ledger.evicted
            }),
            Property::always("no call is forgotten", |_, world| kept(world, |fault| fault == Fault::CallForgotten)),
            Property::always("another client with the same token hears in order, too", |_, world| {
                kept(world, |fault| fault == Fault::ThiefOutOfOrder)
            }),
            Property::always("told safe means on disk", |_, world| {
                kept(world, |fault| fault == Fault::ParkedWithoutRecord)
            }),
            Property::always("every state finds its way back", |scenario: &Self, world: &World| {
                let mut hasher = DefaultHasher::new();
                world.hash(&mut hasher);
                if !hasher.finish().is_multiple_of(scenario.recover_one_in) {
                    return true;
                }
                !matches!(recover(world), Ending::Stuck(_))
            }),
            Property::sometimes("the session is served at another hub", |_, world: &World| {
                !world.ledger.live.is_empty()
            }),
            Property::sometimes("the session is served by its first hub to the end", |_, world: &World| {
                matches!(world.hubs[0].session.state(), State::Serving { .. })
            }),
        ]
    }
}

/// Explores all of it, or up to the first broken promise. Prints what it saw; panics with the run
/// that breaks a promise.
pub fn prove(scenario: Scenario) {
    let _alone = ONE_AT_A_TIME.lock();
    let begun = Instant::now();
    let name = scenario.name;
    let checker =
        scenario.checker().threads(2).timeout(TIME_MAX).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    for (property, path) in checker.discoveries() {
        if !property.starts_with("the session is served") {
            let last = path.last_state().clone();
            let steps: Vec<String> = path.into_actions().iter().map(|step| format!("{step:?}")).collect();
            panic!(
                "{name}: broken: {property} ({:?}, way back {:?}) after {} steps:\n  {}\n{}",
                last.ledger.fault,
                recover(&last),
                steps.len(),
                steps.join("\n  "),
                show(&last),
            );
        }
    }
    println!("model: {name}: {states} states, depth {depth}, {} ms", begun.elapsed().as_millis());
    assert!(
        begun.elapsed() < TIME_MAX,
        "{name}: stopped after {states} states and {TIME_MAX:?}, before it had seen all"
    );
    assert!(checker.is_done(), "{name}: the search ended before it had seen all");
}

fn show(world: &World) -> String {
    let hubs: Vec<String> = world
        .hubs
        .iter()
        .enumerate()
        .map(|(hub, at)| format!("hub {hub}: {:?} claims {:?}", at.session.state(), at.claims))
        .collect();
    format!("{}\nclient: {:?}\nledger: {:?}", hubs.join("\n"), world.client.machine, world.ledger)
}

/// Whether dropping the rule is noticed, and by which property.
pub fn caught(scenario: Scenario) -> Option<&'static str> {
    let _alone = ONE_AT_A_TIME.lock();
    let begun = Instant::now();
    let checker = scenario.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let by = checker.discoveries().into_keys().find(|property| !property.starts_with("the session is served"));
    let states = checker.unique_state_count();
    println!(
        "model: mutant {}: caught by {by:?} within {states} states, {} ms",
        scenario.mutant,
        begun.elapsed().as_millis()
    );
    by
}
