//! One signed call to another hub and its answer, believed only if it is signed, too.

use crate::config::{Config, SettingError};
use crate::keys::{PeerAuth, PeerAuthError};
use crate::peer_list::PeerNames;
use crate::telemetry::PeerTrouble;
use crate::tls::{Connector, client_config, connector};
use crate::world::World;
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tidegate_protocol::control::Problem;
use tidegate_protocol::id::HubId;

/// How long an idle connection to a peer is kept; hellos keep one busy in any case.
const IDLE: Duration = Duration::from_secs(30);
/// Characters of an unsigned refusal that go to the log: anybody could have written it.
const REFUSAL_CHARS_MAX: usize = 200;
/// A member of the refusal of a call that is not believed: why, in a word.
pub(super) const CAUSE: &str = "cause";
/// It was signed with another key.
pub(super) const CAUSE_KEY: &str = "key";
/// It was signed at another time.
pub(super) const CAUSE_CLOCK: &str = "clock";

/// Why a call brought nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failed {
    /// No connection, or it broke.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("did not answer within {0} ms")]
    Timeout(u64),
    /// It answered with an error; the text is not signed when the call was not believed.
    #[error("refused with {status}: {detail}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        detail: String,
    },
    /// It does not believe what this hub signs.
    #[error("does not believe this hub, its key differs: --cluster-key-file must hold the same key on all hubs")]
    Key,
    /// It does not believe the time at which this hub signs.
    #[error("does not believe this hub, their clocks differ: {0}")]
    Clock(String),
    /// An answer that cannot be believed or read.
    #[error("gave an answer that cannot be taken: {0}")]
    Invalid(String),
}

impl Failed {
    /// The same for every failure of this sort, so that a log can tell old from new.
    pub(super) fn kind(&self) -> u16 {
        match self {
            Self::Unreachable(_) => 0,
            Self::Timeout(_) => 1,
            Self::Invalid(_) => 2,
            Self::Key => 3,
            Self::Clock(_) => 4,
            Self::Refused { status, .. } => status.as_u16(),
        }
    }

    /// Whether the other hub does not know this one, or is another hub or another run than was meant: then nothing
    /// was done, and a hello tells each who the other is.
    pub(super) fn is_of_a_stranger(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::CONFLICT | StatusCode::MISDIRECTED_REQUEST, .. })
    }

    /// The same as a label.
    pub(super) fn trouble(&self) -> PeerTrouble {
        match self {
            Self::Unreachable(_) => PeerTrouble::Unreachable,
            Self::Timeout(_) => PeerTrouble::Timeout,
            Self::Invalid(_) => PeerTrouble::Invalid,
            Self::Key => PeerTrouble::Key,
            Self::Clock(_) => PeerTrouble::Clock,
            Self::Refused { .. } => PeerTrouble::Refused,
        }
    }
}

/// Signs, sends, reads, verifies.
#[derive(Debug)]
pub(super) struct Post {
    auth: PeerAuth,
    client: Client<Connector, Full<Bytes>>,
    body_bytes_max: usize,
    world: World,
}

impl Post {
    /// # Errors
    /// `--peer-ca-file` cannot be read or holds no certificate.
    pub(super) fn new(config: &Config, world: World, auth: PeerAuth, names: PeerNames) -> Result<Self, SettingError> {
        let tls = client_config(config.peer_ca_file.as_deref())?;
        let connector = connector(world.clone(), tls, names, config.limits.peer_call_ms);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(config.limits.peer_calls as usize)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self { auth, client, body_bytes_max: config.limits.peer_body_bytes as usize, world })
    }

    /// Who verifies what comes in.
    pub(super) fn auth(&self) -> &PeerAuth {
        &self.auth
    }

    /// The wall clock, as signatures need it.
    pub(super) fn unix_ms(&self) -> u64 {
        self.world.unix_ms()
    }

    /// How long a body may be, either way.
    pub(super) fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    /// Posts `body` to the hub at `base`. `to` is the hub that is meant, once it is known which one
    /// is there.
    pub(super) async fn send<Out: DeserializeOwned>(
        &self,
        base: &Uri,
        path: &'static str,
        to: Option<HubId>,
        body: Bytes,
        within: Duration,
    ) -> Result<Out, Failed> {
        match tokio::time::timeout(within, self.exchange(base, path, to, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failed::Timeout(within.as_millis() as u64)),
        }
    }

    async fn exchange<Out: DeserializeOwned>(
        &self,
        base: &Uri,
        path: &'static str,
        to: Option<HubId>,
        body: Bytes,
    ) -> Result<Out, Failed> {
        let invalid = |error: &dyn std::fmt::Display| Failed::Invalid(error.to_string());
        let (Some(scheme), Some(authority)) = (base.scheme(), base.authority()) else {
            return Err(Failed::Unreachable(format!("\"{base}\" is not a base URL")));
        };
        let url = Uri::builder().scheme(scheme.clone()).authority(authority.clone()).path_and_query(path).build();
        let mut request = Request::builder().method(Method::POST).uri(url.map_err(|error| invalid(&error))?);
        if let Some(headers) = request.headers_mut() {
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        }
        let mut request = request.body(Full::new(body.clone())).map_err(|error| invalid(&error))?;
        let nonce = self.auth.sign_request(&Method::POST, path, to, &body, self.unix_ms(), request.headers_mut());
        let answer = self.client.request(request).await.map_err(|error| Failed::Unreachable(root_cause(&error)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, self.body_bytes_max).collect().await.map_err(|error| match error {
            error if error.is::<LengthLimitError>() => {
                Failed::Invalid(format!("expected at most {} bytes (--limit-peer-body-bytes)", self.body_bytes_max))
            }
            error => Failed::Unreachable(error.to_string()),
        })?;
        let body = body.to_bytes();
        let believed = self.auth.verify_response(nonce, head.status, &head.headers, &body, self.unix_ms());
        if !head.status.is_success() {
            return Err(refusal(head.status, &body));
        }
        believed.map_err(|error: PeerAuthError| invalid(&error))?;
        serde_json::from_slice(&body).map_err(|error| invalid(&error))
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> Failed {
    let problem = serde_json::from_slice::<Problem>(body).ok();
    let detail = problem.as_ref().map_or("no reason that can be read", |problem| problem.detail.as_str());
    let detail = detail.chars().filter(|sign| !sign.is_control()).take(REFUSAL_CHARS_MAX).collect();
    match problem.as_ref().and_then(|problem| problem.extensions.get(CAUSE)?.as_str()) {
        Some(CAUSE_KEY) => Failed::Key,
        Some(CAUSE_CLOCK) => Failed::Clock(detail),
        _ => Failed::Refused { status, detail },
    }
}

/// "connection refused" rather than "client error (Connect)".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A base URL that another hub told, if it is one.
pub(super) fn base_url(text: &str) -> Option<Uri> {
    crate::config::base_url(text).ok()
}

/// JSON bytes of a body; our own types always have some.
pub(super) fn json(body: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(body).expect("plain structs with string keys").into()
}
