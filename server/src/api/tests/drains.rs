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
    assert_eq!(plan["stages"], json!([{ "begin_ms": 1_000, "span_ms": 0, "count": 10 }]), "all at once: {plan}");
    assert_eq!((&plan["parks"]["sessions"], &plan["parks"]["at_ms"]), (&json!(10), &json!(1_000)), "{plan}");
    assert!(plan["parks"]["why"].as_str().is_some_and(|why| why.contains("--peer")), "{plan}");
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

impl Bench {
    async fn attempt(&self, method: &str, name: &str) -> Answer {
        let request = request(method, "/v1/drain").header("tidegate-attempt", name);
        self.send(request.body(Body::empty()).expect("a good request")).await
    }
}

#[tokio::test]
async fn a_start_that_is_heard_after_its_own_undoing_begins_nothing() {
    let bench = bench(&[]).await;
    bench.session(1, None, &[]);
    assert_eq!(bench.attempt("DELETE", "run-1").await.ok(200)["phase"], "serving");
    let refused = bench.attempt("POST", "run-1").await;
    refused.says(409, "called off");
    assert_eq!(refused.value()["attempt"], "run-1");
    assert_eq!(bench.get("/v1/drain").await.ok(200)["phase"], "serving");

    assert_eq!(bench.attempt("POST", "run-2").await.ok(202)["joined"], false, "another run is another matter");
    assert_eq!(
        bench.attempt("DELETE", "run-1").await.ok(200)["phase"],
        "noticing",
        "which the first one does not undo"
    );
    assert_eq!(bench.attempt("POST", "run-3").await.ok(202)["joined"], true);
    assert_eq!(bench.attempt("DELETE", "run-3").await.ok(200)["phase"], "noticing", "who only joined undoes no more");
    assert_eq!(bench.attempt("DELETE", "run-2").await.ok(200)["phase"], "serving", "the last one does");
    bench.attempt("POST", "run-4").await.ok(202);
    assert_eq!(bench.call("DELETE", "/v1/drain").await.ok(200)["phase"], "serving", "and a person always");
    for bad in ["", "a b", &"x".repeat(65)] {
        bench.attempt("POST", bad).await.says(400, "Tidegate-Attempt");
        bench.attempt("DELETE", bad).await.says(400, "Tidegate-Attempt");
    }
}

/// A trigger of this group, in this event of this deployment.
async fn group(bench: &Bench, method: &str, [group, event, deployment, attempt]: [&str; 4]) -> Value {
    let mut request = request(method, "/v1/drain")
        .header("tidegate-claimant", group)
        .header("tidegate-event", event)
        .header("tidegate-deployment", deployment);
    if method == "POST" {
        request = request.header("tidegate-attempt", attempt);
    }
    bench.send(request.body(Body::empty()).expect("a good request")).await.value()
}

#[tokio::test]
async fn a_drain_is_on_as_long_as_anybody_claims_it_and_status_report_and_metric_name_them() {
    let bench = bench(&[]).await;
    bench.session(1, None, &[]);
    group(&bench, "POST", ["shop/blue", "BeforeBlockTraffic", "d-1", "run-1"]).await;
    let joined = group(&bench, "POST", ["shop/green", "BeforeBlockTraffic", "d-9", "run-2"]).await;
    assert_eq!(joined["joined"], true, "{joined}");
    let named = json!([
        { "claimant": "shop/blue", "event": "BeforeBlockTraffic", "deployment": "d-1", "life": "draining" },
        { "claimant": "shop/green", "event": "BeforeBlockTraffic", "deployment": "d-9", "life": "draining" },
    ]);
    let only = |claims: &Value| -> Value {
        let claims = claims.as_array().cloned().unwrap_or_default();
        let fields = ["claimant", "event", "deployment", "life"];
        let one = |claim: &Value| -> serde_json::Map<String, Value> {
            fields.iter().map(|field| ((*field).to_owned(), claim[field].clone())).collect()
        };
        claims.iter().map(one).collect()
    };
    assert_eq!(only(&joined["claims"]), named, "{joined}");
    assert!(
        bench
            .hub
            .metrics
            .render()
            .contains("tidegate_drain_claims{claimant=\"shop/green\",event=\"BeforeBlockTraffic\"} 1")
    );

    let green = group(&bench, "DELETE", ["shop/green", "BeforeAllowTraffic", "d-9", ""]).await;
    assert_eq!(
        (&green["phase"], &green["claims"][0]["claimant"]),
        (&json!("noticing"), &json!("shop/blue")),
        "{green}"
    );
    assert_eq!(green["called_off"], Value::Null);
    let blue = group(&bench, "DELETE", ["shop/blue", "BeforeAllowTraffic", "d-2", ""]).await;
    assert_eq!((&blue["phase"], &blue["claims"]), (&json!("serving"), &json!([])), "{blue}");
    assert_eq!(blue["called_off"]["by"], "shop/blue (BeforeAllowTraffic of d-2)");
    crate::drain::spawn(&bench.hub);
    let report = bench.get("/v1/drain/report").await.ok(200);
    assert_eq!((&report["result"], &report["drain"]), (&json!("cancelled"), &joined["drain"]), "{report}");
    assert_eq!(report["why"], "called off by shop/blue (BeforeAllowTraffic of d-2)");
    assert_eq!(
        report["asked_by"],
        json!([
            { "claimant": "shop/blue", "event": "BeforeBlockTraffic", "deployment": "d-1", "joined": false },
            { "claimant": "shop/green", "event": "BeforeBlockTraffic", "deployment": "d-9", "joined": true },
        ])
    );
    assert!(
        bench
            .hub
            .metrics
            .render()
            .contains("tidegate_drain_claims{claimant=\"shop/blue\",event=\"BeforeBlockTraffic\"} 0")
    );
}

