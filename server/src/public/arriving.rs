//! A connection's first bytes. A plain upgrade is answered right here, by the task that will serve the
//! session; anything else (health, refusals, a request that comes in an unusual way) goes to hyper, with
//! what was read put back in front of it.

use super::connection::{End, Life, Request as Asked, Worker};
use super::pace::{GRACE, LOOK_EVERY};
use super::{http, upgrade};
use crate::hub::Hub;
use crate::ws::{self, Reader, Role};
use ::http::{HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Headers that a plain upgrade may have.
const HEADERS_MAX: usize = 64;

/// A connection of which nothing is known yet.
pub(super) struct Arrival {
    /// When the clock is looked at.
    pub(super) until: Instant,
    /// When its time is over in any case.
    end: Instant,
    pub(super) remote: SocketAddr,
    /// Its turn among the half-open ones; given back when all of the request is here.
    _permit: OwnedSemaphorePermit,
    /// What of the request has come.
    bytes: Vec<u8>,
}

impl Arrival {
    pub(super) fn new(hub: &Hub, remote: SocketAddr, permit: OwnedSemaphorePermit) -> Self {
        let now = Instant::now();
        let end = now + Duration::from_millis(hub.config.limits.header_ms);
        Self { until: end.min(now + GRACE), end, remote, _permit: permit, bytes: Vec::new() }
    }

    /// Whether it is waited for any longer: as long as its time lasts, unless others wait for its turn.
    pub(super) fn has_patience(&mut self, hub: &Hub) -> bool {
        let now = Instant::now();
        self.until = self.end.min(now + LOOK_EVERY);
        now < self.end && !hub.entrance.are_scarce()
    }
}

/// What came, looked at.
enum Came {
    /// Not all of the request yet.
    Part,
    /// An upgrade that may have a session: the answer's key, what of it belongs to the session, and how long
    /// the request was.
    Upgrade(String, Asked, usize),
    /// Something for hyper.
    Other,
}

impl Worker {
    /// Reads the request and answers it. Ready: the connection's next state is set, or it is over.
    pub(super) fn arrive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let Self { hub, conn, life, reader, .. } = self;
        ws::with_read_buffer(|buffer| {
            loop {
                let Life::Arriving(arrival) = &mut *life else { return Poll::Ready(Ok(())) };
                let bytes = match ready!(conn.line().socket.poll_read(cx, buffer)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(End::Gone)),
                    Ok(bytes) => &buffer[..bytes],
                };
                // Nearly always the request is one packet, and is never copied.
                let all = if arrival.bytes.is_empty() {
                    Cow::Borrowed(bytes)
                } else {
                    arrival.bytes.extend_from_slice(bytes);
                    Cow::Owned(std::mem::take(&mut arrival.bytes))
                };
                match look(hub, &all, arrival.remote) {
                    Came::Part if (all.len() as u64) < hub.config.limits.header_bytes => {
                        arrival.bytes = all.into_owned();
                        continue;
                    }
                    Came::Upgrade(accept, asked, head_bytes) => {
                        *reader = Reader::new(Role::Server, all[head_bytes..].to_vec());
                        conn.line().socket.put(answer(&accept).as_bytes());
                        hub.register(conn.clone());
                        let until = Instant::now() + Duration::from_millis(hub.config.limits.hello_ms);
                        *life = Life::Waiting { until, request: Box::new(asked) };
                    }
                    Came::Part | Came::Other => {
                        let Some(stream) = conn.line().socket.take() else { return Poll::Ready(Err(End::Gone)) };
                        let (stream, remote) = (http::again(all.into_owned(), stream), arrival.remote);
                        *life = Life::Parting(Box::pin(http::serve(hub.clone(), stream, remote)));
                    }
                }
                return Poll::Ready(Ok(()));
            }
        })
    }
}

fn look(hub: &Hub, bytes: &[u8], remote: SocketAddr) -> Came {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let head_bytes = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return Came::Part,
        Err(_) => return Came::Other,
    };
    let Some(request) = plain(&parsed) else { return Came::Other };
    match upgrade::accepted(hub, &request) {
        Some(accept) => Came::Upgrade(accept, upgrade::asked(hub, &request, remote), head_bytes),
        None => Came::Other,
    }
}

/// The request as the rest of the hub reads it; none if hyper should look at it.
fn plain(parsed: &httparse::Request<'_, '_>) -> Option<Request<()>> {
    if parsed.method != Some("GET") || parsed.version != Some(1) {
        return None;
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = parsed.path?.parse::<Uri>().ok()?;
    let headers = request.headers_mut();
    for one in parsed.headers.iter() {
        let name = HeaderName::from_bytes(one.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(one.value).ok()?);
    }
    let has_body = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    (!has_body && headers.contains_key(header::HOST)).then_some(request)
}

fn answer(accept: &str) -> String {
    let protocol = tidegate_protocol::frame::SUBPROTOCOL;
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\nsec-websocket-protocol: {protocol}\r\n\r\n"
    )
}
