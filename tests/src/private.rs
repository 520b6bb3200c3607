//! An HTTP client for the private API, for good calls and bad ones.

use crate::wait::within;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::net::SocketAddr;

/// One hub's private API.
#[derive(Clone, Debug)]
pub struct Private {
    http: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    token: Option<String>,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked, for messages.
    pub call: String,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Private {
    /// Talks to the listener at this address.
    pub fn new(address: SocketAddr) -> Self {
        Self { http: Client::builder(TokioExecutor::new()).build(HttpConnector::new()), address, token: None }
    }

    /// The same with a bearer token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Sends any request; `headers` are added to, and replace, the usual ones.
    ///
    /// # Errors
    /// In words: nobody listens there, or the connection ended.
    ///
    /// # Panics
    /// When no answer comes in time.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
        let call = format!("{method} {path}");
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut request = request.body(Full::new(body.into())).map_err(|error| format!("{call}: {error}"))?;
        for (name, value) in headers {
            let name = header::HeaderName::from_bytes(name.as_bytes()).map_err(|error| format!("{name}: {error}"))?;
            let value = value.parse().map_err(|error| format!("{value}: {error}"))?;
            request.headers_mut().insert(name, value);
        }
        let answer = async {
            let answer = self.http.request(request).await.map_err(|error| format!("{call}: {error:?}"))?;
            let (parts, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| format!("{call}: {error}"))?.to_bytes();
            Ok(Answer { call: call.clone(), status: parts.status, headers: parts.headers, body })
        };
        within(&format!("an answer to {call}"), answer).await
    }

    /// As [`Private::try_send`], for a hub that is there.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.try_send(method, path, headers, body).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Bytes::new()).await
    }

    /// `PUT` without a body.
    pub async fn put(&self, path: &str) -> Answer {
        self.send(Method::PUT, path, &[], Bytes::new()).await
    }

    /// `PUT` of opaque bytes.
    pub async fn put_bytes(&self, path: &str, body: &[u8]) -> Answer {
        let opaque = [("content-type", "application/octet-stream")];
        self.send(Method::PUT, path, &opaque, Bytes::copy_from_slice(body)).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// Publishes a text and gives for how many sessions it was numbered.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn publish(&self, to: &Value, text: &str) -> u64 {
        let answer = self.post("/v1/publish", &serde_json::json!({"to": to, "text": text})).await;
        answer.expect(200)["sessions"].as_u64().expect("an answer says for how many sessions")
    }
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        self.read()
    }

    /// The body as a value of the protocol.
    ///
    /// # Panics
    /// When it is none.
    pub fn read<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{self} is not readable: {error}"))
    }

    /// The body of an answer that must have this status; nothing reads as null.
    ///
    /// # Panics
    /// When the status is another.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self}");
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The words of a problem, which must have this status and the content type of problems.
    ///
    /// # Panics
    /// When it is no such problem.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{self}");
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        assert_eq!(kind, Some("application/problem+json"), "{self}");
        let problem = self.json();
        assert_eq!(problem["status"].as_u64(), Some(u64::from(status)), "{self}");
        for field in ["type", "title", "detail"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "a problem has a {field}: {self}");
        }
        problem["detail"].as_str().unwrap_or_default().to_owned()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: String = String::from_utf8_lossy(&self.body).chars().take(600).collect();
        write!(f, "{} answered {}: {shown}", self.call, self.status)
    }
}
