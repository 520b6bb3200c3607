//! Dialling the app: TCP, TLS for `wss`, and the upgrade with the client's path, query, cookies and
//! subprotocols.

use super::socket::AppSocket;
use crate::hub::Hub;
use crate::message::Message;
use crate::public::stream::Stream;
use crate::telemetry::DialResult;
use crate::world::host_and_port;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::time::Duration;
use tidegate_protocol::id::SessionId;
use tidegate_protocol::session::record::{Profile, Record};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Why the app's socket is not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// It answered, but not with a WebSocket.
    #[error("the app answered {0} instead of 101 to the WebSocket upgrade")]
    Refused(StatusCode),
    /// It answered with an upgrade that breaks the protocol.
    #[error("the app's upgrade is wrong: {0}")]
    Invalid(&'static str),
    /// It could not be reached.
    #[error("the app cannot be reached: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("the app did not answer within {0} ms")]
    Late(u64),
}

impl DialError {
    /// Whether another try cannot help: the app looked at this session and will not have it.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Refused(status) if is_final(*status))
    }

    fn result(&self) -> DialResult {
        match self {
            Self::Refused(_) | Self::Invalid(_) => DialResult::Refused,
            Self::Unreachable(_) => DialResult::Unreachable,
            Self::Late(_) => DialResult::Timeout,
        }
    }
}

/// Whether a status says "never" rather than "not now".
pub(super) fn is_final(status: StatusCode) -> bool {
    const TOO_EARLY: u16 = 425;
    let later =
        matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) || status.as_u16() == TOO_EARLY;
    status.is_client_error() && !later
}

/// An open socket, and the subprotocol that the app chose.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) socket: AppSocket,
    pub(super) protocol: Option<String>,
}

/// The upgrade request for a session as it is now.
///
/// # Errors
/// The client's path does not fit behind the app's address.
pub(super) fn request(
    hub: &Hub,
    app: &Uri,
    session: SessionId,
    record: &Record<Message>,
    resumed: bool,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut request = Request::builder().uri(target(app, &record.profile)).body(Empty::new())?;
    let headers = request.headers_mut();
    for (name, value) in record.profile.headers.iter() {
        put(headers, name, value.as_bytes());
    }
    if !headers.contains_key("x-forwarded-proto") {
        let scheme = if hub.config.public_tls.is_some() { "https" } else { "http" };
        put(headers, "x-forwarded-proto", scheme.as_bytes());
    }
    put(headers, "host", app.authority().map_or(&b""[..], |authority| authority.as_str().as_bytes()));
    put(headers, "connection", b"Upgrade");
    put(headers, "upgrade", b"websocket");
    put(headers, "sec-websocket-version", b"13");
    put(headers, "sec-websocket-key", STANDARD.encode(hub.random().to_le_bytes()).as_bytes());
    // Who resumes keeps the subprotocol that was chosen first: its client was told so long ago.
    let offered =
        if resumed { record.profile.protocol.clone().unwrap_or_default() } else { record.profile.protocols.join(", ") };
    if !offered.is_empty() {
        put(headers, "sec-websocket-protocol", offered.as_bytes());
    }
    put(headers, "tidegate-session", session.to_string().as_bytes());
    if let Some(user) = &record.profile.user {
        put(headers, "tidegate-user", user.as_bytes());
    }
    put(headers, "tidegate-resumed", if resumed { b"1" } else { b"0" });
    put(headers, "tidegate-api", hub.private_url().as_bytes());
    put(headers, "tidegate-epoch", record.epoch.0.to_string().as_bytes());
    put(headers, "tidegate-offset", record.taken().0.to_string().as_bytes());
    Ok(request)
}

/// A value that no header may carry (a user with a line break) is left out and told.
fn put(headers: &mut HeaderMap, name: &str, value: &[u8]) {
    match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
        (Ok(name), Ok(value)) => drop(headers.insert(name, value)),
        _ => tracing::warn!(
            name,
            "this header cannot be sent to the app: its value has characters that no header may have"
        ),
    }
}

/// The app's path, then the client's, then the client's query.
fn target(app: &Uri, profile: &Profile) -> String {
    let path = profile.path.as_deref().unwrap_or(crate::public::CONNECT_PATH);
    let query = profile.query.as_deref().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}{path}{query}", app.path().trim_end_matches('/'))
}

/// Dials once. Waits its turn among `--limit-app-dials`, then takes at most `--limit-app-dial-time`.
///
/// # Errors
/// See [`DialError`]; each is counted.
pub(super) async fn dial(hub: &Hub, request: Request<Empty<Bytes>>) -> Result<Dialled, DialError> {
    let within_ms = hub.config.limits.app_dial_ms;
    // The semaphore is never closed; without a permit the dial would only be less bounded.
    let _turn = hub.app.dials.acquire().await;
    let dialled = match tokio::time::timeout(Duration::from_millis(within_ms), connect(hub, request)).await {
        Ok(dialled) => dialled,
        Err(_) => Err(DialError::Late(within_ms)),
    };
    let result = dialled.as_ref().map_or_else(DialError::result, |_| DialResult::Ok);
    hub.metrics.app_dials.of(result).increment(1);
    dialled
}

