//! The invariants that hold in every moment, looked at from outside: what the hubs' registries say.

use crate::machine::Machine;
use crate::trace::Trace;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tidegate_protocol::id::SessionId;
use tidegate_protocol::position::Generation;
use tidegate_protocol::session::State;

/// Every so many looks all sessions are looked at: none may change its owner without a step.
const LOOKS_PER_REVIEW: u64 = 128;

/// What is known of all sessions.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    looks: u64,
    /// The highest generation under which a session was owned, and by which hub.
    owned: BTreeMap<SessionId, (Generation, usize)>,
    /// Sessions that a crash took out of a memory: their clients may be told of a reset.
    pub(crate) shaken: BTreeMap<SessionId, u64>,
    /// Sessions that lay on the disk of a hub that was down: who cannot wait for it is reset.
    pub(crate) stranded: BTreeSet<SessionId>,
}

impl Watch {
    /// Looks at the sessions that took a step anywhere, at all hubs. A session has one owner at most, and its
    /// generation never falls.
    pub(crate) fn look(&mut self, machines: &[Arc<Machine>], trace: &Trace) {
        let mut touched: BTreeSet<SessionId> = machines.iter().flat_map(|machine| machine.touched()).collect();
        let hubs: Vec<_> = machines.iter().filter_map(|machine| Some((machine.index, machine.hub()?))).collect();
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS_PER_REVIEW) {
            touched.extend(hubs.iter().flat_map(|(_, hub)| hub.all_cells()).map(|cell| cell.id));
        }
        for session in touched {
            let mut owner = None;
            for (index, hub) in &hubs {
                let Some(cell) = hub.cell(session) else { continue };
                let inner = cell.lock();
                if matches!(inner.session.state(), State::Serving { .. } | State::Frozen { .. }) {
                    let generation = inner.session.generation();
                    drop(inner);
                    if let Some(other) = owner.replace(*index) {
                        trace.fault(format_args!("{session} has two owners: hubs {other} and {index}"));
                    }
                    self.owns(session, generation, *index, trace);
                }
            }
        }
    }

    fn owns(&mut self, session: SessionId, generation: Generation, index: usize, trace: &Trace) {
        match self.owned.insert(session, (generation, index)) {
            Some((before, at)) if before > generation => trace.fault(format_args!(
                "{session}: generation {} at hub {index}, after {} at hub {at}",
                generation.0, before.0
            )),
            Some((before, at)) if before == generation && at != index => {
                trace.fault(format_args!("{session}: generation {} at hub {at} and then at hub {index}", generation.0))
            }
            Some(_) | None => {}
        }
    }

    /// A process is about to die: what it alone holds in memory may be lost, what it parked may not.
    pub(crate) fn crash(&mut self, machine: &Machine, now_ms: u64) {
        let Some(hub) = machine.hub() else { return };
        for cell in hub.all_cells() {
            let held = matches!(
                cell.lock().session.state(),
                State::Serving { .. } | State::Frozen { .. } | State::Given { .. } | State::Copy { .. }
            );
            if held {
                self.shaken.insert(cell.id, now_ms);
            }
        }
        self.stop(machine);
    }

    /// A process is about to end: what lies on its disk cannot be had until the next one is there.
    pub(crate) fn stop(&mut self, machine: &Machine) {
        let Some(hub) = machine.hub() else { return };
        self.stranded.extend(hub.store.list(None, usize::MAX).into_iter().map(|(session, _)| session));
    }

    /// A client was told that its session is safe on disk: it lies there, or somebody has it by now.
    pub(crate) fn told_safe(&self, session: SessionId, machines: &[Arc<Machine>]) -> Result<(), String> {
        let safe = machines.iter().filter_map(|machine| machine.hub()).any(|hub| {
            hub.store.state(session).is_some()
                || hub.cell(session).is_some_and(|cell| {
                    matches!(
                        cell.lock().session.state(),
                        State::Serving { .. } | State::Frozen { .. } | State::Copy { .. } | State::Ended { .. }
                    )
                })
        });
        let on_a_dead_disk = machines.iter().any(|machine| machine.hub().is_none());
        if safe || on_a_dead_disk { Ok(()) } else { Err(format!("{session} was told safe and lies on no disk")) }
    }
}
