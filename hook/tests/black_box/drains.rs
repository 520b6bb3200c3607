use crate::agent::Agent;
use crate::hub::{DRAIN, Hub, Reply, problem, report, serving, status};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn whole_drain() -> Hub {
    let statuses =
        vec![status("noticing", 1, 10), status("releasing", 2, 6), status("settling", 3, 1), status("drained", 4, 0)];
    Hub::draining(statuses, report("drained", 0))
}

#[test]
fn a_drain_is_watched_to_its_end_and_told_in_plain_lines() {
    let hub = whole_drain();
    let run = Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(0);
    let run = run.says(&[
        "BeforeBlockTraffic of d-TEST12345 (shop/blue): draining http://",
        "noticing: 10 sessions told, nobody moved yet",
        "drained: 0 of 10 left (moved 10)",
        "drained in 4.2 s: 10 sessions at the start, 0 arrived",
        "messages: lost 0, gaps 0, replayed 3, duplicates dropped 1",
    ]);
    assert_eq!(run.last_line(), "tidegate-hook: done, exit 0");
    assert_eq!(hub.count("DELETE", "/v1/drain"), 0, "a drain that worked is not undone");
}

#[test]
fn under_codedeploy_the_policy_names_the_deployment_and_what_becomes_of_an_orphan() {
    let hub = whole_drain();
    Agent::event("BeforeBlockTraffic", &hub.url()).setting("notice = \"3s\"").run().expect(0);
    let first = &hub.asked()[0];
    assert!(first.is("POST", "/v1/drain"), "{first:?}");
    assert_eq!(first.header("content-type"), Some("application/json"));
    let expected = json!({
        "notice_ms": 3_000, "deadline_ms": 300_000, "reason": "deployment", "on_orphan": "recall",
        "trigger": {
            "LIFECYCLE_EVENT": "BeforeBlockTraffic", "DEPLOYMENT_ID": "d-TEST12345",
            "APPLICATION_NAME": "shop", "DEPLOYMENT_GROUP_NAME": "blue"
        }
    });
    assert_eq!(first.json(), expected);
}

#[test]
fn the_status_is_asked_by_long_poll_after_the_last_change() {
    let hub = whole_drain();
    Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(0);
    let polls: Vec<String> =
        hub.asked().iter().filter(|asked| asked.is("GET", "/v1/drain")).map(|asked| asked.path.clone()).collect();
    assert!(polls[0].starts_with("/v1/drain?wait_ms=") && polls[0].ends_with("&after=1"), "{polls:?}");
    assert!(polls[1].ends_with("&after=2"), "{polls:?}");
}

#[test]
fn a_hub_whose_account_changes_all_the_time_is_asked_at_a_calm_pace() {
    let mut statuses: Vec<_> = (1..8).map(|seq| status("releasing", seq, 10 - seq)).collect();
    statuses.push(status("drained", 9, 0));
    let hub = Hub::draining(statuses, report("drained", 0));
    let run = Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(0);
    let polls: Vec<_> = hub.asked().into_iter().filter(|asked| asked.is("GET", "/v1/drain")).collect();
    for pair in polls.windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!(gap >= Duration::from_millis(150), "two questions within {gap:?}");
    }
    let told = run.stdout.lines().filter(|line| line.starts_with("releasing")).count();
    assert_eq!(told, 1, "sessions that move one by one are no news: {run:#?}");
}

#[test]
fn a_hub_that_is_drained_already_ends_it_at_once() {
    let mut drained = status("drained", 4, 0);
    drained["joined"] = json!(true);
    let hub = Hub::draining(vec![drained], report("drained", 0));
    Agent::event("ApplicationStop", &hub.url()).run().expect(0).says(&["the hub is drained already"]);
    assert_eq!(hub.count("GET", "/v1/drain"), 0, "nothing to watch");
}

#[test]
fn two_at_once_join_and_report_the_same_end() {
    // One drain for all: it ends when both have asked for it.
    let starts = Arc::new(Mutex::new(0));
    let hub = Hub::scripted(move |asked| {
        let mut starts = starts.lock().expect("no script panics");
        if asked.is("GET", "/v1/drain/report") {
            return Reply::Json(200, report("drained", 0));
        }
        *starts += usize::from(asked.method == "POST");
        let mut now = if *starts < 2 { status("releasing", 1, 5) } else { status("drained", 2, 0) };
        now["joined"] = json!(asked.method == "POST" && *starts > 1);
        Reply::Json(200, now)
    });
    let first = Agent::event("BeforeBlockTraffic", &hub.url()).start();
    hub.wait_for("POST", "/v1/drain", 1);
    let second = Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(0);
    let first = first.wait().expect(0);
    for run in [&first, &second] {
        assert!(run.stdout.contains("drained in 4.2 s"), "{run:#?}");
    }
}

