use crate::agent::Agent;
use crate::hub::{Hub, Reply, problem, report, serving, status};
use serde_json::Value;

/// Every line of the output, each of which must be an object.
fn objects(stdout: &str) -> Vec<Value> {
    let parse = |line: &str| match serde_json::from_str(line) {
        Ok(Value::Object(object)) => Value::Object(object),
        other => panic!("expected one object per line, got {other:?} for {line:?}"),
    };
    stdout.lines().map(parse).collect()
}

#[test]
fn a_drain_is_one_object_per_line_from_start_to_end() {
    let statuses = vec![status("noticing", 1, 10), status("drained", 2, 0)];
    let hub = Hub::draining(statuses, report("drained", 0));
    let run = Agent::event("BeforeBlockTraffic", &hub.url()).arg("--json").run();
    assert_eq!(run.code, Some(0), "{run:#?}");
    let told = objects(&run.stdout);
    let events: Vec<&str> = told.iter().map(|object| object["event"].as_str().unwrap_or_default()).collect();
    assert_eq!(events, ["start", "status", "status", "report", "end"]);
    assert_eq!(told[0]["trigger"]["DEPLOYMENT_ID"], "d-TEST12345");
    assert_eq!(told[1]["phase"], "noticing");
    assert_eq!(told[3]["report"], report("drained", 0));
    assert_eq!((&told[4]["exit"], &told[4]["result"]), (&0.into(), &"done".into()));
}

#[test]
fn a_failure_ends_with_the_same_object() {
    let hub = Hub::scripted(|_| problem(401, "no"));
    let run = Agent::shell(&["drain", "--json"], &hub.url()).run();
    let told = objects(&run.stdout);
    let end = told.last().expect("there is an end");
    assert_eq!((run.code, &end["exit"], &end["result"]), (Some(5), &5.into(), &"unanswered".into()));
}

#[test]
fn answers_are_passed_on_as_the_hub_sent_them_on_one_line() {
    let pretty = serde_json::to_vec_pretty(&serving()).expect("a value can be written");
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", pretty.len()).into_bytes();
    answer.extend(pretty);
    let hub = Hub::scripted(move |_| Reply::Bytes(answer.clone()));
    let run = Agent::shell(&["status", "--json"], &hub.url()).run();
    assert_eq!(objects(&run.stdout), [serving()]);
    let hub = Hub::draining(vec![serving()], report("drained", 0));
    let run = Agent::shell(&["report", "--json"], &hub.url()).run();
    assert_eq!(objects(&run.stdout), [report("drained", 0)]);
}
