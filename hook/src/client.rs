//! The private API of the hub, call by call, over http or https. Every call has a limit in time and
//! in bytes, and none is repeated behind the caller's back.

use crate::failure::Failure;
use crate::lifecycle::Deployment;
use crate::settings::{BadSetting, Settings};
use crate::text::{clip, millis};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::response::Parts;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::control::{DrainRequest, Problem};

/// Largest answer that is read. A report with all its stages and successors is a few kilobytes.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// Names the run of the trigger in what it asks for and in what it undoes.
const ATTEMPT: HeaderName = HeaderName::from_static("tidegate-attempt");
/// For whom the hub is claimed.
const CLAIMANT: HeaderName = HeaderName::from_static("tidegate-claimant");
const EVENT: HeaderName = HeaderName::from_static("tidegate-event");
const DEPLOYMENT: HeaderName = HeaderName::from_static("tidegate-deployment");

/// An answer as the hub sent it, and what it means.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    /// The body, byte for byte.
    pub(crate) raw: Box<RawValue>,
    /// The same, read.
    pub(crate) value: T,
}

/// A way to one hub's private API.
pub(crate) struct Api {
    base: String,
    bearer: Option<HeaderValue>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    connect_timeout: Duration,
    answer_timeout: Duration,
    /// The name of this run: a hub that hears its undoing first does not begin what it asked for.
    attempt: HeaderValue,
    /// Who asks: claimant, event, deployment; empty outside deployments.
    identity: Vec<(HeaderName, HeaderValue)>,
}

/// What the hub is told of the deployment.
fn identity(deployment: &Deployment) -> Vec<(HeaderName, HeaderValue)> {
    let said =
        [(CLAIMANT, deployment.claimant()), (EVENT, deployment.event_header()), (DEPLOYMENT, deployment.id_header())];
    said.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value?).ok()?))).collect()
}

/// A name that no other run has.
fn attempt() -> HeaderValue {
    // The keys of a hasher are the standard library's random numbers.
    let random = || RandomState::new().build_hasher().finish();
    HeaderValue::try_from(format!("{:016x}{:016x}", random(), random())).expect("digits may stand in a header")
}

