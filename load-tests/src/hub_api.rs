//! What this tool asks of a hub's private API, over a connection that stays open.

use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tidegate_protocol::control::{DrainReport, DrainStatus, SessionInfo, SessionsPage};
use tidegate_protocol::id::SessionId;
use tokio::time::timeout;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long an answer may take beyond what was asked to wait.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// A publish to many sessions answers when all of them have it numbered.
const PUBLISH_WAIT: Duration = Duration::from_secs(30);

/// Sessions of one page of the list.
const PAGE: usize = 1_000;

/// A hub's private API.
#[derive(Clone)]
pub(crate) struct HubApi {
    http: Client<HttpConnector, Full<Bytes>>,
    base: Uri,
    token: Option<String>,
}

impl HubApi {
    /// Talks to the API at this base URL, with a bearer token if the hub wants one.
    pub(crate) fn new(base: Uri, token: Option<String>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { http: Client::builder(TokioExecutor::new()).build(connector), base, token }
    }

    /// `GET /v1/drain`, waiting up to `wait` for a change after `seq`.
    ///
    /// # Errors
    /// In words: the call and what came instead of an answer.
    pub(crate) async fn status(&self, after: u64, wait: Duration) -> Result<DrainStatus, String> {
        let path = format!("/v1/drain?wait_ms={}&after={after}", wait.as_millis());
        self.get(&path, wait + ANSWER_WAIT)
            .await?
            .ok_or_else(|| format!("{}{path} answered 404: is --private a hub's private address?", self.root()))
    }

    /// `GET /v1/drain/report`; nothing if there is none yet.
    ///
    /// # Errors
    /// As [`HubApi::status`].
    pub(crate) async fn report(&self) -> Result<Option<DrainReport>, String> {
        self.get("/v1/drain/report", ANSWER_WAIT).await
    }

    /// Any `GET` with a JSON answer; nothing for 404.
    ///
    /// # Errors
    /// As [`HubApi::status`].
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, wait: Duration) -> Result<Option<T>, String> {
        let (status, body) = self.call(Method::GET, path, None, wait).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.expect(path, status, &body)?;
        let url = format!("{}{path}", self.root());
        serde_json::from_slice(&body).map(Some).map_err(|error| format!("{url}: an answer we cannot read: {error}"))
    }

    /// A `POST` with a JSON body and a JSON answer.
    ///
    /// # Errors
    /// As [`HubApi::status`].
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> Result<T, String> {
        let (status, body) = self.call(Method::POST, path, Some(body.to_string().into()), PUBLISH_WAIT).await?;
        self.expect(path, status, &body)?;
        serde_json::from_slice(&body).map_err(|error| format!("{path}: an answer we cannot read: {error}"))
    }

    /// A `POST` of a bare text, whatever the answer says.
    ///
    /// # Errors
    /// As [`HubApi::status`].
    pub(crate) async fn post_text(&self, path: &str, text: &str) -> Result<(), String> {
        let (status, body) = self.call(Method::POST, path, Some(text.to_owned().into()), PUBLISH_WAIT).await?;
        self.expect(path, status, &body)
    }

    /// `PUT /v1/sessions/{id}/channels/{name}`.
    ///
    /// # Errors
    /// As [`HubApi::status`].
    pub(crate) async fn join(&self, session: SessionId, channel: &str) -> Result<(), String> {
        let path = format!("/v1/sessions/{session}/channels/{channel}");
        let (status, body) = self.call(Method::PUT, &path, None, ANSWER_WAIT).await?;
        self.expect(&path, status, &body)
    }

    /// All sessions of the hub, page by page.
    ///
    /// # Errors
    /// As [`HubApi::status`].
    pub(crate) async fn sessions(&self) -> Result<Vec<SessionInfo>, String> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let path = format!("/v1/sessions?limit={PAGE}{after}");
            let page: SessionsPage = self.get(&path, PUBLISH_WAIT).await?.ok_or("the hub has no list of sessions")?;
            all.extend(page.sessions);
            match page.next {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(all),
            }
        }
    }

    fn root(&self) -> String {
        self.base.to_string().trim_end_matches('/').to_owned()
    }

    fn expect(&self, path: &str, status: StatusCode, body: &[u8]) -> Result<(), String> {
        if status.is_success() {
            return Ok(());
        }
        let shown: String = String::from_utf8_lossy(body).chars().take(300).collect();
        Err(format!("{}{path} answered {status}: {shown}", self.root()))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        wait: Duration,
    ) -> Result<(StatusCode, Bytes), String> {
        let url = format!("{}{path}", self.root());
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default())).map_err(|error| format!("{url}: {error}"))?;
        let answer = async {
            let answer = self.http.request(request).await.map_err(|error| format!("{url}: {error}"))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
            let body = body.collect().await.map_err(|error| format!("{url}: {error}"))?.to_bytes();
            Ok::<_, String>((status, body))
        };
        timeout(wait, answer).await.map_err(|_| format!("{url}: no answer within {wait:?}"))?
    }
}
