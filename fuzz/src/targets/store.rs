//! What comes back from disk: the log with any damage, and the records in it.

use super::inputs;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tidegate::message::Message;
use tidegate::store::faulty::FaultyDisk;
use tidegate::store::{LOG_NAME, Limits, Parked, RecordState, Recovered, Seal, Store, StoreError, Writer};
use tidegate_protocol::frame::Old;
use tidegate_protocol::id::SessionId;
use tidegate_protocol::peer::PeerMessage;
use tidegate_protocol::position::{Epoch, Offset};
use tidegate_protocol::session::record::{HelloFacts, Profile, Record};

/// A seal that hides nothing and notices every change: a sum over purpose and bytes in front.
struct Sum;

fn sum(purpose: &str, plain: &[u8]) -> [u8; 8] {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    purpose.as_bytes().iter().chain(plain).fold(0xcbf2_9ce4_8422_2325, mix).to_le_bytes()
}

impl Seal for Sum {
    fn seal(&self, purpose: &str, plain: &[u8]) -> Vec<u8> {
        [&sum(purpose, plain), plain].concat()
    }

    fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (found, plain) = sealed.split_at_checked(8)?;
        (found == sum(purpose, plain)).then(|| plain.to_vec())
    }
}

/// Runs a store in memory on this thread.
fn with_store<T>(disk: &Arc<FaultyDisk>, work: impl AsyncFnOnce(Store, Recovered) -> T) -> Result<T, StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let writer = Writer::Task(Box::new(|| Duration::ZERO));
        let limits = Limits { record_bytes_max: 64 * 1024, ..Limits::default() };
        let (store, recovered) = Store::open_with(disk.clone(), Arc::new(Sum), limits, writer)?;
        Ok(work(store, recovered).await)
    })
}

fn body(session: u128) -> Vec<u8> {
    format!("{{\"session\":{session}}}").repeat(1 + session as usize % 5).into_bytes()
}

/// What a whole log holds, and where each word about a session ends in it.
struct Whole {
    bytes: Vec<u8>,
    /// Session, what was said of it, and where that ends.
    words: Vec<(u128, Option<RecordState>, usize)>,
}

/// A log as a busy hub leaves it: parked, taken up, moved, parked again.
fn whole() -> &'static Whole {
    static WHOLE: OnceLock<Whole> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let disk = Arc::new(FaultyDisk::new());
        let mut words = Vec::new();
        let length = |disk: &FaultyDisk| disk.bytes(LOG_NAME).map_or(0, |bytes| bytes.len());
        let made = with_store(&disk, async |store, _| {
            for session in 1..=8u128 {
                let parked = Parked { session: SessionId(session), body: body(session) };
                assert_eq!(store.park(vec![parked]).await.durable.len(), 1);
                words.push((session, Some(RecordState::Parked), length(&disk)));
                if session % 3 == 0 {
                    store.taken_up(vec![SessionId(session - 1)]).await.expect("it is written");
                    words.push((session - 1, Some(RecordState::TakenUp), length(&disk)));
                }
                if session % 4 == 0 {
                    store.moved(vec![SessionId(session - 3)]).await.expect("it is written");
                    words.push((session - 3, None, length(&disk)));
                }
            }
        });
        made.expect("an empty store opens");
        Whole { bytes: disk.bytes(LOG_NAME).expect("there is a log"), words }
    })
}

/// Damage to a whole log, five bytes at a time: where, what, and with which byte. Nothing that ends before the
/// first damage is lost; nobody who is gone comes back; what is given back is what was parked.
pub(super) fn log(data: &[u8]) {
    if let Some((b'=', raw)) = data.split_first().map(|(first, rest)| (*first, rest)) {
        return open_anything(raw.to_vec());
    }
    let whole = whole();
    let mut bytes = whole.bytes.clone();
    let mut first_damage = bytes.len();
    for edit in data.chunks_exact(5).take(12) {
        let at = u16::from_le_bytes([edit[0], edit[1]]) as usize % (bytes.len() + 1);
        let span = usize::from(edit[3] % 64);
        let before = bytes.clone();
        match edit[2] % 5 {
            0 if at < bytes.len() => bytes[at] ^= edit[4],
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, vec![edit[4]; span])),
            3 => drop(bytes.drain(at..(at + span).min(bytes.len()))),
            4 => bytes.extend(vec![edit[4]; span]),
            _ => {}
        }
        let same = bytes.iter().zip(&before).take_while(|(new, old)| new == old).count();
        let is_same = bytes == before;
        first_damage = if is_same { first_damage } else { first_damage.min(same) };
    }
    judge(whole, bytes, first_damage);
}