impl Api {
    /// Prepares the way; nothing is dialled yet. Errors name the certificate file or the token.
    pub(crate) fn new(settings: &Settings, deployment: &Deployment, token: Option<&str>) -> Result<Self, BadSetting> {
        let bearer = token.map(|token| HeaderValue::try_from(format!("Bearer {token}"))).transpose();
        let mut bearer = bearer.map_err(|_| BadSetting("the token cannot be sent in a header".to_owned()))?;
        if let Some(bearer) = &mut bearer {
            bearer.set_sensitive(true);
        }
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(settings.connect_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(settings)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        // A connection of its own for each call: an idle one that the hub has closed would look
        // like a hub that vanished.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .retry_canceled_requests(false)
            .build(connector);
        Ok(Self {
            base: settings.hub.clone(),
            bearer,
            client,
            connect_timeout: settings.connect_timeout,
            answer_timeout: settings.answer_timeout,
            attempt: attempt(),
            identity: identity(deployment),
        })
    }

    /// Starts a drain or joins the one under way.
    pub(crate) async fn start<T: DeserializeOwned>(&self, request: &DrainRequest) -> Result<Answer<T>, Failure> {
        let mut call = self.request(Method::POST, "/v1/drain", Some(request))?;
        call.headers_mut().insert(ATTEMPT, self.attempt.clone());
        call.headers_mut().extend(self.identity.iter().cloned());
        self.send(call, Duration::ZERO).await
    }

    /// Undoes what [`Api::start`] of this run asked for, even if the hub has not heard of it yet.
    pub(crate) async fn undo<T: DeserializeOwned>(&self) -> Result<Answer<T>, Failure> {
        let mut call = self.request(Method::DELETE, "/v1/drain", None)?;
        call.headers_mut().insert(ATTEMPT, self.attempt.clone());
        self.send(call, Duration::ZERO).await
    }

    /// What a drain would do.
    pub(crate) async fn plan<T: DeserializeOwned>(&self, request: &DrainRequest) -> Result<Answer<T>, Failure> {
        self.call(Method::POST, "/v1/drain/plan", Some(request), Duration::ZERO).await
    }

    /// The status, as soon as it is newer than `after`, or after `wait`.
    pub(crate) async fn status<T: DeserializeOwned>(
        &self,
        wait: Duration,
        after: Option<u64>,
    ) -> Result<Answer<T>, Failure> {
        let path = match after {
            Some(seq) => format!("/v1/drain?wait_ms={}&after={seq}", millis(wait)),
            None => "/v1/drain".to_owned(),
        };
        let mut call = self.request(Method::GET, &path, None)?;
        call.headers_mut().insert(ATTEMPT, self.attempt.clone());
        self.send(call, wait).await
    }

    /// Lets a drain go on that a gate holds.
    pub(crate) async fn go_on<T: DeserializeOwned>(&self) -> Result<Answer<T>, Failure> {
        self.call(Method::POST, "/v1/drain/continue", Some(&DrainRequest::default()), Duration::ZERO).await
    }

    /// Gives the hub back, as far as this deployment group claims it.
    pub(crate) async fn release<T: DeserializeOwned>(&self) -> Result<Answer<T>, Failure> {
        let mut call = self.request(Method::DELETE, "/v1/drain", None)?;
        call.headers_mut().extend(self.identity.iter().cloned());
        self.send(call, Duration::ZERO).await
    }

    /// Calls a drain off, or serves again after one, whoever wants it: an operator's word.
    pub(crate) async fn cancel<T: DeserializeOwned>(&self) -> Result<Answer<T>, Failure> {
        self.call(Method::DELETE, "/v1/drain", None, Duration::ZERO).await
    }

    /// How the last drain ended; the hub may wait for resumes up to `patience` before it tells.
    pub(crate) async fn report<T: DeserializeOwned>(&self, patience: Duration) -> Result<Answer<T>, Failure> {
        self.call(Method::GET, "/v1/drain/report", None, patience).await
    }

    /// One call. `patience` is what the hub may take on purpose, on top of the limits.
    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&DrainRequest>,
        patience: Duration,
    ) -> Result<Answer<T>, Failure> {
        self.send(self.request(method, path, body)?, patience).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<Answer<T>, Failure> {
        let limit = self.connect_timeout + self.answer_timeout + patience;
        let answer = tokio::time::timeout(limit, self.exchange(request)).await;
        let (head, body) = answer.unwrap_or(Err(Failure::Silent { waited_ms: millis(limit) }))?;
        judge(head.status, is_problem(&head.headers), &body)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&DrainRequest>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let unfit =
            |error: &dyn std::fmt::Display| Failure::Unreachable(format!("the request cannot be built: {error}"));
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("tidegate-hook/", env!("CARGO_PKG_VERSION")));
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                serde_json::to_vec(body).map_err(|error| unfit(&error))?
            }
            None => Vec::new(),
        };
        request.body(Full::from(bytes)).map_err(|error| unfit(&error))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(Parts, Bytes), Failure> {
        let answer = self.client.request(request).await.map_err(|error| Failure::sort(&error, error.is_connect()))?;
        let (head, body) = answer.into_parts();
        match Limited::new(body, ANSWER_MAX_BYTES).collect().await {
            Ok(body) => Ok((head, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(Failure::Garbage(format!("an answer of more than {ANSWER_MAX_BYTES} bytes")))
            }
            Err(error) => Err(Failure::sort(error.as_ref(), false)),
        }
    }
}

/// Whether a refusal is worded as a hub's private API words all of its own.
fn is_problem(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.and_then(|kind| kind.split(';').next()).is_some_and(|kind| kind.trim() == Problem::CONTENT_TYPE)
}

/// What a complete answer means. `problem`: it says that it is a problem of an API.
fn judge<T: DeserializeOwned>(status: StatusCode, problem: bool, body: &[u8]) -> Result<Answer<T>, Failure> {
    if status == StatusCode::UNAUTHORIZED {
        return Err(Failure::Unauthorized);
    }
    if status == StatusCode::CONFLICT && kind(body).as_deref() == Some("/problems/needs-consent") {
        return Err(Failure::NeedsConsent(complaint(status, body)));
    }
    if (status.is_client_error() || status.is_server_error()) && !problem {
        let words = complaint(status, body);
        return Err(Failure::Garbage(format!(
            "it answered {} ({}); is this the app's port, or the hub's --public address?",
            status.as_u16(),
            clip(&words, 60)
        )));
    }
    if status.is_client_error() || status.is_server_error() {
        return Err(Failure::Refused { status: status.as_u16(), detail: complaint(status, body) });
    }
    if !status.is_success() {
        return Err(Failure::Garbage(format!("it answered {status}")));
    }
    let unreadable = |error: serde_json::Error| {
        Failure::Garbage(clip(&format!("{status} with a body that is none of ours: {error}"), 100))
    };
    let raw: Box<RawValue> = serde_json::from_slice(body).map_err(unreadable)?;
    // A status is all defaults, so any object would do for one: every answer of a hub has one of these.
    const NAMES: [&str; 3] = ["phase", "fits", "result"];
    let fields: Value = serde_json::from_str(raw.get()).map_err(unreadable)?;
    if !NAMES.iter().any(|name| fields.get(name).is_some()) {
        return Err(Failure::Garbage(clip(&format!("{status} with a body that is none of ours: {}", raw.get()), 100)));
    }
    let value = serde_json::from_str(raw.get()).map_err(unreadable)?;
    Ok(Answer { raw, value })
}

