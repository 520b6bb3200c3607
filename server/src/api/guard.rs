//! Who may call at all: the right Host on a loopback listener, the bearer token, a content type where
//! there is a body. The first and the last keep web pages out, which can post to localhost but can
//! choose neither.

use super::Api;
use super::input::has_type;
use super::problem::Refusal;
use crate::telemetry::Rejected;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Health checks come from load balancers, which carry no token.
const HEALTH: &str = "/healthz/";
/// Calls of other hubs prove themselves by the cluster key.
const PEER: &str = "/peer/";
/// The content type of every body but the app's state.
const JSON: &[&str] = &["application/json"];
/// Content types of the app's state, which is never looked into.
const OPAQUE: &[&str] = &["application/octet-stream", "application/json"];

/// Checks Host and token, for every path, the unknown ones too.
pub(super) async fn admit(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    match check(&api, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check(api: &Api, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    if api.hub.private.ip().is_loopback() {
        check_host(uri, headers)?;
    }
    let path = uri.path();
    let open = path.starts_with(HEALTH) || path.starts_with(PEER);
    match &api.token {
        Some(token) if !open && !token.is_in(headers) => {
            api.hub.metrics.rejected.of(Rejected::Unauthorized).increment(1);
            let detail = match headers.contains_key(header::AUTHORIZATION) {
                true => "the bearer token is not the one in --private-token-file of this hub",
                false => "this hub wants the token of its --private-token-file: send `Authorization: Bearer <token>`",
            };
            let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized", detail);
            Err(refusal.with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
        }
        Some(_) | None => Ok(()),
    }
}

/// A page whose name was made to point at localhost still sends that name.
fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let named: Vec<&[u8]> = headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes).collect();
    let target = uri.authority().map(|authority| authority.as_str().as_bytes());
    let wrong = match named[..] {
        [host] if is_loopback(host) && target.is_none_or(is_loopback) => return Ok(()),
        [] => "there is no Host header".to_owned(),
        [host] => format!("the Host is \"{}\"", String::from_utf8_lossy(&host[..host.len().min(80)])),
        [..] => "there is more than one Host header".to_owned(),
    };
    let detail = format!("{wrong}: this listener is a loopback one and answers to localhost, 127.0.0.1 and [::1] only");
    Err(Refusal::new(StatusCode::FORBIDDEN, "wrong-host", "Wrong Host", detail))
}

fn is_loopback(host: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(host) else { return false };
    let name = authority.host();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || bare.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback());
    !authority.as_str().contains('@') && (address || name.eq_ignore_ascii_case("localhost"))
}

/// A body must be JSON by its content type.
pub(super) async fn json_only(request: Request, next: Next) -> Response {
    typed(JSON, request, next).await
}

/// The app's state may be any bytes, but says so.
pub(super) async fn opaque_only(request: Request, next: Next) -> Response {
    typed(OPAQUE, request, next).await
}

async fn typed(wanted: &[&str], request: Request, next: Next) -> Response {
    if request.body().is_end_stream() || has_type(request.headers(), wanted) {
        return next.run(request).await;
    }
    let given = request
        .headers()
        .get(header::CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).chars().take(80).collect::<String>());
    let given = given
        .map_or_else(|| "the body has no content type".to_owned(), |given| format!("the content type is \"{given}\""));
    let detail = format!("{given}: send {}", wanted.join(" or "));
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", "Wrong content type", detail).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_listener_answers_to_its_own_names_only() {
        for host in [
            "localhost",
            "localhost:8081",
            "LOCALHOST:1",
            "127.0.0.1",
            "127.0.0.1:8081",
            "127.0.0.9",
            "[::1]",
            "[::1]:8081",
        ] {
            assert!(is_loopback(host.as_bytes()), "{host} should pass");
        }
        for host in [
            "",
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "10.0.0.1",
            "me@localhost",
            "localhost@example.org",
            "[::2]",
            "::1:8081x",
        ] {
            assert!(!is_loopback(host.as_bytes()), "{host} should be refused");
        }
    }

    #[test]
    fn two_hosts_or_none_or_another_in_the_target_are_refused() {
        let hosts = |list: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in list {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            headers
        };
        let plain = Uri::from_static("/v1/hub");
        assert!(check_host(&plain, &hosts(&["localhost"])).is_ok());
        assert!(check_host(&plain, &hosts(&[])).is_err());
        assert!(check_host(&plain, &hosts(&["localhost", "example.org"])).is_err());
        assert!(check_host(&Uri::from_static("http://example.org/v1/hub"), &hosts(&["localhost"])).is_err());
        assert!(check_host(&Uri::from_static("http://localhost:1/v1/hub"), &hosts(&["localhost:1"])).is_ok());
    }
}
