//! The writer: calls that wait at the same time share one sync.

use super::StoreError;
use super::index::RecordState;
use super::log::{Log, Unit};
use super::record::Kind;
use super::writer::{Answer, Call, ParkOutcome, Parked, Pause, PendingPark};
use std::collections::BTreeSet;
use std::mem;
use tidegate_protocol::id::SessionId;
use tokio::sync::mpsc;

/// Carries out calls in the order in which they came, until the store is closed or all handles are gone.
pub(super) fn run(mut log: Log, mut calls: mpsc::Receiver<Call>) {
    let mut held = None;
    while let Some(first) = held.take().or_else(|| calls.blocking_recv()) {
        held = turn(&mut log, &mut calls, first);
    }
}

/// The same as a task of the runtime that calls it: the disk's time is slept, and its work done in between.
pub(super) async fn run_as_task(mut log: Log, mut calls: mpsc::Receiver<Call>, mut pause: Pause) {
    let mut held = None;
    loop {
        let first = match held.take() {
            Some(first) => Some(first),
            None => calls.recv().await,
        };
        let Some(first) = first else { return };
        tokio::time::sleep(pause()).await;
        held = turn(&mut log, &mut calls, first);
    }
}

/// One call and those like it that wait behind it; gives the one that is next, if it was taken already.
fn turn(log: &mut Log, calls: &mut mpsc::Receiver<Call>, first: Call) -> Option<Call> {
    let held = match first {
        Call::Close { answer } => {
            // From here on calls are refused, those in the queue too.
            calls.close();
            while calls.try_recv().is_ok() {}
            let _ = answer.send(log.finish());
            return None;
        }
        Call::Park { batch, pending, answer } => {
            let mut parks = Parks::new();
            parks.add(log, batch, pending, answer);
            let held = more(log, calls, |log, call| match call {
                Call::Park { batch, pending, answer } => {
                    parks.add(log, batch, pending, answer);
                    None
                }
                other => Some(other),
            });
            parks.finish(log);
            held
        }
        Call::Mark { kind, sessions, answer } => {
            let mut marks = Marks::default();
            marks.add(log, kind, &sessions, answer);
            let held = more(log, calls, |log, call| match call {
                Call::Mark { kind, sessions, answer } => {
                    marks.add(log, kind, &sessions, answer);
                    None
                }
                other => Some(other),
            });
            marks.finish(log);
            held
        }
    };
    log.compact_if_worth();
    held
}

/// Hands over what else waits, until `join` gives a call back, which is then the next to do.
fn more(
    log: &mut Log,
    calls: &mut mpsc::Receiver<Call>,
    mut join: impl FnMut(&mut Log, Call) -> Option<Call>,
) -> Option<Call> {
    let calls_max = log.shared.limits.group_calls_max;
    (1..calls_max).map_while(|_| calls.try_recv().ok()).find_map(|call| join(log, call))
}

/// Park calls that are written together.
struct Parks {
    units: Vec<Unit>,
    // Which call each unit is of.
    owners: Vec<usize>,
    bytes: usize,
    // Sessions in `units` that the index does not know yet.
    newcomers: BTreeSet<SessionId>,
    calls: Vec<(ParkOutcome, PendingPark, Answer<ParkOutcome>)>,
}

impl Parks {
    fn new() -> Self {
        Self { units: Vec::new(), owners: Vec::new(), bytes: 0, newcomers: BTreeSet::new(), calls: Vec::new() }
    }

    fn add(&mut self, log: &mut Log, batch: Vec<Parked>, pending: PendingPark, answer: Answer<ParkOutcome>) {
        let owner = self.calls.len();
        self.calls.push((ParkOutcome::default(), pending, answer));
        for parked in batch {
            let session = parked.session;
            match self.encode(log, parked) {
                Ok(unit) => {
                    self.bytes += unit.bytes.len();
                    self.units.push(unit);
                    self.owners.push(owner);
                }
                Err(error) => self.calls[owner].0.failed.push((session, error)),
            }
            if self.bytes >= log.shared.limits.group_bytes_max {
                self.write(log);
            }
        }
    }

