use crate::agent::Agent;
use crate::hub::{Hub, report, serving, status};
use serde_json::json;

#[test]
fn other_events_are_one_line_and_trouble_nobody() {
    let hub = Hub::endless();
    for event in
        ["BeforeInstall", "AfterInstall", "ApplicationStart", "ValidateService", "AfterAllowTraffic", "BlockTraffic"]
    {
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
    let hub = Hub::draining(
        vec![status("drained", 1, 3), status("drained", 2, 1), status("drained", 3, 0)],
        report("drained", 0),
    );
    Agent::event("AfterBlockTraffic", &hub.url()).setting("strict = true").run().expect(0);
    assert_eq!(hub.count("GET", "/v1/drain"), 2);
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
fn a_command_is_obeyed_whatever_the_event_says() {
    let hub = Hub::draining(vec![serving()], report("drained", 0));
    Agent::event("BeforeBlockTraffic", &hub.url()).arg("status").run().expect(0).says(&["serving: no drain"]);
    assert_eq!(hub.count("POST", "/v1/drain"), 0);
}
