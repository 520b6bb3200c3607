//! One hub's machine: a disk that outlives the process, and the process, which is the server crate itself.

use crate::chance::Chance;
use crate::net::{self, SimWorld, Touched};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidegate::config::Config;
use tidegate::hub::Hub;
use tidegate::hub::cell::Cell;
use tidegate::keys::{ClusterKeys, Sealer};
use tidegate::run::Start;
use tidegate::store::faulty::{FaultyDisk, Survives};
use tidegate::store::{Limits, Store, Writer, next_incarnation};
use tidegate::world::World;
use tidegate_protocol::id::{HubId, Incarnation, SessionId};
use tidegate_protocol::peer::SNAPSHOT_VERSIONS;
use tidegate_protocol::session::State;
use tokio::sync::Notify;

pub(crate) const PUBLIC_PORT: u16 = 8080;
pub(crate) const PRIVATE_PORT: u16 = 8081;

/// What outlives the processes of a hub, and the one that runs now.
pub(crate) struct Machine {
    pub(crate) index: usize,
    pub(crate) name: String,
    argv: Vec<OsString>,
    id: HubId,
    chance: Mutex<Chance>,
    seed: u64,
    releases: Mutex<Chance>,
    /// Processes so far.
    runs: AtomicU64,
    /// Processes so far that were of the release before.
    pub(crate) runs_of_before: AtomicU64,
    fsync_ms_max: u64,
    disk: Mutex<Arc<FaultyDisk>>,
    last_run: Mutex<Option<Incarnation>>,
    live: Mutex<Option<Arc<Hub>>>,
    /// SIGTERM, and the second one.
    pub(crate) terminate: Notify,
    pub(crate) hurry: Notify,
    exited: AtomicBool,
    touched: Touched,
    /// Sessions that lay on the disk when a process ended.
    left: Mutex<Vec<SessionId>>,
    /// Why it could not start, if it could not.
    failed: Mutex<Option<String>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    pub(crate) fn new(seed: u64, index: usize, argv: Vec<String>, fsync_ms_max: u64) -> Arc<Self> {
        let name = format!("hub-{index}");
        let mut chance = Chance::part(seed, &name);
        Arc::new(Self {
            index,
            argv: argv.into_iter().map(OsString::from).collect(),
            id: HubId(chance.next()),
            chance: Mutex::new(chance),
            seed,
            releases: Mutex::new(Chance::part(seed, &format!("release of {name}"))),
            runs: AtomicU64::new(0),
            runs_of_before: AtomicU64::new(0),
            fsync_ms_max,
            disk: Mutex::default(),
            last_run: Mutex::default(),
            live: Mutex::default(),
            terminate: Notify::new(),
            hurry: Notify::new(),
            exited: AtomicBool::new(false),
            touched: Touched::default(),
            left: Mutex::default(),
            failed: Mutex::default(),
            name,
        })
    }

    /// The hub that runs, if one does.
    pub(crate) fn hub(&self) -> Option<Arc<Hub>> {
        lock(&self.live).clone()
    }

    /// Whether the process ended by itself since it was started.
    pub(crate) fn has_exited(&self) -> bool {
        self.exited.load(Ordering::Relaxed)
    }

    /// Which of its processes this is.
    pub(crate) fn run_number(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// The sessions that took a step here since the last look.
    pub(crate) fn touched(&self) -> BTreeSet<SessionId> {
        std::mem::take(&mut lock(&self.touched))
    }

    /// What the last process left on its disk, or found no room for there, when it ended; told once.
    pub(crate) fn left(&self) -> Vec<SessionId> {
        std::mem::take(&mut lock(&self.left))
    }

    /// Why the last process could not start; told once.
    pub(crate) fn failure(&self) -> Option<String> {
        lock(&self.failed).take()
    }

    pub(crate) fn disk(&self) -> Arc<FaultyDisk> {
        lock(&self.disk).clone()
    }

    /// The process is gone; this is what its disk holds for the next one.
    pub(crate) fn gone(&self, survives: Survives) {
        *lock(&self.live) = None;
        let mut disk = lock(&self.disk);
        let next = disk.reboot(survives);
        *disk = Arc::new(next);
    }

    /// The process: opens its disk, listens, serves until it is told to stop, hands over or parks, and ends.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        self.exited.store(false, Ordering::Relaxed);
        self.runs.fetch_add(1, Ordering::Relaxed);
        match self.start().await {
            Ok(hub) => {
                *lock(&self.live) = Some(hub.clone());
                self.terminate.notified().await;
                tidegate::run::stop(&hub, self.hurry.notified()).await;
                lock(&self.left).extend(hub.store.list(None, usize::MAX).into_iter().map(|(session, _)| session));
                if self.disk().is_limited() {
                    // Who found no room on it was told so by 1012 with a slot, and is lost with the process.
                    lock(&self.left).extend(unparked(&hub));
                }
                *lock(&self.live) = None;
            }
            // Its disk refuses: a process says so and ends, and somebody starts the next one.
            Err(error) => *lock(&self.failed) = Some(error.to_string()),
        }
        self.exited.store(true, Ordering::Relaxed);
        // Whoever runs the machine sees that, and takes the rest of the process away.
        std::future::pending().await
    }

    /// What the process that starts now knows: of every other fleet some hubs are of the release before, and
    /// any restart may bring another release, the newer or the older one.
    fn release(&self) -> &'static [u32] {
        let is_mixed = self.seed.is_multiple_of(2);
        let is_before = is_mixed && lock(&self.releases).percent(40);
        self.runs_of_before.fetch_add(u64::from(is_before), Ordering::Relaxed);
        if is_before { &SNAPSHOT_VERSIONS[..SNAPSHOT_VERSIONS.len() - 1] } else { &SNAPSHOT_VERSIONS }
    }

    async fn start(&self) -> turmoil::Result<Arc<Hub>> {
        let config = Config::read(&self.argv, &|_| None).map_err(|error| format!("{error:?}"))?;
        let chance = Chance::new(lock(&self.chance).next());
        let world: World = Arc::new(SimWorld::new(chance, self.release(), self.touched.clone()));
        let incarnation = {
            let mut last = lock(&self.last_run);
            let next = next_incarnation(*last, net::unix_ms(), &mut |bytes: &mut [u8]| world.fill_random(bytes));
            *last = Some(next);
            next
        };
        let keys = ClusterKeys::from_secrets([b"one key for all hubs of this sea".to_vec()]).in_world(&world);
        let mut disk_chance = Chance::new(lock(&self.chance).next());
        let slowest = self.fsync_ms_max;
        let writer = Writer::Task(Box::new(move || Duration::from_millis(disk_chance.between(0, slowest))));
        let disk = lock(&self.disk).clone();
        let (store, _) = Store::open_with(disk, Arc::new(Sealer::new(&keys)), Limits::default(), writer)?;
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let start = Start {
            public: world.listen(any(PUBLIC_PORT)).await?,
            private: world.listen(any(PRIVATE_PORT)).await?,
            id: self.id,
            incarnation,
            public_tls: None,
            private_tls: None,
            private_token: None,
            reports: None,
            world,
            keys,
            store,
            config,
        };
        Ok(start.run()?)
    }
}

/// Sessions that a process holds in memory and nowhere else.
fn unparked(hub: &Hub) -> Vec<SessionId> {
    let held = |cell: &Arc<Cell>| {
        matches!(cell.lock().session.state(), State::Serving { .. } | State::Frozen { .. }).then_some(cell.id)
    };
    hub.all_cells().iter().filter_map(held).collect()
}
