//! The disk: full, damaged, or not a directory at all.

use crate::scene::soon;
use std::path::Path;
use tidegate_protocol::client::Report;
use tidegate_protocol::close::slot_ms;
use tidegate_tests::{Client, Hub, Relay, Seen, Setup, Signal, connect_all, report, wait_until};

const CLIENTS: usize = 12;
const STATE_BYTES: usize = 40_000;

/// Clients whose sessions have so much state that few of them fit on what is left of the disk.
async fn heavy(hub: &Hub, relay: &Relay) -> Vec<Client> {
    let clients = connect_all(&relay.url("/connect"), CLIENTS).await;
    for client in &clients {
        let path = format!("/v1/sessions/{}/state", client.session());
        hub.api.put_bytes(&path, &vec![7; STATE_BYTES]).await.expect(204);
        hub.api.publish(&serde_json::json!({"session": client.session()}), "first").await;
        client.wait("its message", |seen| seen.received == ["first"]).await;
    }
    clients
}

async fn all_go_on(hub: &Hub, clients: &[Client], text: &str) {
    for client in clients {
        client.wait("a connection", |seen| seen.connected).await;
        wait_until("a message numbered", || async {
            let body = serde_json::json!({"to": {"session": client.session()}, "text": text});
            let answer = hub.api.post("/v1/publish", &body).await;
            if answer.status == 200 { Ok(()) } else { Err(answer.to_string()) }
        })
        .await;
        client.wait("it", |seen| seen.received.iter().any(|got| got == text)).await;
    }
}

#[tokio::test]
async fn on_a_full_disk_who_does_not_fit_is_served_on_and_who_does_is_parked() {
    let hub = Setup::new("A").start().await;
    let relay = Relay::to(hub.public).await;
    let clients = heavy(&hub, &relay).await;
    // Room for some of them: a record is base64 in JSON, sealed.
    hub.limit_file_bytes(Some(4 * STATE_BYTES as u64 * 3 / 2));
    hub.api.post("/v1/drain", &soon(6_000)).await.expect(202);
    let first = report(&hub).await;
    let counts = first.sessions.counts;
    assert!(counts.parked >= 1 && counts.parked < CLIENTS as u64, "some fit: {first:#?}");
    assert_eq!(counts.parked + counts.forced + counts.remaining, CLIENTS as u64, "{first:#?}");
    let told = clients.iter().filter(|client| client.seen().told_parked()).count() as u64;
    assert_eq!(told, counts.parked, "who does not fit is not told that it is safe: {first:#?}");
    // There is room again: everybody is served on, and the next drain parks them all.
    hub.limit_file_bytes(None);
    hub.api.delete("/v1/drain").await.expect(200);
    all_go_on(&hub, &clients, "second").await;
    hub.api.post("/v1/drain", &soon(20_000)).await.expect(202);
    let second = report(&hub).await;
    assert_eq!(second.sessions.counts.parked, CLIENTS as u64, "{second:#?}");
    hub.stop().await;
    let next = hub.setup().start().await;
    relay.retarget(&[next.public]);
    all_go_on(&next, &clients, "third").await;
    for client in &clients {
        let seen = client.seen();
        assert_eq!((seen.resets(), seen.received), (0, vec!["first".into(), "second".into(), "third".into()]));
    }
}

/// The slots that clients were given for their return, by the last word of the process.
fn slots(clients: &[Client]) -> Vec<u64> {
    clients.iter().flat_map(|client| slots_of(&client.seen()).first().copied()).collect()
}

fn slots_of(seen: &Seen) -> Vec<u64> {
    seen.closes.iter().filter_map(|(code, why)| slot_ms((*code)?, why)).collect()
}

