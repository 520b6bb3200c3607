//! The private API: requests into the real listener, guards and router, with sessions to be asked about.

use super::{inputs, text};
use crate::bench::{Bench, PRIVATE, UPGRADE, say, with_bench};
use serde_json::Value;
use std::cell::RefCell;
use tidegate_protocol::frame::{MARK, ServerFrame};
use tokio::io::{AsyncReadExt, DuplexStream};

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

/// The first line is method, path and content type; the rest is the body. `SESSION` stands for a session that is
/// there. What begins otherwise goes to the listener as it is.
pub(super) fn private_api(data: &[u8]) {
    with_bench(&BENCH, &[], |bench| {
        bench.run(async {
            let (client, session) = newcomer(bench).await;
            let answer = Bench::exchange(&bench.private, &request(data, &session)).await;
            judge(&answer);
            drop(client);
            bench.must_live().await;
        });
    });
}

/// A client with a session, and the session's id.
pub(super) async fn newcomer(bench: &Bench) -> (DuplexStream, String) {
    let mut stream = bench.public.open().await;
    let hello = format!("{MARK}{{\"type\":\"hello\"}}");
    let mut bytes = UPGRADE.as_bytes().to_vec();
    bytes.extend([0x81, 0x80 | hello.len() as u8, 0, 0, 0, 0]);
    bytes.extend(hello.bytes());
    say(&mut stream, &bytes).await;
    let (mut heard, mut buffer) = (Vec::new(), [0; 2048]);
    loop {
        let reading = tokio::time::timeout(std::time::Duration::from_secs(30), stream.read(&mut buffer));
        match reading.await {
            Ok(Ok(bytes @ 1..)) => heard.extend_from_slice(&buffer[..bytes]),
            // Drained or full: then there is nobody to ask about.
            _ => return (stream, "00000000000000000000000000000000".to_owned()),
        }
        let all = String::from_utf8_lossy(&heard);
        let json = all.split(MARK).nth(1).and_then(|json| json.get(..=json.rfind('}')?));
        if let Some(Ok(ServerFrame::Welcome(welcome))) = json.map(ServerFrame::decode) {
            return (stream, welcome.session.to_string());
        }
    }
}

fn request(data: &[u8], session: &str) -> Vec<u8> {
    let all = text(data).replace("SESSION", session);
    let (line, body) = all.split_once('\n').unwrap_or((&all, ""));
    let words: Vec<&str> = line.split(' ').collect();
    let [method, path, kind] = words[..] else { return all.into_bytes() };
    let kind = if kind == "json" { "application/json" } else { kind };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {PRIVATE}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Each answer has a status that blames the right one; what is refused is refused by a problem.
fn judge(answer: &[u8]) {
    let shown = text(answer);
    let Some(status) = shown.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok()) else {
        return assert!(answer.is_empty(), "an answer is HTTP: {shown}");
    };
    assert!(status < 500 || [501, 503].contains(&status), "the hub blames itself: {shown}");
    let Some((head, body)) = shown.split_once("\r\n\r\n") else { panic!("an answer has a head: {shown}") };
    if head.to_ascii_lowercase().contains("application/problem+json") {
        let problem: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {shown}"));
        assert_eq!(problem["status"].as_u64(), Some(u64::from(status)), "{shown}");
        assert!(body.len() < 16 * 1024, "a problem is short, whatever was sent: {} bytes", body.len());
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    inputs([
        "POST /v1/publish json\n{\"to\":{\"all\":true},\"text\":\"hi\"}",
        "POST /v1/publish json\n{\"to\":{\"session\":\"SESSION\"},\"base64\":\"AAEC\",\"idempotency_key\":\"k\",\"scope\":\"hub\"}",
        "POST /v1/publish json\n{\"to\":{\"channel\":\"news\"},\"json\":{\"a\":[1,2.50,{\"b\":null}]}}",
        "GET /v1/sessions?limit=10&after=00000000000000000000000000000000 -\n",
        "GET /v1/sessions/SESSION -\n",
        "DELETE /v1/sessions/SESSION -\n",
        "PUT /v1/sessions/SESSION/channels/news -\n",
        "DELETE /v1/sessions/SESSION/channels/a%2fb%00 -\n",
        "PUT /v1/sessions/SESSION/state application/octet-stream\nanything at all",
        "GET /v1/sessions/SESSION/state -\n",
        "POST /v1/drain/plan json\n{\"notice_ms\":100}",
        "POST /v1/drain json\n{\"notice_ms\":10,\"window_ms\":10,\"settle_ms\":10,\"deadline_ms\":1000,\"stages\":[10,90],\"texts\":{\"de\":\"Pause\"},\"trigger\":{\"x\":1}}",
        "GET /v1/drain?wait_ms=100&after=3 -\n",
        "DELETE /v1/drain -\n",
        "GET /v1/drain/report -\n",
        "GET /v1/hub -\n",
        "GET /metrics -\n",
        "PATCH /nowhere json\n[]",
        "GET / HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        "POST /v1/publish HTTP/1.1\r\nhost: 127.0.0.1:8081\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ])
}
