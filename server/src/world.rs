//! What a hub does not make by itself: the time of day, chance, names, and bytes to and from elsewhere.
//!
//! A hub in production has [`SystemWorld`]; a simulation brings one of its own, and the same hub then
//! runs in simulated time over a simulated network. Waiting needs no entry here, for it always goes
//! through tokio's clock, and files have [`crate::store::Disk`].

mod listeners;

use crate::public::stream::Stream;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidegate_protocol::id::SessionId;
use tidegate_protocol::peer::SNAPSHOT_VERSIONS;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that the kernel may hold for us: at 5,000 a second it outlasts a stall of 0.8 s.
pub const BACKLOG: u32 = 4096;

/// The surroundings of one hub. Shared by all of its parts.
pub type World = Arc<dyn Surroundings>;

/// What surroundings must offer.
pub trait Surroundings: fmt::Debug + Send + Sync + 'static {
    /// The time of day, in milliseconds since 1970. It may jump; nothing is measured by it.
    fn unix_ms(&self) -> u64;

    /// Fills a buffer with random bytes, good enough for keys.
    fn fill_random(&self, buffer: &mut [u8]);

    /// All addresses of a host, with this port.
    fn look_up(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

    /// A connection to a host (a name, or an address without brackets) and a port.
    fn connect(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Stream>>;

    /// A listener on an address; port 0 is any free one.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Listener>>;

    /// Who listens on this port of this machine, by names that the system gives to nobody else while they live; empty
    /// where that cannot be told. May block for as long as a table in memory takes to be read.
    fn listeners_at(&self, port: u16) -> Vec<u64> {
        let _ = port;
        Vec::new()
    }

    /// The formats in which this hub tells peers of sessions and reads what they tell, oldest first: all that
    /// this build knows. A simulation has hubs of the release before among its fleets.
    fn snapshot_versions(&self) -> &'static [u32] {
        &SNAPSHOT_VERSIONS
    }

    /// A session of this hub took a step. For whoever watches all hubs of a simulation.
    fn stepped(&self, session: SessionId) {
        let _ = session;
    }
}

/// The system's clock, random source and network.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemWorld;

/// A world that is the system's.
pub fn system() -> World {
    Arc::new(SystemWorld)
}

impl Surroundings for SystemWorld {
    fn unix_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    fn fill_random(&self, buffer: &mut [u8]) {
        crate::keys::fill_random(buffer);
    }

    fn look_up(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }

    fn connect(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Stream>> {
        Box::pin(async move {
            let tcp = TcpStream::connect((host, port)).await?;
            tcp.set_nodelay(true)?;
            Ok(Stream::Tcp(tcp))
        })
    }

    fn listeners_at(&self, port: u16) -> Vec<u64> {
        listeners::at(port)
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Listener>> {
        Box::pin(async move {
            // With the backlog that a reconnect storm needs.
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(Listener::Tcp(socket.listen(BACKLOG)?))
        })
    }
}

/// Where connections come in.
#[derive(Debug)]
pub enum Listener {
    /// Plain TCP.
    Tcp(TcpListener),
    /// Any other.
    Other(Box<dyn Accept>),
}

/// A listener that is not the system's.
pub trait Accept: fmt::Debug + Send + Sync + 'static {
    /// The next connection, and where it comes from. May be dropped at any moment without a loss.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>>;

    /// Where it listens.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl Listener {
    /// The next connection, and where it comes from.
    ///
    /// # Errors
    /// What the system says, for instance that it is out of descriptors.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (tcp, remote) = listener.accept().await?;
                // A failure here (the other side is gone already) shows at the first read.
                drop(tcp.set_nodelay(true));
                Ok((Stream::Tcp(tcp), remote))
            }
            Self::Other(listener) => listener.accept().await,
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Other(listener) => listener.local_addr(),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

/// Connects hyper's client by way of a world, within a limit.
#[derive(Clone, Debug)]
pub struct Way {
    world: World,
    within: Duration,
}

impl Way {
    /// Connections of this world that take at most `within_ms` milliseconds.
    pub fn new(world: World, within_ms: u64) -> Self {
        Self { world, within: Duration::from_millis(within_ms) }
    }
}

impl tower::Service<Uri> for Way {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Stream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let (host, port) = host_and_port(&url);
        let (connecting, within) = (self.world.connect(host, port), self.within);
        Box::pin(async move {
            match tokio::time::timeout(within, connecting).await {
                Ok(stream) => Ok(TokioIo::new(stream?)),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// Host (without brackets) and port of a URL; the port is the scheme's if none is given.
pub fn host_and_port(url: &Uri) -> (String, u16) {
    let secure = matches!(url.scheme_str(), Some("https" | "wss"));
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    (host.to_owned(), url.port_u16().unwrap_or(if secure { 443 } else { 80 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_not_given_is_the_schemes() {
        let of = |url: &str| host_and_port(&url.parse().expect("a URL"));
        assert_eq!(of("http://a/x"), ("a".to_owned(), 80));
        assert_eq!(of("wss://a"), ("a".to_owned(), 443));
        assert_eq!(of("https://[::1]:7/x"), ("::1".to_owned(), 7));
    }

    #[tokio::test]
    async fn a_connection_of_the_system_reaches_a_listener_of_the_system() {
        let world = system();
        let listener = world.listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (dialled, accepted) = tokio::join!(world.connect("127.0.0.1".to_owned(), port), listener.accept());
        assert!(dialled.is_ok());
        assert!(accepted.expect("a connection").1.ip().is_loopback());
    }
}
