//! Log lines that nobody takes. Each case is a hub of its own with a client, through the steps that log most: a
//! start, calls, a drain by the trigger, a stop.

use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use tidegate_tests::{FakeApp, Hub, Program, RawClient, Setup, Signal, Surroundings, binary, hook, wait_until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const QUICK: [&str; 9] = ["drain", "--notice", "100ms", "--window", "200ms", "--settle", "500ms", "--deadline", "20s"];
/// What a pipe of Linux holds.
const PIPE_BYTES: usize = 65_536;

/// A pipe that is full and that nobody reads, with its reading end.
fn stuck_pipe() -> (File, OwnedFd) {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    let (reader, mut writer) = (File::from(OwnedFd::from(reader)), File::from(OwnedFd::from(writer)));
    writer.write_all(&[b'.'; PIPE_BYTES]).expect("a new pipe takes this much");
    (reader, writer.into())
}

fn full_disk() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").expect("Linux has /dev/full").into()
}

async fn metric(hub: &Hub, name: &str) -> f64 {
    let text = hub.api.get("/metrics").await.body;
    let text = String::from_utf8_lossy(&text).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{name} is missing in:\n{text}"))
}

/// A client that was parked comes back to the next process on the directory.
async fn resumes(hub: &Hub, welcome: &Value) {
    let next = hub.setup().start().await;
    let mut client = RawClient::back(&next.url("/connect"), &welcome["token"], 2, 0).await;
    let again = client.expect("welcome").await;
    assert_eq!((&again["resumed"], &again["session"]), (&json!(true), &welcome["session"]), "{again}");
}

#[tokio::test]
async fn a_hub_whose_log_reader_was_killed_parks_everybody_and_ends_as_it_was_asked_to() {
    // hub 2>&1 | tee hub.log
    let setup = Setup::new("A");
    let log = setup.path("hub.log");
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    let tee = Command::new("tee").arg(&log).stdin(Stdio::from(reader)).stdout(Stdio::null()).spawn();
    let mut tee = tee.expect("tee is everywhere");
    let both = writer.try_clone().expect("a descriptor can be cloned");
    let hub = setup
        .start_into(Surroundings { stdout: Some(writer.into()), stderr: Some(both.into()), ..Surroundings::default() })
        .await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    wait_until("tee has the first lines", || async {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if said.contains("\"event\":\"ready\"") && said.contains("serving") { Ok(()) } else { Err(said) }
    })
    .await;
    tee.kill().expect("tee runs");
    tee.wait().expect("tee ends");

    let end = hook(&QUICK).to(&hub).run().await;
    assert_eq!(end.code, Some(0), "the trigger says:\n{}", end.stdout);
    assert_eq!(client.closed().await.0, Some(1012));
    assert!(metric(&hub, "tidegate_log_lines_dropped_total").await > 0.0, "what nobody took is counted");
    hub.signal(Signal::Term);
    assert_eq!(hub.exit().await.code, Some(0), "a closed stderr is no failure");
    resumes(&hub, &welcome).await;
}

