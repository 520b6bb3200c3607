//! What is attacked: one function of bytes for each thing that reads bytes from outside.

mod api;
mod app;
mod connection;
mod frames;
mod peer;
mod settings;
mod store;
mod tokens;
mod words;

use crate::bench::panics;
use crate::engine::Target;

const MIB: i64 = 1024 * 1024;

/// Words of the wire and of bodies.
const JSON: &[&str] = &[
    "{\"type\":\"hello\"}",
    "\"type\":\"ack\"",
    "\"received\":",
    "\"token\":",
    "\"try\":",
    "\"old\":\"open\"",
    "\"epoch\":",
    "\"protocols\":[",
    "\"drain\":\"0000000000000001\"",
    "\"ms\":",
    "null",
    "true",
    "{}",
    "[]",
    "\\u0000",
    "\\ud800",
    "\u{1}",
    "\"say\":\"snapshot\"",
    "\"session\":\"00000000000000000000000000000001\"",
    "\"generation\":",
    "\"record\":{",
    "\"outbox\":",
    "\"base\":",
    "\"messages\":[",
    "\"untaken\":",
    "{\"t\":\"x\"}",
    "{\"b\":\"AA==\"}",
];

const HTTP: &[&str] = &[
    "POST /v1/publish ",
    "GET /v1/sessions?limit=",
    "/v1/drain",
    "DELETE ",
    "PUT ",
    "/state",
    "/channels/",
    "SESSION",
    "{\"to\":{\"all\":true}",
    "\"text\":",
    "\"base64\":",
    "\"json\":",
    "\"idempotency_key\":",
    "\"scope\":\"hub\"",
    "%00",
    "%2f",
    "\"notice_ms\":",
    "\"window_ms\":",
    "\"deadline_ms\":",
    "\"stages\":[",
    "\"gate\":{",
    "\"texts\":{",
    "\"trigger\":{",
    "wait_ms=",
    "&after=",
];

const SETTINGS: &[&str] = &[
    "--public=",
    "--private=",
    "--app=ws://a:1",
    "--peer=http://[::1]:1",
    "--session-ttl=",
    "1m30s",
    "--log-level=",
    "TIDEGATE_PUBLIC=",
    "TIDEGATE_PEER=",
    "--limit-message-bytes=",
    "session-ttl = ",
    "[[",
    "\"\"\"",
    "http://",
    "://",
    "[::1]",
    "--allowed-origin=",
    "99999999999999999999s",
    "0x",
];

/// Everything that is attacked.
pub const TARGETS: &[Target] = &[
    target("client_frames", words::client_frames, words::frame_seeds, JSON, MIB),
    target("client_machine", words::client_machine, words::machine_seeds, JSON, 4 * MIB),
    target("drain_requests", words::drain_requests, words::request_seeds, HTTP, 2 * MIB),
    target("tokens", tokens::tokens, tokens::seeds, &["eyJ", ".", "-", "_"], MIB),
    target("config", settings::config, settings::config_seeds, SETTINGS, 16 * MIB),
    target("peers_file", settings::peers_file, settings::peers_seeds, SETTINGS, 4 * MIB),
    target("parked_records", store::records, store::record_seeds, JSON, 4 * MIB),
    target("parked_log", store::log, store::log_seeds, &["TGR1", "TGLOG"], 16 * MIB),
    target("connection", connection::connection, connection::seeds, JSON, 16 * MIB),
    target("ws_frames", frames::frames, frames::seeds, &[], MIB),
    target("private_api", api::private_api, api::seeds, HTTP, 16 * MIB),
    target("peer_link", peer::peer_link, peer::seeds, JSON, 16 * MIB),
    target(
        "app_answers",
        app::app_answers,
        app::seeds,
        &["HTTP/1.1 200 OK\r\n", "content-length: ", "\r\n\r\n", "transfer-encoding: chunked"],
        16 * MIB,
    ),
];

const fn target(
    name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    words: &'static [&'static str],
    bytes_max: i64,
) -> Target {
    Target { name, run, seeds, words, bytes_max }
}

/// Runs a target on one input, as libFuzzer does.
///
/// # Panics
/// When a promise is broken.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    let before = panics();
    (target.run)(data);
    assert_eq!(panics(), before, "a task panicked");
}

/// The text of an input, for what reads texts.
fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// Texts as inputs.
fn inputs<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    texts.into_iter().map(|text| text.as_ref().to_vec()).collect()
}
