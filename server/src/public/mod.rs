//! The public listener: an accept loop of our own, hyper for the HTTP part of a connection, then the
//! bare stream to the WebSocket. Nothing of hyper outlives the upgrade.

pub mod connection;
pub mod hello;
pub mod stream;
mod upgrade;
mod wire;

use crate::hub::Hub;
use crate::telemetry::Rejected;
use crate::tls::TlsReloader;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stream::Stream;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

/// Where clients connect; with `--app` on any other path, too.
pub const CONNECT_PATH: &str = "/connect";
/// Connections that the kernel may hold for us: at 5,000 a second it outlasts a stall of 0.8 s.
pub const BACKLOG: u32 = 4096;
/// How long the accept loop rests when the process is out of descriptors, in milliseconds.
const ACCEPT_REST_MS: u64 = 100;

/// Binds a listener with the backlog that a reconnect storm needs.
///
/// # Errors
/// What the system says, for instance that the address is in use.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts clients until the task is dropped. What fails for one connection is that connection's alone.
pub async fn serve(hub: Arc<Hub>, listener: TcpListener, tls: Option<TlsReloader>) {
    let half_open = Arc::new(Semaphore::new(hub.config.limits.half_open as usize));
    loop {
        // A permit is held until the upgrade is done; beyond the limit clients wait in the listen queue.
        let Ok(permit) = half_open.clone().acquire_owned().await else { return };
        let (tcp, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(ACCEPT_REST_MS)).await;
                continue;
            }
        };
        let (hub, tls) = (hub.clone(), tls.clone());
        tokio::spawn(async move {
            let http = open(&hub, tcp, remote, tls);
            http.await;
            drop(permit);
        });
    }
}

async fn open(hub: &Arc<Hub>, tcp: TcpStream, remote: SocketAddr, tls: Option<TlsReloader>) {
    // A failure here (the peer is gone already) shows at the first read.
    drop(tcp.set_nodelay(true));
    let stream = match tls {
        None => Stream::Tcp(tcp),
        Some(tls) => {
            let handshake = tokio_rustls::TlsAcceptor::from(tls.current()).accept(tcp);
            match tokio::time::timeout(Duration::from_millis(hub.config.limits.tls_ms), handshake).await {
                Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                Ok(Err(error)) => return tracing::debug!(%remote, %error, "TLS handshake failed"),
                Err(_) => return hub.metrics.rejected.of(Rejected::HandshakeTimeout).increment(1),
            }
        }
    };
    let service = {
        let hub = hub.clone();
        service_fn(move |request| upgrade::answer(hub.clone(), remote, request))
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(hub.config.limits.header_ms))
        .max_buf_size(hub.config.limits.header_bytes.max(8192) as usize)
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%remote, %error, "HTTP connection ended");
    }
}
