//! Other hubs: who they are, what they say, and the link to them.
//!
//! ```text
//!   seeds (--peer, --peers-file, DNS) ─► rounds: a hello a second ─► Table: who is heard, silent, gone
//!                                                                      │ gone, or a new run
//!   cells, claims ─► say ─► Link: a bounded queue per hub ─► POST      ▼
//!   API           ─► fan_out ─► a lane per hub, in order ─► POST    Hub::peer_gone
//!                 ─► call ─► POST
//!   their POSTs ─► serve: signed? ─► Hub::peer_said, Hub::call, the fan-out ledger
//! ```
//! Everything is HTTP on the private listeners, signed both ways (see [`crate::keys::PeerAuth`]).

mod about;
mod calling;
mod farewell;
mod lane;
mod link;
mod post;
mod rounds;
mod seeds;
mod serve;
mod standing;
mod table;
#[cfg(test)]
mod tests;
mod troubles;
mod wire;

pub use calling::{Asked, Asking};
pub use lane::{FanOutcome, Sent, publish_again, publish_everywhere};
pub use serve::routes;

use crate::config::{Config, SettingError};
use crate::hub::Hub;
use crate::keys::{ClusterKeys, PeerAuth};
use crate::message::Message;
use crate::peer_list::{PeerList, own_public_url, world_lookup};
use crate::telemetry::PeerResult;
use crate::world::World;
use http::Uri;
use link::Link;
use post::Post;
use seeds::Seeds;
use standing::Peer;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;
use table::Table;
use tidegate_protocol::control::HubState;
use tidegate_protocol::drain::{AdmissionWindow, Successor};
use tidegate_protocol::id::{HubId, Incarnation};
use tidegate_protocol::peer::PeerMessage;
use tidegate_protocol::position::Millis;
use tokio::sync::Notify;
use tokio::time::Instant;
use troubles::Troubles;

/// The peers of this hub.
pub struct Peers {
    own: HubId,
    run: Incarnation,
    private: SocketAddr,
    public_url: Option<String>,
    call_time: Duration,
    post: Post,
    started: Instant,
    /// Set once the hub runs; nothing is said before.
    hub: OnceLock<Weak<Hub>>,
    /// How peers reach this hub, once that is known.
    url: OnceLock<Uri>,
    list: Mutex<Option<PeerList>>,
    state: Mutex<HubState>,
    book: Mutex<Book>,
    links: Mutex<BTreeMap<HubId, Arc<Link>>>,
    /// Hellos are taken one after the other, so that what follows from a new run is done before
    /// anything that the new run says.
    hearing: tokio::sync::Mutex<()>,
    answers: calling::Answers,
    calls: AtomicU64,
    admissions: Mutex<AdmissionWindow>,
    /// What was complained of last, by address, so that it is not told every second.
    told: Mutex<BTreeMap<String, u16>>,
    troubles: Troubles,
    /// Wakes the rounds.
    nudge: Notify,
    /// Wakes the drain.
    changed: Notify,
}

/// This hub, as its peers come to know it.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// Its id.
    pub hub: HubId,
    /// Its run.
    pub run: Incarnation,
    /// The address of its public listener, as bound.
    pub public: SocketAddr,
    /// The address of its private listener, as bound.
    pub private: SocketAddr,
}

