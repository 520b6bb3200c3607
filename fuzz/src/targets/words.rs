//! The wire's words, read by the codec, by the client's machine, and as the bodies of calls.

use super::{inputs, text};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidegate_protocol::client::{Action, Client, Conn, Event, Settings};
use tidegate_protocol::close;
use tidegate_protocol::control::{
    DrainReport, DrainRequest, DrainStatus, HubInfo, PlanAnswer, Problem, SessionInfo, SessionsPage,
};
use tidegate_protocol::drain::{Facts, Plan};
use tidegate_protocol::frame::{ClientFrame, NUMBER_MAX, ServerFrame, Text, escape, sort};
use tidegate_protocol::id::SessionId;
use tidegate_protocol::position::Millis;

/// Every text message can be sorted and escaped; what can be read is written and read again as the same.
pub(super) fn client_frames(data: &[u8]) {
    let text = text(data);
    let escaped = escape(&text);
    assert!(matches!(sort(&escaped), Text::App(same) if same == text), "an app text comes out as it went in");
    let (Text::Frame(json) | Text::App(json)) = sort(&text);
    match ClientFrame::decode(json) {
        Ok(frame) => {
            let written = frame.encode();
            let Text::Frame(again) = sort(&written) else { panic!("{written:?} is no frame") };
            assert_eq!(ClientFrame::decode(again).as_ref(), Ok(&frame), "{written}");
        }
        Err(error) => assert!(close::reason(&error.to_string()).len() <= 123, "a reason fits a close"),
    }
    if let Ok(frame) = ServerFrame::decode(json) {
        let written = frame.encode();
        let Text::Frame(again) = sort(&written) else { panic!("{written:?} is no frame") };
        assert_eq!(ServerFrame::decode(again).as_ref(), Ok(&frame), "{written}");
    }
}

/// The examples of the wire's specification, good and bad.
pub(super) fn frame_seeds() -> Vec<Vec<u8>> {
    let files =
        [include_str!("../../../protocol/vectors/frames.json"), include_str!("../../../protocol/vectors/invalid.json")];
    let mut found = Vec::new();
    for file in files {
        collect(&serde_json::from_str(file).expect("vectors are JSON"), &mut found);
    }
    found
}

/// Whatever in the vectors looks like a frame: an object with a type, or a text that is sent.
fn collect(value: &Value, found: &mut Vec<Vec<u8>>) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("type") {
                found.push(format!("\u{1}{value}").into_bytes());
            }
            fields.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
        Value::String(text) if text.contains('{') || text.starts_with('\u{1}') => found.push(text.clone().into_bytes()),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A client among hubs that say anything, in any order, on any of its connections. A line is an event: what
/// happens, on which connection, and the rest.
pub(super) fn client_machine(data: &[u8]) {
    let settings = Settings::new("wss://hub.example/connect");
    let mut client = Client::<String>::new();
    let (mut now, mut dialled) = (Millis(0), 0u32);
    let text = text(data);
    for line in text.lines().take(400) {
        let mut letters = line.chars();
        let kind = letters.next().unwrap_or('t');
        let conn = Conn(dialled.saturating_sub(letters.next().and_then(|digit| digit.to_digit(4)).unwrap_or(0)));
        let rest = letters.as_str();
        let event = match kind {
            'o' => Event::Opened(conn),
            'f' => match ServerFrame::decode(rest) {
                Ok(frame) => Event::Frame(conn, frame),
                Err(_) => Event::Closed(conn, Some(4500)),
            },
            'a' => Event::App(conn, rest.to_owned()),
            'c' => Event::Closed(conn, rest.parse().ok()),
            's' => Event::Send(rest.to_owned()),
            'r' => Event::Ready,
            'b' => Event::Busy { ms: rest.parse().unwrap_or(u64::MAX), why: Some(rest.to_owned()) },
            'e' => Event::End { code: rest.parse().ok(), reason: Some(rest.to_owned()) },
            'h' => Event::Heard(conn),
            _ => {
                now = client.poll_timeout().map_or(now, |at| at.max(now));
                Event::Timer
            }
        };
        now = now.plus(1);
        for action in client.step(&settings, now, u64::from(dialled), event) {
            match action {
                Action::Dial { conn, url } => {
                    dialled = conn.0;
                    assert!(url.is_none_or(|url| settings.may_follow(&url)), "it never leaves its host or TLS");
                }
                Action::Send(_, frame) => {
                    // A hub that counts beyond what a frame may carry gets its own number back.
                    let is_beyond = client.received().0 > NUMBER_MAX;
                    assert!(is_beyond || ClientFrame::decode(&frame.encode()[1..]).is_ok(), "{frame:?}");
                }
                Action::Close(_, code, reason) => assert!(code >= 1000 && close::reason(&reason).len() <= 123),
                Action::Message(..) | Action::Deliver(_) | Action::Report(_) => {}
            }
        }
        assert!(client.unacked().bytes() <= settings.unacked.bytes_max.max(line.len()), "its buffer is bounded");
    }
}

