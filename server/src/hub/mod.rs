//! The hub: what all of its parts share, and the doors between them.

pub mod act;
mod arrivals;
mod away;
pub mod calls;
pub mod cell;
pub mod claims;
pub mod conn;
mod credentials;
pub mod disk;
pub mod elsewhere;
pub mod entrance;
pub mod fan;
mod heard;
pub mod holding;
pub mod index;
pub mod parking;
mod registry;
pub mod remains;
pub mod said;
mod sweep;
pub mod timers;
mod tombstones;

use crate::app::App;
use crate::auth::Auth;
use crate::config::{Capacity, Config, OpenFiles};
use crate::drain::Driver;
use crate::keys::TokenMint;
use crate::message::Message;
use crate::peer::Peers;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::world::World;
use crate::ws::Socket;
use cell::Cell;
use conn::Conn;
use entrance::Entrance;
use registry::Registry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
pub use sweep::sweep;
use tidegate_protocol::control::{Readiness, WhenDraining};
use tidegate_protocol::id::{ConnectionId, HubId, Incarnation, SessionId};
use tidegate_protocol::position::Millis;
use tidegate_protocol::session::record::Record;
use tidegate_protocol::session::{Event, Left, Session, State};
use timers::Timers;
use tokio::time::{Duration, Instant};
use tombstones::Tombstones;

/// One running hub.
pub struct Hub {
    /// Settings.
    pub config: Config,
    /// The time of day, chance, and the way to others.
    pub world: World,
    /// Its persistent id.
    pub id: HubId,
    /// Its run.
    pub incarnation: Incarnation,
    /// Makes and opens resume tokens.
    pub mint: TokenMint,
    /// Judges JWTs.
    pub auth: Auth,
    /// Numbers for the operator.
    pub metrics: Metrics,
    /// Parked sessions.
    pub store: Store,
    /// Other hubs.
    pub peers: Peers,
    /// The app behind.
    pub app: App,
    /// The drain.
    pub drain: Driver,
    /// Fleet-wide messages.
    pub fan: fan::Ledger,
    /// The address of the private listener.
    pub private: SocketAddr,
    /// Sessions by user and channel.
    pub index: index::Index,
    /// Who went live here just now.
    pub arrivals: arrivals::Arrivals,
    /// Timers.
    pub timers: Timers,
    /// Claims of clients that came here for sessions that live elsewhere.
    pub claims: claims::Claims,
    /// What clients that return said of themselves.
    pub said: said::Said,
    /// Bulks of sessions that may come here.
    pub bulks: holding::Bulks,
    /// What the disk has refused.
    pub disk: disk::Refusals,
    /// Sessions that lie on the disks of hubs that are away.
    pub elsewhere: elsewhere::ParkedElsewhere,
    cells: Registry<SessionId, Arc<Cell>>,
    conns: Registry<ConnectionId, Arc<Conn>>,
    conn_count: AtomicU64,
    beginning: AtomicU64,
    /// What fits into the descriptors of this process.
    pub capacity: Capacity,
    /// Connections of the public listener, counted.
    pub entrance: Entrance,
    tombstones: Mutex<Tombstones>,
    parked_for_good: AtomicBool,
    taking_up: [tokio::sync::Mutex<()>; parking::TAKE_UP_LANES],
    /// At most one for each of those.
    coming_up: std::sync::Mutex<std::collections::BTreeSet<SessionId>>,
    started: Instant,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The place of a session that begins, taken until it is dropped: by then the session is here, or will not be.
#[derive(Debug)]
pub struct Room<'a>(&'a AtomicU64);

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a hub is made of; see the fields of [`Hub`].
#[allow(missing_docs, reason = "the fields of Hub, under the same names")]
pub struct Parts {
    pub config: Config,
    pub world: World,
    pub id: HubId,
    pub incarnation: Incarnation,
    pub mint: TokenMint,
    pub auth: Auth,
    pub metrics: Metrics,
    pub store: Store,
    pub peers: Peers,
    pub app: App,
    pub drain: Driver,
    pub private: SocketAddr,
}

impl Hub {
    /// Puts a hub together. Nothing runs yet; see [`crate::run`].
    pub fn new(parts: Parts) -> Arc<Self> {
        let limits = parts.config.limits;
        let capacity = Capacity::within(&limits, OpenFiles::now(), parts.config.app.is_some());
        Arc::new(Self {
            fan: fan::Ledger::new(
                parts.incarnation,
                limits.ring_messages as usize,
                limits.ring_bytes as usize,
                ledger_before(&parts.store),
            ),
            index: index::Index::default(),
            arrivals: arrivals::Arrivals::default(),
            timers: Timers::default(),
            claims: claims::Claims::counting_from(first_claim(&parts.world)),
            said: said::Said::default(),
            bulks: holding::Bulks::default(),
            disk: disk::Refusals::default(),
            elsewhere: elsewhere::ParkedElsewhere::default(),
            cells: registry::ordered(),
            conns: registry::ordered(),
            conn_count: AtomicU64::new(0),
            beginning: AtomicU64::new(0),
            capacity,
            entrance: Entrance::new(&capacity),
            tombstones: Mutex::default(),
            parked_for_good: AtomicBool::new(false),
            taking_up: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            coming_up: std::sync::Mutex::default(),
            started: Instant::now(),
            config: parts.config,
            world: parts.world,
            id: parts.id,
            incarnation: parts.incarnation,
            mint: parts.mint,
            auth: parts.auth,
            metrics: parts.metrics,
            store: parts.store,
            peers: parts.peers,
            app: parts.app,
            drain: parts.drain,
            private: parts.private,
        })
    }

