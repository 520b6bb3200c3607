//! Who sits in this kitchen: one [`Guest`] per session, in the memory of this process and nowhere else.
//!
//! The hub tells by events when a session comes, leaves for another instance, or ends; the socket of the session is
//! dialled in between. Both meet here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::table::Table;

/// How many sessions one kitchen holds unless told otherwise; the next is refused with 503.
pub const GUESTS_MAX: usize = 65_536;
/// How long a packed state is kept for a hub that asks again or brings the session back.
const PACKED_KEPT_MS: u64 = 60_000;
/// How long a table without a socket is kept for a hub that has not said `ended`.
const ALONE_KEPT_MS: u64 = 600_000;
/// How long `moving` waits for the session's socket to be read to its close; the hub waits 1 s.
const CLOSE_WAIT: Duration = Duration::from_millis(900);

/// Which event of a session this is: its epoch and its number.
pub type EventKey = (u64, u64);

/// What an event about the beginning of a session says besides its number.
#[derive(Debug, Default)]
pub struct Arrival {
    /// The id of the hub that holds the session now.
    pub hub: Option<String>,
    /// The table that it brings; without one it goes on with what is still here.
    pub table: Option<Table>,
    /// What the table that it brings is worth beside one that is still here.
    pub brought: Brought,
}

/// What a table that the hub brings is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Brought {
    /// The session was elsewhere: the table is newer than what is still here.
    #[default]
    Newer,
    /// Only the socket was lost: what is still here is newer, and the table is for a kitchen that was started anew.
    Older,
}

/// Where the table of one session stands.
///
/// ```text
///             opened, resumed, dialled               dialled
///   (nobody) ─────────────────────────► Laid ◄────────────────────► Served
///                                        │ ▲       socket closed      │
///                                 moving │ │ resumed, dialled         │ a newer socket takes the place of the old
///                                        ▼ │
///                                       Packed ──60 s──► (nobody)
///   any ──ended, or 10 min alone──► (nobody)
/// ```
#[derive(Debug)]
enum Place {
    /// The table is set and nobody sits there; it cooks on.
    Laid { table: Table, since_ms: u64 },
    /// A socket is open; `socket` is its number, so that an older one notices that it was replaced.
    Served { table: Table, socket: u64 },
    /// The state was given away and is no longer ours to change. It is kept for a `moving` that the hub repeats, and
    /// for a handover that failed.
    Packed { state: Bytes, since_ms: u64 },
}

#[derive(Debug)]
struct Seat {
    place: Place,
    /// The last event that was carried out, so that a repeated one changes nothing.
    last_event: Option<EventKey>,
    /// The id of the hub that holds the session, if it said so.
    hub: Option<String>,
}

/// One session in this kitchen.
#[derive(Debug)]
pub struct Guest {
    seat: Mutex<Seat>,
    /// Rung when `seat.place` becomes another one.
    moved: Notify,
}

/// All sessions of this process.
#[derive(Debug)]
pub struct Guests {
    guests: Mutex<HashMap<String, Arc<Guest>>>,
    max: usize,
    started: Instant,
    sockets: AtomicU64,
}

/// Why a session is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kitchen is full: {max} sessions sit here, which is its limit (--max-sessions)")]
pub struct Full {
    /// The limit.
    pub max: usize,
}

/// The session's socket was not read to its close in time, so its state is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the socket of this session was not closed within 900 ms; its state is not complete, so it stays here")]
pub struct StillServed;

impl Guests {
    /// An empty kitchen for at most `max` sessions.
    pub fn new(max: usize) -> Self {
        let guests = Mutex::new(HashMap::new());
        Self { guests, max, started: Instant::now(), sockets: AtomicU64::new(1) }
    }

