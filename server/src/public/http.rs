//! What of the public listener is plain HTTP: hyper answers it. It can upgrade, too, for requests that came
//! in an unusual way.

use super::pace::{Paced, Times};
use super::stream::{Io, Stream};
use super::upgrade;
use crate::hub::Hub;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Serves one connection until it is upgraded or over. Its first request is here already. Where no place is left
/// among those that may stay open for another one, it is closed after its answer.
pub(super) async fn serve(hub: Arc<Hub>, stream: Stream, remote: SocketAddr) {
    let limits = hub.config.limits;
    let place = hub.entrance.keep_alive();
    let asked = hub.clone();
    let is_wanted = Box::new(move || asked.entrance.is_http_full() || asked.entrance.are_scarce());
    let (stream, beat) = Paced::new(stream, Times { header_ms: limits.header_ms, idle_ms: limits.idle_ms, is_wanted });
    let service = service_fn(move |request| {
        let (hub, beat) = (hub.clone(), beat.clone());
        async move {
            beat.request();
            let answer = upgrade::answer(hub, remote, request).await;
            beat.answered();
            answer
        }
    });
    let connection = http1::Builder::new()
        // The stream keeps the times.
        .header_read_timeout(None::<Duration>)
        .max_buf_size(limits.header_bytes.max(8192) as usize)
        .keep_alive(place.is_some())
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let ended = match place {
        Some(_) => Ok(connection.await),
        None => tokio::time::timeout(Duration::from_millis(limits.close_ms), connection).await,
    };
    if let Ok(Err(error)) = ended {
        tracing::debug!(%remote, %error, "HTTP connection ended");
    }
}

/// A stream that gives `bytes` once more before it goes on.
pub(super) fn again(bytes: Vec<u8>, stream: Stream) -> Stream {
    Stream::Other(Box::new(Again { bytes, given: 0, stream }))
}

struct Again {
    bytes: Vec<u8>,
    given: usize,
    stream: Stream,
}

// `Io` is for whatever reads and writes.
const _: fn() = || {
    fn is_io<T: Io>() {}
    is_io::<Again>();
};

impl AsyncRead for Again {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = &self.bytes[self.given..];
        if left.is_empty() {
            self.bytes = Vec::new();
            self.given = 0;
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        let bytes = left.len().min(into.remaining());
        into.put_slice(&left[..bytes]);
        self.given += bytes;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Again {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_was_read_comes_again_and_then_the_rest() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b" and the rest").await.expect("room");
        drop(far);
        let mut stream = again(b"what was read".to_vec(), Stream::Other(Box::new(near)));
        let mut all = String::new();
        stream.read_to_string(&mut all).await.expect("text");
        assert_eq!(all, "what was read and the rest");
    }
}
