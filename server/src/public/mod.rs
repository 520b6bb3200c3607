//! The public listener: an accept loop of our own, one task per connection from its first byte on, and
//! hyper for what is plain HTTP. Nothing of hyper outlives an upgrade.

mod arriving;
pub mod connection;
pub(crate) mod dropping;
pub mod hello;
mod http;
pub(crate) mod pace;
mod parting;
mod reading;
pub mod stream;
mod upgrade;
mod writing;

use crate::hub::Hub;
use crate::telemetry::Rejected;
use crate::tls::{self, TlsReloader};
use crate::world::Listener;
use connection::Worker;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stream::Stream;
use tokio::sync::OwnedSemaphorePermit;

/// Where clients connect; with `--app` on any other path, too.
pub const CONNECT_PATH: &str = "/connect";
/// How long the accept loop rests when the process is out of descriptors, in milliseconds.
const ACCEPT_REST_MS: u64 = 100;

/// Accepts clients until the task is dropped. What fails for one connection is that connection's alone.
pub async fn serve(hub: Arc<Hub>, listener: Listener, tls: Option<TlsReloader>) {
    loop {
        // A turn is held until all of the request is here; beyond the limit clients wait in the listen queue.
        let Some(permit) = hub.entrance.turn().await else { return };
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(ACCEPT_REST_MS)).await;
                continue;
            }
        };
        let hub = hub.clone();
        match &tls {
            None => drop(tokio::spawn(Worker::new(hub, stream, remote, permit))),
            Some(tls) => {
                let place = Place::take(&hub);
                drop(tokio::spawn(shake_hands(place, stream, remote, permit, tls.clone())));
            }
        }
    }
}

/// The place of a connection that has no task of its own yet.
struct Place(Arc<Hub>);

impl Place {
    fn take(hub: &Arc<Hub>) -> Self {
        hub.entrance.come();
        Self(hub.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.entrance.go();
    }
}

/// TLS first; what then serves the connection is a task of its own, without the handshake in it.
async fn shake_hands(place: Place, stream: Stream, remote: SocketAddr, permit: OwnedSemaphorePermit, tls: TlsReloader) {
    let hub = place.0.clone();
    match tls::accept(stream, Some(&tls), hub.config.limits.tls_ms).await {
        Ok(stream) => drop(tokio::spawn(Worker::new(hub, stream, remote, permit))),
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            hub.metrics.rejected.of(Rejected::HandshakeTimeout).increment(1);
        }
        Err(error) => tracing::debug!(%remote, %error, "TLS handshake failed"),
    }
}
