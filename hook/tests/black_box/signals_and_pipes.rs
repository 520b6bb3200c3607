use crate::agent::Agent;
use crate::hub::{Hub, Reply, report, status};
use std::io::{BufRead, BufReader, Read, Write};

#[test]
fn sigterm_under_codedeploy_ends_it_and_calls_the_drain_off() {
    let hub = Hub::endless();
    let running = Agent::event("BeforeBlockTraffic", &hub.url()).start();
    hub.wait_for("GET", "/v1/drain", 1);
    running.signal("TERM");
    let run = running.wait().expect(143);
    let run =
        run.says(&["SIGTERM: stopped waiting", "releasing: 7 of 10 left", "undone: the hub was told to serve again"]);
    assert_eq!(run.last_line(), "tidegate-hook: terminated, exit 143");
    assert_eq!(hub.count("DELETE", "/v1/drain"), 1);
}

#[test]
fn sigterm_elsewhere_leaves_the_drain_to_the_hub() {
    let hub = Hub::endless();
    let running = Agent::shell(&["drain"], &hub.url()).start();
    hub.wait_for("GET", "/v1/drain", 1);
    running.signal("TERM");
    running.wait().expect(143).says(&["nothing was undone: the hub goes on with the drain"]);
    assert_eq!(hub.count("DELETE", "/v1/drain"), 0);
}

#[test]
fn sigterm_ends_it_without_waiting_though_the_hub_is_silent() {
    let hub = Hub::scripted(|asked| match asked.method.as_str() {
        "POST" => Reply::Json(202, status("releasing", 1, 6)),
        _ => Reply::Silence,
    });
    let running = Agent::event("BeforeBlockTraffic", &hub.url()).start();
    hub.wait_for("GET", "/v1/drain", 1);
    running.signal("TERM");
    let run = running.wait().expect(143).says(&["NOT undone"]);
    let words: Vec<&str> = run.stdout.split_whitespace().collect();
    assert!(words.join(" ").contains("does not answer within 300 ms"), "it waits no longer than that: {run:#?}");
}

#[test]
fn stdout_closed_half_way_changes_nothing() {
    let statuses =
        vec![status("noticing", 1, 10), status("releasing", 2, 5), status("held", 3, 5), status("drained", 4, 0)];
    let hub = Hub::draining(statuses, report("drained", 0));
    let (running, pipe) = Agent::event("BeforeBlockTraffic", &hub.url()).start_with_own_pipe();
    let mut reader = BufReader::new(pipe);
    let mut line = String::new();
    reader.read_line(&mut line).expect("the first line comes");
    assert!(line.contains("draining"), "{line}");
    drop(reader);
    let run = running.wait().expect(0);
    assert_eq!(run.stderr, "", "a broken pipe is nobody's business");
    assert_eq!(hub.count("GET", "/v1/drain/report"), 1, "it went on to the end");
}

#[test]
fn stdout_closed_and_then_sigterm_still_calls_the_drain_off() {
    let hub = Hub::endless();
    let (running, pipe) = Agent::event("BeforeBlockTraffic", &hub.url()).start_with_own_pipe();
    drop(pipe);
    hub.wait_for("GET", "/v1/drain", 2);
    running.signal("TERM");
    running.wait().expect(143);
    assert_eq!(hub.count("DELETE", "/v1/drain"), 1);
}

/// A pipe that is full and that nobody reads: a write to it never returns.
fn stuck_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe can be made");
    // The capacity of a pipe on Linux.
    writer.write_all(&[b'.'; 65_536]).expect("a new pipe takes this much");
    (reader, writer)
}

#[test]
fn a_reader_that_is_stuck_does_not_keep_the_drain_from_its_end() {
    let (reader, writer) = stuck_pipe();
    let statuses = vec![status("noticing", 1, 10), status("releasing", 2, 5), status("drained", 4, 0)];
    let hub = Hub::draining(statuses, report("drained", 0));
    Agent::event("BeforeBlockTraffic", &hub.url()).stdout(writer).run().expect(0);
    drop(reader);
}

#[test]
fn sigterm_ends_it_without_waiting_though_its_reader_is_stuck() {
    let (reader, writer) = stuck_pipe();
    let hub = Hub::endless();
    let running = Agent::event("BeforeBlockTraffic", &hub.url()).stdout(writer).start();
    hub.wait_for("GET", "/v1/drain", 1);
    running.signal("TERM");
    running.wait().expect(143);
    drop(reader);
}

#[test]
fn nothing_it_started_keeps_stdout_open_after_its_end() {
    let hub = Hub::draining(vec![status("drained", 1, 0)], report("drained", 0));
    let (running, mut pipe) = Agent::event("BeforeBlockTraffic", &hub.url()).start_with_own_pipe();
    running.wait().expect(0);
    let mut rest = String::new();
    pipe.read_to_string(&mut rest).expect("the pipe can be read to its end");
    assert!(rest.ends_with("tidegate-hook: done, exit 0\n"), "{rest}");
}

#[test]
fn stdin_is_never_read() {
    let hub = Hub::draining(vec![status("drained", 1, 0)], report("drained", 0));
    let (input, mut typed) = std::io::pipe().expect("a pipe can be made");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate-hook"))
        .args(["drain", "--hub", &hub.url()])
        .env_clear()
        .stdin(input.try_clone().expect("a pipe end can be cloned"))
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the trigger starts");
    typed.write_all(b"untouched").expect("a new pipe takes a few bytes");
    assert_eq!(child.wait().expect("a child can be waited for").code(), Some(0));
    drop(typed);
    let mut left = String::new();
    std::io::Read::read_to_string(&mut { input }, &mut left).expect("the pipe can be read to its end");
    assert_eq!(left, "untouched");
}
