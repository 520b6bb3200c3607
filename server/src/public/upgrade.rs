//! The HTTP part of a client connection: health, and the upgrade with its refusals.

use super::CONNECT_PATH;
use super::connection::{self, Request as Asked};
use super::pace::Paced;
use crate::hub::Hub;
use crate::telemetry::Rejected;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use std::borrow::Cow;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tidegate_protocol::app::{PathFault, fault_of_path};
use tidegate_protocol::control::{Problem, WhenDraining};
use tidegate_protocol::frame::SUBPROTOCOL;
use tidegate_protocol::session::headers::Headers;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

type Answer = Response<Full<Bytes>>;

/// What a refused client should wait, in seconds.
const RETRY_AFTER_S: &str = "2";
/// What a client's key decodes to.
const KEY_BYTES: usize = 16;
/// Request headers that the app gets to see, and that move with the session.
const HEADERS_KEPT: [&str; 5] = ["cookie", "origin", "user-agent", "accept-language", "x-forwarded-proto"];
/// The same, with the address behind it from which the request came.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Answers one request of the public listener.
pub(super) async fn answer(
    hub: Arc<Hub>,
    remote: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    if request.method() == Method::GET
        && let Some(answer) = health(&hub, request.uri())
    {
        return Ok(answer);
    }
    if let Some(answer) = misaddressed(&request) {
        return Ok(answer);
    }
    if let Some(obstacle) = obstacle(&hub, &request) {
        return Ok(refusal(&hub, obstacle));
    }
    let accept = key(request.headers()).and_then(|key| HeaderValue::from_str(&derive_accept_key(key)).ok());
    let Some(accept) = accept else { return Ok(refusal(&hub, Obstacle::Key)) };
    let asked = asked(&hub, &request, remote);
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => upgraded_to(&hub, upgraded, asked),
            Err(error) => tracing::debug!(%remote, %error, "upgrade failed"),
        }
    });
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(answer)
}

fn upgraded_to(hub: &Arc<Hub>, upgraded: hyper::upgrade::Upgraded, asked: Asked) {
    let Ok(parts) = upgraded.downcast::<TokioIo<Paced>>() else {
        return tracing::error!("an upgraded connection is not the stream that was accepted");
    };
    // Copied out: one captured empty slice would keep hyper's 8 KiB buffer alive for the whole connection.
    let early = parts.read_buf.to_vec();
    drop(parts.read_buf);
    // A task of its own, so that nothing of the HTTP part stays on its stack.
    let stream = parts.io.into_inner().into_inner();
    tokio::spawn(connection::Worker::upgraded(hub.clone(), stream, early, asked));
}

/// The key of the answer, if this request becomes a client's connection.
pub(super) fn accepted<B>(hub: &Hub, request: &Request<B>) -> Option<String> {
    if is_health(request.uri()) || obstacle(hub, request).is_some() {
        return None;
    }
    key(request.headers()).map(derive_accept_key)
}

/// The client's key, if it is the base64 of 16 bytes (RFC 6455, 4.2.1).
fn key(headers: &HeaderMap) -> Option<&[u8]> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes();
    // Room for a little more: a longer one is told from a right one by its length.
    let mut nonce = [0; 24];
    (STANDARD.decode_slice(key, &mut nonce) == Ok(KEY_BYTES)).then_some(key)
}

fn is_health(uri: &Uri) -> bool {
    matches!(uri.path(), "/healthz/live" | "/healthz/ready")
}

/// `/healthz/live` and `/healthz/ready`, as the private listener answers them; here in plain words.
fn health(hub: &Hub, uri: &Uri) -> Option<Answer> {
    match uri.path() {
        "/healthz/live" => Some(text(StatusCode::OK, "live")),
        "/healthz/ready" => Some(ready(hub, uri.query().unwrap_or_default())),
        _ => None,
    }
}

