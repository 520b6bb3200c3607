//! `tidegate-hook` against real hubs, as AWS CodeDeploy runs it: nothing on stdin, no terminal, and
//! no variable but PATH, HOME, USER and those of the deployment.

use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tidegate_protocol::control::{DrainReport, DrainStatus, Phase};
use tidegate_tests::{
    Crowd, Fleet, Hook, HookEnd, Hub, Kitchen, RawClient, Relay, RunningHook, Seen, Setup, Signal, binary, hook,
};
use tidegate_tests::{wait_until, within};
use tokio::io::{AsyncBufReadExt, BufReader};

/// A policy that is over soon where nothing is in the way.
const QUICK: &str = "notice = \"200ms\"\nwindow = \"300ms\"\nsettle = \"800ms\"\ndeadline = \"10s\"\n";
/// A drain that no test waits for.
const SLOW: &str = "notice = \"60s\"\nwindow = \"60s\"\nsettle = \"1s\"\ndeadline = \"5m\"\n";
/// What a script of the deployment finds in its environment beside PATH, HOME and USER.
const DEPLOYMENT: [(&str, &str); 6] = [
    ("DEPLOYMENT_ID", "d-A1B2C3D4E"),
    ("APPLICATION_NAME", "shop"),
    ("DEPLOYMENT_GROUP_NAME", "blue"),
    ("DEPLOYMENT_GROUP_ID", "11111111-2222-3333-4444-555555555555"),
    ("BUNDLE_BUCKET", "bundles"),
    ("USER", "root"),
];

/// The trigger for this event, with a settings file that an operator wrote for this hub.
fn event(name: &str, hub: &Hub, settings: &str) -> Hook {
    let hook = hook(&["--config", &settings_file(hub, settings)]).env("LIFECYCLE_EVENT", name);
    DEPLOYMENT.iter().fold(hook, |hook, (name, value)| hook.env(name, value))
}

fn settings_file(hub: &Hub, settings: &str) -> String {
    let (data, state) = (hub.setup().data_dir(), hub.setup().path("last-hub"));
    let text = format!(
        "hub = \"http://{}\"\ndata-dir = \"{}\"\nstate-file = \"{}\"\nanswer-timeout = \"1s\"\nconnect-timeout = \"1s\"\n{settings}",
        hub.private,
        data.display(),
        state.display()
    );
    hub.setup().file("hook.toml", &text).display().to_string()
}

/// A person who calls a command from a shell.
fn by_hand(command: &str, hub: &Hub) -> Hook {
    hook(&[command]).to(hub)
}

/// The end, which must have this code and be fit for the agent: short lines, no `\r` and no colour,
/// and the account among the last 2,000 characters.
fn expect(end: &HookEnd, code: i32) -> Vec<&str> {
    assert_eq!(end.code, Some(code), "{end:#?}");
    assert_fits(&end.stdout);
    let lines: Vec<&str> = end.stdout.lines().collect();
    let last = lines.last().copied().unwrap_or_default();
    assert!(last.ends_with(&format!("exit {code}")), "the last line names the code: {end:#?}");
    lines
}

fn assert_fits(stdout: &str) {
    assert!(!stdout.contains(['\r', '\u{1b}']), "no carriage return and no colour: {stdout:?}");
    let lines: Vec<&str> = stdout.lines().collect();
    for line in &lines {
        assert!(line.chars().count() < 120, "a line of {} characters: {line}", line.chars().count());
    }
    let last: usize = lines.iter().rev().take(15).map(|line| line.chars().count() + 1).sum();
    assert!(last < 2_000, "the last fifteen lines are {last} characters: {stdout}");
}

fn says(lines: &[&str], part: &str) {
    assert!(lines.iter().any(|line| line.contains(part)), "expected {part:?} in {lines:#?}");
}

/// Looks at a drain without renewing its lease or joining it.
async fn phase(hub: &Hub) -> String {
    hub.api.get("/v1/hub").await.json()["state"].as_str().unwrap_or_default().to_owned()
}

