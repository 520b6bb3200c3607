//! Bad calls of the private API, and their problems.

use crate::bystander::Scene;
use http::Method;
use serde_json::{Value, json};
use tidegate_tests::{Private, RawClient};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const UNKNOWN: &str = "00000000000000000000000000000001";

/// Method, path, headers, body, status, and words that the problem must have.
type Bad<'a> = (Method, String, &'a [(&'a str, &'a str)], String, u16, Vec<&'a str>);

async fn check(scene: &Scene, table: Vec<Bad<'_>>) {
    for (method, path, headers, body, status, words) in table {
        let shown: String = body.chars().take(80).collect();
        let what = format!("{method} {path} {shown}");
        let answer = scene.hub.api.send(method, &path, headers, body).await;
        let detail = answer.problem(status);
        for word in words {
            assert!(detail.contains(word), "{what}: expected \"{word}\" in \"{detail}\"");
        }
        scene.nobody_noticed(&what).await;
    }
}

#[tokio::test]
async fn an_impossible_policy_is_refused_by_a_problem_that_names_the_three_spans() {
    let scene = Scene::set(|setup| setup).await;
    let impossible = json!({"notice_ms": 200_000, "window_ms": 90_000, "settle_ms": 20_000, "deadline_ms": 300_000});
    for path in ["/v1/drain", "/v1/drain/plan"] {
        let answer = scene.hub.api.post(path, &impossible).await;
        let detail = answer.problem(422);
        for named in ["notice_ms 200000", "window_ms 90000", "settle_ms 20000", "deadline_ms 300000"] {
            assert!(detail.contains(named), "{path}: expected \"{named}\" in \"{detail}\"");
        }
        assert_eq!(answer.json()["deadline_ms"], 300_000, "{answer}");
    }
    let post = |policy: Value, words| (Method::POST, "/v1/drain".to_owned(), JSON, policy.to_string(), 422, words);
    check(
        &scene,
        vec![
            post(json!({"stages": [50, 40]}), vec!["stages", "100"]),
            post(json!({"stages": []}), vec!["stages"]),
            post(json!({"deadline_ms": 0}), vec!["deadline_ms"]),
            post(json!({"max_in_flight": 0}), vec!["max_in_flight"]),
            post(json!({"lease_ms": 10}), vec!["lease_ms"]),
            post(json!({"gate": {"back_min_percent": 101}}), vec!["back_min_percent"]),
            post(json!({"text": "x".repeat(1_025)}), vec!["text", "1024"]),
        ],
    )
    .await;
    assert_eq!(scene.hub.api.get("/v1/drain").await.expect(200)["phase"], "serving", "nothing was started");
}

