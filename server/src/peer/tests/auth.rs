//! Who is believed.

use super::*;
use crate::hub::calls::Call;
use crate::hub::fan::Entry;
use crate::keys::{PEER_AUTH_WINDOW_MS, PeerAuth};
use crate::peer::post::json;
use crate::peer::wire::{CALL, Calling, GOODBYE, Goodbye, HELLO, MESSAGES, Messages, PUBLISH, Publish};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tidegate_protocol::control::{Problem, Target};
use tidegate_protocol::id::{HubId, Incarnation};

/// Posts with these headers; gives status and problem.
fn post(to: &Running, path: &str, headers: HeaderMap, body: Bytes) -> (StatusCode, Problem) {
    to.wait(async {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let mut request = http::Request::post(format!("{}{path}", to.url)).body(Full::new(body)).expect("a request");
        *request.headers_mut() = headers;
        let (head, body) = client.request(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        assert_eq!(
            head.headers[http::header::CONTENT_TYPE],
            Problem::CONTENT_TYPE,
            "{}",
            String::from_utf8_lossy(&body)
        );
        (head.status, serde_json::from_slice(&body).expect("a problem"))
    })
}

fn stranger(letter: &str) -> PeerAuth {
    PeerAuth::new(&ClusterKeys::from_secrets([key(letter).into_bytes()]), HubId(1))
}

fn signed(by: &PeerAuth, path: &str, body: &[u8], now: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    by.sign_request(&Method::POST, path, None, body, now, &mut headers);
    headers
}

fn rejected(hub: &Running) -> u64 {
    let text = hub.hub.metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix("tidegate_rejected_total{why=\"peer_call\"} "));
    line.expect("the counter").parse().expect("a count")
}

#[test]
fn an_unsigned_a_forged_a_replayed_and_a_late_call_are_refused_and_counted() {
    let stage = Stage::new();
    let a = stage.start("a", &[]);
    let body = json(&Goodbye { from: HubId(1), incarnation: Incarnation(1), to: None, parked: 0 });
    let (status, problem) = post(&a, GOODBYE, HeaderMap::new(), body.clone());
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(problem.detail.contains("tidegate-peer-time is missing"), "{problem:?}");

    let (status, problem) = post(&a, GOODBYE, signed(&stranger("x"), GOODBYE, &body, unix_ms()), body.clone());
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(problem.detail.contains("--cluster-key-file"), "{problem:?}");

    let late = signed(&stranger("k"), GOODBYE, &body, unix_ms() - PEER_AUTH_WINDOW_MS - 5_000);
    let (status, problem) = post(&a, GOODBYE, late, body.clone());
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(problem.detail.contains("clock"), "{problem:?}");

    // A call that is believed and refused for what it says is used up all the same.
    let body = json(&Messages { from: HubId(1), incarnation: Incarnation(1), to: Incarnation(2), messages: vec![] });
    let headers = signed(&stranger("k"), MESSAGES, &body, unix_ms());
    let (status, problem) = post(&a, MESSAGES, headers.clone(), body.clone());
    assert_eq!(status, StatusCode::CONFLICT, "a run that was never met: {problem:?}");
    let (status, problem) = post(&a, MESSAGES, headers, body);
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(problem.detail.contains("seen before"), "{problem:?}");
    assert_eq!(rejected(&a), 4);
}

#[test]
fn a_call_for_another_hub_and_a_body_that_is_too_long_or_malformed_are_refused() {
    let stage = Stage::new();
    let a = stage.start("a", &["--limit-peer-body-bytes", "64KiB"]);
    let mut headers = HeaderMap::new();
    stranger("k").sign_request(&Method::POST, HELLO, Some(HubId(2)), b"{}", unix_ms(), &mut headers);
    let (status, problem) = post(&a, HELLO, headers, Bytes::from_static(b"{}"));
    assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{problem:?}");
    let long = Bytes::from(vec![b'x'; 65 << 10]);
    let (status, problem) = post(&a, HELLO, signed(&stranger("k"), HELLO, &long, unix_ms()), long);
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(problem.detail.contains("65536"), "{problem:?}");
    let (status, problem) = post(&a, HELLO, signed(&stranger("k"), HELLO, b"{}", unix_ms()), Bytes::from_static(b"{}"));
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(problem.detail.contains("missing field"), "{problem:?}");
}

#[test]
fn hubs_with_different_cluster_keys_never_meet() {
    let stage = Stage::new();
    let a = stage.start("a", &[]);
    std::fs::write(stage.path("cluster.key"), key("z")).expect("a key file");
    let b = stage.start("b", &["--peer", &a.url]);
    until("a has refused b's hello", || rejected(&a) > 0);
    assert_eq!(a.hub.peers.known(), []);
    until("b knows of an address where nobody is believed", || b.hub.peers.describe().len() == 1);
    assert_eq!(b.hub.peers.describe()[0].hub, None);
    assert!(!b.hub.peers.all_seeds_heard());
}

