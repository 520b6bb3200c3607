//! Sessions to disk and back (rules 18 to 20): written and synced before the close can be seen, taken up
//! and synced before the first welcome.

use super::Hub;
use super::calls::CallError;
use super::cell::{Cell, Inner, Since};
use crate::fault::{self, Step};
use crate::message::Message;
use crate::store::{Parked, RecordState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tidegate_protocol::id::{HubId, Incarnation, SessionId};
use tidegate_protocol::peer::PeerMessage;
use tidegate_protocol::position::Generation;
use tidegate_protocol::replay::Payload;
use tidegate_protocol::session::record::Record;
use tidegate_protocol::session::{Event, Fence, Session, State};
use tokio::sync::MutexGuard;
use tokio::time::Instant;

/// The format of a parked record; this build reads only its own.
const VERSION: u32 = 1;
/// Sessions taken up at the same time, at most.
pub(super) const TAKE_UP_LANES: usize = 64;

#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "M: Payload + Serialize", deserialize = "M: Payload + Deserialize<'de>"))]
struct OnDisk<M> {
    version: u32,
    generation: Generation,
    offered: Generation,
    /// By which run of the hub it was written; of its ledger its stamps are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<Incarnation>,
    record: Record<M>,
}

/// While this is kept, whatever is parked stays parked.
#[derive(Debug)]
#[must_use = "once it is dropped sessions are taken up again"]
pub struct StaysParked<'a>(#[allow(dead_code, reason = "kept, not read")] Vec<MutexGuard<'a, ()>>);

/// Why a parked record cannot be read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("it has version {found}, and this build reads version {VERSION}")]
    Version { found: u32 },
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl OnDisk<Message> {
    fn decode(body: &[u8]) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Which {
            version: u32,
        }
        let (found, read) = match serde_json::from_slice::<Self>(body) {
            Ok(on_disk) => (on_disk.version, Ok(on_disk)),
            // A later version may lack what this one needs; then that is what is wrong.
            Err(error) => (serde_json::from_slice(body).map_or(VERSION, |Which { version }| version), Err(error)),
        };
        if found == VERSION { Ok(read?) } else { Err(Unreadable::Version { found }) }
    }
}

/// What the data directory knows of a session that is in no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Nothing.
    Not,
    /// This hub owns it, and may take it up.
    Parked,
    /// It is being taken up at this moment, or has just been: whoever waits for that finds it in memory.
    ComingUp,
    /// A process took it up and died with it.
    Lost,
}

/// A session between disk and memory; dropped when it has arrived, or stays where it was.
struct OnItsWay<'a>(&'a Hub, SessionId);

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.coming_up().remove(&self.1);
    }
}

fn refused(why: String) -> CallError {
    CallError::Busy { why, after_ms: 1_000 }
}

impl Hub {
    /// Writes a frozen session; the machine hears of the result.
    pub fn spawn_park(self: &Arc<Self>, cell: &Arc<Cell>, inner: &Inner) {
        let (Some(record), Some(fence)) = (inner.session.record(), inner.session.fence()) else { return };
        let on_disk = OnDisk {
            version: VERSION,
            generation: fence.generation,
            offered: fence.offered,
            run: Some(self.incarnation),
            record: record.clone(),
        };
        let (hub, cell) = (self.clone(), cell.clone());
        tokio::spawn(async move {
            let durable = match serde_json::to_vec(&on_disk) {
                Ok(body) => {
                    let outcome = hub.store.park(vec![Parked { session: cell.id, body }]).await;
                    for (session, error) in &outcome.failed {
                        hub.disk_refused("parked", *session, error);
                    }
                    outcome.durable.contains(&cell.id)
                }
                Err(error) => {
                    hub.disk_refused("parked", cell.id, &error);
                    false
                }
            };
            cell.feed(&hub, if durable { Event::Written } else { Event::WriteFailed });
        });
    }

    /// A session of the data directory was given away: `moved` is synced before the successor hears `committed`.
    pub fn spawn_moved_then_say(self: &Arc<Self>, session: SessionId, to: HubId, message: PeerMessage<Message>) {
        let hub = self.clone();
        tokio::spawn(async move {
            fault::at(Step::BeforeMovedSync);
            match hub.store.moved(vec![session]).await {
                Ok(()) => {
                    fault::at(Step::AfterMovedSync);
                    hub.say(to, message);
                }
                // `committed` is repeated, and so is this.
                Err(error) => hub.disk_refused("given away", session, &error),
            }
        });
    }

    /// Takes a session up in the background.
    pub fn spawn_take_up(self: &Arc<Self>, session: SessionId) {
        let hub = self.clone();
        tokio::spawn(async move {
            if let Err(error) = hub.take_up(session).await {
                hub.disk_refused("taken up", session, &error);
            }
        });
    }

    /// What the data directory knows of a session that was in no memory a moment ago.
    pub(crate) fn stored(&self, session: SessionId) -> Stored {
        match self.store.state(session) {
            None => Stored::Not,
            Some(RecordState::Parked) => Stored::Parked,
            // In this order: whoever takes it up says that it is done when it is in memory.
            Some(RecordState::TakenUp) if self.coming_up().contains(&session) || self.cell(session).is_some() => {
                Stored::ComingUp
            }
            Some(RecordState::TakenUp) => Stored::Lost,
        }
    }