/// Who there is, under one lock, held for a look or a step.
#[derive(Debug)]
struct Book {
    table: Table,
    seeds: Seeds,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Peers {
    /// The peers that the settings name.
    ///
    /// # Errors
    /// A setting that is wrong, such as a CA file that cannot be read.
    pub fn new(config: &Config, world: &World, keys: &ClusterKeys, own: Own) -> Result<Self, SettingError> {
        let Own { hub: own, run, public, private } = own;
        let list = PeerList::new(config, world_lookup(world.clone()));
        let post = Post::new(config, world.clone(), PeerAuth::new(keys, own), list.names())?;
        let forget_after_ms = config.peer_forget_after_ms;
        Ok(Self {
            own,
            run,
            private,
            public_url: own_public_url(config, public).map(|url| url.to_string()),
            call_time: Duration::from_millis(config.limits.peer_call_ms),
            post,
            started: Instant::now(),
            hub: OnceLock::new(),
            url: OnceLock::new(),
            list: Mutex::new(Some(list)),
            state: Mutex::new(HubState::Serving),
            book: Mutex::new(Book {
                table: Table::new(forget_after_ms, config.limits.peers as usize),
                seeds: Seeds::new(config.has_peers(), forget_after_ms),
            }),
            links: Mutex::default(),
            hearing: tokio::sync::Mutex::default(),
            answers: calling::Answers::default(),
            calls: AtomicU64::new(0),
            admissions: Mutex::default(),
            told: Mutex::default(),
            troubles: Troubles::default(),
            nudge: Notify::new(),
            changed: Notify::new(),
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hub(&self) -> Option<Arc<Hub>> {
        self.hub.get()?.upgrade()
    }

    fn now(&self) -> Millis {
        Millis(self.started.elapsed().as_millis() as u64)
    }

    /// Sends a message to a hub, sooner or later or never: the machines live with loss. Never blocks.
    pub fn say(&self, to: HubId, message: PeerMessage<Message>) {
        let Some(hub) = self.hub() else { return };
        let kind = message.kind();
        match self.link(&hub, to) {
            Some(link) if link.say(message) => {}
            // Dropped: the queue is full, or nobody knows the way.
            Some(_) | None => hub.metrics.peer_message(kind, PeerResult::Unreachable),
        }
    }

    /// Sends a message to every known hub.
    pub fn say_all(&self, message: PeerMessage<Message>) {
        let all: Vec<HubId> = self.book().table.present().map(|(hub, _)| hub).collect();
        for hub in all {
            self.say(hub, message.clone());
        }
    }

    /// Every other hub that is not forgotten, silent ones included. An address from the settings that
    /// nobody has answered from yet stands in it under a made-up id, for who is there may know what
    /// nobody else knows.
    pub fn known(&self) -> Vec<HubId> {
        let now = self.now();
        let book = self.book();
        book.table.present().map(|(hub, _)| hub).chain(book.seeds.unheard(now)).collect()
    }

    /// Whether every address from the settings has answered since the start, or was given up.
    pub fn all_seeds_heard(&self) -> bool {
        self.book().seeds.unheard(self.now()).is_empty()
    }

    /// Whether this hub once was known and is forgotten now (goodbye, or silent for too long).
    pub fn is_forgotten(&self, hub: HubId) -> bool {
        self.book().table.get(hub).is_some_and(Peer::is_gone)
    }

    /// Whether this hub was heard, and has answered, in the last seconds.
    pub fn is_heard(&self, hub: HubId) -> bool {
        let now = self.now();
        self.book().table.get(hub).is_some_and(|peer| peer.is_heard() && peer.answers(now))
    }

    /// How a client reaches that very hub, if it can.
    pub fn public_url(&self, hub: HubId) -> Option<String> {
        self.book().table.get(hub)?.said()?.hello.public_url.clone()
    }

    /// The hubs that may take sessions over, and those that may not now. Cheap, and without effect.
    pub fn successors(&self) -> Vec<Successor> {
        let now = self.now();
        let mut successors = self.book().table.successors(now);
        // What was heard so long ago, on the hub's own clock.
        if let Some(hub) = self.hub() {
            for room in successors.iter_mut().filter_map(|successor| successor.room.as_mut()) {
                room.told_at = Millis(hub.now().0.saturating_sub(now.since(room.told_at)));
            }
        }
        successors
    }

    /// How many hubs the settings name that were never heard.
    pub fn unheard(&self) -> u64 {
        self.book().seeds.unheard(self.now()).len() as u64
    }

    /// Waits until something changed that a drain plans by. One waiter at a time; a change between
    /// two waits is not missed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Tells every peer what this hub is doing.
    pub fn set_state(&self, state: HubState) {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *current, state) != state {
            self.nudge.notify_one();
        }
    }

    /// A newcomer was turned away for want of room; peers that drain slow down.
    pub fn turned_away(&self) {
        self.admissions.lock().unwrap_or_else(PoisonError::into_inner).refused(self.now());
    }

    /// A client was welcomed so long after its hello was read; peers that drain pace by it.
    pub fn welcomed(&self, took_ms: u64) {
        self.admissions.lock().unwrap_or_else(PoisonError::into_inner).welcomed(self.now(), took_ms);
    }

    /// Where a hub is reached, unless it is forgotten.
    fn url_of(&self, hub: HubId) -> Option<Uri> {
        self.book().table.get(hub).filter(|peer| !peer.is_gone()).map(|peer| peer.url.clone())
    }

    fn link(&self, hub: &Arc<Hub>, to: HubId) -> Option<Arc<Link>> {
        self.url_of(to)?;
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        Some(links.entry(to).or_insert_with(|| Link::open(hub, to)).clone())
    }

    /// Whether this complaint is another one than the last about the same thing.
    fn is_news(&self, about: &str, complaint: u16) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(about.to_owned(), complaint) != Some(complaint)
    }

    /// Ends the links to hubs that are forgotten; what waits in them is dropped.
    fn prune_links(&self) {
        let present: std::collections::BTreeSet<HubId> = self.book().table.present().map(|(hub, _)| hub).collect();
        self.links.lock().unwrap_or_else(PoisonError::into_inner).retain(|hub, _| present.contains(hub));
    }
}

/// Starts the link's tasks.
pub fn spawn(hub: &Arc<Hub>) {
    if hub.peers.hub.set(Arc::downgrade(hub)).is_err() {
        return;
    }
    tokio::spawn(rounds::rounds(hub.clone()));
    let list = hub.peers.list.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(list) = list {
        tokio::spawn(rounds::look_up(hub.clone(), list));
    }
}
