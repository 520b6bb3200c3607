//! The async handle: what the rest of the hub calls.

use super::group;
use super::index::{RecordState, Stats};
use super::log::{Log, Shared};
use super::record::Kind;
use super::{Disk, Limits, Recovered, Seal, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidegate_protocol::id::SessionId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Bodies are counted against the queue in pieces of this size, since a semaphore hands out at most a `u32` of permits.
const PERMIT_BYTES: usize = 1024;

/// One session to park: its id and whatever the caller needs to bring it back, opaque to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Whose.
    pub session: SessionId,
    /// All of it.
    pub body: Vec<u8>,
}

/// What became of a batch: each session is in exactly one of the two.
#[derive(Clone, Debug, Default)]
pub struct ParkOutcome {
    /// Durable: their clients may be told.
    pub durable: Vec<SessionId>,
    /// Not parked: thaw them. With the reason of each.
    pub failed: Vec<(SessionId, StoreError)>,
}

/// Where the answer to a call goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the handle asks of the writer.
pub(super) enum Call {
    Park { batch: Vec<Parked>, pending: PendingPark, answer: Answer<ParkOutcome> },
    Mark { kind: Kind, sessions: Vec<SessionId>, answer: Answer<()> },
    Close { answer: Answer<()> },
}

/// Counts a park that is on its way, and the queue's bytes that it holds, until it is done or dropped.
pub(super) struct PendingPark {
    parks: Arc<AtomicUsize>,
    _queue_bytes: OwnedSemaphorePermit,
}

impl PendingPark {
    fn new(parks: &Arc<AtomicUsize>, queue_bytes: OwnedSemaphorePermit) -> Self {
        parks.fetch_add(1, Ordering::SeqCst);
        Self { parks: Arc::clone(parks), _queue_bytes: queue_bytes }
    }
}

impl Drop for PendingPark {
    fn drop(&mut self) {
        self.parks.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Handle on the store; clones are cheap and share it.
///
/// A call whose future is dropped after it was queued is still carried out. When all handles are gone the writer finishes what is
/// queued and ends; only [`Store::close`] empties the log.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Call>,
    queue_bytes: Arc<Semaphore>,
    queue_permits: u32,
    reads: Arc<Semaphore>,
    // Parks on their way to the index. While there are any, what is not in the index may be about to be.
    parks: Arc<AtomicUsize>,
    reading: Reading,
}

/// How long the disk takes for the next group, asked before each.
pub type Pause = Box<dyn FnMut() -> Duration + Send>;

/// Who writes.
pub enum Writer {
    /// A thread of its own, since a real disk blocks.
    Thread,
    /// A task of the runtime that opens the store, for disks in memory: a simulation must not depend on
    /// the system's threads. Bodies are read at once then.
    Task(Pause),
}

#[derive(Clone, Copy)]
enum Reading {
    OffTheRuntime,
    AtOnce,
}

impl Store {
    /// Opens the log on `disk`, reads all of it, and starts the writer thread. Blocks: call it before serving, or with `spawn_blocking`.
    ///
    /// Errors: the disk refuses, or a newer release wrote the log. Damage is no error; it is in [`Recovered`].
    pub fn open(disk: Arc<dyn Disk>, seal: Arc<dyn Seal>, limits: Limits) -> Result<(Self, Recovered), StoreError> {
        Self::open_with(disk, seal, limits, Writer::Thread)
    }

    /// As [`Store::open`], with a writer of the caller's choice.
    ///
    /// Errors: as there.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        seal: Arc<dyn Seal>,
        limits: Limits,
        writer: Writer,
    ) -> Result<(Self, Recovered), StoreError> {
        let queue_permits = (limits.queue_bytes_max as usize / PERMIT_BYTES).max(1) as u32;
        let (queue, calls) = mpsc::channel(limits.queue_calls_max.max(1));
        let reads = Arc::new(Semaphore::new(limits.reads_max.max(1)));
        let (log, recovered) = Log::open(disk, seal, limits)?;
        let shared = Arc::clone(&log.shared);
        let reading = match writer {
            Writer::Thread => {
                let thread = std::thread::Builder::new().name("tidegate-store".to_owned());
                thread.spawn(move || group::run(log, calls)).map_err(StoreError::disk("start the writer thread"))?;
                Reading::OffTheRuntime
            }
            Writer::Task(pause) => {
                tokio::spawn(group::run_as_task(log, calls, pause));
                Reading::AtOnce
            }
        };
        let queue_bytes = Arc::new(Semaphore::new(queue_permits as usize));
        Ok((Self { shared, queue, queue_bytes, queue_permits, reads, parks: Arc::default(), reading }, recovered))
    }

