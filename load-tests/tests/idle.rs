//! `tidegate-load idle` as people run it. The measured process is this test itself, whose scripted
//! hub keeps a read buffer of 128 KiB for each connection: far above any limit one would set.

mod scripted;

use scripted::{Breach, Scripted};
use serde_json::Value;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

async fn run(args: &[&str]) -> Output {
    let child = Command::new(env!("CARGO_BIN_EXE_tidegate-load"))
        .arg("idle")
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    timeout(Duration::from_secs(60), child).await.expect("the run ends by itself").expect("the program starts")
}

/// One measurement at a time: they all measure this process.
static MEASURING: Mutex<()> = Mutex::const_new(());

async fn measure(more: &[&str]) -> (Output, Value) {
    let _alone = MEASURING.lock().await;
    let hubs = Scripted::start(Breach::None).await;
    let (hub, pid) = (format!("ws://{}", hubs.public), std::process::id().to_string());
    // Plain: tungstenite, which the scripted hub is made of, takes no hello in the packet of the upgrade.
    let mut args =
        vec!["--hub", &hub, "--pid", &pid, "--dialect", "plain", "--from", "20", "--to", "120", "--steps", "3"];
    args.extend(more);
    let output = run(&args).await;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = stdout.lines().last().unwrap_or_default().to_owned();
    let answer = serde_json::from_str(&last)
        .unwrap_or_else(|_| panic!("last line \"{last}\", stderr:\n{}", String::from_utf8_lossy(&output.stderr)));
    (output, answer)
}

#[tokio::test]
async fn the_slope_is_told_with_a_table_and_its_points_go_into_the_report() {
    let directory = tempfile::tempdir().unwrap();
    let (json, html) = (directory.path().join("idle.json"), directory.path().join("idle.html"));
    let (output, answer) = measure(&["--json", json.to_str().unwrap(), "--html", html.to_str().unwrap()]).await;
    assert!(output.status.success(), "{answer} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(answer["idle"], "ok");
    let bytes = answer["bytes_per_session"].as_u64().expect("a number");
    assert!((65_536..262_144).contains(&bytes), "128 KiB of buffer per connection, measured {bytes}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("user-space memory of one idle session"));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(report["charts"][0]["series"][0]["points"].as_array().map(Vec::len), Some(3), "{report}");
    assert_eq!(report["figures"][0]["value"].as_f64(), answer["bytes_per_session"].as_f64());
    assert!(report["figures"][0]["low"].is_number(), "three points have an interval: {report}");
    assert!(std::fs::read_to_string(html).unwrap().contains("<svg"));
}

#[tokio::test]
async fn more_than_max_bytes_ends_with_exit_1_and_says_both_numbers() {
    let (output, answer) = measure(&["--max-bytes", "4096"]).await;
    assert_eq!((output.status.code(), &answer["idle"]), (Some(1), &"failed".into()));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("bytes per session is above --max-bytes 4096"), "{stderr}");
}

#[tokio::test]
async fn a_program_that_is_no_hub_is_named() {
    let output = run(&["--start", "/bin/true"]).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("/bin/true ended before it was ready"), "{stderr}");
}

#[tokio::test]
async fn more_sessions_than_open_files_are_refused_before_the_run() {
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 500; exec \"$0\" idle --hub ws://127.0.0.1:9 --pid $$"])
        .arg(env!("CARGO_BIN_EXE_tidegate-load"))
        .output()
        .await
        .expect("sh is there");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("the limit is 500: `ulimit -n 15100` first, or fewer"), "{stderr}");
}
