//! Real hubs in one process, each with a runtime, a data directory and a listener of its own.

mod auth;
mod fleet;
mod table;

use super::{routes, spawn};
use crate::app::App;
use crate::auth::Auth;
use crate::config::Config;
use crate::drain::Driver;
use crate::hub::cell::Cell;
use crate::hub::{Hub, Parts};
use crate::keys::{ClusterKeys, Sealer, TokenMint, fill_random};
use crate::message::Message;
use crate::peer::{Own, Peers};
use crate::store::{DataDir, Limits, Store};
use crate::telemetry::Metrics;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidegate_protocol::id::{ConnectionId, SessionId};
use tidegate_protocol::position::Epoch;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::record::{Profile, Record};
use tokio::runtime::Runtime;

/// How long a test waits for what should come within a second or two.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running hub; it is killed, without a goodbye, when it is dropped.
struct Running {
    hub: Arc<Hub>,
    url: String,
    runtime: Option<Runtime>,
    _data_dir: DataDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Where hubs are started from: one cluster key, a directory for each hub.
struct Stage {
    dir: TempDir,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("cluster.key"), key("k")).expect("a key file");
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Starts the hub `name`; started again, it has the same id and a later run.
    fn start(&self, name: &str, flags: &[&str]) -> Running {
        let (data_dir, key) = (self.path(name), self.path("cluster.key"));
        let own = ["tidegate", "serve", "--public", "127.0.0.1:0", "--private", "127.0.0.1:0", "--data-dir", &data_dir];
        let shared =
            ["--cluster-key-file", &key, "--peer-url", "http://127.0.0.1:0", "--public-url", "ws://127.0.0.1:0"];
        let argv: Vec<OsString> = own.iter().chain(&shared).chain(flags).map(OsString::from).collect();
        let config = Config::read(&argv, &|_| None).expect("settings that are right");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let (hub, data_dir) = runtime.block_on(open(config, Path::new(&data_dir)));
        let url = hub.private_url();
        Running { hub, url, runtime: Some(runtime), _data_dir: data_dir }
    }
}

/// A cluster key of its own for each letter.
fn key(letter: &str) -> String {
    format!("{letter} is how a key of these hubs begins, and no other")
}

fn unix_ms() -> u64 {
    crate::world::system().unix_ms()
}

async fn open(config: Config, path: &Path) -> (Arc<Hub>, DataDir) {
    let now = unix_ms();
    let data_dir =
        DataDir::open(path, PATIENCE, now, &mut |bytes: &mut [u8]| fill_random(bytes)).await.expect("a data directory");
    let keys = ClusterKeys::for_hub(&config, &data_dir).expect("a key");
    let (store, _) =
        Store::open(data_dir.disk(), Arc::new(Sealer::new(&keys)), Limits::default()).expect("an empty log");
    let listener = tokio::net::TcpListener::bind(config.private).await.expect("a free port");
    let private = listener.local_addr().expect("it is bound");
    let own = Own { hub: data_dir.hub(), run: data_dir.incarnation(), public: private, private };
    let world = crate::world::system();
    let hub = Hub::new(Parts {
        world: world.clone(),
        id: data_dir.hub(),
        incarnation: data_dir.incarnation(),
        mint: TokenMint::new(&keys),
        auth: Auth::new(&config.auth, config.limits.channels_per_session).expect("no authentication"),
        metrics: Metrics::new(now),
        app: App::new(&config, &world).expect("no app"),
        peers: Peers::new(&config, &world, &keys, own).expect("right settings"),
        drain: Driver::default(),
        store,
        private,
        config,
    });
    let router = routes().with_state(hub.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    spawn(&hub);
    (hub, data_dir)
}

impl Running {
    fn wait<Out>(&self, what: impl Future<Output = Out>) -> Out {
        self.runtime.as_ref().expect("it runs").block_on(what)
    }

    fn knows(&self, other: &Self) -> bool {
        self.hub.peers.known() == [other.hub.id]
    }

    /// Puts a session without a client here.
    fn session(&self, id: u128) -> Arc<Cell> {
        let (id, mut out) = (SessionId(id), Vec::new());
        let record = Record::<Message>::new(Epoch(1), Profile::default());
        let cell =
            Cell::new(Session::begin(id, self.hub.id, record, ConnectionId(u64::MAX), 0, &mut out), self.hub.now());
        self.hub.insert(cell.clone());
        cell
    }

    /// The texts that were numbered for a session.
    fn numbered(cell: &Cell) -> u64 {
        cell.lock().session.record().map_or(0, |record| record.outbox.end().0)
    }
}

/// Waits on a condition; fails with what was expected.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "expected within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Two hubs that have met.
fn pair(stage: &Stage) -> (Running, Running) {
    let a = stage.start("a", &[]);
    let b = stage.start("b", &["--peer", &a.url]);
    until("a and b know and reach each other", || a.knows(&b) && b.knows(&a) && reaches(&a, &b) && reaches(&b, &a));
    (a, b)
}

/// Whether `a` would hand sessions to `b`.
fn reaches(a: &Running, b: &Running) -> bool {
    a.hub.peers.successors().iter().any(|peer| peer.hub == b.hub.id && peer.eligible)
}
