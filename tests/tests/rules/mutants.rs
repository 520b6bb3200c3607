//! Rules that the model of the handover cannot express: each is dropped here, at the border of the component
//! that keeps it, and the check must notice. A check is a function of what it is given: with the rule it
//! holds, and without it it does not.

use std::time::Duration;
use tidegate::keys::{ClusterKeys, PeerAuth, TokenBody, TokenMint};
use tidegate::store::DataDir;
use tidegate_protocol::claim::{Claim, Step};
use tidegate_protocol::control::{DrainRequest, HubState};
use tidegate_protocol::drain::{Action as Order, Drain, Event as Fact, Facts, Plan, Successor};
use tidegate_protocol::frame::Old;
use tidegate_protocol::id::{ConnectionId, DrainId, HubId, SessionId};
use tidegate_protocol::peer::{ClaimId, PeerMessage, SNAPSHOT_VERSION, SNAPSHOT_VERSIONS};
use tidegate_protocol::position::{Epoch, Generation, Millis, Offset};
use tidegate_protocol::session::bulk::BULK_MIN_BYTES;
use tidegate_protocol::session::record::{HelloFacts, Profile, Record};
use tidegate_protocol::session::{Action, Event, Session, Timer};

const A: HubId = HubId(0xa);
const B: HubId = HubId(0xb);
const S: SessionId = SessionId(5);
const NOW: u64 = 1_800_000_000_000;

fn hello(serial: u32, attempt: u32, old: Old) -> HelloFacts {
    HelloFacts { serial, attempt, old, received: Offset(0), epoch: Some(Epoch(1)) }
}

/// A session at work at A, with this much state.
fn session(state_bytes: usize) -> Session<u8> {
    let mut record = Record::new(Epoch(1), Profile::default());
    record.state = vec![7; state_bytes];
    Session::begin(S, A, record, ConnectionId(1), 1, &mut Vec::new())
}

/// One event, and everything that follows at a hub whose app settles at once.
fn told(session: &mut Session<u8>, event: Event<u8>) -> Vec<Action<u8>> {
    let mut out = Vec::new();
    session.handle(event, &mut out);
    if out.contains(&Action::Settle) {
        session.handle(Event::Settled, &mut out);
    }
    out
}

fn said(actions: &[Action<u8>]) -> Vec<PeerMessage<u8>> {
    let said = actions.iter().filter_map(|action| match action {
        Action::Say(_, message) => Some(message.clone()),
        _ => None,
    });
    said.collect()
}

fn is_welcome(actions: &[Action<u8>]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Welcome { .. }))
}

/// Rule 14.
#[test]
fn a_wait_for_a_silent_hub_that_never_ends_is_caught() {
    let ends = |has_waited: bool| {
        let (mut steps, client) = (Vec::<Step<u8>>::new(), hello(1, 2, Old::Lost));
        let mut claim = Claim::begin(S, ClaimId(1), ConnectionId(1), client, has_waited, [A, B], &mut steps);
        claim.on_silence(&mut steps);
        steps.iter().any(|step| matches!(step, Step::Reset { .. }))
    };
    assert!(ends(true));
    assert!(!ends(false), "without the rule nobody notes that the client has waited");
}