fn ready(hub: &Hub, query: &str) -> Answer {
    let asked = match WhenDraining::asked_in(query) {
        Ok(asked) => asked,
        Err(wrong) => return text(StatusCode::BAD_REQUEST, wrong),
    };
    let readiness = hub.readiness();
    let status = readiness.status(asked.unwrap_or_else(|| hub.when_draining()));
    text(StatusCode::from_u16(status).expect("200, 404 or 503"), readiness.words())
}

/// Somebody took the public listener for the private one: a call of the private API that is no upgrade.
/// As that API would say it, so that its callers show it. The private address is nobody's business here.
fn misaddressed(request: &Request<Incoming>) -> Option<Answer> {
    const PRIVATE: [&str; 3] = ["/v1/", "/peer/v1/", "/metrics"];
    let path = request.uri().path();
    if !PRIVATE.iter().any(|start| path.starts_with(start)) || request.headers().contains_key(header::UPGRADE) {
        return None;
    }
    let detail = format!(
        "{path} is a call of the private API, and this is the hub's public listener, where clients connect: \
         use the address of --private (of the trigger: --hub)"
    );
    let problem = Problem::new(421, "public-listener", "Wrong listener", detail);
    let mut answer = Response::new(Full::from(serde_json::to_vec(&problem).expect("a plain struct")));
    *answer.status_mut() = StatusCode::MISDIRECTED_REQUEST;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(Problem::CONTENT_TYPE));
    Some(answer)
}

/// Why a request does not become a client's connection.
enum Obstacle {
    Elsewhere,
    Path(PathFault),
    NoUpgrade,
    Version,
    Key,
    Subprotocol,
    Origin,
    Full,
}

/// What stands in the way of this request; none: it becomes a client's connection.
fn obstacle<B>(hub: &Hub, request: &Request<B>) -> Option<Obstacle> {
    if hub.config.app.is_none() && request.uri().path() != CONNECT_PATH {
        return Some(Obstacle::Elsewhere);
    }
    if let Some(app) = &hub.config.app
        && let Some(fault) = fault_of_path(request.uri().path(), crate::app::is_under_path(app))
    {
        return Some(Obstacle::Path(fault));
    }
    let headers = request.headers();
    if request.method() != Method::GET
        || !has_token(headers, header::UPGRADE, "websocket")
        || !has_token(headers, header::CONNECTION, "upgrade")
    {
        return Some(Obstacle::NoUpgrade);
    }
    if !has_token(headers, header::SEC_WEBSOCKET_VERSION, "13") {
        return Some(Obstacle::Version);
    }
    if key(headers).is_none() {
        return Some(Obstacle::Key);
    }
    if !has_token(headers, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Some(Obstacle::Subprotocol);
    }
    if !origin_allowed(hub, headers) {
        return Some(Obstacle::Origin);
    }
    (!hub.has_room()).then_some(Obstacle::Full)
}

/// Turns a request away, and counts it.
fn refusal(hub: &Hub, obstacle: Obstacle) -> Answer {
    let with = |mut answer: Answer, name: header::HeaderName, value: &'static str| {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
        answer
    };
    let count = |why: Rejected| hub.metrics.rejected.of(why).increment(1);
    match obstacle {
        Obstacle::Elsewhere => {
            refuse(StatusCode::NOT_FOUND, "clients connect to /connect here (with --app, to any path)")
        }
        Obstacle::Path(fault) => {
            count(Rejected::Path);
            refuse(StatusCode::BAD_REQUEST, fault.sentence())
        }
        Obstacle::NoUpgrade => {
            let sentence = "this is a WebSocket endpoint: send GET with Upgrade: websocket";
            with(refuse(StatusCode::UPGRADE_REQUIRED, sentence), header::UPGRADE, "websocket")
        }
        Obstacle::Version => {
            let sentence = "only Sec-WebSocket-Version: 13 is spoken here";
            with(refuse(StatusCode::BAD_REQUEST, sentence), header::SEC_WEBSOCKET_VERSION, "13")
        }
        Obstacle::Key => refuse(StatusCode::BAD_REQUEST, "expected a Sec-WebSocket-Key of 16 bytes in base64"),
        Obstacle::Subprotocol => {
            count(Rejected::Subprotocol);
            let sentence =
                "offer the subprotocol tidegate.v1: sessions need a client that speaks it, such as tidegate-client";
            refuse(StatusCode::BAD_REQUEST, sentence)
        }
        Obstacle::Origin => {
            count(Rejected::Origin);
            refuse(StatusCode::FORBIDDEN, "this Origin is not among --allowed-origin")
        }
        Obstacle::Full => {
            count(Rejected::Sessions);
            hub.peers.turned_away();
            let sentence = "this hub is full; come back after Retry-After";
            with(refuse(StatusCode::SERVICE_UNAVAILABLE, sentence), header::RETRY_AFTER, RETRY_AFTER_S)
        }
    }
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(wanted))
}

