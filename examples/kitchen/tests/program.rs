//! The program as a script starts it: one line when ready, an end on SIGTERM, and a plain word when it cannot start.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

fn kitchen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-kitchen"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn it_prints_one_json_line_when_ready_and_ends_on_sigterm() {
    let mut child = kitchen(&["--hub-url", "ws://127.0.0.1:8080"]).spawn().expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let ready: Value = serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON");
    assert_eq!(ready["event"], "ready");
    let address = ready["address"].as_str().expect("an address");
    assert_eq!(ready["page"], format!("http://{address}/"));
    std::net::TcpStream::connect(address).expect("it listens when it says so");

    let terminated = Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
    assert!(terminated.success());
    assert!(child.wait().expect("it ends").success(), "SIGTERM is a regular end");
    assert!(lines.next().is_none(), "stdout has one line");
}

#[test]
fn it_says_what_is_wrong_and_what_would_be_right() {
    let output = kitchen(&["--hub-url", "http://127.0.0.1:8080"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--hub-url") && said.contains("ws://127.0.0.1:8080"), "said: {said}");

    let output = kitchen(&["--hub-url", "ws://h", "--sdk", "no/such/directory"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no/such/directory") && said.contains("npm run build"), "said: {said}");
}
