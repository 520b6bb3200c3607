//! The doors of the drain.

use super::*;
use serde_json::json;

async fn drained(bench: &Bench) -> Value {
    crate::drain::spawn(&bench.hub);
    let mut status = bench.get("/v1/drain").await.ok(200);
    for _ in 0..50 {
        if status["phase"] == "drained" {
            return status;
        }
        status = bench.get(&format!("/v1/drain?wait_ms=2000&after={}", status["seq"])).await.ok(200);
    }
    panic!("the drain of an empty hub should have ended: {status}");
}

#[tokio::test]
async fn without_a_drain_the_status_is_serving_and_a_wait_ends() {
    let bench = bench(&[]).await;
    let status = bench.get("/v1/drain").await.ok(200);
    assert_eq!((&status["phase"], &status["drain"]), (&json!("serving"), &Value::Null));
    let waited = bench.get(&format!("/v1/drain?wait_ms=20&after={}", status["seq"])).await.ok(200);
    assert_eq!(waited["phase"], "serving");
    bench.get("/v1/drain/report").await.says(404, "POST /v1/drain");
    assert_eq!(bench.call("DELETE", "/v1/drain").await.ok(200)["phase"], "serving");
}

#[tokio::test]
async fn a_plan_changes_nothing() {
    let bench = bench(&[]).await;
    for number in 1..=10 {
        bench.session(number, None, &[]);
    }
    let plan = bench.json("POST", "/v1/drain/plan", r#"{"notice_ms":1000,"stages":[10,90]}"#).await.ok(200);
    assert_eq!(plan["sessions"], 10, "{plan}");
    let stages = plan["stages"].as_array().expect("stages");
    assert_eq!(
        stages.iter().map(|stage| stage["count"].as_u64().expect("a count")).collect::<Vec<_>>(),
        [1, 9],
        "{plan}"
    );
    assert!(plan["fits"].is_boolean() && plan["total_ms"].is_u64(), "{plan}");
    assert_eq!(bench.get("/v1/drain").await.ok(200)["phase"], "serving");
}

#[tokio::test]
async fn a_second_start_joins_the_first() {
    let bench = bench(&[]).await;
    bench.session(1, None, &[]);
    let first = bench.call("POST", "/v1/drain").await.ok(202);
    assert_eq!(first["joined"], false);
    assert_eq!(first["sessions"]["at_start"], 1, "{first}");
    let second = bench.json("POST", "/v1/drain", r#"{"notice_ms":1}"#).await.ok(202);
    assert_eq!((&second["joined"], &second["drain"]), (&json!(true), &first["drain"]));
    assert_eq!(bench.get("/v1/drain").await.ok(200)["joined"], Value::Null);
}

#[tokio::test]
async fn an_empty_hub_is_drained_at_once_reports_it_and_serves_again_when_told() {
    let bench = bench(&[]).await;
    let begun = bench.json("POST", "/v1/drain", r#"{"trigger":{"deployment":"d-1"}}"#).await.ok(202);
    let ended = drained(&bench).await;
    assert_eq!(ended["drain"], begun["drain"]);
    let report = bench.get("/v1/drain/report").await.ok(200);
    assert_eq!((&report["result"], &report["drain"]), (&json!("drained"), &begun["drain"]));
    assert_eq!(report["trigger"], json!({"deployment": "d-1"}));
    assert_eq!(bench.get("/v1/hub").await.ok(200)["state"], "drained");
    bench.call("DELETE", "/v1/drain").await.ok(200);
    assert_eq!(bench.get("/v1/drain").await.ok(200)["phase"], "serving");
    assert_eq!(bench.get("/v1/hub").await.ok(200)["state"], "serving");
}