fn origin_allowed(hub: &Hub, headers: &HeaderMap) -> bool {
    let allowed = &hub.config.allowed_origins;
    match headers.get(header::ORIGIN) {
        _ if allowed.is_empty() => true,
        // Programs that are not browsers send none.
        None => true,
        Some(origin) => origin.to_str().is_ok_and(|origin| allowed.iter().any(|one| one.eq_ignore_ascii_case(origin))),
    }
}

/// What of the request belongs to the session. Headers are kept for the app alone, so without one they cost nothing.
pub(super) fn asked<B>(hub: &Hub, request: &Request<B>, remote: SocketAddr) -> Asked {
    let headers = if hub.config.app.is_some() || hub.config.app_events.is_some() {
        kept(hub, request.headers(), remote)
    } else {
        Headers::default()
    };
    let bearer =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    Asked {
        path: request.uri().path().to_owned(),
        query: request.uri().query().map(str::to_owned),
        headers,
        bearer: bearer.map(|jwt| tidegate_protocol::id::ResumeToken(jwt.to_owned())),
        half_hello: None,
    }
}

/// All values of each, in their order and as the bytes that they are.
fn kept(hub: &Hub, headers: &HeaderMap, remote: SocketAddr) -> Headers {
    for name in headers.keys().map(header::HeaderName::as_str).filter(|name| is_left_out(name)) {
        crate::app::left_out(hub, name);
    }
    let mut kept: Vec<(&str, Cow<'_, [u8]>)> = Vec::new();
    for name in HEADERS_KEPT {
        kept.extend(headers.get_all(name).iter().map(|value| (name, Cow::Borrowed(value.as_bytes()))));
    }
    let before = headers.get_all(FORWARDED_FOR).iter().map(|value| value.as_bytes().to_vec());
    let through: Vec<Vec<u8>> = before.chain([remote.ip().to_string().into_bytes()]).collect();
    kept.push((FORWARDED_FOR, Cow::Owned(through.join(&b", "[..]))));
    if let Some(host) = headers.get(header::HOST) {
        kept.push(("x-forwarded-host", Cow::Borrowed(host.as_bytes())));
    }
    kept.into_iter().collect()
}

/// Whether an app might miss it: it does not pass, and is no matter between the client and this hub.
fn is_left_out(name: &str) -> bool {
    const OURS: [&str; 14] = [
        "host",
        "connection",
        "upgrade",
        "keep-alive",
        "te",
        "pragma",
        "cache-control",
        "accept",
        "accept-encoding",
        "dnt",
        "priority",
        "origin-agent-cluster",
        "upgrade-insecure-requests",
        "content-length",
    ];
    let is_known = HEADERS_KEPT.contains(&name) || name == FORWARDED_FOR || OURS.contains(&name);
    !is_known && !["sec-", "proxy-"].iter().any(|start| name.starts_with(start))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn refuse(status: StatusCode, sentence: &'static str) -> Answer {
    text(status, sentence)
}