async fn is(hub: &Hub, state: &str) {
    wait_until(&format!("the hub is {state}"), || async {
        let said = phase(hub).await;
        if said == state { Ok(()) } else { Err(said) }
    })
    .await;
}

/// Waits until the trigger has told a status that begins so: from then on it waits for the next.
async fn told(running: &RunningHook, phase: &str) {
    wait_until(&format!("the trigger tells {phase}"), || async {
        let said = running.stdout();
        if said.iter().any(|line| line.starts_with(phase)) { Ok(()) } else { Err(said.join("\n")) }
    })
    .await;
}

async fn report(hub: &Hub) -> DrainReport {
    hub.api.get("/v1/drain/report").await.read()
}

async fn alone() -> (Hub, Kitchen) {
    let kitchen = Kitchen::start_with("alone", &["--ledger-push-ms", "100"]).await;
    let hub = Setup::new("alone").app_with_events(&kitchen.address).start().await;
    (hub, kitchen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_block_traffic_drains_two_at_once_join_again_ends_at_once_and_before_allow_traffic_serves() {
    let fleet = Fleet::named().await;
    let [from, to] = &fleet.hubs;
    let crowd = Crowd::connect(&from.url("/ledger"), 8).await;

    let both =
        [event("BeforeBlockTraffic", from, QUICK), event("BeforeBlockTraffic", from, QUICK)].map(|hook| hook.start());
    let ends = [both[0].end().await, both[1].end().await];
    for end in &ends {
        let lines = expect(end, 0);
        says(&lines, "BeforeBlockTraffic of d-A1B2C3D4E (shop/blue): draining http://");
        says(&lines, "drained in ");
        says(&lines, "moved 8, parked 0, ended 0, forced 0, unconfirmed 0, left here 0; cut 0, unroutable 0");
        says(&lines, "messages: lost 0, gaps 0");
    }
    let joined = ends.iter().filter(|end| end.stdout.contains("joined the drain")).count();
    assert_eq!(joined, 1, "one began and one joined: {ends:#?}");
    crowd.all_on(&to.id().await).await;
    let trigger = report(from).await.trigger.unwrap_or_default();
    assert_eq!(trigger.get("DEPLOYMENT_ID"), Some(&json!("d-A1B2C3D4E")), "the report says who asked: {trigger:?}");

    let again = event("ApplicationStop", from, QUICK).run().await;
    says(&expect(&again, 0), "the hub is drained already");

    let allowed = event("BeforeAllowTraffic", from, QUICK).run().await;
    assert_eq!(allowed.code, Some(0), "{allowed:#?}");
    assert!(allowed.stdout.contains("the hub serves"), "{allowed:#?}");
    is(from, "serving").await;
    crowd.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_leave_before_block_traffic_is_pushed_after_it() {
    let fleet = Fleet::unnamed().await;
    let [from, to] = &fleet.hubs;
    // A load balancer that brings everybody back here until it blocks traffic.
    let balancer = Relay::to(from.public).await;
    let crowd = Crowd::connect(&balancer.url("/ledger"), 4).await;
    let settings = "notice = \"200ms\"\nwindow = \"200ms\"\nsettle = \"2s\"\ndeadline = \"5s\"\n";
    let before = event("BeforeBlockTraffic", from, settings).run().await;
    says(&expect(&before, 0), "left here 4; cut 0, unroutable 4");
    assert_eq!(crowd.on(&from.id().await), 4, "all are still served here");

    balancer.retarget(&[to.public]);
    balancer.cut();
    let after = event("AfterBlockTraffic", from, settings).run().await;
    let lines = expect(&after, 0);
    says(&lines, "AfterBlockTraffic of d-A1B2C3D4E (shop/blue): pushing or parking the rest at http://");
    crowd.all_on(&to.id().await).await;
    let nobody_left =
        |status: &DrainStatus| status.sessions.is_some_and(|counts| (counts.moved, counts.remaining) == (4, 0));
    from.wait_drain("everybody to have moved", nobody_left).await;
    crowd.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_block_traffic_parks_the_rest_where_no_other_hub_is_and_before_allow_traffic_takes_it_up() {
    let (hub, _kitchen) = alone().await;
    let crowd = Crowd::connect(&hub.url("/ledger"), 4).await;
    let after = event("AfterBlockTraffic", &hub, QUICK).run().await;
    says(&expect(&after, 0), "moved 0, parked 4, ended 0, forced 0, unconfirmed 0, left here 0");
    for client in crowd.clients() {
        client.wait("to be told that its session is safe on disk", Seen::told_parked).await;
    }
    let allowed = event("BeforeAllowTraffic", &hub, QUICK).run().await;
    assert_eq!(allowed.code, Some(0), "{allowed:#?}");
    crowd.all_on(&hub.id().await).await;
    crowd.all_at_work().await;
    crowd.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_somebody_else_calls_off_ends_with_4_and_is_not_touched_again() {
    let (hub, _kitchen) = alone().await;
    let crowd = Crowd::connect(&hub.url("/ledger"), 2).await;
    let running = event("BeforeBlockTraffic", &hub, SLOW).start();
    is(&hub, "draining").await;
    let cancelled = by_hand("cancel", &hub).run().await;
    assert_eq!(cancelled.code, Some(0), "{cancelled:#?}");
    let end = running.end().await;
    let lines = expect(&end, 4);
    says(&lines, "cancelled in ");
    says(&lines, "called off by an operator: DELETE /v1/drain from 127.0.0.1:");
    assert!(!end.stdout.contains("undone"), "who called it off has undone it: {end:#?}");
    crowd.all_at_work().await;
    crowd.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_ends_with_3_when_somebody_is_cut_and_the_hub_serves_again() {
    let fleet = Fleet::named().await;
    let from = &fleet.hubs[0];
    // Never acts on a `move`.
    let (_deaf, _) = RawClient::welcomed(&from.url("/ledger")).await;
    // He is waited for as long as the deadline allows, and then closed.
    let settings =
        "notice = \"200ms\"\nwindow = \"200ms\"\nsettle = \"1600ms\"\ngate-wait = \"2s\"\ndeadline = \"2s\"\n";
    let strict = event("BeforeBlockTraffic", from, &format!("strict = true\n{settings}")).run().await;
    let lines = expect(&strict, 3);
    says(&lines, "--strict: 1 cut");
    says(&lines, "undone: the hub was told to serve again");
    is(from, "serving").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_ends_with_3_when_somebody_is_left_and_without_it_the_same_end_is_0() {
    let fleet = Fleet::unnamed().await;
    let from = &fleet.hubs[0];
    let crowd = Crowd::connect(&from.url("/ledger"), 1).await;
    let settings = "notice = \"200ms\"\nwindow = \"200ms\"\nsettle = \"2s\"\ndeadline = \"5s\"\n";
    let strict = event("BeforeBlockTraffic", from, &format!("strict = true\n{settings}")).run().await;
    says(&expect(&strict, 3), "--strict: 1 left here");
    is(from, "serving").await;
    let lenient = event("BeforeBlockTraffic", from, settings).run().await;
    says(&expect(&lenient, 0), "left here 1; cut 0, unroutable 1");
    crowd.all_at_work().await;
    crowd.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_is_killed_in_the_middle_ends_it_with_5_and_one_that_is_not_there_only_warns() {
    let (hub, _kitchen) = alone().await;
    let _crowd = Crowd::connect(&hub.url("/ledger"), 2).await;
    let running = event("BeforeBlockTraffic", &hub, SLOW).start();
    is(&hub, "draining").await;
    hub.kill();
    let lines_of = running.end().await;
    let lines = expect(&lines_of, 5);
    says(&lines, "the hub vanished in the middle");
    says(&lines, "NOT undone");

    let nobody = event("BeforeBlockTraffic", &hub, QUICK).run().await;
    says(&expect(&nobody, 0), "warning: ");
    let required = event("BeforeBlockTraffic", &hub, &format!("require-hub = true\n{QUICK}")).run().await;
    says(&expect(&required, 5), "nothing listens there, and --require-hub is set");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_accepts_and_never_answers_ends_it_with_5() {
    let (hub, _kitchen) = alone().await;
    hub.signal(Signal::Stop);
    let end = event("BeforeBlockTraffic", &hub, QUICK).run().await;
    let lines = expect(&end, 5);
    says(&lines, "it accepts and does not answer within");
    says(&lines, "NOT undone");
    let status = by_hand("status", &hub).env("TIDEGATE_ANSWER_TIMEOUT", "500ms").run().await;
    assert_eq!(status.code, Some(5), "{status:#?}");
    // Awake again, it finds the calls that nobody waits for any more, in whatever order.
    hub.signal(Signal::Cont);
    wait_until("the hub to be called back into service", || async {
        let cancelled = by_hand("cancel", &hub).run().await;
        let state = phase(&hub).await;
        if (cancelled.code, state.as_str()) == (Some(0), "serving") {
            Ok(())
        } else {
            Err(format!("{cancelled:?}, {state}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_falls_silent_in_the_middle_ends_it_with_5_and_serves_when_it_is_back() {
    let (hub, _kitchen) = alone().await;
    let crowd = Crowd::connect(&hub.url("/ledger"), 1).await;
    let running = event("BeforeBlockTraffic", &hub, SLOW).start();
    told(&running, "noticing").await;
    hub.signal(Signal::Stop);
    let end = running.end().await;
    let lines = expect(&end, 5);
    says(&lines, "it accepts and does not answer within");
    says(&lines, "NOT undone");
    // The trigger did ask, and the hub hears it now.
    hub.signal(Signal::Cont);
    is(&hub, "serving").await;
    crowd.all_at_work().await;
    crowd.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_it_with_143_and_the_hub_serves_again() {
    let (hub, _kitchen) = alone().await;
    let crowd = Crowd::connect(&hub.url("/ledger"), 2).await;
    let running = event("BeforeBlockTraffic", &hub, SLOW).start();
    told(&running, "noticing").await;
    running.signal(Signal::Term);
    let end = running.end().await;
    let lines = expect(&end, 143);
    says(&lines, "SIGTERM: stopped waiting");
    says(&lines, "undone: the hub was told to serve again");
    is(&hub, "serving").await;
    let recalled = |seen: &Seen| {
        seen.frames.iter().any(|frame| matches!(frame, tidegate_protocol::frame::ServerFrame::Recall { .. }))
    };
    for client in crowd.clients() {
        client.wait("to be recalled", recalled).await;
    }
    crowd.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_stdout_closed_half_way_it_drains_to_the_end_and_ends_with_0() {
    let fleet = Fleet::named().await;
    let [from, to] = &fleet.hubs;
    let crowd = Crowd::connect(&from.url("/ledger"), 3).await;
    let mut command = tokio::process::Command::new(binary("tidegate-hook"));
    command.args(["--config", &settings_file(from, QUICK)]).env_clear().current_dir(Path::new("/"));
    command.env("LIFECYCLE_EVENT", "BeforeBlockTraffic").envs(DEPLOYMENT);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("the trigger was built and starts");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    let first = within("the first line", lines.next_line()).await.expect("a line is UTF-8").unwrap_or_default();
    assert!(first.contains("draining http://"), "{first}");
    drop(lines);
    let end = within("the trigger ends", child.wait_with_output()).await.expect("a child can be waited for");
    assert_eq!(end.status.code(), Some(0), "{end:?}");
    assert_eq!(String::from_utf8_lossy(&end.stderr), "", "a broken pipe is nobody's business");
    assert_eq!(from.drain().await.phase, Phase::Drained, "it waited for the end");
    crowd.all_on(&to.id().await).await;
    crowd.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_commands_ask_one_thing_and_answer_by_their_code() {
    let (hub, _kitchen) = alone().await;
    let crowd = Crowd::connect(&hub.url("/ledger"), 3).await;
    let ask = |args: &[&str]| hook(args).to(&hub);

    let none = ask(&["report"]).run().await;
    says(&expect(&none, 6), "no report");
    let status = ask(&["status"]).run().await;
    assert_eq!((status.code, status.stdout.as_str()), (Some(0), "serving: no drain"), "{status:#?}");
    let plan = ask(&["plan", "--deadline", "2m"]).run().await;
    assert_eq!(plan.code, Some(0), "{plan:#?}");
    assert_fits(&plan.stdout);
    for part in ["plan for 3 sessions", "sessions would be parked", "it fits"] {
        assert!(plan.stdout.contains(part), "expected {part:?} in {plan:#?}");
    }
    let tight = ask(&["plan", "--notice", "1s", "--window", "1s", "--settle", "0s", "--deadline", "2s"]).run().await;
    assert!(tight.stdout.contains("it does NOT fit"), "{tight:#?}");
    expect(&tight, 3);
    let impossible =
        ask(&["drain", "--notice", "10s", "--window", "1s", "--settle", "1s", "--deadline", "2s"]).run().await;
    assert_eq!(impossible.code, Some(2), "{impossible:#?}");
    assert!(
        impossible.stderr.contains("notice_ms 10000") && impossible.stderr.contains("deadline_ms 2000"),
        "{impossible:#?}"
    );
    assert_eq!(phase(&hub).await, "serving", "nothing of all this began a drain");

    let drained =
        ask(&["drain", "--notice", "100ms", "--window", "100ms", "--settle", "500ms", "--deadline", "5s"]).run().await;
    says(&expect(&drained, 0), "parked 3");
    let status = ask(&["status", "--json"]).run().await;
    let said: Value = serde_json::from_str(&status.stdout).unwrap_or_else(|error| panic!("{error}: {status:#?}"));
    assert_eq!(
        (status.code, &said["phase"], &said["sessions"]["parked"]),
        (Some(0), &json!("drained"), &json!(3)),
        "{said}"
    );
    let told = ask(&["report"]).run().await;
    assert_eq!(told.code, Some(0), "{told:#?}");
    assert_fits(&told.stdout);
    assert!(told.stdout.contains("parked 3, ended 0, forced 0"), "{told:#?}");
    let cancelled = ask(&["cancel"]).run().await;
    assert_eq!(cancelled.code, Some(0), "{cancelled:#?}");
    assert!(cancelled.stdout.contains("the hub serves"), "{cancelled:#?}");
    crowd.all_on(&hub.id().await).await;
    crowd.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_wants_a_token_is_asked_with_the_right_one_and_answers_401_to_none() {
    let setup = Setup::new("guarded");
    let token = setup.file("token", "Zm9yLXRlc3RzLW9ubHktbm90LWEtc2VjcmV0\n").display().to_string();
    let hub = setup.flag("--private-token-file", &token).start().await;
    let stranger = event("BeforeBlockTraffic", &hub, QUICK).run().await;
    says(&expect(&stranger, 5), "401");
    let known = event("BeforeBlockTraffic", &hub, &format!("token-file = \"{token}\"\n{QUICK}")).run().await;
    expect(&known, 0);
    for output in [&stranger, &known].map(|end| format!("{}{}", end.stdout, end.stderr)) {
        assert!(!output.contains("Zm9yLXRlc3Rz"), "the token is never shown: {output}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_without_others_plans_to_park_and_its_report_outlives_its_process() {
    let (hub, _kitchen) = alone().await;
    let _crowd = Crowd::connect(&hub.url("/ledger"), 3).await;
    let plan = by_hand("plan", &hub).run().await;
    assert_eq!(plan.code, Some(0), "{plan:#?}");
    let said = plan.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("nobody would be moved: after 15 s all 3 sessions would be parked here"), "{plan:#?}");
    assert!(said.contains("no other hub is known (--peer, --peers-file)"), "{plan:#?}");

    expect(&event("BeforeBlockTraffic", &hub, QUICK).run().await, 0);
    let before = report(&hub).await;
    let setup = hub.setup();
    hub.kill();
    let hub = setup.start().await;
    let kept = report(&hub).await;
    assert_eq!(kept, DrainReport { earlier_run: true, ..before });
    let shown = by_hand("report", &hub).run().await;
    assert_eq!(shown.code, Some(0), "{shown:#?}");
    assert!(shown.stdout.contains("in an earlier run of the hub") && shown.stdout.contains("parked 3"), "{shown:#?}");
}