#[tokio::test]
async fn a_body_that_cannot_be_meant_is_refused_by_a_problem_that_names_the_field() {
    let scene = Scene::set(|setup| setup).await;
    let bad =
        |path: &str, body: &str, status, words| (Method::POST, path.to_owned(), JSON, body.to_owned(), status, words);
    check(
        &scene,
        vec![
            bad("/v1/drain", r#"{"notice": 5}"#, 400, vec!["notice", "notice_ms"]),
            bad("/v1/drain", r#"{"notice_ms": "15s"}"#, 400, vec!["notice_ms"]),
            bad("/v1/drain", r#"{"gate": {"percent": 1}}"#, 400, vec!["percent"]),
            bad("/v1/drain", r#"{"on_orphan": "explode"}"#, 400, vec!["explode", "recall"]),
            bad("/v1/drain", "{", 400, vec!["JSON"]),
            bad("/v1/drain", "[]", 400, vec!["list", "object"]),
            bad("/v1/publish", r#"{"to": {"all": true}}"#, 400, vec!["text"]),
            bad("/v1/publish", r#"{"text": "x"}"#, 400, vec!["to"]),
            bad("/v1/publish", r#"{"to": {"all": true}, "text": "x", "json": 1}"#, 400, vec!["text", "json"]),
            bad("/v1/publish", r#"{"to": {"everybody": true}, "text": "x"}"#, 400, vec!["everybody"]),
            bad("/v1/publish", r#"{"to": {"channel": ""}, "text": "x"}"#, 400, vec!["to.channel", "empty"]),
            bad("/v1/publish", r#"{"to": {"all": true}, "base64": "%%"}"#, 400, vec!["base64"]),
            bad("/v1/publish", r#"{"to": {"all": true}, "text": "x", "scope": "moon"}"#, 400, vec!["moon", "fleet"]),
            bad("/v1/publish", &json!({"to": {"session": UNKNOWN}, "text": "x"}).to_string(), 404, vec![UNKNOWN]),
            bad("/v1/publish", r#"{"to": {"session": "me"}, "text": "x"}"#, 404, vec!["me"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_unknown_too_large_or_in_the_wrong_way_has_its_own_status() {
    let scene = Scene::set(|setup| {
        let small = setup.flag("--limit-channels", "2").flag("--limit-state-bytes", "100");
        small.flag("--limit-message-bytes", "1000").flag("--limit-api-body-bytes", "4000")
    })
    .await;
    let (_client, welcome) = RawClient::welcomed(&scene.url()).await;
    let session = format!("/v1/sessions/{}", welcome["session"].as_str().expect("an id"));
    for channel in ["one", "two"] {
        scene.hub.api.put(&format!("{session}/channels/{channel}")).await.expect(204);
    }
    let bare = |method, path: &str, status, words| (method, path.to_owned(), &[][..], String::new(), status, words);
    let text = |bytes: usize| json!({"to": {"all": true}, "text": "x".repeat(bytes)}).to_string();
    let opaque: &[_] = &[("content-type", "application/octet-stream")];
    let plain: &[_] = &[("content-type", "text/plain")];
    let foreign: &[_] = &[("host", "tidegate.example.com")];
    check(
        &scene,
        vec![
            bare(Method::PUT, &format!("{session}/channels/three"), 422, vec!["channels", "at most 2"]),
            bare(Method::PUT, &format!("{session}/channels/{}", "x".repeat(300)), 400, vec!["1 to 256"]),
            bare(Method::GET, &format!("/v1/sessions/{UNKNOWN}"), 404, vec![UNKNOWN]),
            bare(Method::GET, &format!("/v1/sessions/{UNKNOWN}/state"), 404, vec![UNKNOWN]),
            bare(Method::PUT, &format!("/v1/sessions/{UNKNOWN}/channels/x"), 404, vec![UNKNOWN]),
            bare(Method::DELETE, &format!("/v1/sessions/{UNKNOWN}"), 404, vec![UNKNOWN]),
            bare(Method::GET, "/v1/sessions/me", 404, vec!["me"]),
            bare(Method::GET, "/v1/sessions?limit=0", 400, vec!["limit", "1000"]),
            bare(Method::GET, "/v1/sessions?size=5", 400, vec!["size", "limit"]),
            bare(Method::GET, "/v1/drain?wait_ms=soon", 400, vec!["wait_ms"]),
            bare(Method::GET, "/v1/drain?wait_ms=60001", 400, vec!["wait_ms", "60000"]),
            bare(Method::GET, "/v2/drain", 404, vec!["/v2/drain"]),
            bare(Method::PATCH, "/v1/drain", 405, vec!["PATCH"]),
            (Method::PUT, format!("{session}/state"), opaque, "x".repeat(101), 413, vec!["100", "--limit-state-bytes"]),
            (Method::POST, "/v1/publish".into(), JSON, text(1_001), 413, vec!["1001", "--limit-message-bytes"]),
            (Method::POST, "/v1/publish".into(), JSON, text(5_000), 413, vec!["--limit-api-body-bytes"]),
            (Method::POST, "/v1/drain".into(), plain, "{}".into(), 415, vec!["text/plain", "application/json"]),
            (Method::POST, "/v1/drain".into(), &[], "{}".into(), 415, vec!["application/json"]),
            (Method::GET, "/v1/hub".into(), foreign, String::new(), 403, vec!["tidegate.example.com", "localhost"]),
            (Method::POST, "/v1/drain".into(), foreign, String::new(), 403, vec!["tidegate.example.com"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_private_api_wants_its_bearer_token_where_one_is_set() {
    let scene = Scene::set(|setup| {
        let file = setup.file("private.token", "the-right-one-of-the-tests\n");
        setup.flag("--private-token-file", file.display())
    })
    .await;
    let api = Private::new(scene.hub.private);
    for (api, words) in
        [(api.clone(), "Authorization: Bearer"), (api.clone().with_token("wrong"), "--private-token-file")]
    {
        for path in ["/v1/hub", "/v1/sessions", "/v1/drain", "/metrics", "/nowhere"] {
            let answer = api.get(path).await;
            let detail = answer.problem(401);
            assert!(detail.contains(words), "{path}: expected \"{words}\" in \"{detail}\"");
            assert_eq!(answer.headers["www-authenticate"], "Bearer", "{answer}");
            assert!(!detail.contains("the-right-one"), "{detail}");
        }
    }
    assert_eq!(api.get("/healthz/ready").await.status, 200, "health needs no token");
    assert_eq!(api.with_token("the-right-one-of-the-tests").get("/v1/hub").await.status, 200);
    scene.nobody_noticed("calls without the token").await;
}
