//! Drives the client machine through `vectors/dialogues.json`.
//!
//! What the machine does is written down in the terms of the file, and between two inputs it must be
//! exactly what the file has there: in order for each connection and for the application.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tidegate_protocol::client::{Action, Client, Conn, Event, Report, Settings};
use tidegate_protocol::close::slot_ms;
use tidegate_protocol::frame::{ServerFrame, Text, escape, sort};
use tidegate_protocol::position::Millis;
use tidegate_protocol::replay::Payload;

const DIALOGUES: &str = include_str!("../../vectors/dialogues.json");

/// What stands for the application where connections have their numbers.
const APP: Conn = Conn(0);

/// More steps of time than that between two inputs means that the machine spins.
const TIMERS_MAX: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Message {
    Text(String),
    Bytes(Vec<u8>),
}

impl Payload for Message {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(digits).collect()
}

/// The message as the application has it.
fn plain(message: &Message) -> Value {
    match message {
        Message::Text(text) => json!({ "text": text }),
        Message::Bytes(bytes) => json!({ "hex": hex(bytes) }),
    }
}

/// The message as it travels.
fn wire(message: &Message) -> Value {
    match message {
        Message::Text(text) => json!({ "text": escape(text) }),
        Message::Bytes(bytes) => json!({ "hex": hex(bytes) }),
    }
}

/// What the application is told, if the file speaks of it.
fn told(report: Report<Message>) -> Option<Value> {
    let unsent = |unsent: &[Message]| -> Vec<Value> {
        unsent
            .iter()
            .map(|message| if let Message::Text(text) = message { json!(text) } else { plain(message) })
            .collect()
    };
    Some(match report {
        Report::Opened { .. } => json!({ "event": "opened" }),
        Report::Moved { .. } => json!({ "event": "moved" }),
        Report::Resumed { .. } => json!({ "event": "resumed" }),
        Report::Recalled => json!({ "event": "recalled" }),
        Report::Notice(notice) => json!({ "event": "notice", "slot_ms": notice.slot_ms }),
        Report::Gap { from, to, .. } => json!({ "event": "gap", "first": from.next(), "last": to }),
        Report::Reset { why, replaces, unsent: left, .. } => {
            json!({ "event": "reset", "why": why, "replaces": replaces, "unsent": unsent(&left) })
        }
        Report::Refused(message) => json!({ "event": "refused", "message": plain(&message) }),
        Report::Reconnecting { .. } | Report::Ended { .. } => return None,
    })
}

/// A client, and what it has done since the last input.
struct Bench {
    client: Client<Message>,
    settings: Settings,
    now: Millis,
    done: BTreeMap<Conn, VecDeque<Value>>,
    /// Closed by either side: what the client does there matters no more.
    closed: BTreeSet<Conn>,
}

impl Bench {
    fn new(home: &str) -> Self {
        let settings = Settings::new(home);
        let mut bench =
            Self { client: Client::new(), settings, now: Millis(0), done: BTreeMap::new(), closed: BTreeSet::new() };
        bench.feed(Event::Timer);
        bench
    }

    fn feed(&mut self, event: Event<Message>) {
        for action in self.client.step(&self.settings, self.now, 0, event) {
            let (who, what) = match action {
                Action::Dial { conn, url } => (conn, json!({ "dial": url.as_deref().unwrap_or(&self.settings.home) })),
                Action::Send(conn, frame) => {
                    let written = frame.encode();
                    let Text::Frame(json) = sort(&written) else { panic!("{written:?} has no mark") };
                    (conn, json!({ "frame": serde_json::from_str::<Value>(json).expect("JSON") }))
                }
                Action::Message(conn, message) => (conn, wire(&message)),
                Action::Close(conn, code, _) => (conn, json!({ "close": code })),
                Action::Deliver(message) => (APP, plain(&message)),
                Action::Report(report) => match told(report) {
                    Some(what) => (APP, what),
                    None => continue,
                },
            };
            let counts =
                if what.get("close").is_some() { self.closed.insert(who) } else { !self.closed.contains(&who) };
            if counts {
                self.done.entry(who).or_default().push_back(what);
            }
        }
    }

    fn pass(&mut self, span_ms: u64) {
        let end = self.now.plus(span_ms);
        for _ in 0..TIMERS_MAX {
            let Some(at) = self.client.poll_timeout().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            self.feed(Event::Timer);
        }
        panic!("the machine asked for {TIMERS_MAX} timers within {span_ms} ms");
    }