#[test]
fn a_key_that_differs_is_shown_where_the_operator_looks() {
    let stage = Stage::new();
    let a = stage.start("a", &[]);
    std::fs::write(stage.path("cluster.key"), key("z")).expect("a key file");
    let b = stage.start("b", &["--peer", &a.url]);
    let words = "--cluster-key-file must hold the same key on all hubs";
    let shown = |why: Option<String>| why.is_some_and(|why| why.contains(words));
    until("b says so of its peer", || b.hub.peers.describe().into_iter().any(|peer| shown(peer.why)));
    until("a plan of b says so", || b.hub.peers.obstacles().iter().any(|said| said.contains(words)));
    until("a, which is called, says so too", || a.hub.peers.obstacles().iter().any(|said| said.contains(words)));
    let metric = "tidegate_peers_failing{why=\"key\"} 1";
    until("the metric counts it", || b.hub.metrics.render().lines().any(|line| line == metric));
    let plan = b.hub.drain.plan(&b.hub, &Default::default()).expect("a plan");
    assert!(plan.blockers.iter().any(|said| said.contains(words)), "{plan:?}");
    let status = b.hub.drain.start(&b.hub, &Default::default(), Some(Default::default())).expect("a drain");
    assert!(status.blockers.is_empty(), "an empty hub is drained at once and waits for nobody: {status:?}");
    assert_eq!(b.hub.drain.cancel(&b.hub, Default::default(), Default::default()).blockers, Vec::<String>::new());

    let (c, d) = pair(&Stage::new());
    until("with the same key nothing is said", || {
        c.hub.peers.describe().iter().chain(&d.hub.peers.describe()).all(|peer| peer.why.is_none())
    });
}

/// Posts what was signed before; gives the status and what was answered.
fn play(to: &Running, path: &str, (headers, body): &(HeaderMap, Bytes)) -> (StatusCode, String) {
    to.wait(async {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let mut request =
            http::Request::post(format!("{}{path}", to.url)).body(Full::new(body.clone())).expect("a request");
        *request.headers_mut() = headers.clone();
        let (head, body) = client.request(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (head.status, String::from_utf8_lossy(&body).into_owned())
    })
}

#[test]
fn what_was_recorded_on_its_way_to_one_run_is_not_taken_by_the_next() {
    let stage = Stage::new();
    let (a, b) = pair(&stage);
    let (id, from, run) = (SessionId(7), b.hub.id, b.hub.incarnation);
    let message = Message::text("once");
    let calls: Vec<(&str, Bytes)> = [Some(a.hub.incarnation), None]
        .into_iter()
        .flat_map(|to| {
            let call = Call::Publish(message.clone());
            let calling = Calling { from, incarnation: run, to, n: 1, again: false, session: id, call };
            let entry = Entry { origin: run, n: 1, to: Target::All, message: message.clone() };
            let publish = Publish { from, incarnation: run, to, entries: vec![entry] };
            let goodbye = Goodbye { from, incarnation: run, to, parked: 0 };
            [(CALL, json(&calling)), (PUBLISH, json(&publish)), (GOODBYE, json(&goodbye))]
        })
        .collect();
    let recorded: Vec<_> =
        calls.into_iter().map(|(path, body)| (path, (signed(&stranger("k"), path, &body, unix_ms()), body))).collect();
    let cell = a.session(7);
    for (path, call) in &recorded[..2] {
        assert_eq!(play(&a, path, call).0, StatusCode::OK, "{path} is taken by the run that it is for");
    }
    assert_eq!(Running::numbered(&cell), 2);
    drop(a);

    let a = stage.start("a", &["--peer", &b.url]);
    until("they know each other's runs", || a.knows(&b) && a.hub.peers.book().table.run_of(from) == Some(run));
    let cell = a.session(7);
    for (path, call) in &recorded[..3] {
        let (status, told) = play(&a, path, call);
        assert_eq!(status, StatusCode::CONFLICT, "{path}: {told}");
        assert!(told.contains("other-run") && told.contains(&a.hub.incarnation.to_string()), "{path}: {told}");
    }
    for (path, call) in &recorded[3..5] {
        let (status, told) = play(&a, path, call);
        assert_eq!(status, StatusCode::CONFLICT, "{path} names no run, and its hub always does: {told}");
        assert!(told.contains("no-run"), "{path}: {told}");
    }
    assert_eq!(Running::numbered(&cell), 0, "nothing came twice");
    assert!(a.knows(&b), "and nobody left");
    let answer = b.wait(b.hub.call(id, Call::Publish(message), true));
    assert!(answer.is_ok(), "the sender itself has learned the new run: {answer:?}");
}