#[tokio::test]
async fn an_operator_ends_all_claims_and_is_named_by_address_and_token() {
    let bench = bench(&[]).await;
    bench.session(1, None, &[]);
    group(&bench, "POST", ["shop/blue", "BeforeBlockTraffic", "d-1", "run-1"]).await;
    let mut call = request("DELETE", "/v1/drain").body(Body::empty()).expect("a good request");
    call.extensions_mut().insert(crate::drain::Caller::at(([127, 0, 0, 1], 4_711).into()));
    let status = bench.send(call).await.ok(200);
    assert_eq!((&status["phase"], &status["claims"]), (&json!("serving"), &json!([])), "{status}");
    let by = status["called_off"]["by"].as_str().expect("somebody did it");
    assert_eq!(by, "an operator: DELETE /v1/drain from 127.0.0.1:4711, no token is asked for");
}

#[tokio::test]
async fn names_of_claimants_are_checked_and_a_bad_one_is_named() {
    let bench = bench(&[]).await;
    for header in ["tidegate-claimant", "tidegate-event", "tidegate-deployment"] {
        for bad in ["", &"x".repeat(257), "schön"] {
            let value = http::HeaderValue::from_bytes(bad.as_bytes()).expect("bytes that a header may have");
            let call = request("POST", "/v1/drain").header(header, value).body(Body::empty()).expect("a good request");
            bench.send(call).await.says(400, "visible ASCII");
        }
    }
    assert_eq!(bench.get("/v1/drain").await.ok(200)["phase"], "serving");
}

#[tokio::test]
async fn clients_that_are_closed_by_force_are_told_when_to_come_back_one_after_the_other() {
    let bench = bench(&[]).await;
    let cells: Vec<_> = (1..=5).map(|id| bench.session(id, None, &[])).collect();
    bench.hub.store.close().await.expect("nothing is being written");
    crate::drain::spawn(&bench.hub);
    bench.json("POST", "/v1/drain", r#"{"deadline_ms":400}"#).await.ok(202);
    let mut status = bench.get("/v1/drain").await.ok(200);
    while status["phase"] != "drained" {
        status = bench.get(&format!("/v1/drain?wait_ms=2000&after={}", status["seq"])).await.ok(200);
    }
    assert_eq!(status["sessions"]["forced"], 5, "neither pushed nor parked: {status}");
    let mut slots: Vec<u64> = cells.iter().map(slot).collect();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), 5, "one after the other: {slots:?}");
}

/// When the client of this session was told to come back.
fn slot(cell: &Arc<Cell>) -> u64 {
    use crate::hub::conn::Order;
    let conn = cell.lock().conn.clone().expect("it has a connection");
    loop {
        match conn.line().next_order().expect("a close is among its orders") {
            Order::Close(code, why) => {
                let slot = tidegate_protocol::close::slot_ms(code, &why);
                return slot.unwrap_or_else(|| panic!("closed with {code} \"{why}\", and no slot"));
            }
            Order::Frame(_) | Order::Ping | Order::Welcome(..) => {}
        }
    }
}

#[tokio::test]
async fn a_report_is_kept_for_the_next_process_and_marked_as_of_an_earlier_one() {
    use std::os::unix::fs::PermissionsExt;
    let first = bench(&[]).await;
    let begun = first.json("POST", "/v1/drain", r#"{"trigger":{"deployment":"d-1"}}"#).await.ok(202);
    drained(&first).await;
    let report = first.get("/v1/drain/report").await.ok(200);
    assert_eq!((&report["drain"], &report["earlier_run"]), (&begun["drain"], &json!(false)));
    let path = first.dir.path().join("last-report.json");
    assert_eq!(std::fs::metadata(&path).expect("it is kept").permissions().mode() & 0o777, 0o600);

    let second = first.again().await;
    let kept = second.get("/v1/drain/report").await.ok(200);
    assert_eq!(
        (&kept["drain"], &kept["trigger"], &kept["earlier_run"]),
        (&begun["drain"], &report["trigger"], &json!(true))
    );
    assert_eq!(second.get("/v1/drain").await.ok(200)["phase"], "serving", "a report is no drain");
    let anew = second.call("POST", "/v1/drain").await.ok(202);
    drained(&second).await;
    let report = second.get("/v1/drain/report").await.ok(200);
    assert_eq!((&report["drain"], &report["earlier_run"]), (&anew["drain"], &json!(false)));

    std::fs::write(&path, "{\"drain\":").expect("it can be damaged");
    let third = second.again().await;
    third.get("/v1/drain/report").await.says(404, "POST /v1/drain");
}