    fn hub_does(&mut self, conn: Conn, step: &Value) {
        if step["open"] == true {
            return self.feed(Event::Opened(conn));
        }
        if step.get("answer").is_some() {
            // Whatever the answer was: the connection never opened, and there is no close code.
            self.closed.insert(conn);
            return self.feed(Event::Closed(conn, None));
        }
        if let Some(close) = step.get("close") {
            self.closed.insert(conn);
            let code = close.as_u64().map(|code| code as u16);
            let slot = code.zip(step["reason"].as_str()).and_then(|(code, why)| Some((code, slot_ms(code, why)?)));
            return self.feed(match slot {
                Some((code, after_ms)) => Event::ClosedUntil { conn, code, after_ms },
                None => Event::Closed(conn, code),
            });
        }
        if let Some(bytes) = step["hex"].as_str() {
            return self.feed(Event::App(conn, Message::Bytes(unhex(bytes))));
        }
        if let Some(frame) = step.get("frame") {
            let frame = ServerFrame::decode(&frame.to_string()).unwrap_or_else(|why| panic!("{why}: {step}"));
            return self.feed(Event::Frame(conn, frame));
        }
        match sort(step["text"].as_str().expect("a step of the hub does something")) {
            Text::App(text) => self.feed(Event::App(conn, Message::Text(text.to_owned()))),
            Text::Frame(_) => panic!("frames stand under `frame`: {step}"),
        }
    }

    fn app_does(&mut self, step: &Value) {
        let word = |value: &Value| value.as_str().map(str::to_owned);
        let event = if let Some(text) = step["send"].as_str() {
            Event::Send(Message::Text(text.to_owned()))
        } else if let Some(bytes) = step["send_hex"].as_str() {
            Event::Send(Message::Bytes(unhex(bytes)))
        } else if step["ready"] == true {
            Event::Ready
        } else if let Some(busy) = step.get("busy") {
            Event::Busy { ms: busy["ms"].as_u64().expect("milliseconds"), why: word(&busy["why"]) }
        } else if let Some(close) = step.get("close") {
            Event::End { code: close["code"].as_u64().map(|code| code as u16), reason: word(&close["reason"]) }
        } else {
            panic!("an application does not do {step}")
        };
        self.feed(event);
    }

    /// One step; says what is not as it should be.
    fn step(&mut self, step: &Value) -> Result<(), String> {
        let conn = Conn(step["conn"].as_u64().unwrap_or(0) as u32);
        let is_input = step["from"] != "client" && step.get("to").is_none();
        if is_input {
            self.nothing_left()?;
        }
        match (step["from"].as_str(), step["after_ms"].as_u64()) {
            (Some("hub"), _) => self.hub_does(conn, step),
            (Some("app"), _) => self.app_does(step),
            (None, Some(span_ms)) => self.pass(span_ms),
            _ => {
                let done = self.done.get_mut(&conn).and_then(VecDeque::pop_front);
                let done = done.ok_or_else(|| format!("expected {step}, but nothing more was done there"))?;
                if !is_as_expected(step, &done) {
                    return Err(format!("expected {step}, but it was {done}"));
                }
            }
        }
        Ok(())
    }

    fn nothing_left(&self) -> Result<(), String> {
        match self.done.iter().find(|(_, done)| !done.is_empty()) {
            Some((who, done)) => Err(format!("nobody expected this of {who:?}: {done:?}")),
            None => Ok(()),
        }
    }
}

fn is_as_expected(step: &Value, done: &Value) -> bool {
    if let Some(close) = step.get("close") {
        return done.get("close").is_some_and(|code| close.is_null() || close == code);
    }
    if let Some(url) = step["dial"].as_str() {
        // Path and query are put to a bare hub's URL by whoever dials; the machine hands it on as it came.
        return done["dial"]
            .as_str()
            .is_some_and(|dialled| dialled == url || url == format!("{dialled}/connect?room=7"));
    }
    let mut expected = step.as_object().expect("a step is an object").clone();
    ["from", "to", "conn"].iter().for_each(|who| drop(expected.remove(*who)));
    if step["frame"]["type"] == "hello" {
        for (field, value) in [("try", json!(1)), ("old", json!("lost")), ("received", json!(0))] {
            let frame = expected["frame"].as_object_mut().expect("a frame is an object");
            frame.entry(field).or_insert(value);
        }
    }
    Value::Object(expected) == *done
}

#[test]
fn each_dialogue_goes_as_written() {
    let file: Value = serde_json::from_str(DIALOGUES).expect("a file of vectors is JSON");
    let dialogues = file["dialogues"].as_array().expect("a list of dialogues");
    assert!(dialogues.len() > 40, "only {} dialogues were found", dialogues.len());
    for dialogue in dialogues {
        let name = &dialogue["name"];
        let mut bench = Bench::new(file["home"].as_str().expect("a URL"));
        for (n, step) in dialogue["steps"].as_array().expect("steps").iter().enumerate() {
            bench.step(step).unwrap_or_else(|why| panic!("{name}, step {}: {why}", n + 1));
        }
        bench.nothing_left().unwrap_or_else(|why| panic!("{name}, at the end: {why}"));
        match (&dialogue["ends"], bench.client.ended()) {
            (Value::Null, None) => {}
            (Value::String(by), Some(_)) if by == "by the application" => {}
            (Value::Number(code), Some(ended)) if code.as_u64() == Some(u64::from(ended)) => {}
            (expected, ended) => panic!("{name}: ends with {expected} expected, it was {ended:?}"),
        }
    }
}
