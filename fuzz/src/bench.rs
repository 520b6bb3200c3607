//! A whole hub in memory, on a clock that runs only while nothing else does: real listeners' code, real router,
//! real sessions. What a target does to it, it does by bytes.

use crate::world::{Door, FuzzWorld, door};
use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::sync::{Arc, Once};
use std::time::Duration;
use tidegate::config::Config;
use tidegate::hub::Hub;
use tidegate::keys::{ClusterKeys, Sealer};
use tidegate::run::Start;
use tidegate::store::faulty::FaultyDisk;
use tidegate::store::{Limits, Store, Writer};
use tidegate_protocol::id::{HubId, Incarnation};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Runtime;

/// The hub's id, for whoever must name it.
pub const HUB: HubId = HubId(0xa);
/// The private address, for the Host header.
pub const PRIVATE: &str = "127.0.0.1:8081";
/// A hub is thrown away after so many inputs, so that none depends on all that came before.
const INPUTS_PER_HUB: u32 = 200;
/// What a WebSocket client asks for first.
pub const UPGRADE: &str = "GET /connect HTTP/1.1\r\nhost: hub\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: tidegate.v1\r\n\r\n";

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Panics of this thread so far, those in tasks included, which nobody else would hear of.
pub fn panics() -> u64 {
    static COUNTING: Once = Once::new();
    COUNTING.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            told(info);
        }));
    });
    PANICS.get()
}

/// The key of the fleet that this hub is of.
pub fn keys() -> ClusterKeys {
    ClusterKeys::from_secrets([vec![b'k'; 32]])
}

/// A hub and the ways to it.
pub struct Bench {
    runtime: Runtime,
    /// The hub.
    pub hub: Arc<Hub>,
    /// Its surroundings.
    pub world: FuzzWorld,
    /// Where clients connect.
    pub public: Door,
    /// Where everybody else does.
    pub private: Door,
    inputs: Cell<u32>,
}

impl Bench {
    /// A hub with these flags.
    ///
    /// # Panics
    /// When it cannot start.
    pub fn new(flags: &[&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let argv: Vec<OsString> = ["tidegate", "serve"].iter().chain(flags).map(OsString::from).collect();
        let config = Config::read(&argv, &|_| None).expect("good flags");
        let (hub, world, public, private) = runtime.block_on(async {
            let world = FuzzWorld::new();
            let shared: tidegate::world::World = Arc::new(world.clone());
            let keys = keys().in_world(&shared);
            let (disk, sealer) = (Arc::new(FaultyDisk::new()), Arc::new(Sealer::new(&keys)));
            let writer = Writer::Task(Box::new(|| Duration::ZERO));
            let (store, _) = Store::open_with(disk, sealer, Limits::default(), writer).expect("an empty store");
            let (public, public_listener) = door(8080);
            let (private, private_listener) = door(8081);
            let start = Start {
                config,
                world: shared,
                id: HUB,
                incarnation: Incarnation(1),
                keys,
                store,
                public: public_listener,
                private: private_listener,
                public_tls: None,
                private_tls: None,
                private_token: None,
                reports: None,
            };
            (start.run().expect("the hub starts"), world, public, private)
        });
        Self { runtime, hub, world, public, private, inputs: Cell::new(0) }
    }

    /// Does this on the hub's own clock.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Says this over a new connection, and reads the answer until it ends or nothing comes for a while.
    pub async fn exchange(door: &Door, bytes: &[u8]) -> Vec<u8> {
        let mut stream = door.open().await;
        say(&mut stream, bytes).await;
        hear(&mut stream, Duration::from_secs(90)).await
    }

    /// Whether it is still at work, for somebody who has nothing to do with the attack.
    ///
    /// # Panics
    /// When it is not.
    pub async fn must_live(&self) {
        let asked = b"GET /healthz/live HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n";
        let answer = Self::exchange(&self.public, asked).await;
        let shown = String::from_utf8_lossy(&answer);
        assert!(shown.starts_with("HTTP/1.1 200"), "the hub does not live any more: {shown:?}");
    }
}

/// Lends this thread's hub for one input; a fresh one now and then.
pub fn with_bench(
    slot: &'static std::thread::LocalKey<RefCell<Option<Bench>>>,
    flags: &[&str],
    attack: impl FnOnce(&Bench),
) {
    slot.with_borrow_mut(|slot| {
        let bench = slot.get_or_insert_with(|| Bench::new(flags));
        attack(bench);
        bench.inputs.set(bench.inputs.get() + 1);
        if bench.inputs.get() >= INPUTS_PER_HUB {
            *slot = None;
        }
    });
}

/// Writes, as far as the other end takes it.
pub async fn say(stream: &mut DuplexStream, bytes: &[u8]) {
    drop(tokio::time::timeout(Duration::from_secs(60), stream.write_all(bytes)).await);
}

/// Reads until the end, or until nothing came for so long.
pub async fn hear(stream: &mut DuplexStream, quiet: Duration) -> Vec<u8> {
    let (mut heard, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
    while let Ok(Ok(bytes @ 1..)) = tokio::time::timeout(quiet, stream.read(&mut buffer)).await {
        heard.extend_from_slice(&buffer[..bytes]);
    }
    heard
}