    /// The base URL under which the app reaches this hub's private API.
    pub fn private_url(&self) -> String {
        let scheme = if self.config.private_tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.private)
    }

    /// Whether load balancers should send newcomers here.
    pub fn readiness(&self) -> Readiness {
        Readiness::judge(self.drain.hub_state(), self.places(), self.capacity.sessions)
    }

    /// What a health check is told while this hub drains, unless it asks for something else.
    pub fn when_draining(&self) -> WhenDraining {
        if self.config.unready_when_draining { WhenDraining::Unready } else { WhenDraining::Ready }
    }

    /// Milliseconds since this run began, on the monotonic clock.
    pub fn now(&self) -> Millis {
        Millis(self.started.elapsed().as_millis() as u64)
    }

    /// The wall clock, as it is now: what expires is judged by the corrected clock, not by the one at the start.
    /// It may jump; nothing is measured by it.
    pub fn unix_ms(&self) -> u64 {
        self.world.unix_ms()
    }

    /// A random number for a new id.
    pub fn random(&self) -> u128 {
        let mut bytes = [0; 16];
        self.world.fill_random(&mut bytes);
        u128::from_le_bytes(bytes)
    }

    /// A session of this hub (or its tombstone). The map's guard never leaves this line.
    pub fn cell(&self, id: SessionId) -> Option<Arc<Cell>> {
        self.cells.get(&id).map(|cell| cell.clone())
    }

    /// The cell of a session, made if this hub never heard of it.
    pub fn cell_or_new(&self, id: SessionId) -> Arc<Cell> {
        self.cells.entry(id).or_insert_with(|| Cell::new(Session::unknown(id, self.id), self.now())).clone()
    }

    /// Puts a new session into the registry.
    pub fn insert(&self, cell: Arc<Cell>) {
        self.cells.insert(cell.id, cell);
    }

    /// The ids of all cells, as of now, in no order.
    pub fn cell_ids(&self) -> Vec<SessionId> {
        self.cells.iter().map(|cell| cell.id).collect()
    }

    /// All cells, as of now: handles, no guard.
    pub fn all_cells(&self) -> Vec<Arc<Cell>> {
        self.cells.iter().map(|cell| cell.clone()).collect()
    }

    /// How many cells there are, tombstones and copies included.
    pub fn cell_count(&self) -> usize {
        self.cells.len()
    }

    /// A new connection, of which the hub knows nothing until it is registered.
    pub fn connect(&self, socket: Socket) -> Arc<Conn> {
        let id = ConnectionId(self.conn_count.fetch_add(1, Ordering::Relaxed) + 1);
        Arc::new(Conn::new(id, socket, self.now_s()))
    }

    /// Registers a connection that speaks WebSocket now.
    pub fn register(&self, conn: Arc<Conn>) {
        conn.hear(self.now_s());
        self.conns.insert(conn.id, conn);
    }

    /// A connection that is still here.
    pub fn connection(&self, id: ConnectionId) -> Option<Arc<Conn>> {
        self.conns.get(&id).map(|conn| conn.clone())
    }

    /// All connections, as of now.
    pub fn all_connections(&self) -> Vec<Arc<Conn>> {
        self.conns.iter().map(|conn| conn.clone()).collect()
    }

    /// How many connections there are.
    pub fn connection_count(&self) -> usize {
        self.conns.len()
    }

    /// A connection's task has ended.
    pub fn disconnect(self: &Arc<Self>, conn: &Conn, cell: Option<&Arc<Cell>>) {
        self.conns.remove(&conn.id);
        self.said.forget(conn.id);
        for cell in [conn.end().as_ref(), cell].into_iter().flatten() {
            cell.feed(self, Event::ConnectionLost { conn: conn.id });
        }
        self.claims.connection_lost(self, conn.id);
    }

    /// Seconds since the start, for signs of life.
    pub fn now_s(&self) -> u32 {
        (self.now().0 / 1000) as u32
    }

    /// Whether the data directory holds a session that no memory holds.
    pub fn is_parked(&self, id: SessionId) -> bool {
        self.store.state(id) == Some(crate::store::RecordState::Parked)
    }

    /// Whether this process has parked its sessions and waits to be replaced: it answers every hello
    /// `retry` and takes nothing up, until it serves again.
    pub fn is_parked_for_good(&self) -> bool {
        self.parked_for_good.load(Ordering::SeqCst)
    }

    /// See [`Hub::is_parked_for_good`].
    pub fn set_parked_for_good(&self, parked: bool) {
        self.parked_for_good.store(parked, Ordering::SeqCst);
    }

    /// Whether one more connection may be upgraded.
    pub fn has_room(&self) -> bool {
        (self.connection_count() as u64) < self.capacity.upgraded
    }

    /// How many more sessions may come here. A session needs a place among the sessions, and its connection a
    /// descriptor; copies, detached sessions and connections that owe a hello have theirs already.
    pub fn places(&self) -> u64 {
        let sessions = self.session_count() + self.beginning();
        let for_sessions = self.capacity.sessions.saturating_sub(sessions);
        for_sessions.min(self.capacity.upgraded.saturating_sub(self.connection_count() as u64))
    }

    /// Room for one more session beside those that are here, detached ones and copies included, and those
    /// that are just beginning: many may wait for the app at the same time.
    pub fn room_for_a_session(&self) -> Option<Room<'_>> {
        let beginning = self.beginning.fetch_add(1, Ordering::SeqCst) + 1;
        let room = Room(&self.beginning);
        (self.session_count() + beginning <= self.capacity.sessions).then_some(room)
    }

    /// For a session in the place of another.
    pub fn room_in_any_case(&self) -> Room<'_> {
        self.beginning.fetch_add(1, Ordering::SeqCst);
        Room(&self.beginning)
    }

    /// How many sessions are just beginning.
    pub fn beginning(&self) -> u64 {
        self.beginning.load(Ordering::SeqCst)
    }

    /// How many sessions there are: cells that are not tombstones.
    pub fn session_count(&self) -> u64 {
        let tombstones = self.tombstones.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.cells.len().saturating_sub(tombstones) as u64
    }

    /// A session ended or is live elsewhere: an ended one is forgotten at once, a tombstone when there
    /// are too many.
    pub fn forget_later(self: &Arc<Self>, id: SessionId) {
        let hub = self.clone();
        // The cell's lock is held by the caller; the registry is cleaned by a task of its own.
        tokio::spawn(async move { hub.forget(id).await });
    }

    /// A session that was elsewhere is served here again: its cell is no tombstone any more.
    pub fn came_back(&self, id: SessionId) {
        self.tombstones.lock().unwrap_or_else(PoisonError::into_inner).forget(id);
    }

    fn bury(self: &Arc<Self>, gone: Vec<SessionId>) {
        let fresh: Vec<SessionId> = {
            let tombstones = self.tombstones.lock().unwrap_or_else(PoisonError::into_inner);
            gone.into_iter().filter(|id| !tombstones.contains(*id)).collect()
        };
        if !fresh.is_empty() {
            let hub = self.clone();
            tokio::spawn(async move {
                for id in fresh {
                    hub.forget(id).await;
                }
            });
        }
    }

    async fn forget(&self, id: SessionId) {
        let ended = self
            .cell(id)
            .is_some_and(|cell| matches!(cell.lock().session.state(), State::Ended { .. } | State::Nothing));
        if ended {
            self.cells.remove(&id);
            if self.store.state(id).is_some()
                && let Err(error) = self.store.ended(vec![id]).await
            {
                self.disk_refused("ended", id, &error);
            }
            return;
        }
        let oldest = {
            let mut tombstones = self.tombstones.lock().unwrap_or_else(PoisonError::into_inner);
            tombstones.remember(id, self.config.limits.tombstones)
        };
        if let Some(oldest) = oldest {
            self.cells.remove_if(&oldest, |_, cell| matches!(cell.lock().session.state(), State::Moved { .. }));
        }
    }

    /// Starts a new session in the place of a lost one, for a connection that waits.
    pub fn spawn_reset(
        self: &Arc<Self>,
        conn: ConnectionId,
        replaces: SessionId,
        why: &'static str,
        record: Option<Box<Record<Message>>>,
    ) {
        let Some(conn) = self.connection(conn) else { return };
        let hub = self.clone();
        tokio::spawn(async move { crate::public::hello::reset(&hub, &conn, replaces, why, record).await });
    }

    /// Fires what is due, until the hub stops.
    pub async fn run_timers(self: &Arc<Self>) {
        loop {
            let (due, next) = self.timers.take_due(self.now());
            for due in due {
                self.fire(due);
            }
            let next = next.map(|at| self.started + Duration::from_millis(at.0));
            tokio::select! {
                biased;
                () = self.timers.earlier() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    fn expire(self: &Arc<Self>, id: SessionId) {
        let Some(cell) = self.cell(id) else { return };
        let since = cell.lock().detached_at.get();
        let over = since.is_some_and(|since| self.now().since(since) >= self.config.session_ttl_ms);
        if over {
            cell.feed(self, Event::End(Left::Expired));
        }
    }
}

/// What the process before left. Taken: should this one crash, its successor must not go on with it.
fn ledger_before(store: &Store) -> Option<remains::Remains> {
    let written = store.take_beside().unwrap_or_else(|error| {
        tracing::warn!(%error, "recent fleet-wide messages of the process before cannot be read");
        None
    });
    serde_json::from_slice(&written?).ok()
}

fn first_claim(world: &World) -> u64 {
    let mut bytes = [0; 8];
    world.fill_random(&mut bytes);
    // Room to count on, and below 2^53 for the JSON between hubs.
    u64::from_le_bytes(bytes) >> 12
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