#[tokio::test]
async fn a_full_pipe_as_stderr_holds_nobody_up_and_says_what_was_dropped_once_it_is_read() {
    let (mut reader, writer) = stuck_pipe();
    let setup = Setup::new("A").flag("--log-level", "debug");
    let hub = setup.start_into(Surroundings { stderr: Some(writer.into()), ..Surroundings::default() }).await;
    let (client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    let client = tokio::sync::Mutex::new(client);
    // More than waits for a reader, by far: every connection that breaks is a line.
    wait_until("lines are dropped and counted", || async {
        let mut client = client.lock().await;
        let mut broken = tokio::task::JoinSet::new();
        for _ in 0..300 {
            let address = hub.public;
            broken.spawn(async move {
                let mut stream = TcpStream::connect(address).await.expect("the kernel takes it");
                stream.write_all(b"\x01 is no request\r\n\r\n").await.expect("the kernel takes it");
                within("an answer, or the end", stream.read_to_end(&mut Vec::new())).await.unwrap_or_default()
            });
        }
        broken.join_all().await;
        client.frame(&json!({"type": "ping"})).await;
        client.expect("pong").await;
        let dropped = metric(&hub, "tidegate_log_lines_dropped_total").await;
        if dropped > 0.0 { Ok(()) } else { Err(format!("{dropped} lines dropped")) }
    })
    .await;
    let reading = std::thread::spawn(move || {
        reader.read_exact(&mut vec![0; PIPE_BYTES]).expect("what was in the pipe before");
        BufReader::new(reader)
            .split(b'\n')
            .map_while(Result::ok)
            .any(|line| String::from_utf8_lossy(&line).contains("log lines were dropped: stderr did not take them"))
    });
    wait_until("the log says what is missing", || async {
        assert_eq!(hub.api.get("/healthz/live").await.status, 200);
        if reading.is_finished() { Ok(()) } else { Err("nothing yet".to_owned()) }
    })
    .await;
    assert!(reading.join().expect("the reader reads"), "it is said before the log ends");
    hub.signal(Signal::Term);
    assert_eq!(hub.exit().await.code, Some(0));
    resumes(&hub, &welcome).await;
}

#[tokio::test]
async fn a_stop_behind_a_full_pipe_parks_everybody_and_has_an_end() {
    let ((_stderr, stderr), (_stdout, stdout)) = (stuck_pipe(), stuck_pipe());
    let hub = Setup::new("A")
        .start_into(Surroundings {
            stdout: Some(stdout.into()),
            stderr: Some(stderr.into()),
            ..Surroundings::default()
        })
        .await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    hub.signal(Signal::Term);
    assert_eq!(client.closed().await.0, Some(1012));
    assert_eq!(hub.exit().await.code, Some(0), "the last lines are not waited for without an end");
    resumes(&hub, &welcome).await;
}

#[tokio::test]
async fn with_a_full_disk_behind_stdout_and_stderr_a_hub_starts_drains_and_ends() {
    let hub = Setup::new("A")
        .start_into(Surroundings { stdout: Some(full_disk()), stderr: Some(full_disk()), ..Surroundings::default() })
        .await;
    let (mut client, welcome) = RawClient::welcomed(&hub.url("/connect")).await;
    let end = hook(&QUICK).to(&hub).run().await;
    assert_eq!(end.code, Some(0), "the trigger says:\n{}", end.stdout);
    assert_eq!(client.closed().await.0, Some(1012));
    hub.signal(Signal::Term);
    assert_eq!(hub.exit().await.code, Some(0));
    resumes(&hub, &welcome).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_setting_is_the_exit_code_also_where_nobody_can_read_it() {
    let ((_reader, stuck), (closed, broken)) = (stuck_pipe(), std::io::pipe().expect("a pipe can be made"));
    drop(closed);
    let cases = [
        ("tidegate", vec!["serve", "--private", "nowhere"]),
        ("tidegate", vec!["serve", "--log-level", "tidegate=loud"]),
        ("tidegate-hook", vec!["drain", "--notice", "soon"]),
        ("tidegate-load", vec!["idle", "--clients", "many"]),
    ];
    for (program, args) in &cases {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let clone = |descriptor: &OwnedFd| Stdio::from(descriptor.try_clone().expect("a descriptor can be cloned"));
        let broken = OwnedFd::from(broken.try_clone().expect("a descriptor can be cloned"));
        for stderr in [clone(&stuck), clone(&broken), full_disk()] {
            let into = Surroundings { stderr: Some(stderr), ..Surroundings::default() };
            let exit = Program::start_into(program, program, &args, &[], into).exit().await;
            assert_eq!(exit.code, Some(2), "{program} {args:?}");
        }
    }
}

#[tokio::test]
async fn a_measurement_goes_on_to_its_result_although_nobody_takes_its_progress() {
    let hub = binary("tidegate").display().to_string();
    let args = ["connect", "--start", &hub, "--count", "20"].map(str::to_owned);
    let (_reader, stuck) = stuck_pipe();
    for stderr in [Stdio::from(stuck), full_disk()] {
        let into = Surroundings { stderr: Some(stderr), ..Surroundings::default() };
        let exit = Program::start_into("load", "tidegate-load", &args, &[], into).exit().await;
        let last: Value = exit.stdout.last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        assert!(last.get("connect").is_some(), "its result is its last line: {:?}", exit.stdout);
    }
}

#[tokio::test]
async fn refusals_without_end_are_a_few_log_lines_and_a_sum() {
    const REFUSED: usize = 60;
    let app = FakeApp::start(|_| async {}).await;
    let gone = app.address;
    drop(app);
    let hub = Setup::new("A").app(&gone).start().await;
    let mut refused = tokio::task::JoinSet::new();
    for _ in 0..REFUSED {
        let url = hub.url("/connect");
        refused.spawn(async move {
            let mut client = RawClient::open(&url).await;
            client.frame(&json!({"type": "hello"})).await;
            client.expect("retry").await;
        });
    }
    refused.join_all().await;
    let about = |line: &&String| line.contains("the app is away");
    // The sum comes when its ten seconds are over, or at the end.
    hub.signal(Signal::Term);
    let said = hub.exit().await.stderr;
    let lines: Vec<&String> = said.iter().filter(about).collect();
    assert!(lines.len() < REFUSED / 2, "{} lines for {REFUSED} clients:\n{said:#?}", lines.len());
    let told: usize = lines
        .iter()
        .filter_map(|line| line.rsplit_once("… ")?.1.split_once(" times in")?.0.parse::<usize>().ok())
        .sum();
    assert!(told > 0 && told <= REFUSED, "the sums tell the rest:\n{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("WARN")), "as loud as the lines that they stand for");
}

#[tokio::test]
async fn help_that_nobody_reads_has_an_end() {
    for program in ["tidegate", "tidegate-hook", "tidegate-load"] {
        let (_reader, stuck) = stuck_pipe();
        let into = Surroundings { stdout: Some(stuck.into()), ..Surroundings::default() };
        let exit = Program::start_into(program, program, &["--help".to_owned()], &[], into).exit().await;
        assert_eq!(exit.code, Some(0), "{program}");
    }
}
