//! The link between hubs: bodies with a good signature, with a bad one, and with none.

use super::{inputs, store, text};
use crate::bench::{Bench, HUB, PRIVATE, keys, with_bench};
use http::{HeaderMap, Method};
use std::cell::RefCell;
use tidegate::keys::PeerAuth;
use tidegate::world::Surroundings;
use tidegate_protocol::id::HubId;

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

const OTHER: HubId = HubId(0xb);
const ROUTES: [&str; 5] =
    ["/peer/v1/hello", "/peer/v1/messages", "/peer/v1/call", "/peer/v1/publish", "/peer/v1/goodbye"];
const HELLO: &str = r#"{"from":"000000000000000b","incarnation":"0000000000000001","version":"1","peer_url":"http://other:1","public_url":"ws://other:1/connect","state":"serving","sessions":0,"room":true,"refused":0,"fan_last":0,"versions":[1],"known":[]}"#;

/// The first letter names the route; `m`: each line is one message in a good envelope. The second says how it is
/// signed. The rest is the body.
pub(super) fn peer_link(data: &[u8]) {
    let [route, manner, body @ ..] = data else { return };
    with_bench(&BENCH, &[], |bench| {
        bench.run(async {
            let met = Bench::exchange(&bench.private, &signed(bench, ROUTES[0], HELLO.as_bytes(), b's')).await;
            assert!(met.starts_with(b"HTTP/1.1 200") || met.starts_with(b"HTTP/1.1 409"), "{:?}", text(&met));
            let (path, body) = match route {
                b'm' => (ROUTES[1], envelope(body)),
                other => (ROUTES[usize::from(*other) % ROUTES.len()], body.to_vec()),
            };
            let answer = Bench::exchange(&bench.private, &signed(bench, path, &body, *manner)).await;
            let shown = text(&answer);
            let status = shown.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
            let status = status.unwrap_or_else(|| panic!("an answer is HTTP: {shown}"));
            assert!(status < 500 || status == 503, "the hub blames itself: {shown}");
            if *manner != b's' {
                assert!([401, 413, 421].contains(&status), "who is not believed is told nothing else: {shown}");
            }
            bench.must_live().await;
        });
    });
}

/// Lines as the messages of a batch, as far as they are JSON.
fn envelope(body: &[u8]) -> Vec<u8> {
    let lines = text(body);
    let is_json = |line: &&str| serde_json::from_str::<&serde_json::value::RawValue>(line).is_ok();
    let messages: Vec<&str> = lines.lines().filter(is_json).take(64).collect();
    let batch = format!(
        r#"{{"from":"000000000000000b","incarnation":"0000000000000001","to":"0000000000000001","messages":[{}]}}"#,
        messages.join(",")
    );
    batch.into_bytes()
}

/// `s`: as it should be. `n`: not at all. `b`: over another body. `t`: an hour ago. `r`: as the hub itself.
fn signed(bench: &Bench, path: &str, body: &[u8], manner: u8) -> Vec<u8> {
    let auth = PeerAuth::new(&keys(), OTHER);
    let now = bench.world.unix_ms();
    let at = if manner == b't' { now - 3_600_000 } else { now };
    let mut headers = HeaderMap::new();
    let over: &[u8] = if manner == b'b' { b"another" } else { body };
    if !matches!(manner, b'n') {
        let to = if matches!(manner, b's' | b'b' | b't') { HUB } else { OTHER };
        auth.sign_request(&Method::POST, path, Some(to), over, at, &mut headers);
    }
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: {PRIVATE}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    )
    .into_bytes();
    for (name, value) in &headers {
        request.extend(format!("{name}: ").into_bytes());
        request.extend(value.as_bytes());
        request.extend(b"\r\n");
    }
    request.extend(b"\r\n");
    request.extend(body);
    request
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = inputs([
        format!("\0s{HELLO}"),
        format!("\0n{HELLO}"),
        format!("\0b{HELLO}"),
        format!("\0t{HELLO}"),
        format!("\0r{HELLO}"),
        "\x02s{\"from\":\"000000000000000b\",\"incarnation\":\"0000000000000001\",\"n\":1,\"session\":\"00000000000000000000000000000001\",\"call\":{}}".to_owned(),
        "\x03s{\"from\":\"000000000000000b\",\"incarnation\":\"0000000000000001\",\"entries\":[]}".to_owned(),
        "\x04s{\"from\":\"000000000000000b\",\"incarnation\":\"0000000000000001\"}".to_owned(),
    ]);
    let messages = store::record_seeds().into_iter().skip(1);
    seeds.push([b"ms".to_vec(), messages.collect::<Vec<_>>().join(&b'\n')].concat());
    seeds
}