    /// Milliseconds since this kitchen opened: the time that boards are given.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How many sessions are remembered.
    pub fn len(&self) -> usize {
        unpoisoned(self.guests.lock()).len()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A socket was dialled for this session: it becomes the one that serves it. The returned [`Serving`] gives the
    /// place up when dropped. Also says whether the session was known here.
    ///
    /// # Errors
    /// [`Full`] when the session is unknown and there is no room.
    pub fn serve(self: &Arc<Self>, session: &str) -> Result<(Serving, bool), Full> {
        let socket = self.sockets.fetch_add(1, Ordering::Relaxed);
        let now_ms = self.now_ms();
        let (guest, known) = self.lay(session, |guest| {
            guest.change(|seat| {
                let table = seat.place.take_table(now_ms);
                seat.place = Place::Served { table, socket };
            });
        })?;
        Ok((Serving { guests: Arc::clone(self), guest, socket }, known))
    }

    /// `opened`: the session begins here.
    ///
    /// # Errors
    /// [`Full`] when there is no room.
    pub fn opened(&self, session: &str, key: EventKey, hub: Option<String>) -> Result<(), Full> {
        self.lay(session, |guest| guest.carry_out(key, |seat| seat.hub = hub))?;
        Ok(())
    }

    /// `resumed` or `reset`: the session goes on here, with the table that it brings or what is still here. When there
    /// is neither, nothing is laid yet, so that [`serve`](Self::serve) can tell that the session is not known.
    ///
    /// # Errors
    /// [`Full`] when the session is unknown and there is no room.
    pub fn resumed(&self, session: &str, key: EventKey, arrival: Arrival) -> Result<(), Full> {
        let now_ms = self.now_ms();
        let Arrival { hub, table, brought } = arrival;
        let known = self.find(session).is_some();
        let table = table.filter(|_| !known || brought == Brought::Newer);
        if table.is_none() && !known {
            return Ok(());
        }
        self.lay(session, |guest| {
            guest.carry_out(key, |seat| {
                let table = table.unwrap_or_else(|| seat.place.take_table(now_ms));
                seat.place = Place::Laid { table, since_ms: now_ms };
                seat.hub = hub;
            });
        })?;
        Ok(())
    }

    /// `moving`: waits until the session's socket has been read to its close, packs the state and hands it out. The
    /// same event again gets the same bytes; a session that nobody knows has no bytes.
    ///
    /// # Errors
    /// [`StillServed`] when the socket was not closed within 900 ms; nothing has changed then.
    pub async fn moving(&self, session: &str, key: EventKey) -> Result<Bytes, StillServed> {
        let Some(guest) = self.find(session) else {
            return Ok(Bytes::new());
        };
        let packed = async {
            loop {
                let moved = guest.moved.notified();
                if let Some(state) = guest.pack_if_alone(key, self.now_ms()) {
                    return state;
                }
                moved.await;
            }
        };
        tokio::time::timeout(CLOSE_WAIT, packed).await.map_err(|_| StillServed)
    }

    /// `ended`: the session is over; nothing of it is kept.
    pub fn ended(&self, session: &str) {
        let guest = unpoisoned(self.guests.lock()).remove(session);
        if let Some(guest) = guest {
            let since_ms = self.now_ms();
            guest.change(|seat| seat.place = Place::Laid { table: Table::default(), since_ms });
        }
    }

    /// Forgets what nobody has come back for. To be called now and then.
    pub fn sweep(&self) {
        let now_ms = self.now_ms();
        unpoisoned(self.guests.lock()).retain(|_, guest| match &guest.lock().place {
            Place::Served { .. } => true,
            Place::Laid { since_ms, .. } => now_ms - since_ms < ALONE_KEPT_MS,
            Place::Packed { since_ms, .. } => now_ms - since_ms < PACKED_KEPT_MS,
        });
    }

    fn find(&self, session: &str) -> Option<Arc<Guest>> {
        unpoisoned(self.guests.lock()).get(session).cloned()
    }

    /// Does something with the guest of this session, laying an empty table first if it is new; also says whether it
    /// was known. The list stays locked meanwhile, so that nobody sweeps the guest away.
    fn lay(&self, session: &str, then: impl FnOnce(&Guest)) -> Result<(Arc<Guest>, bool), Full> {
        let since_ms = self.now_ms();
        let mut guests = unpoisoned(self.guests.lock());
        if let Some(guest) = guests.get(session) {
            then(guest);
            return Ok((Arc::clone(guest), true));
        }
        if guests.len() >= self.max {
            return Err(Full { max: self.max });
        }
        let place = Place::Laid { table: Table::default(), since_ms };
        let seat = Mutex::new(Seat { place, last_event: None, hub: None });
        let guest = Arc::new(Guest { seat, moved: Notify::new() });
        then(&guest);
        guests.insert(session.to_owned(), Arc::clone(&guest));
        Ok((guest, false))
    }
}

impl Guest {
    fn lock(&self) -> MutexGuard<'_, Seat> {
        unpoisoned(self.seat.lock())
    }

