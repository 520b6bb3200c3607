use crate::agent::Agent;
use crate::hub::{Hub, Reply, problem, report, serving, status};
use serde_json::{Value, json};

fn plan_hub(fits: bool) -> Hub {
    let blockers = if fits { json!([]) } else { json!(["the window is too short for 500 sessions"]) };
    Hub::scripted(move |asked| {
        assert!(asked.is("POST", "/v1/drain/plan"), "a plan changes nothing: {asked:?}");
        Reply::Json(
            200,
            json!({
                "sessions": 500, "stages": [{ "begin_ms": 15_000, "span_ms": 600, "count": 5 }], "total_ms": 75_000,
                "deadline_ms": 300_000, "push_reserve_ms": 20_000,
                "successors": [{ "hub": "00000000000000bb", "url": null, "sessions": 500 }],
                "fits": fits, "blockers": blockers
            }),
        )
    })
}

#[test]
fn a_plan_that_fits_is_a_table_and_exit_0() {
    let hub = plan_hub(true);
    let run = Agent::shell(&["plan", "--window", "30s"], &hub.url()).run().expect(0);
    run.says(&["plan for 500 sessions", "+15 s", "it fits"]);
    assert_eq!(hub.asked()[0].json()["window_ms"], 30_000);
}

#[test]
fn a_plan_that_does_not_fit_exits_3_and_says_what_is_in_the_way() {
    let run = Agent::shell(&["plan"], &plan_hub(false).url()).run().expect(3);
    run.says(&["it does NOT fit", "in the way: the window is too short for 500 sessions"]);
}

#[test]
fn status_tells_where_the_hub_stands() {
    let hub = Hub::draining(vec![status("releasing", 1, 6)], Value::Null);
    let run = Agent::shell(&["status"], &hub.url()).run().expect(0);
    run.says(&["releasing: 6 of 10 left (moved 4), stage 1/4", "waiting for 00000000… busy: typing"]);
}

#[test]
fn the_last_report_is_shown_and_none_exits_6() {
    let hub = Hub::draining(vec![serving()], report("drained", 0));
    Agent::shell(&["report"], &hub.url())
        .run()
        .expect(0)
        .says(&["drained in 4.2 s", "to hub 00000000000000bb: 10 sessions"]);
    let hub = Hub::scripted(|_| problem(404, "no report"));
    Agent::shell(&["report"], &hub.url()).run().expect(6).says(&["no report"]);
}

#[test]
fn cancel_calls_it_off_and_says_what_stays() {
    let mut after = serving();
    after["sessions"] = json!({ "at_start": 10, "moved": 4, "remaining": 6 });
    let hub = Hub::scripted(move |_| Reply::Json(200, after.clone()));
    Agent::shell(&["cancel"], &hub.url()).run().expect(0).says(&["the hub serves; moved 4"]);
    assert_eq!(hub.count("DELETE", "/v1/drain"), 1);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let hub = plan_hub(true);
    Agent::shell(&["plan", "--notice", "1s"], &hub.url())
        .env("TIDEGATE_NOTICE", "2s")
        .env("TIDEGATE_WINDOW", "2s")
        .setting("notice = \"3s\"\nwindow = \"3s\"\nsettle = \"3s\"")
        .run()
        .expect(0);
    let policy = hub.asked()[0].json();
    assert_eq!(
        (&policy["notice_ms"], &policy["window_ms"], &policy["settle_ms"]),
        (&json!(1_000), &json!(2_000), &json!(3_000))
    );
}

#[test]
fn a_typo_in_the_file_exits_2_naming_it_and_what_would_be_right() {
    let hub = Hub::endless();
    let run = Agent::event("BeforeBlockTraffic", &hub.url()).setting("dedline = \"5m\"").run().expect(2);
    assert!(run.stderr.contains("unknown setting \"dedline\"; did you mean \"deadline\"?"), "{run:#?}");
    assert_eq!(hub.asked().len(), 0, "nothing was begun");
}

#[test]
fn a_bad_value_exits_2_naming_where_it_stands() {
    let hub = Hub::endless();
    let run = Agent::shell(&["drain", "--notice", "15"], &hub.url()).run().expect(2);
    assert!(run.stderr.contains("--notice \"15\": not a duration; write 500ms, 15s or 1m30s"), "{run:#?}");
    let run = Agent::shell(&["drain"], &hub.url()).env("TIDEGATE_STRICT", "maybe").run().expect(2);
    assert!(run.stderr.contains("TIDEGATE_STRICT \"maybe\""), "{run:#?}");
    let run = Agent::shell(&["drian"], &hub.url()).run().expect(2);
    assert!(run.stderr.contains("drain"), "the nearest command is named: {run:#?}");
}

#[test]
fn spans_that_do_not_fit_their_deadline_exit_2_before_anybody_is_asked() {
    let hub = Hub::endless();
    let run =
        Agent::shell(&["drain", "--notice", "1m", "--window", "1m", "--settle", "1m", "--deadline", "2m"], &hub.url())
            .run()
            .expect(2);
    for name in ["notice_ms 60000", "window_ms 60000", "settle_ms 60000", "deadline_ms 120000"] {
        assert!(run.stderr.contains(name), "{name} is missing in {run:#?}");
    }
    assert_eq!(hub.asked().len(), 0);
}

#[test]
fn help_and_version_are_answers() {
    let help = Agent::shell(&["--help"], "http://127.0.0.1:1").run();
    assert_eq!(help.code, Some(0));
    for part in ["Exit codes:", "Examples:", "/etc/tidegate/hook.toml", "\"event\":\"end\""] {
        assert!(help.stdout.contains(part), "{part} is missing in the help");
    }
    let version = Agent::shell(&["--version"], "http://127.0.0.1:1").run().expect(0);
    assert_eq!(version.stdout.trim_end(), concat!("tidegate-hook ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_settings_file_that_users_copy_is_good_as_it_stands_and_with_every_line_taken_up() {
    let copied = include_str!("../../../deploy/codedeploy/hook.toml");
    let hub = Hub::endless();
    let taken_up: String = copied
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            // A setting that is commented out, and not a sentence.
            Some(setting) if setting.split_once(" = ").is_some_and(|(name, _)| !name.trim().contains(' ')) => setting,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_ne!(copied, taken_up, "there are settings to take up");
    for text in [copied, &taken_up] {
        let agent = Agent::event("BeforeInstall", &hub.url());
        let path = agent.file("copied.toml", text);
        agent.env("TIDEGATE_HOOK_CONFIG", &path.to_string_lossy()).without_settings().run().expect(0);
    }
}
