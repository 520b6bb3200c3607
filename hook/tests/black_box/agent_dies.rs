//! The agent is killed while its script runs: the pipe is broken and the parent is another one.

use crate::hub::{Hub, status};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A process between us and the trigger, as the agent is: killed, it leaves an orphan. `stdout`: where the trigger writes.
fn under_an_agent(hub: &Hub, stdout: Stdio, home: &std::path::Path) -> Child {
    let own = home.display();
    let settings = format!("hub = \"{}\"\ndata-dir = \"{own}\"\nstate-file = \"{own}/last-hub\"\n", hub.url());
    let file = home.join("hook.toml");
    std::fs::write(&file, settings).expect("the temporary directory can be written");
    // The shell stays, for it has something to do afterwards.
    Command::new("sh")
        .args(["-c", "\"$0\" --config \"$1\"; true", env!("CARGO_BIN_EXE_tidegate-hook")])
        .arg(&file)
        .env("LIFECYCLE_EVENT", "BeforeBlockTraffic")
        .env("DEPLOYMENT_ID", "d-TEST12345")
        .stdin(Stdio::null())
        .stdout(stdout)
        .spawn()
        .expect("sh can be started")
}

fn kill(mut agent: Child) {
    agent.kill().expect("it runs");
    agent.wait().expect("a child can be waited for");
}

#[test]
fn a_killed_agent_is_as_good_as_sigterm_and_what_the_run_asked_for_is_undone() {
    let (hub, home) = (Hub::endless(), tempfile::tempdir().expect("a directory"));
    let mut agent = under_an_agent(&hub, Stdio::piped(), home.path());
    let pipe = agent.stdout.take().expect("a pipe");
    let mut line = String::new();
    BufReader::new(pipe).read_line(&mut line).expect("the first line comes");
    hub.wait_for("GET", "/v1/drain", 1);
    kill(agent);
    hub.wait_for("DELETE", "/v1/drain", 1);
    let asked = hub.asked();
    let undoing = asked.iter().find(|asked| asked.method == "DELETE").expect("it was undone");
    assert_eq!(undoing.header("tidegate-attempt"), asked[0].header("tidegate-attempt"), "{asked:#?}");
}

#[test]
fn another_parent_alone_changes_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let mut statuses: Vec<_> = (1..8).map(|seq| status("releasing", seq, 10 - seq)).collect();
    statuses.push(status("drained", 9, 0));
    let hub = Hub::draining(statuses, crate::hub::report("drained", 0));
    let mut agent = under_an_agent(&hub, Stdio::piped(), home.path());
    // The reader lives on, as a log agent's would.
    let pipe = agent.stdout.take().expect("a pipe");
    hub.wait_for("GET", "/v1/drain", 1);
    kill(agent);
    let last = BufReader::new(pipe).lines().map_while(Result::ok).last().unwrap_or_default();
    assert_eq!(last, "tidegate-hook: done, exit 0", "it went on to the end");
    assert_eq!(hub.count("DELETE", "/v1/drain"), 0);
}
