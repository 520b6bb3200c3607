//! What decides, dial by dial, which hub a client reaches: sticky, round-robin or at random, among the
//! hubs that it believes to be there.

use crate::chance::Chance;
use crate::machine::PUBLIC_PORT;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A client goes where it went first, for as long as that hub is in.
    Sticky,
    RoundRobin,
    Random,
}

impl Rule {
    pub(crate) const ALL: [Self; 3] = [Self::Sticky, Self::RoundRobin, Self::Random];
}

#[derive(Debug)]
struct State {
    /// Hubs that get clients.
    is_in: Vec<bool>,
    stuck: Vec<usize>,
    turn: usize,
}

#[derive(Debug)]
pub(crate) struct Balancer {
    rule: Rule,
    state: Mutex<State>,
}

/// Path and query by which a client comes.
pub(crate) fn path(client: usize) -> String {
    format!("/room?client={client}")
}

impl Balancer {
    pub(crate) fn new(rule: Rule, hubs: usize, clients: usize) -> Self {
        let stuck = (0..clients).map(|client| client % hubs).collect();
        Self { rule, state: Mutex::new(State { is_in: vec![true; hubs], stuck, turn: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a hub in, or out.
    pub(crate) fn set(&self, hub: usize, is_in: bool) {
        self.state().is_in[hub] = is_in;
    }

    /// Where this dial of this client goes.
    pub(crate) fn route(&self, client: usize, chance: &mut Chance) -> String {
        let mut state = self.state();
        let there: Vec<usize> = (0..state.is_in.len()).filter(|hub| state.is_in[*hub]).collect();
        let hub = match self.rule {
            // With nobody in, a balancer still tries somewhere.
            _ if there.is_empty() => state.stuck[client],
            Rule::Sticky if there.contains(&state.stuck[client]) => state.stuck[client],
            Rule::Sticky | Rule::Random => chance.pick(&there),
            Rule::RoundRobin => {
                state.turn += 1;
                there[state.turn % there.len()]
            }
        };
        state.stuck[client] = hub;
        format!("ws://hub-{hub}:{PUBLIC_PORT}{}", path(client))
    }
}