#[tokio::test]
async fn a_stop_that_the_disk_refuses_closes_everybody_in_a_slot_of_his_own_and_says_why_in_a_few_lines() {
    for second_signal in [false, true] {
        let hub = Setup::new("A").flag("--stop-deadline", "6s").start().await;
        let relay = Relay::to(hub.public).await;
        let clients = heavy(&hub, &relay).await;
        hub.limit_file_bytes(Some(0));
        hub.signal(Signal::Term);
        if second_signal {
            hub.signal(Signal::Term);
        }
        let exit = hub.exit().await;
        assert_eq!(exit.code, Some(0), "second signal: {second_signal}");
        for client in &clients {
            client.wait("the last word of the hub", |seen| !slots_of(seen).is_empty()).await;
            assert!(!client.seen().told_parked(), "nobody is told that he is safe");
        }
        let mut slots = slots(&clients);
        slots.sort_unstable();
        slots.dedup();
        assert!(slots.len() > CLIENTS / 2, "they do not all come back at once: {slots:?}");
        let told = exit.stderr.iter().filter(|line| line.contains("WARN") || line.contains("ERROR"));
        let told: Vec<&String> = told.collect();
        assert!(told.iter().any(|line| line.contains("could not be put on disk")), "it is said: {told:#?}");
        assert!(told.len() < CLIENTS, "and not once for each session and try: {} lines, {told:#?}", told.len());
    }
}

#[tokio::test]
async fn a_file_in_the_place_of_the_data_directory_stops_the_start_with_its_name() {
    let setup = Setup::new("A");
    setup.file("data", "a file");
    let exit = setup.launch().exit().await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    let path = setup.data_dir().display().to_string();
    assert!(exit.stderr.iter().any(|line| line.contains(&path)), "it names {path}: {exit:?}");
}

/// What was done to the log while nobody had it open.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// The last bytes are gone.
    Torn,
    /// One byte in the middle is another.
    Flipped,
    /// A page in the middle is zeros.
    Zeroed,
    /// Garbage after the end.
    Trailing,
}

fn damage(log: &Path, how: Damage) {
    let mut bytes = std::fs::read(log).expect("the log is there");
    let middle = bytes.len() / 2;
    match how {
        Damage::Torn => bytes.truncate(bytes.len() - 1_000),
        Damage::Flipped => bytes[middle] ^= 0x40,
        Damage::Zeroed => bytes[middle..middle + 4_096].fill(0),
        Damage::Trailing => bytes.extend(std::iter::repeat_n(0x5a, 3_000)),
    }
    std::fs::write(log, bytes).expect("the log can be written");
}

#[tokio::test]
async fn a_damaged_log_costs_the_sessions_it_hits_and_they_are_told() {
    for how in [Damage::Torn, Damage::Flipped, Damage::Zeroed, Damage::Trailing] {
        let hub = Setup::new("A").start().await;
        let relay = Relay::to(hub.public).await;
        let clients = heavy(&hub, &relay).await;
        hub.stop().await;
        relay.refuse();
        let log = log_of(&hub);
        damage(&log, how);
        let next = hub.setup().start().await;
        relay.retarget(&[next.public]);
        relay.heal();
        all_go_on(&next, &clients, "second").await;
        let reset: Vec<Seen> = clients.iter().map(Client::seen).filter(|seen| seen.resets() > 0).collect();
        let at_most = match how {
            Damage::Trailing => 0,
            Damage::Torn | Damage::Flipped => 2,
            // It is not known whose records were there, and one may have said that a session was taken up: what was
            // parked before the hole is reset, for a session that is resumed twice is worse.
            Damage::Zeroed => CLIENTS - 1,
        };
        assert!(reset.len() <= at_most, "{how:?}: {} of {CLIENTS} were reset", reset.len());
        for client in clients.iter().filter(|client| client.seen().resets() == 0) {
            assert_eq!(client.seen().received, ["first", "second"], "{how:?}: it goes on without a hole");
        }
        for seen in &reset {
            assert!(seen.reports.iter().any(|report| matches!(report, Report::Reset { .. })), "{how:?}: it was told");
        }
    }
}

/// The one large file in the data directory.
fn log_of(hub: &Hub) -> std::path::PathBuf {
    let entries = std::fs::read_dir(hub.data_dir()).expect("the data directory can be read");
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    files.max_by_key(|path| std::fs::metadata(path).map_or(0, |meta| meta.len())).expect("there is a log")
}