    /// Changes the seat and rings for all who wait for a change.
    fn change<T>(&self, change: impl FnOnce(&mut Seat) -> T) -> T {
        let result = change(&mut self.lock());
        self.moved.notify_waiters();
        result
    }

    /// Carries out an event once. A session that was packed has left and may come back with any number but the last;
    /// one that is here sees rising numbers only.
    fn carry_out(&self, key: EventKey, change: impl FnOnce(&mut Seat)) {
        self.change(|seat| {
            let repeated = match (&seat.place, seat.last_event) {
                (_, None) => false,
                (Place::Packed { .. }, Some(last)) => key == last,
                (Place::Laid { .. } | Place::Served { .. }, Some(last)) => key <= last,
            };
            if !repeated {
                change(seat);
                seat.last_event = Some(key);
            }
        });
    }

    /// Packs the table when no socket serves it; `None` while one does.
    fn pack_if_alone(&self, key: EventKey, now_ms: u64) -> Option<Bytes> {
        let mut seat = self.lock();
        match &seat.place {
            Place::Served { .. } => None,
            Place::Packed { state, .. } => Some(state.clone()),
            Place::Laid { table, .. } if seat.last_event.is_some_and(|last| key <= last) => {
                // A late repeat, after the session came back: the answer is of no use to anybody, the table is.
                Some(Bytes::from(table.pack(now_ms)))
            }
            Place::Laid { table, .. } => {
                let state = Bytes::from(table.pack(now_ms));
                seat.place = Place::Packed { state: state.clone(), since_ms: now_ms };
                seat.last_event = Some(key);
                Some(state)
            }
        }
    }
}

impl Place {
    /// Takes the table out, unpacking it if need be, and leaves an empty one behind: the caller says what comes next.
    fn take_table(&mut self, now_ms: u64) -> Table {
        match self {
            Self::Laid { table, .. } | Self::Served { table, .. } => {
                table.board.advance(now_ms);
                std::mem::take(table)
            }
            // Our own bytes. Whoever asks for the session again without bringing its state means this one.
            Self::Packed { state, .. } => {
                Table::unpack(state, now_ms).expect("the bytes were packed by this very process")
            }
        }
    }
}

/// The right of one socket to serve its session. Dropping it gives the place up.
#[derive(Debug)]
pub struct Serving {
    guests: Arc<Guests>,
    guest: Arc<Guest>,
    socket: u64,
}

impl Serving {
    /// Works on the table of this session, with the present moment; `None` when a newer socket or an event has taken
    /// the session away from this one, which then has to close.
    pub fn with<T>(&self, work: impl FnOnce(&mut Table, u64) -> T) -> Option<T> {
        match &mut self.guest.lock().place {
            Place::Served { table, socket } if *socket == self.socket => Some(work(table, self.guests.now_ms())),
            Place::Served { .. } | Place::Laid { .. } | Place::Packed { .. } => None,
        }
    }

    /// The id of the hub that holds the session, if it said so.
    pub fn hub(&self) -> Option<String> {
        self.guest.lock().hub.clone()
    }

    /// The number of this socket: rises with each one that is dialled.
    pub fn socket(&self) -> u64 {
        self.socket
    }

    /// Completes when the place of the session has changed since this call: ask [`with`](Self::with) then.
    pub fn changed(&self) -> Notified<'_> {
        self.guest.moved.notified()
    }

    /// How long until this moment of the kitchen's clock.
    pub fn until(&self, due_ms: u64) -> Duration {
        Duration::from_millis(due_ms.saturating_sub(self.guests.now_ms()))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let since_ms = self.guests.now_ms();
        self.guest.change(|seat| {
            if matches!(seat.place, Place::Served { socket, .. } if socket == self.socket) {
                seat.place = Place::Laid { table: seat.place.take_table(since_ms), since_ms };
            }
        });
    }
}

/// A panic while a lock was held leaves a table that is whole: each change is a single assignment.
fn unpoisoned<T>(lock: Result<T, PoisonError<T>>) -> T {
    lock.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "guests_tests.rs"]
mod tests;
