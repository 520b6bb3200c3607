//! What a drain tells while it runs: gauges at every step, and log lines when the phase, the reason of a hold or the
//! blockers change, and now and then in between. In the words of the status.

use super::Driver;
use crate::hub::Hub;
use crate::telemetry::{Held, Label, Outcome};
use std::sync::{Mutex, PoisonError};
use tidegate_protocol::control::{HeldKind, Phase};
use tidegate_protocol::drain::Figures;
use tidegate_protocol::id::DrainId;
use tidegate_protocol::position::Millis;

/// Between two lines about a drain that goes on.
const PROGRESS_EVERY_MS: u64 = 10_000;

/// What was told last, so that nothing is told twice.
#[derive(Debug, Default)]
pub(super) struct Teller(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    phase: Phase,
    held: Option<HeldKind>,
    blockers: Vec<String>,
    at: Millis,
}

impl Teller {
    /// After each step of the machine.
    pub(super) fn tell(&self, hub: &Hub, drain: DrainId, phase: Phase, figures: &Figures) {
        gauge(hub, phase, figures);
        let now = hub.now();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, was_held) = (told.phase, told.held);
        let running = !matches!(phase, Phase::Serving | Phase::Drained);
        let changed = phase != from || figures.held != was_held;
        let due = running && now.since(told.at) >= PROGRESS_EVERY_MS;
        if !changed && !due {
            return;
        }
        (told.phase, told.held, told.at) = (phase, figures.held, now);
        if !running {
            told.blockers.clear();
        }
        drop(told);
        if !changed {
            return line(drain, phase, figures, "a drain goes on");
        }
        tracing::info!(%drain, from = from.as_str(), to = phase.as_str(), "drain phase");
        match figures.held {
            Some(held) if was_held != Some(held) => {
                // Asked anew: the sentence costs more than the figures, and is wanted at a change alone.
                let why = hub.drain.status_now(hub).why.unwrap_or_default();
                tracing::warn!(%drain, held = held.as_str(), why, remaining = figures.sessions.remaining, "a drain is held");
            }
            None if was_held.is_some() && running => line(drain, phase, figures, "a drain is not held any more"),
            _ => {}
        }
    }
}

fn line(drain: DrainId, phase: Phase, figures: &Figures, what: &str) {
    let counts = &figures.sessions;
    tracing::info!(
        %drain, phase = phase.as_str(), held = figures.held.map(HeldKind::as_str), moved = counts.moved, parked = counts.parked,
        left = counts.left, remaining = counts.remaining, in_flight = figures.in_flight, unroutable = figures.unroutable,
        cut = figures.cut, "{what}"
    );
}

fn gauge(hub: &Hub, phase: Phase, figures: &Figures) {
    let (metrics, counts) = (&hub.metrics, &figures.sessions);
    let index = Phase::ALL.iter().position(|one| *one == phase).unwrap_or_default();
    metrics.drain_phase.set(index as f64);
    for (outcome, count) in [
        (Outcome::Moved, counts.moved),
        (Outcome::Parked, counts.parked),
        (Outcome::Left, counts.left),
        (Outcome::Forced, counts.forced),
        (Outcome::Unconfirmed, counts.unconfirmed),
        (Outcome::Remaining, counts.remaining),
    ] {
        metrics.drain_sessions.of(outcome).set(count as f64);
    }
    for held in Held::ALL {
        metrics.drain_held.of(*held).set(f64::from(figures.held.map(Held::of) == Some(*held)));
    }
    metrics.drain_cut.set(figures.cut as f64);
    metrics.drain_unroutable.set(figures.unroutable as f64);
    metrics.drain_in_flight.set(figures.in_flight as f64);
}

impl Driver {
    /// What stands in the way of a drain that runs, once a second: counted, and told when it is something else.
    pub(super) fn look_at_blockers(&self, hub: &Hub) {
        let status = self.status_now(hub);
        let running = !matches!(status.phase, Phase::Serving | Phase::Drained);
        let blockers = if running { status.blockers } else { Vec::new() };
        hub.metrics.drain_blockers.set(blockers.len() as f64);
        let mut told = self.teller.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !running || told.blockers == blockers {
            return;
        }
        told.blockers.clone_from(&blockers);
        drop(told);
        match blockers.is_empty() {
            true => tracing::info!(
                drain = status.drain.map(tracing::field::display),
                "nothing stands in the way of the drain any more"
            ),
            false => {
                tracing::warn!(
                    drain = status.drain.map(tracing::field::display),
                    blockers = blockers.join("; "),
                    "in the way of the drain"
                )
            }
        }
    }
}
