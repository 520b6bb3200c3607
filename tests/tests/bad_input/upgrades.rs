//! Upgrades that are refused, and what the answer says.

use crate::bystander::Scene;
use http::{Method, StatusCode};
use serde_json::json;
use tidegate_tests::{FakeApp, Private, RawClient, Setup, hook};

/// What, with which headers, the status, and a word of the answer.
type Refusal<'a> = (&'a str, &'a [(&'a str, &'a str)], u16, &'a str);

#[tokio::test]
async fn a_refused_upgrade_says_why_and_what_to_do() {
    let scene = Scene::set(|setup| setup.flag("--allowed-origin", "https://app.example.com")).await;
    let offered = ("sec-websocket-protocol", "tidegate.v1");
    let table: [Refusal<'_>; 3] = [
        ("no subprotocol", &[], 400, "tidegate.v1"),
        ("another subprotocol", &[("sec-websocket-protocol", "chat")], 400, "tidegate.v1"),
        ("a foreign origin", &[offered, ("origin", "https://evil.example.com")], 403, "--allowed-origin"),
    ];
    for (what, headers, status, words) in table {
        let refused = RawClient::try_open(&scene.url(), headers).await.expect_err(what);
        assert_eq!(refused.status, status, "{what}: {refused:?}");
        assert!(refused.body.contains(words), "{what}: expected \"{words}\" in {refused:?}");
        scene.nobody_noticed(what).await;
    }
    let allowed = [offered, ("origin", "https://app.example.com")];
    RawClient::try_open(&scene.url(), &allowed).await.expect("the allowed origin may connect");
}

#[tokio::test]
async fn an_upgrade_whose_key_is_not_sixteen_bytes_in_base64_is_refused() {
    let hub = Setup::new("A").start().await;
    let public = Private::new(hub.public);
    let rest = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "tidegate.v1"),
    ];
    let long = "A".repeat(400);
    for key in [None, Some(""), Some("x"), Some("AAAAAAAAAAAAAAAAAAAA"), Some("AAAAAAAAAAAAAAAAAAAAAAAA"), Some(&long)]
    {
        let headers: Vec<(&str, &str)> =
            rest.into_iter().chain(key.map(|key: &str| ("sec-websocket-key", key))).collect();
        let answer = public.send(Method::GET, "/connect", &headers, "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{key:?}: {answer}");
        assert!(String::from_utf8_lossy(&answer.body).contains("Sec-WebSocket-Key"), "{key:?}: {answer}");
    }
}

#[tokio::test]
async fn plain_requests_to_the_public_listener_are_told_what_it_is() {
    let hub = Setup::new("A").start().await;
    let public = Private::new(hub.public);
    for (method, path, status, words) in [
        (Method::GET, "/connect", 426, "WebSocket"),
        (Method::POST, "/connect", 426, "GET"),
        (Method::GET, "/elsewhere", 404, "/connect"),
        (Method::GET, "/v1/sessions", 421, "--private"),
        (Method::POST, "/v1/drain", 421, "--hub"),
        (Method::GET, "/metrics", 421, "public listener"),
    ] {
        let answer = public.send(method, path, &[], "").await;
        assert_eq!(answer.status.as_u16(), status, "{answer}");
        assert!(String::from_utf8_lossy(&answer.body).contains(words), "expected \"{words}\": {answer}");
    }
    assert_eq!(public.get("/healthz/ready").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_trigger_that_is_pointed_at_the_public_port_is_told_so() {
    for with_app in [false, true] {
        let setup = Setup::new("A");
        let app = FakeApp::echo().await;
        let hub = if with_app { setup.app(&app.address) } else { setup }.start().await;
        for command in ["drain", "plan", "status", "report", "cancel"] {
            let run = hook(&[command, "--hub", &format!("http://{}", hub.public)]).run().await;
            let said = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(run.code, Some(6), "{command}: {said}");
            assert!(said.contains("421") && said.contains("public listener") && said.contains("--private"), "{said}");
        }
        assert_eq!(app.upgrades().len(), 0, "the app is not troubled");
    }
}

#[tokio::test]
async fn a_client_that_is_pointed_at_the_private_port_is_told_so() {
    let hub = Setup::new("A").start().await;
    let answer = Private::new(hub.private).get("/connect").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{answer}");
    assert!(String::from_utf8_lossy(&answer.body).contains("--public"), "{answer}");
}

#[tokio::test]
async fn a_full_hub_says_when_to_come_back() {
    let scene = Scene::set(|setup| setup.flag("--limit-sessions", "2")).await;
    let (_second, _) = RawClient::welcomed(&scene.url()).await;
    let mut third = RawClient::open(&scene.url()).await;
    third.frame(&json!({"type": "hello"})).await;
    let retry = third.expect("retry").await;
    assert_eq!(retry["why"], "full", "{retry}");
    assert_eq!(third.closed().await.0, Some(1013));
    let _held_open = RawClient::open(&scene.url()).await;
    let offered = [("sec-websocket-protocol", "tidegate.v1")];
    // A client may know that it was let in a moment before the hub counts it.
    let mut let_in = Vec::new();
    let refused = loop {
        match RawClient::try_open(&scene.url(), &offered).await {
            Ok(client) => let_in.push(client),
            Err(refused) => break refused,
        }
        assert!(let_in.len() < 100, "connections beyond the sessions have no room");
    };
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.body.contains("full"), "{refused:?}");
    scene.nobody_noticed("a full hub").await;
}