/// A session from its first word to its last.
pub(super) fn machine_seeds() -> Vec<Vec<u8>> {
    const WELCOME: &str = r#"{"type":"welcome","session":"00000000000000000000000000000001","token":"t","epoch":1,"generation":1,"resumed":false,"from":0,"received":0,"heartbeat_ms":1000,"hub":"000000000000000a","limits":{"message_bytes":1000}}"#;
    let again = WELCOME.replace("false", "true");
    inputs([
        format!("t\no0\nf0{WELCOME}\na0hello\nsmine\nf0{{\"type\":\"ack\",\"received\":1}}\nt\nc01012\nt\no0\nf0{again}\n"),
        format!(
            "t\no0\nf0{WELCOME}\nf0{{\"type\":\"move\",\"drain\":\"0000000000000001\",\"seq\":1,\"token\":\"u\",\"url\":\"wss://hub.example/x\"}}\no0\nf0{again}\na0x\na1y\nc1\n"
        ),
        format!(
            "t\no0\nf0{WELCOME}\nf0{{\"type\":\"notice\",\"drain\":\"0000000000000001\",\"seq\":1,\"reason\":\"r\",\"text\":\"t\",\"language\":\"en\",\"deadline_ms\":1000,\"slot_ms\":500}}\nb05000\nr\nf0{{\"type\":\"recall\",\"drain\":\"0000000000000001\",\"seq\":2}}\n"
        ),
        format!("t\no0\nf0{WELCOME}\nf0{{\"type\":\"gap\",\"from\":0,\"to\":5,\"why\":\"slow\"}}\na0six\nf0{{\"type\":\"ping\"}}\nh0\ne4001bye\n"),
        "t\no0\nf0{\"type\":\"retry\",\"after_ms\":100,\"why\":\"full\"}\nc01013\nt\no0\nf0{\"type\":\"reset\",\"why\":\"x\",\"replaces\":\"00000000000000000000000000000001\"}\n".to_owned(),
    ])
}

fn same_again<T: DeserializeOwned + serde::Serialize>(data: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(data) {
        let written = serde_json::to_vec(&value).expect("what was read can be written");
        let again: T = serde_json::from_slice(&written).expect("and read again");
        assert_eq!(serde_json::to_vec(&again).expect("and written"), written);
    }
}

/// A drain's policy as a body, down to the plan; and the answers that the trigger and the load tool read.
pub(super) fn drain_requests(data: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<DrainRequest>(data) {
        match request.resolve() {
            Ok(policy) => {
                assert!(policy.notice_ms + policy.window_ms + policy.settle_ms <= policy.deadline_ms, "{policy:?}");
                let population = (0..20).map(|n| (SessionId(n), Facts { connected: n % 3 > 0, ..Facts::default() }));
                let plan = Plan::new(policy, population, &[], 1);
                assert_eq!(plan.stages.iter().map(|stage| stage.count).sum::<usize>(), plan.order.len());
                let last = plan.slot_ms(plan.order.len());
                assert!(last <= plan.policy.notice_ms + plan.policy.window_ms, "no slot beyond the window: {last}");
                assert!(plan.to_string().len() < 16 * 1024);
                same_again::<PlanAnswer>(&serde_json::to_vec(&plan.answer()).expect("an answer is JSON"));
            }
            Err(error) => assert_eq!(error.problem().status, 422),
        }
    }
    same_again::<DrainStatus>(data);
    same_again::<DrainReport>(data);
    same_again::<PlanAnswer>(data);
    same_again::<HubInfo>(data);
    same_again::<SessionInfo>(data);
    same_again::<SessionsPage>(data);
    same_again::<Problem>(data);
}

/// Policies and answers.
pub(super) fn request_seeds() -> Vec<Vec<u8>> {
    let status = r#"{"phase":"releasing","drain":"0000000000000001","seq":7,"since_ms":1,"deadline_in_ms":2,"sessions":{"at_start":3,"arrived":0,"moved":1,"parked":0,"left":0,"forced":0,"unconfirmed":0,"remaining":2},"cut":0,"unroutable":0,"in_flight":1,"stage":1,"stages":4,"rate_per_s":1.5,"eta_ms":9,"waiting_for":[{"session":"00000000000000000000000000000001","why":"busy","since_ms":5}],"successors":[{"hub":"000000000000000b","url":null,"moved":1,"state":"serving"}],"joined":null,"why":null}"#;
    inputs([
        "{}",
        r#"{"notice_ms":0,"window_ms":0,"settle_ms":0,"deadline_ms":1,"max_in_flight":1,"stages":[1,9,30,60]}"#,
        r#"{"notice_ms":15000,"gate":{"back_min_percent":90,"wait_max_ms":100},"text":"pausing","texts":{"de":"Pause"},"reason":"deploy","on_orphan":"recall","lease_ms":60000,"trigger":{"a":[1,{}]},"rest":"now"}"#,
        status,
        r#"{"type":"/problems/x","title":"T","status":409,"detail":"d"}"#,
    ])
}