#[test]
fn a_drain_that_somebody_else_called_off_exits_4_and_is_not_undone_again() {
    let hub = Hub::draining(vec![status("releasing", 1, 5), serving()], report("cancelled", 0));
    let run = Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(4);
    assert_eq!(run.says(&["cancelled in 4.2 s"]).last_line(), "tidegate-hook: cancelled, exit 4");
    assert_eq!(hub.count("DELETE", "/v1/drain"), 0);
}

#[test]
fn strict_exits_3_when_somebody_was_forced_and_the_hub_serves_again() {
    let hub = Hub::draining(vec![status("forcing", 1, 2), status("drained", 2, 0)], report("forced", 2));
    let lax = Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(0);
    assert!(lax.stdout.contains("forced 2"), "{lax:#?}");
    let hub = Hub::draining(vec![status("forcing", 1, 2), status("drained", 2, 0)], report("forced", 2));
    let strict = Agent::event("BeforeBlockTraffic", &hub.url()).setting("strict = true").run().expect(3);
    strict.says(&["--strict: 2 forced", "undone: the hub was told to serve again"]);
    assert_eq!(hub.count("DELETE", "/v1/drain"), 1);
}

#[test]
fn a_drain_that_does_not_end_is_given_up_told_and_undone() {
    let hub = Hub::endless();
    let run = Agent::event("BeforeBlockTraffic", &hub.url()).setting("give_up_after = \"900ms\"").run().expect(5);
    run.says(&["gave up after 900 ms", "releasing: 7 of 10 left (moved 3)", "undone: the hub was told to serve again"]);
    assert_eq!(hub.count("DELETE", "/v1/drain"), 1);
}

#[test]
fn no_recall_leaves_a_failed_drain_as_it_is_and_says_so() {
    let hub = Hub::endless();
    let agent = Agent::event("BeforeBlockTraffic", &hub.url()).arg("--no-recall").setting("give_up_after = \"600ms\"");
    agent.run().expect(5).says(&["nothing was undone"]);
    assert_eq!(hub.count("DELETE", "/v1/drain"), 0);
    assert_eq!(hub.asked()[0].json()["on_orphan"], "continue");
}

#[test]
fn outside_codedeploy_a_failed_drain_is_left_to_the_hub() {
    let hub = Hub::endless();
    Agent::shell(&["drain", "--give-up-after", "600ms"], &hub.url()).run().expect(5).says(&["nothing was undone"]);
    assert_eq!(hub.count("DELETE", "/v1/drain"), 0);
}

#[test]
fn a_drain_without_a_report_is_judged_by_its_last_status() {
    let hub = Hub::scripted(|asked| match asked.path.as_str() {
        "/v1/drain/report" => problem(404, "no report"),
        _ => Reply::Json(200, status("drained", 3, 0)),
    });
    let agent = Agent::event("BeforeBlockTraffic", &hub.url()).setting("settle = \"100ms\"");
    agent.run().expect(0).says(&["moved 10, parked 0", "the hub gave no report"]);
}

#[test]
fn the_report_of_another_drain_is_not_taken_for_ours() {
    let mut other = report("forced", 9);
    other["drain"] = json!("00000000000000ee");
    let mut asked_for_report = 0;
    let hub = Hub::scripted(move |asked| match asked.path.as_str() {
        "/v1/drain/report" => {
            asked_for_report += 1;
            Reply::Json(200, if asked_for_report < 3 { other.clone() } else { report("drained", 0) })
        }
        _ => Reply::Json(200, status("drained", 3, 0)),
    });
    let run = Agent::event("BeforeBlockTraffic", &hub.url()).setting("strict = true").run().expect(0);
    run.says(&["drained in 4.2 s"]);
    assert_eq!(status("drained", 3, 0)["drain"], DRAIN);
}

#[test]
fn the_last_lines_fit_in_what_the_agent_keeps() {
    let mut long = report("drained", 0);
    let hub_of_many = json!({ "hub": "00000000000000bb", "url": "wss://".repeat(200), "moved": 1, "state": "serving" });
    long["successors"] = json!(vec![hub_of_many; 40]);
    long["why"] = json!("why ".repeat(2_000));
    let hub = Hub::draining(vec![status("drained", 1, 0)], long);
    let run = Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(0);
    let start = run.stdout.find("drained in 4.2 s").expect("the summary is there");
    let summary = run.stdout[start..].chars().count();
    assert!(summary <= 2_000, "{summary} characters: {run:#?}");
}
