//! The vectors in `vectors/` against the Rust side: frames, what is refused, close codes, and
//! conversations with the client machine. The TypeScript tests read the same files.

#[path = "vectors/dialogues.rs"]
mod dialogues;

use serde_json::Value;
use std::collections::BTreeSet;
use tidegate_protocol::close::{Close, client_ends_session, may_return, slot_ms};
use tidegate_protocol::frame::{ClientFrame, ServerFrame, Text, escape, sort};

const FRAMES: &str = include_str!("../vectors/frames.json");
const INVALID: &str = include_str!("../vectors/invalid.json");
const CLOSE_CODES: &str = include_str!("../vectors/close-codes.json");

/// One list of a file of vectors; an empty one would prove nothing.
fn list(file: &str, name: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(file).expect("a file of vectors is JSON");
    let list = file[name].as_array().unwrap_or_else(|| panic!("the file has a list {name:?}")).clone();
    assert!(!list.is_empty(), "{name} has vectors");
    list
}

fn text<'a>(vector: &'a Value, field: &str) -> &'a str {
    vector[field].as_str().unwrap_or_else(|| panic!("a text in {field:?} of {vector}"))
}

/// The message of a vector as it travels, filled up where it says so.
fn message(vector: &Value) -> String {
    let text = text(vector, "text");
    let Some(bytes) = vector["fill_bytes"].as_u64() else { return text.to_owned() };
    // One byte for the mark, which does not count, and one for the @ that is replaced.
    let times = bytes as usize + 2 - text.len();
    text.replace('@', &"@".repeat(times))
}

/// What a frame says after reading and writing it, or why it is none.
fn read_and_written(from: &str, text: &str) -> Result<Value, String> {
    let Text::Frame(json) = sort(text) else { panic!("{text:?} is sorted among the app messages") };
    let written = match from {
        "client" => ClientFrame::decode(json).map(|frame| frame.encode()),
        "hub" => ServerFrame::decode(json).map(|frame| frame.encode()),
        other => panic!("nobody is called {other:?}"),
    };
    let written = written.map_err(|error| error.to_string())?;
    let Text::Frame(json) = sort(&written) else { panic!("{written:?} is written without its mark") };
    Ok(serde_json::from_str(json).expect("what is written is JSON"))
}

#[test]
fn each_frame_is_read_as_it_is_meant_and_written_so_that_it_means_the_same() {
    let mut types = BTreeSet::new();
    for vector in list(FRAMES, "frames") {
        let (name, from) = (text(&vector, "name"), text(&vector, "from"));
        let read = read_and_written(from, &message(&vector)).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(read, vector["means"], "{name}");
        types.insert(format!("{from} {}", text(&read, "type")));
    }
    let known = [
        "client ack",
        "client auth",
        "client busy",
        "client bye",
        "client hello",
        "client ping",
        "client pong",
        "client ready",
        "hub ack",
        "hub bye",
        "hub gap",
        "hub move",
        "hub notice",
        "hub ping",
        "hub pong",
        "hub recall",
        "hub reset",
        "hub retry",
        "hub welcome",
    ];
    assert!(types.iter().eq(known), "a vector for each type of frame, and no other: {types:?}");
}

#[test]
fn an_app_text_travels_escaped_and_arrives_as_it_was() {
    for vector in list(FRAMES, "apps") {
        let (name, app, wire) = (text(&vector, "name"), text(&vector, "app"), text(&vector, "text"));
        assert_eq!(escape(app), wire, "{name}");
        assert_eq!(sort(wire), Text::App(app), "{name}");
    }
}

#[test]
fn each_invalid_frame_is_refused_with_a_fault_that_is_named() {
    for vector in list(INVALID, "frames") {
        let name = text(&vector, "name");
        let readers: &[&str] = match text(&vector, "from") {
            "both" => &["client", "hub"],
            "client" => &["client"],
            "hub" => &["hub"],
            other => panic!("{name}: nobody is called {other:?}"),
        };
        for from in readers {
            match read_and_written(from, &message(&vector)) {
                Ok(read) => panic!("{name}, from a {from}: refused expected, read as {read}"),
                Err(why) => assert!(why.len() > 10, "{name}: the fault is named, not only {why:?}"),
            }
        }
    }
}

#[test]
fn the_close_codes_are_those_of_the_table_in_its_order_with_its_verdicts() {
    let table = list(CLOSE_CODES, "hub");
    let ours: Vec<(u64, &str)> = Close::ALL.iter().map(|close| (u64::from(close.code()), close.name())).collect();
    let theirs: Vec<(u64, &str)> =
        table.iter().map(|row| (row["code"].as_u64().expect("a code"), text(row, "name"))).collect();
    assert_eq!(ours, theirs);
    for row in table.iter().chain(&list(CLOSE_CODES, "others")) {
        let code = code(row);
        assert_eq!(may_return(code), text(row, "then") == "return", "close {code}");
    }
}

#[test]
fn only_the_clients_own_normal_end_ends_its_session() {
    for row in list(CLOSE_CODES, "ends") {
        assert_eq!(Value::Bool(client_ends_session(code(&row))), row["session"], "close {}", code(&row));
    }
}

#[test]
fn a_close_reason_carries_a_slot_in_just_one_form() {
    for row in list(CLOSE_CODES, "slots") {
        assert_eq!(slot_ms(code(&row), text(&row, "reason")), row["after_ms"].as_u64(), "{row}");
    }
}

fn code(row: &Value) -> u16 {
    row["code"].as_u64().and_then(|code| code.try_into().ok()).unwrap_or_else(|| panic!("a close code in {row}"))
}
