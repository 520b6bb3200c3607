//! The program itself, as people run it, against scripted hubs: it must find every breach of the
//! promises, and nothing where there is none.

mod scripted;

use scripted::{Breach, Scripted};
use serde_json::Value;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

struct Run {
    status: ExitStatus,
    verdict: Value,
    stderr: String,
}

async fn run(breach: Breach, clients: u32) -> Run {
    let hubs = Scripted::start(breach).await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate-load"))
        .args(["drain", "--hub", &format!("ws://{}", hubs.public), "--private", &format!("http://{}", hubs.private)])
        .args(["--clients", &clients.to_string(), "--rate", "50", "--settle", "200ms", "--answer", "2s"])
        .args(["--give-up-after", "30s"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stderr = child.stderr.take().unwrap();
    let words = tokio::spawn(async move {
        let mut text = String::new();
        stderr.read_to_string(&mut text).await.map(|_| text)
    });
    let all = async {
        let mut last = String::new();
        while let Some(line) = stdout.next_line().await.unwrap() {
            if line.contains("\"event\":\"ready\"") {
                hubs.drain();
            }
            last = line;
        }
        (last, child.wait().await.unwrap(), words.await.unwrap().unwrap())
    };
    let (last, status, stderr) = timeout(Duration::from_secs(60), all).await.expect("the run ends by itself");
    let verdict = serde_json::from_str(&last).unwrap_or_else(|_| panic!("last line \"{last}\", stderr:\n{stderr}"));
    Run { status, verdict, stderr }
}

#[tokio::test]
async fn a_clean_drain_of_forty_clients_is_clean_and_ends_with_exit_0() {
    let run = run(Breach::None, 40).await;
    assert!(run.status.success(), "{}\n{}", run.verdict, run.stderr);
    for (name, expected) in [
        ("users", 40),
        ("moved", 40),
        ("forced", 0),
        ("lost", 0),
        ("duplicated", 0),
        ("reordered", 0),
        ("declared_gaps", 0),
        ("resets", 0),
        ("unsettled", 0),
    ] {
        assert_eq!(run.verdict[name], expected, "{name} in {}", run.verdict);
    }
    assert_eq!(run.verdict["agrees"], true);
    assert!(run.verdict["messages_up"].as_u64() > Some(40) && run.verdict["messages_down"].as_u64() > Some(40));
}

#[tokio::test]
async fn a_message_that_never_reached_the_app_is_found_even_if_the_hub_confirms_it() {
    let run = run(Breach::LosesThirdUp, 3).await;
    assert_eq!(run.status.code(), Some(1));
    assert_eq!((&run.verdict["lost"], &run.verdict["agrees"]), (&3.into(), &true.into()), "{}", run.verdict);
    assert!(run.stderr.contains("fault: client 0 (session"), "{}", run.stderr);
    assert!(run.stderr.contains("lost, first number 3"), "{}", run.stderr);
}

#[tokio::test]
async fn a_message_that_came_twice_is_found() {
    let run = run(Breach::DoublesThirdDown, 2).await;
    assert_eq!((run.status.code(), &run.verdict["duplicated"]), (Some(1), &2.into()), "{}", run.verdict);
}

#[tokio::test]
async fn a_report_that_tells_another_story_is_named_with_both_numbers() {
    let run = run(Breach::ReportsOneLess, 4).await;
    assert_eq!((run.status.code(), &run.verdict["agrees"]), (Some(1), &false.into()), "{}", run.verdict);
    assert!(run.stderr.contains("moved sessions: the clients saw 4, the hub reports 3"), "{}", run.stderr);
}

#[tokio::test]
async fn a_declared_gap_is_counted_and_is_no_loss() {
    let run = run(Breach::DeclaresGap, 2).await;
    assert!(run.status.success(), "{}\n{}", run.verdict, run.stderr);
    assert_eq!((&run.verdict["declared_gaps"], &run.verdict["lost"]), (&2.into(), &0.into()));
}

#[tokio::test]
async fn an_app_that_does_not_tell_its_side_leaves_nothing_proved() {
    let run = run(Breach::KeepsSilent, 2).await;
    assert_eq!((run.status.code(), &run.verdict["unsettled"]), (Some(1), &2.into()), "{}", run.verdict);
    assert!(run.stderr.contains("never settled: connected"), "{}", run.stderr);
}
