//! Three hubs that know each other at addresses that stay, one app behind all, and a way in by turns.

use crate::chance::Chance;
use crate::tally::Tally;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidegate_tests::{Books, FakeApp, Hub, Owners, Private, Relay, Setup, Surroundings, acquainted, free_address};

/// How often owners are counted.
const COUNT_EVERY: Duration = Duration::from_millis(250);

/// The hub that is never killed and never stopped in order: its memory is looked at.
pub(crate) const LASTING: usize = 0;

/// The hubs, and what stands around them.
pub(crate) struct Fleet {
    /// What each hub is started with, on its own addresses.
    setups: Vec<Setup>,
    hubs: Mutex<Vec<Arc<Hub>>>,
    pub(crate) front: Relay,
    pub(crate) books: Books,
    owners: Owners,
    _app: FakeApp,
}

impl Fleet {
    /// Starts three hubs; some are reached by name, some only by the way in.
    pub(crate) async fn start(chance: &mut Chance) -> Self {
        let books = Books::default();
        let app = books.app().await;
        let addresses: Vec<(SocketAddr, SocketAddr)> = (0..3).map(|_| (free_address(), free_address())).collect();
        let setups: Vec<Setup> = (0..3).map(|own| setup(own, &addresses, &app, chance.once_in(2))).collect();
        let mut hubs = Vec::new();
        for setup in &setups {
            hubs.push(Arc::new(setup.start().await));
        }
        let all: Vec<&Hub> = hubs.iter().map(|hub| &**hub).collect();
        acquainted(&all).await;
        let front = Relay::to_all(&addresses.iter().map(|(public, _)| *public).collect::<Vec<_>>()).await;
        let owners = Owners::watch_every(&all, COUNT_EVERY);
        Self { setups, hubs: Mutex::new(hubs), front, books, owners, _app: app }
    }

    fn hubs(&self) -> MutexGuard<'_, Vec<Arc<Hub>>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A hub as it runs now.
    pub(crate) fn hub(&self, at: usize) -> Arc<Hub> {
        self.hubs()[at].clone()
    }

    /// Where all of them are asked.
    pub(crate) fn doors(&self) -> Vec<Private> {
        self.hubs().iter().map(|hub| hub.api.clone()).collect()
    }

    /// Starts the next process of a hub that is over; with a fault point armed, if one is named.
    pub(crate) async fn start_again(&self, at: usize, armed: Option<&str>) {
        let setup = self.setups[at].clone();
        let setup = match armed {
            Some(armed) => setup.env(tidegate::fault::VARIABLE, armed),
            None => setup,
        };
        let hub = Arc::new(setup.start().await);
        self.hubs()[at] = hub;
    }

    /// Starts the next process of a hub that is over, with a stderr that nobody will ever read.
    pub(crate) async fn start_with_a_closed_log(&self, at: usize) {
        let (reader, writer) = std::io::pipe().expect("a pipe costs two descriptors");
        drop(reader);
        let closed = Surroundings { stderr: Some(writer.into()), ..Surroundings::default() };
        let hub = Arc::new(self.setups[at].start_at_into(closed).await);
        self.hubs()[at] = hub;
    }

    /// Newcomers, and whoever comes back by the way in, reach these hubs by turns from now on.
    pub(crate) fn front_of(&self, hubs: &[usize]) {
        let targets: Vec<SocketAddr> = hubs.iter().map(|at| self.hub(*at).public).collect();
        self.front.retarget(&targets);
    }

    /// Starts whoever is over, and ends every drain.
    pub(crate) async fn mend(&self, tally: &Tally) {
        for at in 0..self.setups.len() {
            if self.hub(at).is_over() {
                tally.restarts(1);
                self.start_again(at, None).await;
            }
            // A hub whose fault point goes off right now is started in the next turn.
            drop(self.hub(at).api.try_send(http::Method::DELETE, "/v1/drain", &[], "").await);
        }
    }

    /// Sessions that ever had two owners.
    pub(crate) async fn close(self) -> Vec<String> {
        self.owners.doubles().await
    }
}

fn setup(own: usize, addresses: &[(SocketAddr, SocketAddr)], app: &FakeApp, named: bool) -> Setup {
    let (public, private) = addresses[own];
    let mut setup = Setup::new(["A", "B", "C"][own]).in_cluster().at(public, private);
    for (other, (_, peer)) in addresses.iter().enumerate() {
        if other != own {
            setup = setup.peer(peer);
        }
    }
    if named {
        setup = setup.flag("--public-url", format!("ws://{public}"));
    }
    // Short waits, and limits that are reached within minutes, so that memory can be seen to be flat.
    setup
        .app_with_events(&app.address)
        .flag("--peer-url", format!("http://{private}"))
        .flag("--orphan-after", "3s")
        .flag("--stop-deadline", "8s")
        .flag("--session-ttl", "15s")
        .flag("--limit-peer-call-time", "500ms")
        .flag("--limit-copy-ttl", "10s")
        .flag("--limit-tombstones", "400")
        .flag("--limit-ring-messages", "64")
        .flag("--log-level", "warn")
}
