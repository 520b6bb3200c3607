use super::*;

fn given(pairs: &[(&'static str, &str)]) -> Given {
    pairs.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
}

fn flags(pairs: &[(&'static str, &str)]) -> Sources {
    Sources { flags: given(pairs), ..Sources::default() }
}

fn codedeploy(event: &str) -> Deployment {
    Deployment { event: Some(event.to_owned()), id: Some("d-1".to_owned()), ..Deployment::default() }
}

fn plain(sources: &Sources) -> Settings {
    sources.resolve(&Task::Drain, &Deployment::default()).unwrap()
}

fn error(pairs: &[(&'static str, &str)]) -> String {
    flags(pairs).resolve(&Task::Drain, &Deployment::default()).unwrap_err().0
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let sources = Sources {
        flags: given(&[("notice", "1s")]),
        env: given(&[("notice", "2s"), ("window", "2s")]),
        file: given(&[("notice", "3s"), ("window", "3s"), ("settle", "3s")]),
        file_path: PathBuf::from("hook.toml"),
    };
    let request = plain(&sources).request;
    assert_eq!((request.notice_ms, request.window_ms, request.settle_ms), (Some(1_000), Some(2_000), Some(3_000)));
}

#[test]
fn a_bad_value_is_named_where_it_stands_with_what_would_be_right() {
    assert_eq!(error(&[("notice", "15")]), "--notice \"15\": not a duration; write 500ms, 15s or 1m30s");
    let env = Sources { env: given(&[("give_up_after", "soon")]), ..Sources::default() };
    let bad = env.resolve(&Task::Drain, &Deployment::default()).unwrap_err().0;
    assert_eq!(bad, "TIDEGATE_GIVE_UP_AFTER \"soon\": not a duration; write 500ms, 15s or 1m30s");
    let file =
        Sources { file: given(&[("strict", "maybe")]), file_path: PathBuf::from("hook.toml"), ..Sources::default() };
    let bad = file.resolve(&Task::Drain, &Deployment::default()).unwrap_err().0;
    assert_eq!(bad, "hook.toml: strict \"maybe\": neither yes nor no; write true or false");
    assert_eq!(
        error(&[("hub", "ftp://h")]),
        "--hub \"ftp://h\": not the address of a hub; write http://host:port or https://host:port"
    );
    assert_eq!(error(&[("on_orphan", "die")]), "--on-orphan \"die\": unknown; write continue or recall");
    assert_eq!(error(&[("stages", "10,x")]), "--stages \"10,x\": not a whole number, 0 or more");
    assert_eq!(error(&[("lease", "48h")]), "--lease \"48h\": more than a day; is the unit right?");
}

#[test]
fn a_password_in_the_address_is_refused() {
    assert!(error(&[("hub", "http://me:secret@h:1")]).contains("use --token-file"));
}

#[test]
fn three_spans_that_do_not_fit_the_deadline_are_impossible_and_named() {
    let bad = error(&[("notice", "10s"), ("window", "10s"), ("settle", "10s"), ("deadline", "20s")]);
    assert!(bad.starts_with("impossible policy: "), "{bad}");
    for name in ["notice_ms", "window_ms", "settle_ms", "deadline_ms 20000"] {
        assert!(bad.contains(name), "{name} is missing in: {bad}");
    }
}

#[test]
fn by_default_it_gives_up_one_settle_after_the_deadline() {
    let settings = plain(&Sources::default());
    assert_eq!(settings.request.deadline_ms, Some(300_000));
    assert_eq!(settings.give_up_after, Duration::from_secs(310));
    let short = plain(&flags(&[("deadline", "20s"), ("settle", "3s")]));
    assert_eq!(short.give_up_after, Duration::from_secs(23));
    assert_eq!(plain(&flags(&[("give_up_after", "7s")])).give_up_after, Duration::from_secs(7));
}

#[test]
fn under_codedeploy_an_orphan_is_recalled_and_a_failure_undone() {
    let sources = Sources::default();
    let settings = sources.resolve(&Task::Drain, &codedeploy("BeforeBlockTraffic")).unwrap();
    assert!(settings.recall);
    assert_eq!(settings.request.on_orphan, Some(OnOrphan::Recall));
    assert_eq!(settings.request.reason.as_deref(), Some("deployment"));
    assert_eq!(settings.request.trigger.unwrap()["DEPLOYMENT_ID"], "d-1");
    let outside = plain(&sources);
    assert!(!outside.recall);
    assert_eq!((outside.request.on_orphan, outside.request.trigger), (None, None));
}

#[test]
fn no_recall_holds_for_orphans_too() {
    let settings = flags(&[("no_recall", "true")]).resolve(&Task::Drain, &codedeploy("BeforeBlockTraffic")).unwrap();
    assert!(!settings.recall);
    assert_eq!(settings.request.on_orphan, Some(OnOrphan::Continue));
}

#[test]
fn after_block_traffic_asks_for_everybody_now_and_is_not_undone() {
    let file = Sources { file: given(&[("notice", "30s"), ("window", "2m")]), ..Sources::default() };
    let settings = file.resolve(&Task::Rest, &codedeploy("AfterBlockTraffic")).unwrap();
    let request = settings.request;
    assert_eq!(request.rest, Some(Rest::Now));
    assert_eq!((request.notice_ms, request.window_ms), (Some(0), Some(0)));
    assert_eq!((request.settle_ms, request.deadline_ms), (Some(2_000), Some(60_000)));
    assert!(!settings.recall);
    let tight = flags(&[("deadline", "1s")]).resolve(&Task::Rest, &codedeploy("AfterBlockTraffic")).unwrap();
    assert_eq!(tight.request.settle_ms, Some(500));
}

/// What `appspec.yml` runs: event, location, seconds. The file is ours and plain: two levels, one key a line.
fn appspec() -> Vec<(String, String, u64)> {
    let text = include_str!("../../deploy/codedeploy/appspec.yml");
    let (mut event, mut location, mut runs) = (String::new(), String::new(), Vec::new());
    let hooks = text.split_once("\nhooks:\n").expect("it has hooks").1;
    for line in hooks.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        match line.trim().split_once(':').expect("a key and perhaps a value") {
            (name, "") => event = name.to_owned(),
            ("- location", value) => location = value.trim().to_owned(),
            ("timeout", value) => {
                runs.push((event.clone(), location.clone(), value.trim().parse().expect("whole seconds")))
            }
            other => panic!("{other:?} is not known here: {line}"),
        }
    }
    runs
}

#[test]
fn every_event_of_the_bundle_has_time_for_what_the_shipped_settings_allow_the_trigger() {
    const MARGIN_MS: u64 = 30_000;
    const EVENT_MAX_S: u64 = 3_600;
    let shipped = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(shipped.path(), include_str!("../../deploy/codedeploy/hook.toml")).unwrap();
    let file = crate::file::read_settings(shipped.path(), true).unwrap();
    let sources = Sources { file, file_path: shipped.path().to_owned(), ..Sources::default() };
    let runs = appspec();
    let mut seen = Vec::new();
    for (event, location, timeout_s) in &runs {
        let total_s: u64 = runs.iter().filter(|(other, ..)| other == event).map(|(.., timeout_s)| timeout_s).sum();
        assert!(total_s <= EVENT_MAX_S, "{event}: {total_s} s are more than CodeDeploy allows");
        if location != "scripts/tidegate.sh" {
            continue;
        }
        let deployment = codedeploy(event);
        let task = deployment.task().unwrap();
        assert!(!matches!(task, Task::Nothing(_)), "{event} runs the trigger, which does nothing there");
        let limit_ms = millis(sources.resolve(&task, &deployment).unwrap().give_up_after);
        assert!(
            timeout_s * 1_000 >= limit_ms + MARGIN_MS,
            "{event}: the trigger may take {limit_ms} ms, and is killed after {timeout_s} s"
        );
        seen.push(event.as_str());
    }
    let all = ["BeforeBlockTraffic", "AfterBlockTraffic", "ApplicationStop", "ValidateService", "BeforeAllowTraffic"];
    assert_eq!(seen, all, "every event that the trigger acts on, in the order of the agent");
}

#[test]
fn the_rest_has_a_deadline_of_its_own_and_no_event_outlasts_the_limit_that_is_meant_for_the_drain() {
    let resolve =
        |pairs: &[(&'static str, &str)], task, event| flags(pairs).resolve(&task, &codedeploy(event)).unwrap();
    let rest = resolve(&[("deadline", "20m"), ("give_up_after", "21m")], Task::Rest, "AfterBlockTraffic");
    assert_eq!((rest.request.deadline_ms, millis(rest.give_up_after)), (Some(60_000), 62_000));
    let longer = resolve(&[("rest_deadline", "3m")], Task::Rest, "AfterBlockTraffic");
    assert_eq!((longer.request.deadline_ms, millis(longer.give_up_after)), (Some(180_000), 182_000));
    for event in ["ValidateService", "BeforeAllowTraffic"] {
        let serve = resolve(&[("give_up_after", "21m")], Task::Serve, event);
        assert_eq!(millis(serve.give_up_after), 30_000, "{event}");
    }
}

#[test]
fn where_the_address_of_the_hub_stands_is_told_with_its_line() {
    let place = |sources: &Sources| plain(sources).hub_place;
    assert_eq!(place(&flags(&[("hub", "http://h:1")])), "--hub");
    assert_eq!(place(&Sources { env: given(&[("hub", "http://h:1")]), ..Sources::default() }), "TIDEGATE_HUB");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "# ours\n\nhub = \"http://h:1\"\n").unwrap();
    let path = file.path().to_owned();
    let shown = path.display().to_string();
    let from_file = Sources { file: given(&[("hub", "http://h:1")]), file_path: path.clone(), ..Sources::default() };
    assert_eq!(place(&from_file), format!("{shown}, line 3"));
    let default = Sources { file_path: path, ..Sources::default() };
    assert_eq!(place(&default), format!("the default, for there is no hub in {shown}"));
}

#[test]
fn the_environment_is_read_by_the_names_of_the_settings_and_empty_is_absent() {
    let env = from_env(|name| match name {
        "TIDEGATE_HUB" => Some("http://h:1".to_owned()),
        "TIDEGATE_TEXT" => Some(String::new()),
        _ => None,
    });
    assert_eq!(env, given(&[("hub", "http://h:1")]));
}
