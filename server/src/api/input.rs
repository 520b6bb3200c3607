//! What a request brings: its query, its body, the ids and names in its path. Everything is bounded,
//! and nothing unknown is passed over.

use super::Api;
use super::problem::Refusal;
use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::id::SessionId;

/// A body that is not here by then is given up.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// Of a body that is too large so much is still read and dropped, so that its sender can read the answer.
const DROPPED_BYTES_MAX: u64 = 8 << 20;
/// Of a wrong value so much is shown.
const SHOWN_CHARS_MAX: usize = 80;

/// The start of a value that somebody sent.
pub(super) fn shown(value: &str) -> String {
    value.chars().take(SHOWN_CHARS_MAX).collect()
}

/// The parameters of a query, each at most once.
#[derive(Debug)]
pub(super) struct Params(BTreeMap<String, String>);

impl Params {
    /// Reads a query that may hold the `known` parameters.
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Result<Self, Refusal> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Refusal::bad_request(format!("the query cannot be read: {}", error.body_text())))?;
        let mut params = BTreeMap::new();
        for (name, value) in pairs.0 {
            if !known.contains(&name.as_str()) {
                let right = if known.is_empty() {
                    "this call takes none".to_owned()
                } else {
                    format!("this call takes {}", known.join(" and "))
                };
                return Err(Refusal::bad_request(format!("unknown query parameter `{}`: {right}", shown(&name))));
            }
            if params.insert(name.clone(), value).is_some() {
                return Err(Refusal::bad_request(format!("query parameter `{name}` is given twice: give it once")));
            }
        }
        Ok(Self(params))
    }

    /// A whole number within a range.
    pub(super) fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let right = match *range.end() {
            u64::MAX => "a whole number".to_owned(),
            end => format!("a whole number from {} to {end}", range.start()),
        };
        number.map(Some).ok_or_else(|| Refusal::bad_request(format!("{name} is \"{}\": give {right}", shown(text))))
    }

    /// An id.
    pub(super) fn id<T: FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|error| Refusal::bad_request(format!("{name}: {error}")))
    }
}

/// For calls that take no query parameters.
#[derive(Debug)]
pub(super) struct NoParams;

impl FromRequestParts<Arc<Api>> for NoParams {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Refusal> {
        Params::read(&parts.uri, &[]).map(|_| Self)
    }
}

/// What the path names: ids and names, in their order.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Api>> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        let Path(names) = Path::<T>::from_request_parts(parts, api)
            .await
            .map_err(|error| Refusal::bad_request(format!("the path cannot be read: {}", error.body_text())))?;
        Ok(Self(names))
    }
}

/// A session named in the path. A text that is no id names no session that anybody knows.
pub(super) fn session(text: &str) -> Result<SessionId, Refusal> {
    text.parse().map_err(|error| Refusal::unknown_session(format!("no hub knows this session: {error}")))
}

/// A JSON body, as bytes, within `--limit-api-body-bytes`.
#[derive(Debug)]
pub(super) struct JsonBody(pub(super) Bytes);

impl FromRequest<Arc<Api>> for JsonBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Refusal> {
        let limit = api.hub.config.limits.api_body_bytes;
        read(request.into_body(), limit, "the request body", "--limit-api-body-bytes").await.map(Self)
    }
}

impl JsonBody {
    /// The value; an empty body is no value.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        if self.0.is_empty() {
            return Err(Refusal::bad_request("the request has no body: send one JSON object"));
        }
        // A list would pass as an object without names, an empty one as an object of defaults.
        if self.0.trim_ascii_start().first() == Some(&b'[') {
            return Err(Refusal::bad_request(
                "the body cannot be read as JSON of this call: it is a list, send one object",
            ));
        }
        serde_json::from_slice(&self.0).map_err(|error| {
            let field = field_at(&self.0, &error);
            let fault = super::words::plain(&error.to_string(), field.as_deref());
            Refusal::bad_request(format!("the body cannot be read as JSON of this call: {fault}"))
        })
    }

    /// The value; an empty body is the default.
    pub(super) fn parse_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Refusal> {
        if self.0.is_empty() { Ok(T::default()) } else { self.parse() }
    }
}

/// The field at whose value, or after whose name, the reader gave up: serde names a wrong value and not its place.
fn field_at(body: &[u8], error: &serde_json::Error) -> Option<String> {
    let line: usize =
        body.split_inclusive(|byte| *byte == b'\n').take(error.line().checked_sub(1)?).map(<[u8]>::len).sum();
    let read = body.get(..line + error.column()).unwrap_or(body);
    let (mut field, mut text, mut at) = (None, 0..0, 0);
    while let Some(byte) = read.get(at) {
        match byte {
            b'"' => {
                let start = at + 1;
                at = start;
                while read.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if read[at] == b'\\' { 2 } else { 1 };
                }
                text = start..at.min(read.len());
            }
            b':' => field = Some(text.clone()),
            _ => {}
        }
        at += 1;
    }
    field.map(|name| String::from_utf8_lossy(&read[name]).into_owned())
}

/// Whether the content type is one of these, whatever its parameters.
pub(super) fn has_type(headers: &HeaderMap, wanted: &[&str]) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    wanted.iter().any(|wanted| essence.eq_ignore_ascii_case(wanted))
}

/// Reads a body within a limit and a time.
pub(super) async fn read(body: Body, limit: u64, what: &str, option: &str) -> Result<Bytes, Refusal> {
    let declared = body.size_hint().lower();
    if declared > limit.saturating_add(DROPPED_BYTES_MAX) {
        return Err(Refusal::too_large(what, declared, limit, option));
    }
    let (kept, given) = tokio::time::timeout(BODY_WAIT, collect(body, limit)).await.unwrap_or_else(|_| {
        let detail = format!("{what} did not arrive within {} s", BODY_WAIT.as_secs());
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "slow-body", "Request timeout", detail))
    })?;
    if given > limit { Err(Refusal::too_large(what, given.max(declared), limit, option)) } else { Ok(kept) }
}

/// The body as far as it is within the limit, and how much of it was read.
async fn collect(mut body: Body, limit: u64) -> Result<(Bytes, u64), Refusal> {
    let (mut kept, mut given) = (BytesMut::new(), 0);
    while given <= limit.saturating_add(DROPPED_BYTES_MAX)
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|error| Refusal::bad_request(format!("the request body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        given += data.len() as u64;
        if given <= limit {
            kept.extend_from_slice(&data);
        }
    }
    Ok((kept.freeze(), given))
}
