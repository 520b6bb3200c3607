//! Bad input: each refused with what was wrong, with which value, and what would be right.

use super::*;

#[tokio::test]
async fn bad_publishes_name_what_is_wrong() {
    let bench = bench(&["--limit-message-bytes", "8"]).await;
    let cell = bench.session(1, None, &[]);
    let long = "x".repeat(300);
    let table: [(String, u16, &str); 19] = [
        ("".into(), 400, "no body"),
        ("{".into(), 400, "EOF while parsing"),
        ("[]".into(), 400, "the body cannot be read"),
        (r#"{"text":"a"}"#.into(), 400, "missing field `to`"),
        (r#"{"to":{"all":true}}"#.into(), 400, "exactly one of text, json, base64"),
        (r#"{"to":{"all":true},"text":"a","base64":"YQ=="}"#.into(), 400, "more than one message"),
        (r#"{"to":{},"text":"a"}"#.into(), 400, "names nobody"),
        (r#"{"to":{"all":true},"text":5}"#.into(), 400, "`text` is the number 5: give a string"),
        (
            "{\"to\":{\"all\":true},\n\"text\":5}".into(),
            400,
            "`text` is the number 5: give a string (line 2, column 8)",
        ),
        (r#"{"to":{"all":true},"text":"\ud800"}"#.into(), 400, "hex escape"),
        (r#"{"to":{"all":true},"base64":"??"}"#.into(), 400, "standard alphabet with padding"),
        (r#"{"to":{"all":true},"text":"a","scope":"world"}"#.into(), 400, "`scope` is `world`: give `fleet` or `hub`"),
        (r#"{"to":{"all":true},"text":"a","colour":1}"#.into(), 400, "unknown field `colour`"),
        (r#"{"to":{"all":true},"text":"a","idempotency_key":""}"#.into(), 400, "has 0 bytes"),
        (format!(r#"{{"to":{{"channel":"{long}"}},"text":"a"}}"#), 400, "has 300 bytes"),
        (r#"{"to":{"user":"a\u0007"},"text":"a"}"#.into(), 400, "without control characters"),
        (r#"{"to":{"all":true},"text":"123456789"}"#.into(), 413, "has 9 bytes: at most 8"),
        (r#"{"to":{"all":true},"base64":"MTIzNDU2Nzg5"}"#.into(), 413, "has 9 bytes: at most 8"),
        (r#"{"to":{"all":true},"json":"1234567"}"#.into(), 413, "--limit-message-bytes"),
    ];
    for (body, status, said) in table {
        let answer = bench.publish(body.clone()).await;
        let detail = answer.problem(status);
        assert!(detail.contains(said), "{body}: expected \"{said}\" in \"{detail}\"");
    }
    assert_eq!(outbox(&cell), [], "nothing of this reached anybody");
}

#[tokio::test]
async fn a_session_that_nobody_knows_is_404_however_it_is_written() {
    let bench = bench(&[]).await;
    for session in [id(9), "nobody".into(), "ABCDEFABCDEFABCDEFABCDEFABCDEFAB".into()] {
        bench.publish(format!(r#"{{"to":{{"session":"{session}"}},"text":"a"}}"#)).await.problem(404);
        for (method, path) in
            [("GET", ""), ("DELETE", ""), ("PUT", "/channels/news"), ("DELETE", "/channels/news"), ("GET", "/state")]
        {
            let detail = bench.call(method, &format!("/v1/sessions/{session}{path}")).await.problem(404);
            assert!(detail.contains("no hub knows"), "{method} {session}{path}: {detail}");
        }
        bench
            .typed("PUT", &format!("/v1/sessions/{session}/state"), "application/octet-stream", "x")
            .await
            .problem(404);
    }
}

#[tokio::test]
async fn bad_queries_name_the_parameter_and_its_range() {
    let bench = bench(&[]).await;
    for (path, said) in [
        ("/v1/sessions?limit=0", "limit is \"0\": give a whole number from 1 to 1000"),
        ("/v1/sessions?limit=1001", "from 1 to 1000"),
        ("/v1/sessions?limit=many", "limit is \"many\""),
        ("/v1/sessions?limit=1&limit=2", "given twice"),
        ("/v1/sessions?after=xyz", "after: \"xyz\" is not an id"),
        ("/v1/sessions?page=2", "unknown query parameter `page`: this call takes limit and after"),
        ("/v1/drain?wait_ms=60001", "wait_ms is \"60001\": give a whole number from 0 to 60000"),
        ("/v1/drain?wait_ms=-1", "wait_ms is \"-1\""),
        ("/v1/drain?after=1.5", "after is \"1.5\": give a whole number"),
        ("/v1/drain?wait=1", "unknown query parameter `wait`"),
        ("/v1/hub?verbose=1", "this call takes none"),
        ("/v1/drain/report?x", "unknown query parameter `x`"),
    ] {
        bench.get(path).await.says(400, said);
    }
    bench.json("POST", "/v1/drain?notice_ms=1", "{}").await.says(400, "unknown query parameter `notice_ms`");
}

#[tokio::test]
async fn bodies_over_their_limit_are_413_and_name_it() {
    let bench =
        bench(&["--limit-message-bytes", "100", "--limit-api-body-bytes", "1KiB", "--limit-state-bytes", "10"]).await;
    bench.session(1, None, &[]);
    let answer = bench.publish(format!(r#"{{"to":{{"all":true}},"text":"{}"}}"#, "x".repeat(1_100))).await;
    answer.says(413, "at most 1024 are allowed (--limit-api-body-bytes)");
    assert_eq!(answer.value()["limit"], 1024);
    bench.publish("x".repeat(10 << 20)).await.says(413, "has 10485760 bytes");
    bench
        .json("POST", "/v1/drain", format!(r#"{{"reason":"{}"}}"#, "x".repeat(1_100)))
        .await
        .says(413, "--limit-api-body-bytes");
    let path = format!("/v1/sessions/{}/state", id(1));
    bench
        .typed("PUT", &path, "application/octet-stream", "12345678901")
        .await
        .says(413, "the state has 11 bytes: at most 10");
    bench.typed("PUT", &path, "application/octet-stream", "1234567890").await.ok(204);
}

#[tokio::test]
async fn too_many_channels_and_bad_names_are_refused() {
    let bench = bench(&["--limit-channels", "2"]).await;
    bench.session(1, None, &["a"]);
    let put = async |name: &str| bench.call("PUT", &format!("/v1/sessions/{}/channels/{name}", id(1))).await;
    put("b").await.ok(204);
    put("a").await.ok(204);
    let answer = put("c").await;
    answer.says(422, "channels of one session: at most 2 are allowed, and this would make 3");
    assert_eq!((&answer.value()["limit"], &answer.value()["given"]), (&2.into(), &3.into()));
    put("%07").await.says(400, "without control characters");
    put("%ff").await.says(400, "the path cannot be read");
    put(&"x".repeat(257)).await.says(400, "has 257 bytes");
}

#[tokio::test]
async fn impossible_policies_are_422_and_name_the_three() {
    let bench = bench(&[]).await;
    for path in ["/v1/drain", "/v1/drain/plan"] {
        let answer = bench
            .json("POST", path, r#"{"notice_ms":5000,"window_ms":4000,"settle_ms":3000,"deadline_ms":10000}"#)
            .await;
        answer.says(422, "notice_ms 5000 + window_ms 4000 + settle_ms 3000 = 12000 is more than deadline_ms 10000");
        assert_eq!(answer.value()["window_ms"], 4000);
        bench.json("POST", path, r#"{"stages":[50,40]}"#).await.says(422, "add to 90");
        bench.json("POST", path, r#"{"lease_ms":1}"#).await.says(422, "lease_ms: 1 is out of range");
        bench.json("POST", path, r#"{"notice":5}"#).await.says(400, "unknown field `notice`");
        bench
            .json("POST", path, r#"{"notice_ms":"5s"}"#)
            .await
            .says(400, "`notice_ms` is the string \"5s\": give a whole number");
        bench
            .json("POST", path, r#"{"notice_ms":-5}"#)
            .await
            .says(400, "`notice_ms` is the number -5: give a whole number");
    }
    assert_eq!(bench.get("/v1/drain").await.ok(200)["phase"], "serving", "none of these began a drain");
}
