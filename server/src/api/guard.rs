//! Who may call at all: the right Host on a loopback listener, nobody sent by a web page of elsewhere, the
//! bearer token, a content type where there is a body.
//!
//! A page can have its visitor's browser call localhost: with any simple request (a form, an empty POST, a link),
//! also where it may not read the answer. It can choose neither the Host nor what the browser says of it in
//! `Origin` and `Sec-Fetch-Site`; so these are looked at for every call, whatever its method.

use super::Api;
use super::input::has_type;
use super::problem::Refusal;
use crate::telemetry::Rejected;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
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

/// What a browser says of where a request comes from; pages cannot set or hide it.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// A page of this very listener, and a person who typed the address.
const OWN_SITES: [&[u8]; 2] = [b"same-origin", b"none"];

/// Checks Host, origin and token, for every path, the unknown ones too.
pub(super) async fn admit(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    match check(&api, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => turned_away(&api, refusal),
    }
}

fn turned_away(api: &Api, refusal: Refusal) -> Response {
    api.hub.metrics.rejected.of(Rejected::PrivateCall).increment(1);
    refusal.into_response()
}

fn check(api: &Api, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    if api.hub.private.ip().is_loopback() {
        check_host(uri, headers)?;
    }
    let path = uri.path();
    // Health tells no more than a port that answers, and changes nothing.
    if !path.starts_with(HEALTH) {
        check_origin(uri, headers)?;
    }
    let open = path.starts_with(HEALTH) || path.starts_with(PEER);
    match &api.token {
        Some(token) if !open && !token.is_in(headers) => {
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
        [host] => format!("the Host is \"{}\"", start_of(host)),
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

/// Whether a web page of another origin is behind the request. Programs send neither header.
fn check_origin(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let host = host.or_else(|| uri.authority().map(|authority| authority.as_str().as_bytes())).unwrap_or_default();
    let foreign_origin = headers.get_all(header::ORIGIN).iter().find(|origin| !is_own(origin.as_bytes(), host));
    let foreign_site = headers.get_all(FETCH_SITE).iter().find(|site| !OWN_SITES.contains(&site.as_bytes()));
    let said = match (foreign_origin, foreign_site) {
        (None, None) => return Ok(()),
        (Some(origin), _) => format!("the Origin is \"{}\"", start_of(origin.as_bytes())),
        (None, Some(site)) => format!("Sec-Fetch-Site is \"{}\"", start_of(site.as_bytes())),
    };
    let detail = format!(
        "{said}: a web page of another origin may call nothing here; call from a program, or open the address by hand"
    );
    Err(Refusal::new(StatusCode::FORBIDDEN, "foreign-origin", "Foreign origin", detail))
}

/// Whether an origin is this listener, by the name that the request was sent to.
fn is_own(origin: &[u8], host: &[u8]) -> bool {
    let bare = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    bare.is_some_and(|bare| !bare.is_empty() && bare.eq_ignore_ascii_case(host))
}

/// The beginning of a header's value, for the one who sent it.
fn start_of(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(80)]).into_owned()
}

/// A body must be JSON by its content type.
pub(super) async fn json_only(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    typed(&api, JSON, request, next).await
}

/// The app's state may be any bytes, but says so.
pub(super) async fn opaque_only(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    typed(&api, OPAQUE, request, next).await
}

async fn typed(api: &Api, wanted: &[&str], request: Request, next: Next) -> Response {
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
    turned_away(api, Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", "Wrong content type", detail))
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

    #[test]
    fn an_origin_is_our_own_only_by_the_very_name_and_port_that_was_called() {
        for (origin, host, own) in [
            ("http://localhost:8081", "localhost:8081", true),
            ("https://LOCALHOST:8081", "localhost:8081", true),
            ("http://localhost:3000", "localhost:8081", false),
            ("http://localhost", "localhost:8081", false),
            ("http://localhost:8081.example.org", "localhost:8081", false),
            ("null", "null", false),
            ("http://", "", false),
            ("ftp://localhost:8081", "localhost:8081", false),
        ] {
            assert_eq!(is_own(origin.as_bytes(), host.as_bytes()), own, "{origin} at {host}");
        }
    }
}
