//! The scenarios for thin clients, as people run them, against a real hub that they start themselves.
//!
//! A busy machine may make a run one that must be refused, for times; then the counts must be right all
//! the same, and only reasons of the machine may stand there.

use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// The hub beside our own program: the whole workspace is built before tests run.
fn hub() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_tidegate-load")).with_file_name("tidegate");
    assert!(program.exists(), "there is no {}: `cargo build --bin tidegate` first", program.display());
    program
}

/// Reasons to refuse a run that are the machine's fault and not ours.
const OF_THE_MACHINE: [&str; 5] = ["generator", "steal", "sent again", "TCPRcvQDrop", "ListenDrops"];

/// Runs a scenario; its figures.
async fn run(line: &str) -> Value {
    let child = Command::new(env!("CARGO_BIN_EXE_tidegate-load"))
        .args(line.split(' '))
        .arg("--start")
        .arg(hub())
        .arg("--report-anyway")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_secs(100), child).await.expect("the run ends by itself").expect("it starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = stdout.lines().last().unwrap_or_default();
    let answer: Value =
        serde_json::from_str(last).unwrap_or_else(|_| panic!("last line \"{last}\", stderr:\n{stderr}"));
    let scenario = line.split(' ').next().unwrap();
    match answer[scenario].as_str() {
        Some("ok") => assert!(output.status.success(), "{stderr}"),
        Some("refused") => {
            assert_eq!(output.status.code(), Some(1), "a run that is refused is no success");
            for why in answer["refused"].as_array().unwrap().iter().map(|why| why.as_str().unwrap()) {
                assert!(OF_THE_MACHINE.iter().any(|known| why.contains(known)), "{line}: {why}\n{stderr}");
            }
        }
        other => panic!("{line} ended with {other:?}:\n{stdout}\n{stderr}"),
    }
    answer
}

fn above_zero(answer: &Value, names: &[&str]) {
    for name in names {
        assert!(answer[name].as_f64().is_some_and(|value| value > 0.0), "{name} in {answer}");
    }
}

#[tokio::test]
async fn idle_sessions_join_channels_and_what_stays_after_use_is_told() {
    let answer = run("idle --from 50 --to 150 --steps 2 --after broadcast,burst,waves --idle-for 1s").await;
    assert_eq!(answer["idle"], "ok", "memory is told on a busy machine too");
    for after in ["broadcast", "burst", "waves"] {
        assert!(answer[format!("growth_percent_after_{after}")].is_number(), "{after} in {answer}");
    }
    above_zero(&answer, &["start_bytes", "idle_for_s"]);
}

#[tokio::test]
async fn each_accepted_session_is_timed_in_the_closed_and_in_the_open_loop() {
    let closed = run("connect --count 200").await;
    above_zero(&closed, &["cpu_us_per_session", "sessions_per_s", "open_ms_p50"]);
    let open = run("connect --count 200 --rate 400").await;
    let per_s = open["sessions_per_s"].as_f64().unwrap();
    assert!(per_s <= 410.0, "an open loop is never faster than its rate: {per_s}");
}

#[tokio::test]
async fn a_broadcast_reaches_everybody_each_round_to_all_and_over_a_channel() {
    let answer = run("broadcast --clients 200 --rounds 3 --every 400ms").await;
    assert_eq!(answer["deliveries"], 600);
    above_zero(&answer, &["cpu_us_per_delivery", "cpu_us_per_delivery_with_acks", "last_ms", "delivery_ms_p99"]);
    assert_eq!(
        run("broadcast --clients 50 --rounds 2 --every 100ms --channel --payload 4096").await["deliveries"],
        100
    );
}

#[tokio::test]
async fn a_publish_to_one_of_few_and_one_of_many_is_told_with_its_cost() {
    let answer = run("publish --from 50 --to 200 --steps 2 --publishes 100").await;
    above_zero(&answer, &["cpu_us_per_publish_first", "cpu_us_per_publish_last", "ratio_cpu", "answer_ms_p50_last"]);
}

#[tokio::test]
async fn a_storm_lets_all_in_and_asks_the_live_ones_before_and_during() {
    let answer = run("storm --count 200 --live 10 --quiet 1s").await;
    above_zero(&answer, &["s_to_99_percent", "s_to_all", "live_ms_p99_quiet", "live_ms_p99_during", "live_ratio"]);
    assert!(answer["admitted_peak_per_s"].as_u64() <= Some(200), "{answer}");
}

#[tokio::test]
async fn a_churn_ends_with_as_many_sessions_as_it_began() {
    let answer = run("churn --sessions 100 --rate 100 --time 1s").await;
    assert_eq!(answer["cycles"], 100);
    above_zero(&answer, &["cpu_us_per_cycle", "open_ms_p50"]);
}

#[tokio::test]
async fn those_who_read_get_everything_when_others_stop_reading() {
    let answer = run("slow --clients 50 --stalled 3 --rounds 5 --every 50ms").await;
    above_zero(&answer, &["delivery_ms_p99_before", "delivery_ms_p99_after", "others_ratio"]);
}

#[tokio::test]
async fn messages_pass_the_hub_to_an_app_and_back_in_both_loops() {
    let closed = run("relay --echo-app --sessions 8 --time 1s --warm-up 200ms").await;
    above_zero(&closed, &["cpu_us_per_echo", "app_cpu_us_per_echo", "echoes_per_s", "echo_ms_p99"]);
    let open = run("relay --echo-app --sessions 8 --time 2s --warm-up 0s --rate 100 --payload 1024").await;
    assert_eq!(open["echoes_per_s"].as_f64().map(f64::round), Some(100.0), "each that was due was sent and came back");
}

#[tokio::test]
async fn a_drain_of_our_own_two_hubs_moves_everybody_and_tells_its_course() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("drain.json");
    let line = format!(
        "drain --clients 60 --rate 2 --push-rate 4 --notice 500ms --window 2s --drain-settle 5s --deadline 30s --json {}",
        json.display()
    );
    let answer = run(&line).await;
    assert_eq!((&answer["users"], &answer["moved"]), (&60.into(), &60.into()), "{answer}");
    for none in ["lost", "duplicated", "reordered", "unsettled", "resets", "forced"] {
        assert_eq!(answer[none], 0, "{none} in {answer}");
    }
    above_zero(&answer, &["messages_up", "messages_down", "drain_ms", "planned_peak_per_s", "live_ms_p99_during"]);
    let peak = answer["arrived_peak_per_s"].as_u64().unwrap();
    assert!((1..=60).contains(&peak), "{answer}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let moved = report["charts"][0]["series"][1]["points"].as_array().unwrap().last().unwrap();
    assert_eq!(moved[1].as_f64(), Some(60.0), "all sessions are on the successor in the end: {moved}");
}
