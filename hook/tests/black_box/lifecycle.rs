use crate::agent::Agent;
use crate::hub::{Hub, report, serving, status};
use serde_json::json;

#[test]
fn other_events_are_one_line_and_trouble_nobody() {
    let hub = Hub::endless();
    for event in ["BeforeInstall", "AfterInstall", "ApplicationStart", "AfterAllowTraffic", "BlockTraffic"] {
        let run = Agent::event(event, &hub.url()).run().expect(0);
        assert_eq!(run.stdout, format!("{event}: nothing to do for tidegate-hook\n"));
    }
    assert_eq!(hub.asked().len(), 0);
}

#[test]
fn without_an_event_or_a_command_it_helps_and_exits_2() {
    let hub = Hub::endless();
    let run = Agent::event("", &hub.url()).run().expect(2);
    assert!(run.stderr.contains("Usage: tidegate-hook") && run.stderr.contains("LIFECYCLE_EVENT"), "{run:#?}");
    assert_eq!(hub.asked().len(), 0);
}

#[test]
fn after_block_traffic_the_rest_is_pushed_or_parked_now() {
    let mut running = status("noticing", 1, 4);
    running["joined"] = json!(true);
    let hub = Hub::draining(vec![running, status("forcing", 2, 2), status("drained", 3, 0)], report("drained", 0));
    let run = Agent::event("AfterBlockTraffic", &hub.url()).setting("notice = \"1m\"").run().expect(0);
    run.says(&["pushing or parking the rest at", "joined the drain that is under way"]);
    let policy = hub.asked()[0].json();
    assert_eq!((&policy["rest"], &policy["notice_ms"], &policy["window_ms"]), (&json!("now"), &json!(0), &json!(0)));
    assert_eq!((&policy["settle_ms"], &policy["deadline_ms"]), (&json!(2_000), &json!(60_000)));
}

#[test]
fn after_block_traffic_a_hub_drained_before_is_watched_until_the_late_ones_are_gone() {
    let mut first = status("drained", 1, 3);
    first["joined"] = json!(true);
    let hub = Hub::draining(vec![first, status("drained", 2, 1), status("drained", 3, 0)], report("drained", 0));
    let run = Agent::event("AfterBlockTraffic", &hub.url()).setting("strict = true").run().expect(0);
    assert_eq!(hub.count("GET", "/v1/drain"), 2);
    // What it is told is not its own account: it did not drain the hub.
    run.says(&["since this run began:", "0 remaining now", "the hub was drained already; that drain's report:"]);
}

#[test]
fn after_block_traffic_a_failure_is_not_undone_for_the_instance_is_out_of_the_balancer() {
    let hub = Hub::endless();
    let agent = Agent::event("AfterBlockTraffic", &hub.url()).setting("give_up_after = \"500ms\"");
    agent.run().expect(5).says(&["nothing was undone"]);
    assert_eq!(hub.count("DELETE", "/v1/drain"), 0);
}

#[test]
fn before_allow_traffic_the_hub_serves_again() {
    let hub = Hub::draining(vec![serving()], report("drained", 0));
    let run = Agent::event("BeforeAllowTraffic", &hub.url()).run().expect(0);
    run.says(&["BeforeAllowTraffic of d-TEST12345 (shop/blue): the hub serves"]);
    assert_eq!(hub.asked().len(), 1);
    assert_eq!(hub.count("DELETE", "/v1/drain"), 1);
}

#[test]
fn each_call_of_a_deployment_says_whose_it_is_and_only_an_operator_says_nothing() {
    let hub = Hub::draining(vec![status("drained", 1, 0)], report("drained", 0));
    let said = |hub: &Hub| -> Vec<Option<String>> {
        let asked = hub.asked();
        let headers = ["tidegate-claimant", "tidegate-event", "tidegate-deployment"];
        headers.iter().map(|name| asked[0].header(name).map(str::to_owned)).collect()
    };
    let named = |event: &str| ["shop/blue", event, "d-TEST12345"].map(|text| Some(text.to_owned())).to_vec();
    Agent::event("ApplicationStop", &hub.url()).run().expect(0);
    assert_eq!(said(&hub), named("ApplicationStop"));
    for event in ["ValidateService", "BeforeAllowTraffic"] {
        let hub = Hub::draining(vec![serving()], report("drained", 0));
        Agent::event(event, &hub.url()).run().expect(0).says(&[event, "the hub serves"]);
        assert_eq!((said(&hub), hub.asked()[0].header("tidegate-attempt")), (named(event), None));
    }
    let hub = Hub::draining(vec![serving()], report("drained", 0));
    Agent::shell(&["cancel"], &hub.url()).run().expect(0);
    assert_eq!(said(&hub), [None, None, None], "cancel is an operator's word");
}

#[test]
fn a_hub_that_others_still_claim_is_no_failure_and_they_are_named() {
    let mut kept = status("drained", 4, 0);
    kept["claims"] = json!([{
        "claimant": "shop/green", "event": "BeforeBlockTraffic", "deployment": "d-9", "life": "kept",
        "since_ms": 192_000, "ends_in_ms": null
    }]);
    let hub = Hub::scripted(move |_| crate::hub::Reply::Json(200, kept.clone()));
    let run = Agent::event("BeforeAllowTraffic", &hub.url()).run().expect(0);
    let said = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected = "BeforeAllowTraffic of d-TEST12345 (shop/blue): still drained for \
                    shop/green (BeforeBlockTraffic of d-9) for 3m 12s, until it is released";
    assert!(said.contains(expected), "{run:#?}");
}

#[test]
fn an_event_that_fails_without_a_word_before_is_named_in_the_failure() {
    let hub = Hub::scripted(|_| crate::hub::Reply::Silence);
    for event in ["BeforeAllowTraffic", "ValidateService"] {
        let run = Agent::event(event, &hub.url()).run().expect(5);
        assert!(run.stdout.starts_with(&format!("{event} of d-TEST12345 (shop/blue): http://")), "{run:#?}");
        let json = Agent::event(event, &hub.url()).arg("--json").run();
        assert_eq!(json.code, Some(5), "{json:#?}");
        assert!(json.stdout.contains(&format!("\"lifecycle_event\":\"{event}\"")), "{json:#?}");
    }
}

#[test]
fn a_command_is_obeyed_whatever_the_event_says() {
    let hub = Hub::draining(vec![serving()], report("drained", 0));
    Agent::event("BeforeBlockTraffic", &hub.url()).arg("status").run().expect(0).says(&["serving: no drain"]);
    assert_eq!(hub.count("POST", "/v1/drain"), 0);
}
