//! The two questions that this tool asks a hub's private API.

use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tidegate_protocol::control::{DrainReport, DrainStatus};
use tokio::time::timeout;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long an answer may take beyond what was asked to wait.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// A hub's private API.
pub(crate) struct HubApi {
    http: Client<HttpConnector, Empty<Bytes>>,
    base: Uri,
    token: Option<String>,
}

impl HubApi {
    /// Talks to the API at this base URL, with a bearer token if the hub wants one.
    pub(crate) fn new(base: Uri, token: Option<String>) -> Self {
        Self { http: Client::builder(TokioExecutor::new()).build(HttpConnector::new()), base, token }
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

    fn root(&self) -> String {
        self.base.to_string().trim_end_matches('/').to_owned()
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, wait: Duration) -> Result<Option<T>, String> {
        let url = format!("{}{path}", self.root());
        let mut request = Request::get(&url);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::new()).map_err(|error| format!("{url}: {error}"))?;
        let answer = async {
            let answer = self.http.request(request).await.map_err(|error| format!("{url}: {error}"))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
            let body = body.collect().await.map_err(|error| format!("{url}: {error}"))?.to_bytes();
            Ok::<_, String>((status, body))
        };
        let (status, body) = timeout(wait, answer).await.map_err(|_| format!("{url}: no answer within {wait:?}"))??;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !status.is_success() {
            let shown: String = String::from_utf8_lossy(&body).chars().take(300).collect();
            return Err(format!("{url} answered {status}: {shown}"));
        }
        serde_json::from_slice(&body).map(Some).map_err(|error| format!("{url}: an answer we cannot read: {error}"))
    }
}