fn judge(whole: &Whole, bytes: Vec<u8>, first_damage: usize) {
    let disk = Arc::new(FaultyDisk::new());
    disk.put(LOG_NAME, bytes);
    // What stands whole before the damage, session by session.
    let mut sound: BTreeMap<u128, Option<RecordState>> = BTreeMap::new();
    for (session, state, _) in whole.words.iter().filter(|(_, _, end)| *end <= first_damage) {
        sound.insert(*session, *state);
    }
    let opened = with_store(&disk, async |store, recovered| {
        for session in 1..=8u128 {
            let id = SessionId(session);
            let found = store.read(id).await.expect("what the store has found can be read");
            if let Some((_, found_body)) = &found {
                assert_eq!(*found_body, body(session), "a body that was never parked");
            }
            let state = store.state(id);
            match sound.get(&session) {
                Some(Some(RecordState::Parked)) => assert!(
                    state.is_some() || is_said_gone(whole, session, first_damage),
                    "session {session} was parked before the damage, and is lost: {recovered:?}"
                ),
                Some(None | Some(RecordState::TakenUp)) => assert!(
                    state != Some(RecordState::Parked),
                    "session {session} is gone, and came back: {recovered:?}"
                ),
                None => {}
            }
        }
        let known = |found: &SessionId| (1..=8).contains(&found.0);
        assert!(
            recovered.parked.iter().chain(&recovered.taken_up).all(known),
            "sessions that never were: {recovered:?}"
        );
    });
    // A log whose first bytes are gone may look like one of another key or version: then nothing is touched.
    drop(opened);
}

/// Whether a word that comes later in the whole log says that a session is gone; it may have survived the damage.
fn is_said_gone(whole: &Whole, session: u128, first_damage: usize) -> bool {
    whole.words.iter().any(|(of, state, end)| *of == session && state.is_none() && *end > first_damage)
}

/// Any bytes as a log: it opens as something, or is refused, and the next start finds the same.
fn open_anything(bytes: Vec<u8>) {
    let disk = Arc::new(FaultyDisk::new());
    disk.put(LOG_NAME, bytes);
    let first = with_store(&disk, async |store, _| store.list(None, 1000));
    let second = with_store(&disk, async |store, recovered| (store.list(None, 1000), recovered.damaged));
    if let (Ok(first), Ok((second, damaged))) = (first, second) {
        assert_eq!((first, 0), (second, damaged), "what was mended stays mended");
    }
}

pub(super) fn log_seeds() -> Vec<Vec<u8>> {
    let mut seeds =
        inputs([&[0u8, 0, 0, 0, 1][..], &[100, 0, 1, 0, 0], &[80, 0, 2, 9, 0], &[80, 0, 3, 9, 0], &[60, 0, 4, 20, 0]]);
    seeds.push([b"=".as_slice(), &whole().bytes].concat());
    seeds.push(b"=".to_vec());
    seeds
}

/// A record as a snapshot or the disk brings it, and messages between hubs: read, used in every way that is open to
/// strangers, and written again.
pub(super) fn records(data: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<PeerMessage<Message>>(data) {
        let written = serde_json::to_vec(&message).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<PeerMessage<Message>>(&written).expect("and read again"), message);
        assert!(!message.kind().is_empty());
    }
    let Ok(record) = serde_json::from_slice::<Record<Message>>(data) else { return };
    let written = serde_json::to_vec(&record).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<Record<Message>>(&written).expect("and read again"), record);
    let facts = |serial, received| HelloFacts { serial, attempt: 1, old: Old::Lost, received, epoch: None };
    let mut used = record.clone();
    for hello in [facts(0, Offset(0)), facts(u32::MAX, Offset(u64::MAX)), facts(used.tokens.used, used.acked)] {
        _ = used.judge(&hello);
    }
    assert!(used.taken() <= used.received, "no more is taken than was counted");
    drop(used.after_reset());
    _ = used.ack(used.outbox.end(), used.outbox.end());
    used.issue();
}

pub(super) fn record_seeds() -> Vec<Vec<u8>> {
    let mut record = Record::<Message>::new(Epoch(1), Profile { user: Some("ann".into()), ..Profile::default() });
    let limits = tidegate_protocol::replay::ReplayLimits { messages_max: 10, bytes_max: 1000 };
    record.outbox.push(Message::text("hi"), &limits);
    record.outbox.push(Message::binary(&[0, 255]), &limits);
    record.untaken.push_back(Message::text("up"));
    record.received = Offset(3);
    record.state = b"state".to_vec();
    record.issue();
    let json = serde_json::to_string(&record).expect("a record is JSON");
    let session = "\"session\":\"00000000000000000000000000000001\"";
    let handover = "\"handover\":{\"from\":\"000000000000000b\",\"to\":\"000000000000000a\",\"generation\":2}";
    inputs([
        json.clone(),
        format!("{{\"say\":\"snapshot\",{session},{handover},\"claim\":null,\"version\":1,\"record\":{json}}}"),
        format!("{{\"say\":\"committed\",{session},{handover}}}"),
        format!("{{\"say\":\"locate\",{session},\"claim\":1}}"),
        format!("{{\"say\":\"located\",{session},\"claim\":1,\"knowledge\":{{\"known\":\"owner\",\"at\":3}}}}"),
    ])
}