async fn connect(hub: &Hub, request: Request<Empty<Bytes>>) -> Result<Dialled, DialError> {
    let unreachable = |error: &dyn std::fmt::Display| DialError::Unreachable(error.to_string());
    let Some(app) = &hub.config.app else { return Err(DialError::Unreachable("no --app is set".into())) };
    let (host, port) = host_and_port(app);
    let stream = hub.world.connect(host.clone(), port).await.map_err(|error| unreachable(&error))?;
    let stream = match (&hub.app.tls, app.scheme_str() == Some("wss")) {
        (Some(tls), true) => {
            let name = ServerName::try_from(host).map_err(|error| unreachable(&error))?;
            let tls = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream).await;
            Stream::Other(Box::new(tls.map_err(|error| unreachable(&error))?))
        }
        (None, true) => return Err(DialError::Unreachable("TLS is not set up".into())),
        (_, false) => stream,
    };
    upgrade(hub, stream, request).await
}

/// The HTTP part; nothing of hyper outlives it.
async fn upgrade(hub: &Hub, stream: Stream, request: Request<Empty<Bytes>>) -> Result<Dialled, DialError> {
    let broken = |error: hyper::Error| DialError::Unreachable(error.to_string());
    let accept = request
        .headers()
        .get(header::SEC_WEBSOCKET_KEY)
        .map(|key| derive_accept_key(key.as_bytes()))
        .unwrap_or_default();
    let offered = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL).cloned();
    let max_bytes = hub.config.limits.header_bytes as usize;
    let handshake =
        http1::Builder::new().title_case_headers(true).max_buf_size(max_bytes).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(broken)?;
    // It ends with the upgrade, or when `sender` goes.
    tokio::spawn(connection.with_upgrades());
    let mut response = sender.send_request(request).await.map_err(broken)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(DialError::Refused(response.status()));
    }
    if response.headers().get(header::SEC_WEBSOCKET_ACCEPT).is_none_or(|value| value.as_bytes() != accept.as_bytes()) {
        return Err(DialError::Invalid("Sec-WebSocket-Accept does not belong to the key that was sent"));
    }
    let protocol = chosen(response.headers(), offered.as_ref())?;
    let upgraded = hyper::upgrade::on(&mut response).await.map_err(broken)?;
    let Ok(parts) = upgraded.downcast::<TokioIo<Stream>>() else {
        return Err(DialError::Invalid("the upgraded connection is not the stream that was dialled"));
    };
    // Copied out: a captured slice would keep hyper's buffer alive for the whole connection.
    let early = parts.read_buf.to_vec();
    drop(parts.read_buf);
    Ok(Dialled { socket: AppSocket::new(parts.io.into_inner(), early), protocol })
}

/// The app's choice. None is fine, one that was not offered is not.
fn chosen(headers: &HeaderMap, offered: Option<&HeaderValue>) -> Result<Option<String>, DialError> {
    let Some(chosen) = headers.get(header::SEC_WEBSOCKET_PROTOCOL) else { return Ok(None) };
    let offered = offered.and_then(|offered| offered.to_str().ok()).unwrap_or_default();
    match chosen.to_str() {
        Ok(chosen) if offered.split(',').any(|one| one.trim() == chosen) => Ok(Some(chosen.to_owned())),
        Ok(_) | Err(_) => Err(DialError::Invalid("it chose a subprotocol that the client did not offer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_path_and_query_stand_behind_the_apps_path() {
        let profile = Profile { path: Some("/room/1".into()), query: Some("a=b".into()), ..Profile::default() };
        let target = |app: &str| target(&app.parse().expect("a URL"), &profile);
        assert_eq!(target("ws://app:3000"), "/room/1?a=b");
        assert_eq!(target("ws://app:3000/"), "/room/1?a=b");
        assert_eq!(target("ws://app:3000/base/"), "/base/room/1?a=b");
    }

    #[test]
    fn only_a_choice_among_the_offered_subprotocols_is_taken() {
        let headers = |chosen: &'static str| {
            HeaderMap::from_iter([(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen))])
        };
        let offered = HeaderValue::from_static("chat, v2.chat");
        assert_eq!(chosen(&headers("v2.chat"), Some(&offered)), Ok(Some("v2.chat".into())));
        assert_eq!(chosen(&HeaderMap::new(), Some(&offered)), Ok(None), "an app need not choose");
        assert!(chosen(&headers("v3.chat"), Some(&offered)).is_err());
        assert!(chosen(&headers("chat"), None).is_err());
    }

    #[test]
    fn a_refusal_is_final_and_a_busy_app_is_not() {
        assert!(DialError::Refused(StatusCode::FORBIDDEN).is_final());
        for later in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS, StatusCode::BAD_GATEWAY] {
            assert!(!DialError::Refused(later).is_final(), "{later}");
        }
    }
}