    /// The sessions between disk and memory. Not told by the lanes: others share those.
    fn coming_up(&self) -> std::sync::MutexGuard<'_, BTreeSet<SessionId>> {
        self.coming_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One at a time per session; different sessions share the sync of the log.
    fn lane(&self, session: SessionId) -> &tokio::sync::Mutex<()> {
        &self.taking_up[(session.0 % TAKE_UP_LANES as u128) as usize]
    }

    /// Brings a parked session back into memory; it is synced as taken up before anybody can see it. Whoever gives
    /// up waiting does not stop it: between the disk and the memory it would be lost.
    ///
    /// # Errors
    /// [`CallError::Busy`] when the disk refuses; the session stays parked.
    pub async fn take_up(self: &Arc<Self>, session: SessionId) -> Result<(), CallError> {
        let hub = self.clone();
        let taken_up = tokio::spawn(async move { hub.take_up_to_the_end(session).await });
        taken_up.await.unwrap_or_else(|error| Err(refused(error.to_string())))
    }

    async fn take_up_to_the_end(self: &Arc<Self>, session: SessionId) -> Result<(), CallError> {
        let _one_at_a_time = self.lane(session).lock().await;
        if self.store.state(session) == Some(RecordState::TakenUp) {
            // Somebody else was faster, or it is lost; either way the registry knows.
            return Ok(());
        }
        let Some((fence, mut record, parked_by)) = self.read_parked(session).await else {
            return Err(refused("its parked record cannot be read".into()));
        };
        self.coming_up().insert(session);
        let _until_it_is_in_memory = OnItsWay(self, session);
        fault::at(Step::BeforeTakenUpSync);
        self.store.taken_up(vec![session]).await.map_err(|error| refused(error.to_string()))?;
        fault::at(Step::AfterTakenUpSync);
        let existing = self.cell(session);
        match existing {
            Some(cell) => {
                let parked = matches!(cell.lock().session.state(), State::Parked { .. });
                if parked {
                    self.fan.lock().restore(&mut record, parked_by);
                    cell.feed(self, Event::TakenUp(Box::new(record)));
                }
            }
            None => {
                let mut out = Vec::new();
                let mut fan = self.fan.lock();
                fan.restore(&mut record, parked_by);
                let machine = Session::taken_up(session, self.id, Box::new(record), fence, &mut out);
                let cell = Cell::new(machine, self.now());
                self.insert(cell.clone());
                let mut inner = cell.lock();
                inner.detached_at = Since::UNSET;
                super::act::carry_out(self, &cell, &mut inner, out, Some(&mut fan));
            }
        }
        Ok(())
    }

    /// Waits for what is being taken up, so long at most, and lets nothing be taken up from here on.
    pub async fn stop_taking_up(&self, patience: Duration) -> StaysParked<'_> {
        let until = Instant::now() + patience;
        let mut lanes = Vec::with_capacity(TAKE_UP_LANES);
        for lane in &self.taking_up {
            // A lane that a disk keeps is closed as good: nobody gets through it.
            lanes.extend(tokio::time::timeout_at(until, lane.lock()).await);
        }
        StaysParked(lanes)
    }

    /// Takes up everything that is parked, so that the hub serves again.
    pub async fn take_up_all(self: &Arc<Self>) {
        const PAGE: usize = 256;
        self.set_parked_for_good(false);
        let mut after = None;
        loop {
            let page = self.store.list(after, PAGE);
            let Some((last, _)) = page.last() else { return };
            after = Some(*last);
            for (session, state) in page {
                if state == RecordState::Parked
                    && let Err(error) = self.take_up(session).await
                {
                    self.disk_refused("taken up", session, &error);
                }
            }
        }
    }

    /// A parked session as it lies on disk; it stays parked. `None`: it cannot be read, and the log says why.
    pub(crate) async fn read_parked(
        &self,
        session: SessionId,
    ) -> Option<(Fence, Record<Message>, Option<Incarnation>)> {
        let (_, body) = match self.store.read(session).await {
            Ok(found) => found?,
            Err(error) => {
                self.disk_refused("read", session, &error);
                return None;
            }
        };
        match OnDisk::decode(&body) {
            Ok(OnDisk { generation, offered, record, run, .. }) => Some((Fence { generation, offered }, record, run)),
            Err(error) => {
                self.disk_refused("read", session, &error);
                None
            }
        }
    }

    pub(super) async fn forget_parked(&self, session: SessionId) {
        if let Err(error) = self.store.ended(vec![session]).await {
            self.disk_refused("ended", session, &error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A parked session as the release with version 1 wrote it.
    const PARKED_1: &str = include_str!("../../tests/records/parked-1.json");

    #[test]
    fn a_parked_session_of_each_version_that_was_released_is_read_and_nothing_of_it_is_lost() {
        let read = OnDisk::decode(PARKED_1.as_bytes()).expect("version 1 is read");
        assert_eq!((read.generation, read.offered), (Generation(4), Generation(6)));
        assert_eq!(read.record.outbox.iter().count(), 2, "the messages that the client has not acked");
        assert_eq!(read.record.state, b"seat 7");
        let written = serde_json::to_value(&read).expect("plain values");
        assert_eq!(written, serde_json::from_str::<Value>(PARKED_1).expect("JSON"), "written as it was read");
    }

    #[test]
    fn a_parked_session_of_a_later_release_is_refused_by_its_version_whatever_else_is_in_it() {
        for later in [json!({"version": 2}), json!({"version": 2, "record": "another layout"})] {
            let refused = OnDisk::decode(later.to_string().as_bytes()).err().expect("not ours to read");
            assert_eq!(refused.to_string(), "it has version 2, and this build reads version 1");
        }
    }
}
