//! The private listener: an accept loop with the limits of its own.

use super::body::InTime;
use super::router;
use crate::drain::Caller;
use crate::hub::Hub;
use crate::keys::PrivateToken;
use crate::public::pace::{Paced, Times};
use crate::public::stream::Stream;
use crate::telemetry::Rejected;
use crate::tls::{self, TlsReloader};
use crate::world::Listener;
use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// How long the accept loop rests when the process is out of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Serves the private API until the task is dropped. Beyond `--limit-private-connections` callers wait in
/// the listen queue; what fails for one connection is that connection's alone.
pub async fn serve(hub: Arc<Hub>, listener: Listener, tls: Option<TlsReloader>, token: Option<PrivateToken>) {
    let router = router(hub.clone(), token);
    let room = Arc::new(Semaphore::new(hub.capacity.private as usize));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a private connection");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let (hub, router, tls, others) = (hub.clone(), router.clone(), tls.clone(), room.clone());
        tokio::spawn(async move {
            if let Some(stream) = open(&hub, stream, remote, tls).await {
                converse(&hub, stream, remote, router, others).await;
            }
            drop(permit);
        });
    }
}

async fn open(hub: &Hub, stream: Stream, remote: SocketAddr, tls: Option<TlsReloader>) -> Option<Stream> {
    match tls::accept(stream, tls.as_ref(), hub.config.limits.tls_ms).await {
        Ok(stream) => Some(stream),
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            hub.metrics.rejected.of(Rejected::HandshakeTimeout).increment(1);
            None
        }
        Err(error) => {
            tracing::debug!(%remote, %error, "TLS handshake on the private listener failed");
            None
        }
    }
}

async fn converse(hub: &Hub, stream: Stream, remote: SocketAddr, router: Router, others: Arc<Semaphore>) {
    let limits = &hub.config.limits;
    let is_wanted = Box::new(move || others.available_permits() == 0);
    let (stream, beat) = Paced::new(stream, Times { header_ms: limits.header_ms, idle_ms: limits.idle_ms, is_wanted });
    let body_time = Duration::from_millis(limits.body_ms);
    let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Caller::at(remote));
        beat.request();
        let (router, beat) = (router.clone(), beat.clone());
        async move {
            let answer = router.oneshot(request.map(|body| Body::new(InTime::new(body, body_time)))).await;
            beat.answered();
            answer
        }
    });
    let connection = http1::Builder::new()
        // The stream keeps the times.
        .header_read_timeout(None::<Duration>)
        .max_buf_size(limits.header_bytes.max(8192) as usize)
        .keep_alive(true)
        // Who asks and goes is heard all the same: a trigger whose time is over says its undoing to a hub that stood
        // still, and does not wait. Otherwise a call is dropped when its end is read together with it.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%remote, %error, "private connection ended");
    }
}
