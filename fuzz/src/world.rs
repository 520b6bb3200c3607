//! Surroundings in memory: connections that a target opens byte by byte, and an app that answers what it is told to.

use futures_util::future::BoxFuture;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tidegate::public::stream::Stream;
use tidegate::world::{Accept, Listener, Surroundings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::Duration;

/// What one side of a connection may have written before the other reads.
const PIPE_BYTES: usize = 256 * 1024;
/// When the world begins: a fixed moment, so that every run is the same.
const BEGAN_UNIX_MS: u64 = 1_800_000_000_000;

/// A world whose time is tokio's and whose network is this process.
#[derive(Clone)]
pub struct FuzzWorld {
    began: tokio::time::Instant,
    chance: Arc<Mutex<u64>>,
    /// What the app behind says to whatever it is posted.
    answer: Arc<Mutex<Vec<u8>>>,
}

impl fmt::Debug for FuzzWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FuzzWorld")
    }
}

impl FuzzWorld {
    /// A world that begins now.
    pub fn new() -> Self {
        Self { began: tokio::time::Instant::now(), chance: Arc::new(Mutex::new(1)), answer: Arc::default() }
    }

    /// What the app will answer from now on, byte for byte.
    pub fn app_answers(&self, bytes: &[u8]) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = bytes.to_vec();
    }
}

impl Default for FuzzWorld {
    fn default() -> Self {
        Self::new()
    }
}

impl Surroundings for FuzzWorld {
    fn unix_ms(&self) -> u64 {
        BEGAN_UNIX_MS + self.began.elapsed().as_millis() as u64
    }

    fn fill_random(&self, buffer: &mut [u8]) {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in buffer {
            *chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (*chance >> 33) as u8;
        }
    }

    fn look_up(&self, _host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(vec![SocketAddr::from(([127, 0, 0, 9], port))]) })
    }

    fn connect(&self, host: String, _port: u16) -> BoxFuture<'static, io::Result<Stream>> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            if host != "app" {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (hubs_end, apps_end) = tokio::io::duplex(PIPE_BYTES);
            tokio::spawn(app(apps_end, answer));
            Ok(Stream::Other(Box::new(hubs_end)))
        })
    }

    fn listen(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Listener>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

/// Reads what the hub posts, says its bytes, and closes a moment later.
async fn app(mut stream: DuplexStream, answer: Vec<u8>) {
    let mut bytes = [0; 4096];
    if stream.read(&mut bytes).await.is_err() || stream.write_all(&answer).await.is_err() {
        return;
    }
    let reading = async { while let Ok(1..) = stream.read(&mut bytes).await {} };
    drop(tokio::time::timeout(Duration::from_millis(100), reading).await);
}

/// A door of the hub, from outside: opens connections.
#[derive(Clone, Debug)]
pub struct Door(mpsc::Sender<DuplexStream>);

/// The hub's side of a door.
struct Doorway {
    comers: tokio::sync::Mutex<mpsc::Receiver<DuplexStream>>,
    address: SocketAddr,
}

impl fmt::Debug for Doorway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Doorway({})", self.address)
    }
}

impl Accept for Doorway {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async {
            match self.comers.lock().await.recv().await {
                Some(stream) => Ok((Stream::Other(Box::new(stream)), SocketAddr::from(([127, 0, 0, 1], 4000)))),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A door and the listener behind it.
pub fn door(port: u16) -> (Door, Listener) {
    let (sender, comers) = mpsc::channel(64);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    (Door(sender), Listener::Other(Box::new(Doorway { comers: tokio::sync::Mutex::new(comers), address })))
}

impl Door {
    /// Opens a connection.
    ///
    /// # Panics
    /// When the hub is gone.
    pub async fn open(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        self.0.send(theirs).await.expect("the hub accepts connections");
        ours
    }
}
