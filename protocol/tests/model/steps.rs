//! What may happen next.

use crate::bounds::Mutant;
use crate::hub::{Disk, may_be_orphaned};
use crate::wire::{Pipe, Up};
use crate::world::{LATE, Step, World};
use tidegate_protocol::frame::ClientFrame;
use tidegate_protocol::id::ConnectionId;
use tidegate_protocol::session::{Receipt, State, Timer};

impl World {
    /// Everything that may happen now.
    pub fn steps(&self, steps: &mut Vec<Step>) {
        if self.ledger.fault.is_some() {
            return;
        }
        self.client_steps(steps);
        self.pipe_steps(steps);
        for index in 0..self.net.len() {
            steps.push(Step::Arrive(index));
            if self.budget.doubles > 0 {
                steps.push(Step::ArriveTwice(index));
            }
        }
        for hub in 0..self.hubs.len() {
            if self.hubs[hub].asleep {
                steps.push(Step::Wake(hub));
                continue;
            }
            self.hub_steps(hub, steps);
            self.trouble(hub, steps);
            self.outside_steps(hub, steps);
        }
    }

    pub fn client_steps(&self, steps: &mut Vec<Step>) {
        if self.client.over {
            return;
        }
        if self.client.dialling.is_some() {
            let awake = (0..self.hubs.len()).filter(|hub| !self.hubs[*hub].asleep);
            steps.extend(awake.map(Step::Connect));
        }
        let machine = &self.client.machine;
        let due = machine.poll_timeout().is_some();
        let gives_up = self.is_trying();
        let affordable = if gives_up { self.budget.impatience > 0 } else { self.budget.dials > 0 };
        if due && affordable {
            steps.push(Step::ClientTimer);
        }
        if self.budget.sends > 0 {
            steps.push(Step::ClientSends);
        }
        if self.budget.deaths > 0 {
            steps.push(Step::ClientDies);
        }
    }

    pub fn pipe_steps(&self, steps: &mut Vec<Step>) {
        for pipe in &self.pipes {
            let id = pipe.id;
            if pipe.client_open && !pipe.down.is_empty() {
                steps.push(Step::ClientReads(id));
            }
            if self.hub_may_read(pipe) {
                steps.push(Step::HubReads(id));
                if self.budget.orphans > 0
                    && matches!(pipe.up.front(), Some(Up::Frame(ClientFrame::Hello(hello))) if may_be_orphaned(hello))
                {
                    steps.push(Step::HubReadsOrphan(id));
                }
            }
            if self.budget.cuts > 0 && pipe.client_open && pipe.hub_open && id < LATE {
                steps.push(Step::Cut { id, lose_up: true });
                if !pipe.up.is_empty() {
                    steps.push(Step::Cut { id, lose_up: false });
                }
            }
        }
    }

    /// A hub that is still leaves everything but the end of a connection in its socket.
    pub fn hub_may_read(&self, pipe: &Pipe) -> bool {
        let held = self.hubs[pipe.hub].session.listens_to(ConnectionId(u64::from(pipe.id))) == Receipt::Hold
            && self.mutant != Mutant::ReadWhileFrozen;
        pipe.hub_open && pipe.up.front().is_some_and(|item| !held || *item == Up::Cut)
    }

    pub fn hub_steps(&self, hub: usize, steps: &mut Vec<Step>) {
        let (at, budget) = (&self.hubs[hub], &self.budget);
        let session = &at.session;
        if budget.publishes > 0 && matches!(session.state(), State::Serving { .. }) {
            steps.push(Step::Publish(hub));
        }
        if !self.grain.hub_writes_at_once && self.has_more_to_write(hub) {
            steps.push(Step::Pump(hub));
        }
        if !self.grain.app_at_once && self.app_may_take(hub) {
            steps.push(Step::Take(hub));
        }
        if at.settling && matches!(session.state(), State::Frozen { .. }) {
            steps.push(Step::Settled(hub));
        }
        if at.writing {
            steps.extend([Step::Written(hub, true), Step::Written(hub, false)]);
        }
        if matches!(session.state(), State::Parked { .. }) {
            steps.push(Step::TakeUp(hub));
        }
        if budget.bulk_ends > 0 && !at.shelf.is_empty() {
            steps.push(Step::DropBulk(hub));
        }
        steps.extend(at.to_learn.iter().map(|gone| Step::Learn(hub, *gone)));
        for timer in &at.timers {
            let left = match timer {
                Timer::Freeze(_) => budget.freeze_limits,
                Timer::Repeat(..) => budget.repeats,
                Timer::CopyTtl(_) => budget.copy_ends,
                Timer::CopyWait(_) => budget.copy_waits,
                Timer::BulkWait(_) => budget.bulk_waits,
                Timer::BulkReuse(_) => budget.bulk_ends,
                Timer::Kept(_) => budget.kept_ends,
            };
            if left > 0 {
                steps.push(Step::Fire(hub, *timer));
            }
        }
        if budget.claim_limits > 0 {
            for claim in &at.claims {
                if claim.silent().next().is_some() {
                    steps.push(Step::Silence(hub, claim.id()));
                }
                steps.push(Step::ClaimLimit(hub, claim.id()));
            }
        }
    }

    pub fn has_more_to_write(&self, hub: usize) -> bool {
        let mut probe = self.hubs[hub].session.clone();
        probe.counted().is_some_and(|conn| probe.next_for(conn).is_some())
    }

    /// Its machine lets it end, and what it said has arrived: goodbye overtakes nothing.
    pub fn may_end(&self, hub: usize) -> bool {
        let session = &self.hubs[hub].session;
        let may = match session.state() {
            State::Copy { .. } if self.mutant == Mutant::EndsWithCopies => true,
            _ => session.may_end(),
        };
        may && !self.net.has_words_of(hub)
    }

    pub fn trouble(&self, hub: usize, steps: &mut Vec<Step>) {
        let (at, budget) = (&self.hubs[hub], &self.budget);
        if let State::Serving { .. } = at.session.state() {
            if budget.pushes > 0 {
                steps.extend((0..self.hubs.len()).filter(|to| *to != hub).map(|to| Step::Push(hub, to)));
            }
            if budget.orders > 0 && at.session.counted().is_some() {
                steps.push(Step::Order(hub));
            }
            if budget.parks > 0 {
                steps.push(Step::Park(hub));
            }
        }
        if budget.cancels > 0 && at.draining {
            steps.push(Step::Cancel(hub));
        }
        if budget.crashes > 0 {
            steps.push(Step::Crash(hub));
        }
        if budget.sleeps > 0 && matches!(at.disk, Disk::Parked(..)) && self.may_end(hub) {
            steps.push(Step::Sleep(hub));
        }
        if budget.ends > 0 && self.may_end(hub) {
            steps.push(Step::End(hub));
        }
        if budget.late_hellos > 0 {
            steps.extend((1..self.client.hellos.len()).map(|which| Step::LateHello(hub, which)));
        }
    }
}