    /// Parks sessions. Those in `durable` are synced, and survive a crash from here on; for the others nothing has changed.
    /// Parking a session that is in the log replaces its record.
    pub async fn park(&self, batch: Vec<Parked>) -> ParkOutcome {
        let sessions: Vec<_> = batch.iter().map(|parked| parked.session).collect();
        match self.try_park(batch).await {
            Ok(outcome) => outcome,
            Err(error) => ParkOutcome {
                durable: Vec::new(),
                failed: sessions.into_iter().map(|session| (session, error.clone())).collect(),
            },
        }
    }

    async fn try_park(&self, batch: Vec<Parked>) -> Result<ParkOutcome, StoreError> {
        if batch.is_empty() {
            return Ok(ParkOutcome::default());
        }
        let bytes: usize = batch.iter().map(|parked| parked.body.len()).sum();
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).min(self.queue_permits);
        let permit = Arc::clone(&self.queue_bytes).acquire_many_owned(permits).await;
        let pending = PendingPark::new(&self.parks, permit.map_err(|_| StoreError::Closed)?);
        self.call(|answer| Call::Park { batch, pending, answer }).await
    }

    /// Says that this process goes on with these sessions. After `Ok` none of them is ever resumable from its record again; call it
    /// before the first welcome, publish or state change. A session that was taken up before is fine.
    ///
    /// Errors: one of them is not in the log, or the disk refuses; then none of them may be gone on with.
    pub async fn taken_up(&self, sessions: Vec<SessionId>) -> Result<(), StoreError> {
        self.mark(Kind::TakenUp, sessions).await
    }

    /// Says that other hubs own these sessions now; call it before `committed`. Those that are not in the log are fine.
    pub async fn moved(&self, sessions: Vec<SessionId>) -> Result<(), StoreError> {
        self.mark(Kind::Moved, sessions).await
    }

    /// Says that these sessions are over. Those that are not in the log are fine, and cost nothing.
    pub async fn ended(&self, sessions: Vec<SessionId>) -> Result<(), StoreError> {
        self.mark(Kind::Ended, sessions).await
    }

    async fn mark(&self, kind: Kind, mut sessions: Vec<SessionId>) -> Result<(), StoreError> {
        // In this order: a park that is done between the two looks is seen by the second.
        if kind != Kind::TakenUp && self.parks.load(Ordering::SeqCst) == 0 {
            let index = self.shared.index();
            sessions.retain(|session| index.get(*session).is_some());
        }
        if sessions.is_empty() {
            return Ok(());
        }
        self.call(|answer| Call::Mark { kind, sessions, answer }).await
    }

    async fn call<T>(&self, call: impl FnOnce(Answer<T>) -> Call) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(call(answer)).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// State and body of a session; `None` if it is not in the log. At most [`Limits::reads_max`] are read at a time, others wait.
    pub async fn read(&self, session: SessionId) -> Result<Option<(RecordState, Vec<u8>)>, StoreError> {
        let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let shared = Arc::clone(&self.shared);
        if let Reading::AtOnce = self.reading {
            return shared.read(session);
        }
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            shared.read(session)
        });
        read.await.map_err(|_| StoreError::Closed)?
    }

    /// What the log says of a session; `None` if it is not in it. From memory.
    pub fn state(&self, session: SessionId) -> Option<RecordState> {
        self.shared.index().get(session).map(|entry| entry.state)
    }

    /// Up to `limit` sessions with ids above `after`, in order. From memory.
    pub fn list(&self, after: Option<SessionId>, limit: usize) -> Vec<(SessionId, RecordState)> {
        self.shared.index().after(after).take(limit).map(|(session, entry)| (session, entry.state)).collect()
    }

    /// Numbers for status and metrics. From memory.
    pub fn stats(&self) -> Stats {
        self.shared.index().stats()
    }

    /// Leaves something for the next process beside the sessions: sealed, and there in full or not at all.
    pub async fn leave_beside(&self, plain: Vec<u8>) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        if let Reading::AtOnce = self.reading {
            return shared.leave_beside(&plain);
        }
        let written = tokio::task::spawn_blocking(move || shared.leave_beside(&plain)).await;
        written.map_err(|_| StoreError::Closed)?
    }

    /// Takes what the process before left there, once. Blocks for as long as it takes to read that.
    pub fn take_beside(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.take_beside()
    }

    /// For a clean exit: finishes what is queued, empties the log if nothing is parked in it, and ends the writer. What was taken up
    /// counts as accounted for: park it before, if it is to be found again. Later calls fail with [`StoreError::Closed`].
    pub async fn close(&self) -> Result<(), StoreError> {
        self.call(|answer| Call::Close { answer }).await
    }
}
