//! Dialling the app: TCP, TLS for `wss`, and the upgrade with the client's path, query, cookies and
//! subprotocols.

use super::socket::AppSocket;
use super::troubles;
use crate::hub::Hub;
use crate::message::Message;
use crate::public::stream::Stream;
use crate::telemetry::{AppTrouble, DialResult};
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
use tidegate_protocol::app::{Answer, fault_of_path, header_value};
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
    /// It cannot be asked for this session's path at all.
    #[error("the app is not asked for this path: {0}")]
    Path(String),
}

impl DialError {
    /// What the app answered, for the decision whether it is tried again.
    pub(super) fn answer(&self) -> Answer {
        match self {
            Self::Refused(status) => Answer::Status(status.as_u16()),
            Self::Path(_) => Answer::Impossible,
            Self::Invalid(_) | Self::Unreachable(_) | Self::Late(_) => Answer::None,
        }
    }

    fn result(&self) -> DialResult {
        match self {
            Self::Refused(_) | Self::Invalid(_) | Self::Path(_) => DialResult::Refused,
            Self::Unreachable(_) => DialResult::Unreachable,
            Self::Late(_) => DialResult::Timeout,
        }
    }
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
/// The client's path leads elsewhere, or does not fit behind the app's address. The public listener refuses such
/// paths, but a session may come from another release.
pub(super) fn request(
    hub: &Hub,
    app: &Uri,
    session: SessionId,
    record: &Record<Message>,
    resumed: bool,
) -> Result<Request<Empty<Bytes>>, DialError> {
    let path = record.profile.path.as_deref().unwrap_or(crate::public::CONNECT_PATH);
    if let Some(fault) = fault_of_path(path, is_under_path(app)) {
        return Err(DialError::Path(fault.sentence().into()));
    }
    let request = Request::builder().uri(target(app, &record.profile)).body(Empty::new());
    let mut request = request.map_err(|error| DialError::Path(error.to_string()))?;
    let headers = request.headers_mut();
    for (name, value) in record.profile.headers.iter() {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
            (Ok(name), Ok(value)) => drop(headers.append(name, value)),
            _ => troubles::tell(hub, AppTrouble::Header, session, &format_args!("{name:?}")),
        }
    }
    let mut put = |name: &'static str, value: &[u8]| match HeaderValue::from_bytes(value) {
        Ok(value) => drop(headers.insert(name, value)),
        Err(_) => troubles::tell(hub, AppTrouble::Header, session, &name),
    };
    if record.profile.headers.get("x-forwarded-proto").is_none() {
        let scheme = if hub.config.public_tls.is_some() { "https" } else { "http" };
        put("x-forwarded-proto", scheme.as_bytes());
    }
    put("host", app.authority().map_or(&b""[..], |authority| authority.as_str().as_bytes()));
    put("connection", b"Upgrade");
    put("upgrade", b"websocket");
    put("sec-websocket-version", b"13");
    put("sec-websocket-key", STANDARD.encode(hub.random().to_le_bytes()).as_bytes());
    // Who resumes keeps the subprotocol that was chosen first: its client was told so long ago.
    let offered =
        if resumed { record.profile.protocol.clone().unwrap_or_default() } else { record.profile.protocols.join(", ") };
    if !offered.is_empty() {
        put("sec-websocket-protocol", offered.as_bytes());
    }
    put("tidegate-session", session.to_string().as_bytes());
    if let Some(user) = &record.profile.user {
        put("tidegate-user", header_value(user).as_bytes());
    }
    put("tidegate-resumed", if resumed { b"1" } else { b"0" });
    put("tidegate-api", hub.private_url().as_bytes());
    put("tidegate-epoch", record.epoch.0.to_string().as_bytes());
    put("tidegate-offset", record.taken().0.to_string().as_bytes());
    Ok(request)
}

/// Whether the app stands under a path of its own.
pub fn is_under_path(app: &Uri) -> bool {
    !matches!(app.path(), "" | "/")
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
    use tidegate_protocol::app::FinalAnswers;

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
    fn an_answer_is_judged_by_its_status_and_a_path_that_leads_elsewhere_never_is_asked_for() {
        let finals = FinalAnswers::default();
        assert!(finals.is_final(DialError::Refused(StatusCode::UNAUTHORIZED).answer()));
        assert!(finals.is_final(DialError::Path("dots".into()).answer()));
        for later in [DialError::Refused(StatusCode::NOT_FOUND), DialError::Late(5), DialError::Invalid("no key")] {
            assert!(!finals.is_final(later.answer()), "{later}");
        }
    }
}
