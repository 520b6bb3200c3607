use super::*;

fn resolve(text: &str) -> Result<Policy, String> {
    let request: DrainRequest = serde_json::from_str(text).map_err(|error| error.to_string())?;
    request.resolve().map_err(|error| error.to_string())
}

fn spans(text: &str) -> (u64, u64, u64, u64) {
    let policy = resolve(text).unwrap_or_else(|error| panic!("{text} refused: {error}"));
    (policy.notice_ms, policy.window_ms, policy.settle_ms, policy.deadline_ms)
}

#[test]
fn an_empty_request_takes_the_defaults_of_the_contract() {
    let policy = Policy::default();
    assert_eq!(spans("{}"), (15_000, 60_000, 10_000, 300_000));
    assert_eq!((policy.max_in_flight, policy.stages.as_slice()), (256, &[1, 9, 30, 60][..]));
    assert_eq!(policy.gate, Gate { back_min_percent: 90, wait_max_ms: 10_000 });
    assert_eq!((policy.on_orphan, policy.lease_ms), (OnOrphan::Continue, 60_000));
}

#[test]
fn defaults_shrink_in_proportion_to_a_smaller_deadline_and_never_grow() {
    assert_eq!(spans(r#"{"deadline_ms":60000}"#), (3_000, 12_000, 2_000, 60_000));
    assert_eq!(spans(r#"{"deadline_ms":3000000}"#), (15_000, 60_000, 10_000, 3_000_000));
    assert_eq!(resolve(r#"{"deadline_ms":60000}"#).unwrap().gate.wait_max_ms, 2_000);
}

#[test]
fn what_is_not_given_shrinks_to_what_explicit_spans_leave() {
    assert_eq!(spans(r#"{"deadline_ms":60000,"window_ms":59000}"#), (600, 59_000, 400, 60_000));
    assert_eq!(spans(r#"{"window_ms":290000}"#), (6_000, 290_000, 4_000, 300_000));
    assert_eq!(spans(r#"{"deadline_ms":60000,"notice_ms":60000}"#), (60_000, 0, 0, 60_000));
}

#[test]
fn a_window_of_zero_is_allowed_and_means_unpaced() {
    assert_eq!(spans(r#"{"window_ms":0,"notice_ms":0,"settle_ms":0}"#), (0, 0, 0, 300_000));
}

#[test]
fn explicit_spans_beyond_the_deadline_are_refused_naming_the_three_and_the_deadline() {
    let request: DrainRequest =
        serde_json::from_str(r#"{"notice_ms":20000,"window_ms":50000,"settle_ms":1,"deadline_ms":60000}"#).unwrap();
    let error = request.resolve().unwrap_err();
    assert_eq!(
        error.to_string(),
        "notice_ms 20000 + window_ms 50000 + settle_ms 1 = 70001 is more than deadline_ms 60000: \
         shorten one of the three or raise the deadline"
    );
    let problem = error.problem();
    assert_eq!(problem.status, 422);
    let numbers: Vec<_> =
        ["notice_ms", "window_ms", "settle_ms", "deadline_ms"].map(|name| problem.extensions[name].clone()).into();
    assert_eq!(numbers, [20_000, 50_000, 1, 60_000]);
}

#[test]
fn bad_values_are_refused_naming_the_field_the_value_and_what_would_be_right() {
    for (text, expected) in [
        (r#"{"notice":1}"#, "unknown field `notice`"),
        (r#"{"gate":{"back":1}}"#, "unknown field `back`"),
        (r#"{"stages":[]}"#, "stages: 0 stages: give 1 to 32"),
        (r#"{"stages":[50,49]}"#, "[50, 49] add to 99: they must add to 100"),
        (r#"{"stages":[0,100]}"#, "stages: 0 is not a percentage"),
        (r#"{"stages":[1000]}"#, "stages: 1000 is not a percentage"),
        (r#"{"max_in_flight":0}"#, "max_in_flight: 0 is out of range: give 1 to 65536"),
        (r#"{"deadline_ms":0}"#, "deadline_ms: 0 is out of range"),
        (r#"{"gate":{"back_min_percent":101}}"#, "gate.back_min_percent: 101 is out of range: give 0 to 100"),
        (r#"{"lease_ms":10}"#, "lease_ms: 10 is out of range: give 1000"),
        (r#"{"on_orphan":"stop"}"#, "unknown variant `stop`, expected `continue` or `recall`"),
        (r#"{"texts":{"no tag":"x"}}"#, "\"no tag\" is not a language tag"),
        (r#"{"window_ms":-1}"#, "invalid value: integer `-1`"),
        (r#"{"trigger":3}"#, "invalid type: integer `3`"),
    ] {
        let error = resolve(text).unwrap_err();
        assert!(error.contains(expected), "{text}: expected \"{expected}\" in \"{error}\"");
    }
}

#[test]
fn texts_reasons_and_triggers_have_limits() {
    let long = "x".repeat(5_000);
    for field in ["text", "reason"] {
        let error = resolve(&format!(r#"{{"{field}":"{long}"}}"#)).unwrap_err();
        assert!(error.starts_with(&format!("{field}: 5000 bytes: give at most")), "{error}");
    }
    let error = resolve(&format!(r#"{{"texts":{{"en":"{long}"}}}}"#)).unwrap_err();
    assert!(error.starts_with("texts: 5000 bytes"), "{error}");
    let error = resolve(&format!(r#"{{"trigger":{{"a":"{long}"}}}}"#)).unwrap_err();
    assert!(error.starts_with("trigger: 5008 bytes of JSON: give at most 4096"), "{error}");
}
