//! The public listener: an accept loop of our own, hyper for the HTTP part of a connection, then the
//! bare stream to the WebSocket. Nothing of hyper outlives the upgrade.

pub mod connection;
pub mod hello;
pub mod stream;
mod upgrade;
mod wire;

use crate::hub::Hub;
use crate::telemetry::Rejected;
use crate::tls::{self, TlsReloader};
use crate::world::Listener;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stream::Stream;
use tokio::sync::Semaphore;

/// Where clients connect; with `--app` on any other path, too.
pub const CONNECT_PATH: &str = "/connect";
/// How long the accept loop rests when the process is out of descriptors, in milliseconds.
const ACCEPT_REST_MS: u64 = 100;

/// Accepts clients until the task is dropped. What fails for one connection is that connection's alone.
pub async fn serve(hub: Arc<Hub>, listener: Listener, tls: Option<TlsReloader>) {
    let half_open = Arc::new(Semaphore::new(hub.config.limits.half_open as usize));
    loop {
        // A permit is held until the upgrade is done; beyond the limit clients wait in the listen queue.
        let Ok(permit) = half_open.clone().acquire_owned().await else { return };
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(ACCEPT_REST_MS)).await;
                continue;
            }
        };
        let (hub, tls) = (hub.clone(), tls.clone());
        tokio::spawn(async move {
            let http = open(&hub, stream, remote, tls);
            http.await;
            drop(permit);
        });
    }
}

async fn open(hub: &Arc<Hub>, stream: Stream, remote: SocketAddr, tls: Option<TlsReloader>) {
    let stream = match tls::accept(stream, tls.as_ref(), hub.config.limits.tls_ms).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            return hub.metrics.rejected.of(Rejected::HandshakeTimeout).increment(1);
        }
        Err(error) => return tracing::debug!(%remote, %error, "TLS handshake failed"),
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