/// The kind of a problem.
fn kind(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Value>(body).ok()?.get("type")?.as_str().map(str::to_owned)
}

/// What a refusal says: the problem's detail or title, or what else there is to read.
fn complaint(status: StatusCode, body: &[u8]) -> String {
    let problem: Option<Value> = serde_json::from_slice(body).ok();
    let said = |name: &str| problem.as_ref()?.get(name)?.as_str().map(str::to_owned);
    let words = said("detail").or_else(|| said("title")).unwrap_or_else(|| match body.is_empty() {
        true => status.canonical_reason().unwrap_or("without a word").to_owned(),
        false => clip(&String::from_utf8_lossy(body), 60),
    });
    clip(&words, 400)
}

/// TLS by the given certificates alone, or by the system's. They are read only if the hub is asked by https.
fn tls(settings: &Settings) -> Result<ClientConfig, BadSetting> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| BadSetting(format!("TLS: {error}")))?;
    let roots = match (&settings.ca_file, settings.hub.starts_with("https:")) {
        (Some(path), _) => roots(path)?,
        (None, true) => {
            use hyper_rustls::ConfigBuilderExt;
            let builder = builder.with_native_roots();
            return builder.map(|builder| builder.with_no_client_auth()).map_err(|error| {
                BadSetting(format!("no certificates of the system ({error}); name some with --ca-file"))
            });
        }
        (None, false) => RootCertStore::empty(),
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn roots(path: &Path) -> Result<RootCertStore, BadSetting> {
    let bad = |what: &str| BadSetting(format!("--ca-file {}: {what}", path.display()));
    let text = crate::file::read_small(path).map_err(|error| bad(&error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|error| bad(&format!("not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| bad(&format!("not a certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(bad("holds no certificate; expected -----BEGIN CERTIFICATE-----"));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str) -> Failure {
        judge::<Value>(StatusCode::from_u16(status).unwrap(), true, body.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_refusal_is_quoted_by_its_detail_its_title_or_its_first_words() {
        let detail = |status, body| match judged(status, body) {
            Failure::Refused { detail, .. } => detail,
            other => panic!("expected a refusal, got {other:?}"),
        };
        assert_eq!(detail(409, r#"{"title":"T","detail":"say this"}"#), "say this");
        assert_eq!(detail(409, r#"{"title":"T"}"#), "T");
        assert_eq!(detail(503, "<html>\nbusy"), "<html> busy");
        assert_eq!(detail(503, ""), "Service Unavailable");
    }

    #[test]
    fn a_refusal_that_asks_for_consent_is_told_from_other_conflicts() {
        let asks = r#"{"type":"/problems/needs-consent","detail":"35 would be parked"}"#;
        assert_eq!(judged(409, asks), Failure::NeedsConsent("35 would be parked".to_owned()));
        assert!(matches!(judged(409, r#"{"type":"/problems/called-off"}"#), Failure::Refused { status: 409, .. }));
    }

    #[test]
    fn only_401_means_the_token() {
        assert_eq!(judged(401, ""), Failure::Unauthorized);
        assert!(matches!(judged(403, ""), Failure::Refused { status: 403, .. }));
    }

    #[test]
    fn a_redirect_and_a_web_page_are_not_a_hub() {
        assert!(matches!(judged(302, ""), Failure::Garbage(_)));
        assert!(matches!(judged(200, "<html>"), Failure::Garbage(_)));
        assert!(matches!(judged(200, "{\"ok\":true}"), Failure::Garbage(_)), "nor is any JSON");
    }

    #[test]
    fn a_refusal_that_is_not_worded_as_a_hubs_is_somebody_elses() {
        for status in [400, 404, 405, 426, 500, 501, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            let said = judge::<Value>(status, false, b"Upgrade Required").unwrap_err();
            assert!(matches!(&said, Failure::Garbage(what) if what.contains("the app's port")), "{status}: {said:?}");
        }
    }
}