    fn encode(&mut self, log: &mut Log, Parked { session, body }: Parked) -> Result<Unit, StoreError> {
        let limits = log.shared.limits.clone();
        if body.len() > limits.record_bytes_max as usize {
            return Err(StoreError::RecordTooLarge { session, bytes: body.len(), bytes_max: limits.record_bytes_max });
        }
        let index = log.shared.index();
        let is_new = index.get(session).is_none() && !self.newcomers.contains(&session);
        if is_new && index.len() + self.newcomers.len() >= limits.sessions_max {
            return Err(StoreError::TooManySessions { sessions_max: limits.sessions_max });
        }
        drop(index);
        let mut unit = Unit::new();
        unit.push(&*log.shared.seal, Kind::Parked, session, &body);
        log.make_room((self.bytes + unit.bytes.len()) as u64)?;
        if is_new {
            self.newcomers.insert(session);
        }
        Ok(unit)
    }

    fn write(&mut self, log: &mut Log) {
        let units = mem::take(&mut self.units);
        let owners = mem::take(&mut self.owners);
        self.newcomers.clear();
        self.bytes = 0;
        if units.is_empty() {
            return;
        }
        let results = log.append(&units);
        for ((unit, owner), result) in units.iter().zip(owners).zip(results) {
            let outcome = &mut self.calls[owner].0;
            for change in &unit.changes {
                match &result {
                    Ok(()) => outcome.durable.push(change.session),
                    Err(error) => outcome.failed.push((change.session, error.clone())),
                }
            }
        }
    }

    fn finish(mut self, log: &mut Log) {
        self.write(log);
        for (outcome, pending, answer) in self.calls {
            if let Some((session, error)) = outcome.failed.first() {
                // Whoever asked tells it, summed up; a full disk would fill the log, too.
                tracing::debug!(failed = outcome.failed.len(), durable = outcome.durable.len(), %session, %error, "sessions could not be parked");
            }
            // Before the answer: who has it may say `ended` at once, and then no park is on its way any more.
            drop(pending);
            // Nobody may wait for it any more; the sessions are parked all the same.
            let _ = answer.send(Ok(outcome));
        }
    }
}

/// `taken_up`, `moved` and `ended` calls that are written together.
#[derive(Default)]
struct Marks {
    units: Vec<Unit>,
    // Of which unit each waits.
    waiting: Vec<Answer<()>>,
    // Sessions that a call in this group says are gone.
    going: BTreeSet<SessionId>,
}

impl Marks {
    fn add(&mut self, log: &Log, kind: Kind, sessions: &[SessionId], answer: Answer<()>) {
        match self.encode(log, kind, sessions) {
            Ok(unit) => {
                self.units.push(unit);
                self.waiting.push(answer);
            }
            Err(error) => {
                let _ = answer.send(Err(error));
            }
        }
    }

    fn encode(&mut self, log: &Log, kind: Kind, sessions: &[SessionId]) -> Result<Unit, StoreError> {
        let mut unit = Unit::new();
        let index = log.shared.index();
        for session in sessions {
            let state = index.get(*session).map(|entry| entry.state);
            if kind == Kind::TakenUp && (state.is_none() || self.going.contains(session)) {
                return Err(StoreError::NotParked { session: *session });
            }
            // What the index says is synced, so it need not be said again.
            let said = state.is_none() || (kind == Kind::TakenUp && state == Some(RecordState::TakenUp));
            if !said {
                unit.push(&*log.shared.seal, kind, *session, &[]);
            }
        }
        drop(index);
        if kind != Kind::TakenUp {
            self.going.extend(sessions);
        }
        Ok(unit)
    }

    fn finish(self, log: &mut Log) {
        let nothing_said = self.units.iter().all(|unit| unit.bytes.is_empty());
        let results = if nothing_said { vec![Ok(()); self.units.len()] } else { log.append(&self.units) };
        for (answer, result) in self.waiting.into_iter().zip(results) {
            if let Err(error) = &result {
                tracing::debug!(%error, "the log could not say that sessions were taken up or are gone");
            }
            let _ = answer.send(result);
        }
    }
}
