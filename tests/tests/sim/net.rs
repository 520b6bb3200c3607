//! The surroundings of a simulated hub: turmoil's clock and network, and chance from the seed.

use crate::chance::Chance;
use futures_util::future::BoxFuture;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidegate::public::stream::Stream;
use tidegate::world::{Accept, Listener, Surroundings};
use tidegate_protocol::id::SessionId;
use turmoil::net::{TcpListener, TcpStream};

/// When every simulation begins: some day in 2027.
pub(crate) fn epoch() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// The time of day in the simulation, in milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = epoch().duration_since(UNIX_EPOCH).unwrap_or_default() + turmoil::sim_elapsed().unwrap_or_default();
    since.as_millis() as u64
}

/// What one run of one hub stands in.
#[derive(Debug)]
pub(crate) struct SimWorld {
    chance: Mutex<Chance>,
    snapshot_versions: &'static [u32],
    touched: Touched,
}

/// The sessions of one machine that took a step since somebody looked.
pub(crate) type Touched = Arc<Mutex<BTreeSet<SessionId>>>;

impl SimWorld {
    pub(crate) fn new(chance: Chance, snapshot_versions: &'static [u32], touched: Touched) -> Self {
        Self { chance: Mutex::new(chance), snapshot_versions, touched }
    }
}

/// Resolves a host of the simulation.
pub(crate) fn resolve(host: &str) -> IpAddr {
    host.parse().unwrap_or_else(|_| turmoil::lookup(host))
}

impl Surroundings for SimWorld {
    fn unix_ms(&self) -> u64 {
        unix_ms()
    }

    fn fill_random(&self, buffer: &mut [u8]) {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).fill(buffer);
    }

    fn look_up(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(vec![SocketAddr::new(resolve(&host), port)]) })
    }

    fn connect(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Stream>> {
        Box::pin(async move {
            let tcp = TcpStream::connect((resolve(&host), port)).await?;
            Ok(Stream::Other(Box::new(tcp)))
        })
    }

    fn snapshot_versions(&self) -> &'static [u32] {
        self.snapshot_versions
    }

    fn stepped(&self, session: SessionId) {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).insert(session);
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Listener>> {
        Box::pin(async move { Ok(Listener::Other(Box::new(SimListener(TcpListener::bind(address).await?)))) })
    }
}

struct SimListener(TcpListener);

impl std::fmt::Debug for SimListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimListener")
    }
}

impl Accept for SimListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async move {
            let (tcp, remote) = self.0.accept().await?;
            Ok((Stream::Other(Box::new(tcp) as _), remote))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
