//! Who may call.

use super::*;

fn with_host(host: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().uri("/v1/hub");
    if let Some(host) = host {
        request = request.header(header::HOST, host);
    }
    request.body(Body::empty()).expect("a good request")
}

#[tokio::test]
async fn a_loopback_listener_refuses_the_host_of_a_web_page_and_none() {
    let bench = bench(&[]).await;
    for host in ["localhost", "localhost:8081", "127.0.0.1:9", "[::1]:8081"] {
        bench.send(with_host(Some(host))).await.ok(200);
    }
    for (host, said) in [
        (Some("evil.example"), "the Host is \"evil.example\""),
        (Some("127.0.0.1.evil.example"), "the Host is"),
        (None, "there is no Host"),
    ] {
        bench.send(with_host(host)).await.says(403, said);
    }
}

#[tokio::test]
async fn a_listener_off_loopback_answers_to_any_name() {
    let bench = bench(&["--private", "192.0.2.1:8081", "--insecure-private"]).await;
    bench.send(with_host(Some("hub.internal"))).await.ok(200);
}

#[tokio::test]
async fn with_a_token_everything_but_health_wants_it() {
    let bench = bench_with(&[], Some(PrivateToken::new("the-right-one"))).await;
    for path in ["/v1/hub", "/v1/sessions", "/v1/drain", "/metrics", "/nowhere"] {
        let answer = bench.get(path).await;
        answer.says(401, "Authorization: Bearer");
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer", "{path}");
        let wrong = request("GET", path)
            .header(header::AUTHORIZATION, "Bearer a-wrong-one")
            .body(Body::empty())
            .expect("a good request");
        let detail = bench.send(wrong).await.problem(401);
        assert!(detail.contains("--private-token-file") && !detail.contains("a-wrong-one"), "{detail}");
    }
    assert_eq!(bench.get("/healthz/live").await.status, 200);
    assert_eq!(bench.get("/healthz/ready").await.status, 200);
    let right = request("GET", "/v1/hub")
        .header(header::AUTHORIZATION, "Bearer the-right-one")
        .body(Body::empty())
        .expect("a good request");
    bench.send(right).await.ok(200);
}

#[tokio::test]
async fn a_body_needs_the_json_content_type_and_an_empty_one_needs_none() {
    let bench = bench(&[]).await;
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
        let body = r#"{"to":{"all":true},"text":"a"}"#;
        bench.typed("POST", "/v1/publish", content_type, body).await.says(415, "send application/json");
        bench.typed("POST", "/v1/drain/plan", content_type, "{}").await.says(415, "send application/json");
    }
    let none = request("POST", "/v1/drain/plan").body(Body::from("{}")).expect("a good request");
    bench.send(none).await.says(415, "no content type");
    bench.typed("POST", "/v1/drain/plan", "Application/JSON; charset=utf-8", "{}").await.ok(200);
    bench.call("POST", "/v1/drain/plan").await.ok(200);
    bench.session(1, None, &[]);
    let path = format!("/v1/sessions/{}/state", id(1));
    bench.typed("PUT", &path, "text/plain", "x").await.says(415, "application/octet-stream or application/json");
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_problems_too() {
    let bench = bench(&[]).await;
    bench.get("/v2/publish").await.says(404, "there is no /v2/publish here");
    bench.get("/").await.says(404, "/v1/");
    for (method, path, allow) in [
        ("GET", "/v1/publish", "POST"),
        ("PUT", "/v1/drain", "DELETE"),
        ("POST", "/v1/hub", "GET"),
        ("POST", "/v1/sessions", "GET"),
        ("DELETE", "/metrics", "GET"),
    ] {
        let answer = bench.call(method, path).await;
        answer.says(405, &format!("{path} does not take {method}"));
        let allowed = answer.headers[header::ALLOW].to_str().expect("ASCII");
        assert!(allowed.contains(allow), "{method} {path}: {allowed}");
    }
}

#[tokio::test]
async fn ready_says_whether_newcomers_are_wanted_and_why_not() {
    let bench = bench(&["--limit-sessions", "1"]).await;
    assert_eq!(bench.get("/healthz/ready").await.body, "ready");
    bench.session(1, None, &[]);
    bench.get("/healthz/ready").await.says(503, "all the 1 sessions that it may have");
    bench.call("POST", "/v1/drain").await.ok(202);
    let draining = bench.get("/healthz/ready").await;
    assert_eq!(draining.status, 200, "{draining:?}");
    assert!(draining.body.starts_with(b"draining: "), "{draining:?}");
    bench.get("/healthz/ready?draining=404").await.says(404, "hands its sessions on");
    bench.get("/healthz/ready?draining=1").await.says(400, "give draining=404, or none");
    assert_eq!(bench.get("/healthz/live").await.status, 200);
}

#[tokio::test]
async fn the_hub_says_who_it_is_and_what_it_allows() {
    let bench = bench(&["--limit-message-bytes", "2KiB", "--public-url", "ws://hub.example:0"]).await;
    bench.session(1, None, &[]);
    let hub = bench.get("/v1/hub").await.ok(200);
    assert_eq!(hub["id"], bench.hub.id.to_string());
    assert_eq!(hub["incarnation"], bench.hub.incarnation.to_string());
    let public_url = hub["public_url"].as_str().expect("it was given");
    assert!(public_url.starts_with("ws://hub.example:1"), "port 0 stands for the bound one: {public_url}");
    assert_eq!(hub["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&hub["state"], &hub["sessions"], &hub["connections"]), (&"serving".into(), &1.into(), &1.into()));
    assert_eq!(hub["limits"]["message_bytes"], 2048);
    assert_eq!(hub["peers"], Value::Array(vec![]));
    bench.call("POST", "/v1/drain").await.ok(202);
    assert_eq!(bench.get("/v1/hub").await.ok(200)["state"], "draining");
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let bench = bench(&[]).await;
    let answer = bench.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(answer.body.to_vec()).expect("UTF-8");
    assert!(text.contains("tidegate_sessions{phase=\"attached\"}"), "{text}");
}
