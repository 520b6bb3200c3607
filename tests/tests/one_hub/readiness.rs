//! *Ready* means: send newcomers here. Both listeners say the same.

use serde_json::json;
use tidegate_tests::{Hub, Private, RawClient, Setup, wait_until};

/// What both listeners answer, once they agree: the public one in plain words, the private one as a problem.
async fn ready(hub: &Hub, query: &str) -> (u16, String) {
    let path = format!("/healthz/ready{query}");
    let public = Private::new(hub.public).get(&path).await;
    let private = hub.api.get(&path).await;
    assert_eq!(public.status, private.status, "the listeners disagree: {public}, {private}");
    if public.status != 200 {
        private.problem(public.status.as_u16());
    }
    (public.status.as_u16(), String::from_utf8(public.body.to_vec()).expect("text"))
}

/// A drain that is still in its notice when the test is over.
async fn begin_drain(hub: &Hub) {
    hub.api.post("/v1/drain", &json!({"notice_ms": 600_000, "deadline_ms": 3_600_000})).await.expect(202);
}

#[tokio::test]
async fn a_full_hub_is_not_ready_and_says_so_until_somebody_leaves() {
    let hub = Setup::new("A").flag("--limit-sessions", 2).start().await;
    assert_eq!(ready(&hub, "").await, (200, "ready".to_owned()));
    let (mut first, _) = RawClient::welcomed(&hub.url("/connect")).await;
    let (_second, _) = RawClient::welcomed(&hub.url("/connect")).await;
    let full = "full: this hub has all the 2 sessions that it may have (--limit-sessions, open files)".to_owned();
    for query in ["", "?draining=404"] {
        assert_eq!(ready(&hub, query).await, (503, full.clone()), "{query}");
    }
    first.close(1000, "").await;
    wait_until("ready again", async || match hub.api.get("/healthz/ready").await {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.to_string()),
    })
    .await;
    assert_eq!(ready(&hub, "").await, (200, "ready".to_owned()));
}

#[tokio::test]
async fn a_hub_that_drains_is_ready_unless_it_or_the_health_check_is_told_otherwise() {
    for (flag, status) in [("false", 200), ("true", 503)] {
        let hub = Setup::new("A").env("TIDEGATE_UNREADY_WHEN_DRAINING", flag).start().await;
        let (_client, _) = RawClient::welcomed(&hub.url("/connect")).await;
        for query in ["", "?draining=404"] {
            assert_eq!(ready(&hub, query).await, (200, "ready".to_owned()), "{flag}{query}");
        }
        begin_drain(&hub).await;
        let (seen, words) = ready(&hub, "").await;
        assert_eq!(seen, status, "{words}");
        assert!(words.starts_with("draining: "), "{words}");
        let (seen, words) = ready(&hub, "?draining=404").await;
        assert!(seen == 404 && words.starts_with("draining: "), "{seen} {words}");
        hub.api.delete("/v1/drain").await.expect(200);
        assert_eq!(ready(&hub, "?draining=404").await.0, 200, "it serves again");
    }
}

#[tokio::test]
async fn a_drained_hub_is_not_ready_until_it_serves_again() {
    let hub = Setup::new("A").start().await;
    hub.api.post("/v1/drain", &json!({})).await.expect(202);
    hub.wait_drain("an empty hub is drained", |status| status.phase.as_str() == "drained").await;
    for query in ["", "?draining=404"] {
        let (status, words) = ready(&hub, query).await;
        assert!(status == 503 && words.starts_with("drained: "), "{query}: {status} {words}");
    }
    hub.api.delete("/v1/drain").await.expect(200);
    assert_eq!(ready(&hub, "").await.0, 200);
}

#[tokio::test]
async fn a_health_check_with_a_query_that_is_not_known_is_refused_with_what_would_be_right() {
    let hub = Setup::new("A").start().await;
    for query in ["?draining=503", "?drainig=404", "?draining=404&x=1"] {
        let (status, words) = ready(&hub, query).await;
        assert!(status == 400 && words.contains("give draining=404, or none"), "{query}: {status} {words}");
    }
}