/// Rule 15.
#[test]
fn bounces_that_are_never_counted_are_caught() {
    let stays = |counted: bool| {
        let peers = successor(true);
        let request: DrainRequest =
            serde_json::from_str(r#"{"notice_ms":0,"window_ms":0,"settle_ms":4000,"deadline_ms":60000}"#)
                .expect("JSON");
        let facts = Facts { connected: true, ..Facts::default() };
        let plan = Plan::new(request.resolve().expect("possible"), [(S, facts)], &peers, 7);
        let mut drain = Drain::start(DrainId(1), plan, &peers, String::new(), Millis(0));
        run(&mut drain, Millis(0), Millis(1));
        (1..50).any(|times| {
            if counted {
                drain.handle(Fact::Bounced { id: S }, Millis(times * 100));
            }
            drain.sends_away(S).is_none()
        })
    };
    assert!(stays(true));
    assert!(!stays(false), "its client would be sent away for ever");
}

/// Rule 10.
#[test]
fn a_freeze_that_carries_everything_is_caught() {
    let carries_little = |with_bulk: bool| {
        let mut here = session(4 * BULK_MIN_BYTES);
        let version = if with_bulk { SNAPSHOT_VERSION } else { SNAPSHOT_VERSIONS[0] };
        let mut words = said(&told(&mut here, Event::Push { to: B, version }));
        if let [PeerMessage::Bulk { bulk, session, .. }] = words[..] {
            let message = PeerMessage::BulkHeld { session, bulk };
            words = said(&told(&mut here, Event::Peer { from: B, message }));
        }
        let bytes = |message: &PeerMessage<u8>| serde_json::to_string(message).expect("plain values").len();
        words.iter().all(|message| bytes(message) < BULK_MIN_BYTES)
    };
    assert!(carries_little(true));
    assert!(!carries_little(false), "as it was before there were bulks");
}

/// Rule 17.
#[test]
fn stamps_that_stay_behind_are_caught() {
    let arrive = |travel: bool| {
        let mut here = session(0);
        here.record_mut(false).expect("it serves").applied.insert("run".into(), 7);
        let words = said(&told(&mut here, Event::Push { to: B, version: SNAPSHOT_VERSION }));
        let [PeerMessage::Snapshot { handover, record, .. }] = &words[..] else { panic!("a snapshot: {words:?}") };
        let (handover, mut record) = (*handover, record.clone());
        if !travel {
            record.applied.clear();
        }
        let mut there = Session::unknown(S, B);
        told(&mut there, Event::Copied { waiting: None, handover, record });
        told(&mut there, Event::Peer { from: A, message: PeerMessage::Committed { session: S, handover } });
        there.record().is_some_and(|record| record.applied.get("run") == Some(&7))
    };
    assert!(arrive(true));
    assert!(!arrive(false), "the successor would not know what was applied");
}

fn successor(eligible: bool) -> Vec<Successor> {
    vec![Successor {
        hub: B,
        url: None,
        eligible,
        state: Some(HubState::Draining),
        sessions: Some(0),
        room: None,
        admission: None,
    }]
}

/// A drain of so many sessions without a connection; what it orders within so many milliseconds.
fn orders(peers: &[Successor], within_ms: u64) -> Vec<Order> {
    let request: DrainRequest =
        serde_json::from_str(r#"{"notice_ms":0,"window_ms":0,"deadline_ms":60000}"#).expect("JSON");
    let policy = request.resolve().expect("possible");
    let plan = Plan::new(policy, [(S, Facts::default())], peers, 7);
    let mut drain = Drain::start(DrainId(1), plan, peers, String::new(), Millis(0));
    run(&mut drain, Millis(0), Millis(within_ms))
}

/// Lets time pass; nobody answers.
fn run(drain: &mut Drain, from: Millis, until: Millis) -> Vec<Order> {
    let (mut now, mut orders) = (from, Vec::new());
    loop {
        while let Some(order) = drain.poll_action(now) {
            orders.push(order);
        }
        match drain.poll_timeout() {
            Some(at) if at <= until => now = now.max(at),
            _ => return orders,
        }
    }
}

/// Rule 19.
#[test]
fn a_peer_that_is_taken_for_ready_is_caught() {
    let keeps_to_ready_ones = |taken_for_ready: bool| {
        !orders(&successor(taken_for_ready), 10_000).iter().any(|order| matches!(order, Order::Push { .. }))
    };
    assert!(keeps_to_ready_ones(false));
    assert!(!keeps_to_ready_ones(true), "the peer is draining itself, and nobody looked");
}

/// Rule 23.
#[test]
fn a_hub_that_waits_for_a_peer_that_is_not_there_is_caught() {
    let parks = |peers: &[Successor]| orders(peers, 10_000).iter().any(|order| matches!(order, Order::Park { .. }));
    assert!(parks(&[]));
    assert!(!parks(&successor(true)), "a ghost would be waited for until the deadline is near");
}

/// Rule 21.
#[test]
fn a_drain_that_rests_after_its_end_is_caught() {
    const AFTER_END: u64 = 20_000;
    let hands_on = |asked_after_the_end: bool| {
        let peers = successor(true);
        let policy = DrainRequest::default().resolve().expect("the defaults are possible");
        let plan = Plan::new(policy, [], &peers, 7);
        let mut drain = Drain::start(DrainId(1), plan, &peers, String::new(), Millis(0));
        run(&mut drain, Millis(0), Millis(1));
        let facts = Facts { connected: true, fresh: true, ..Facts::default() };
        drain.handle(Fact::Arrived { id: S, facts }, Millis(2));
        let orders = if asked_after_the_end { run(&mut drain, Millis(2), Millis(AFTER_END)) } else { Vec::new() };
        orders.iter().any(|order| matches!(order, Order::Move { .. }))
    };
    assert!(hands_on(true));
    assert!(!hands_on(false), "whoever comes after the end would stay");
}

/// Rule 20.
#[tokio::test]
async fn a_directory_that_is_not_locked_is_caught() {
    let keeps_out = async |locked: bool| {
        let folder = tempfile::tempdir().expect("a place for a directory");
        let open =
            async || DataDir::open(folder.path(), Duration::from_millis(50), NOW, &mut |bytes| bytes.fill(7)).await;
        let first = open().await.expect("nobody has it yet");
        let first = locked.then_some(first);
        let second = open().await;
        drop(first);
        second.is_err()
    };
    assert!(keeps_out(true).await);
    assert!(!keeps_out(false).await, "two processes would write one log");
}

/// Rule 20.
#[test]
fn a_parked_session_that_welcomes_is_caught() {
    let sends_away = |stays_parked: bool| {
        let mut here = session(0);
        told(&mut here, Event::Park);
        let record = Box::new(here.record().expect("frozen to be written").clone());
        told(&mut here, Event::Written);
        if !stays_parked {
            told(&mut here, Event::TakenUp(record));
        }
        let event = Event::Hello { conn: ConnectionId(2), hello: hello(1, 2, Old::Lost), leaving: None };
        !is_welcome(&told(&mut here, event))
    };
    assert!(sends_away(true));
    assert!(!sends_away(false), "the next process would find nothing to take up");
}

/// Rule 24.
#[test]
fn tokens_that_are_never_void_are_caught() {
    let refuses_older = |voided: bool| {
        let mut record = Record::<u8>::new(Epoch(1), Profile::default());
        record.issue();
        record.issue();
        if voided {
            record.accept(&hello(2, 2, Old::Lost));
        }
        record.judge(&hello(1, 3, Old::Lost)).is_err()
    };
    assert!(refuses_older(true));
    assert!(!refuses_older(false), "a copied token would be good for ever");
}

/// Rule 24.
#[test]
fn a_token_whose_expiry_is_not_looked_at_is_caught() {
    let mint = TokenMint::new(&ClusterKeys::from_secrets([vec![1; 32]]));
    let body = TokenBody { session: S, serial: 1, hub: A, generation: Generation(1), expires_unix_ms: NOW, user: None };
    let token = mint.issue(&body);
    let refuses = |clock: u64| mint.open(&token, clock).is_err();
    assert!(refuses(NOW + 3_600_000));
    assert!(!refuses(0), "a hub without a clock would take it");
}

/// Rule 25.
#[test]
fn a_signature_that_does_not_cover_the_body_is_caught() {
    let path = "/peer/v1/messages";
    let notices = |covers_body: bool| {
        let auth = |own| PeerAuth::new(&ClusterKeys::from_secrets([vec![1; 32]]), own);
        let (from, to) = (auth(A), auth(B));
        let covered = |body: &'static [u8]| if covers_body { body } else { b"" };
        let mut headers = http::HeaderMap::new();
        from.sign_request(&http::Method::POST, path, Some(B), covered(b"claim"), NOW, &mut headers);
        let believed = to.verify_request(&http::Method::POST, path, &headers, NOW);
        believed.and_then(|believed| believed.fits(covered(b"another claim"))).is_err()
    };
    assert!(notices(true));
    assert!(!notices(false), "whoever is on the way could change what hubs say");
}

/// Rule 26.
#[test]
fn a_claim_whose_versions_are_not_looked_at_is_caught() {
    let [old, new] = SNAPSHOT_VERSIONS;
    let reads = |message: &PeerMessage<u8>| matches!(message, PeerMessage::Snapshot { version, .. } if *version == old);
    let speaks_old = |heeded: bool| {
        let mut here = session(4 * BULK_MIN_BYTES);
        let versions = vec![if heeded { old } else { new }];
        let hello = hello(1, 2, Old::Lost);
        let message = PeerMessage::Claim { session: S, claim: ClaimId(1), hello, versions, orphaned: false };
        let mut actions = told(&mut here, Event::Peer { from: B, message });
        actions.extend(told(&mut here, Event::Fired(Timer::BulkWait(Generation(2)))));
        said(&actions).iter().all(reads)
    };
    assert!(speaks_old(true));
    assert!(!speaks_old(false), "a rollback would meet what it cannot read");
}
