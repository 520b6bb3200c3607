//! Torn tails and rotten bytes.

use super::faulty::FaultyDisk;
use super::index::RecordState;
use super::log::{Log, Shared};
use super::record::Kind;
use super::testing::{PlainSeal, body, fresh_log_bytes, write};
use super::{LOG_NAME, Limits, Recovered, Seal, StoreError};
use std::sync::Arc;
use tidegate_protocol::id::SessionId;

/// The log that these records make.
fn bytes_of(records: &[(Kind, u128)]) -> Vec<u8> {
    let disk = Arc::new(FaultyDisk::new());
    let mut log = open(&disk).0;
    for (kind, session) in records {
        let body = if *kind == Kind::Parked { body(*session, 1) } else { Vec::new() };
        write(&mut log, *kind, *session, &body).expect("writes");
    }
    disk.bytes(LOG_NAME).expect("there is a log")
}

fn open(disk: &Arc<FaultyDisk>) -> (Log, Recovered) {
    Log::open(disk.clone(), Arc::new(PlainSeal), Limits::default()).expect("no damage stops the start")
}

fn open_bytes(bytes: Vec<u8>) -> (Arc<FaultyDisk>, Log, Recovered) {
    let disk = Arc::new(FaultyDisk::new());
    disk.put(LOG_NAME, bytes);
    let (log, recovered) = open(&disk);
    (disk, log, recovered)
}

fn states(shared: &Shared, sessions: std::ops::Range<u128>) -> Vec<Option<RecordState>> {
    sessions.map(|session| shared.index().get(SessionId(session)).map(|entry| entry.state)).collect()
}

const PARKED: Option<RecordState> = Some(RecordState::Parked);
const TAKEN_UP: Option<RecordState> = Some(RecordState::TakenUp);

#[test]
fn a_tail_torn_at_any_byte_costs_only_the_record_that_was_being_written() {
    let whole = bytes_of(&[(Kind::Parked, 1), (Kind::Parked, 2)]);
    let first = bytes_of(&[(Kind::Parked, 1)]).len();
    for len in first..whole.len() {
        for zeros in [0, 1, 100] {
            let mut torn = whole[..len].to_vec();
            torn.resize(len + zeros, 0);
            let torn_bytes = (torn.len() - first) as u64;
            let (disk, mut log, recovered) = open_bytes(torn);
            let expected = Recovered { parked: vec![SessionId(1)], torn_bytes, ..Recovered::default() };
            assert_eq!(recovered, expected, "cut at byte {len}, then {zeros} zeros");
            write(&mut log, Kind::Parked, 3, &body(3, 1)).expect("writes after the cut");
            let (log, recovered) = open(&disk);
            assert_eq!(states(&log.shared, 1..4), [PARKED, None, PARKED], "cut at byte {len}, then {zeros} zeros");
            assert_eq!(recovered.torn_bytes, 0);
        }
    }
}

#[test]
fn a_torn_word_that_a_session_was_taken_up_never_hurts_another() {
    let whole = bytes_of(&[(Kind::Parked, 1), (Kind::Parked, 2), (Kind::TakenUp, 1)]);
    let parked = bytes_of(&[(Kind::Parked, 1), (Kind::Parked, 2)]).len();
    for len in parked..whole.len() {
        let (disk, log, _) = open_bytes(whole[..len].to_vec());
        let found = states(&log.shared, 1..3);
        assert!(found == [PARKED, PARKED] || found == [TAKEN_UP, PARKED], "cut at byte {len}: {found:?}");
        assert_eq!(states(&open(&disk).0.shared, 1..3), found, "cut at byte {len}: the next start must find the same");
    }
}

#[test]
fn a_rotten_byte_anywhere_brings_no_session_back_that_was_taken_up_or_moved() {
    let records = [(Kind::Parked, 1), (Kind::Parked, 2), (Kind::TakenUp, 1), (Kind::Moved, 2), (Kind::Parked, 3)];
    let whole = bytes_of(&records);
    let last = bytes_of(&records[..4]).len();
    for at in 0..last {
        if (6..8).contains(&at) {
            continue; // The version: a test of its own.
        }
        let mut rotten = whole.clone();
        rotten[at] ^= 0x40;
        let (disk, log, recovered) = open_bytes(rotten);
        let found = states(&log.shared, 1..4);
        assert_eq!(recovered.damaged, 1, "byte {at}: damage must be counted");
        assert!(found[0] != PARKED && found[1] != PARKED, "byte {at}: a session that is gone came back: {found:?}");
        assert_eq!(found[2], PARKED, "byte {at}: what was parked after the damage is whole");
        let (log, again) = open(&disk);
        assert_eq!(states(&log.shared, 1..4), found, "byte {at}: the next start must find the same");
        assert_eq!(again.damaged, 0, "byte {at}: the damage was rewritten away");
    }
}

#[test]
fn a_rotten_body_costs_that_session_and_no_other() {
    let (one, two) = (bytes_of(&[(Kind::Parked, 1)]).len(), bytes_of(&[(Kind::Parked, 1), (Kind::Parked, 2)]).len());
    let mut rotten = bytes_of(&[(Kind::Parked, 1), (Kind::Parked, 2), (Kind::Parked, 3)]);
    let at = (one + two) / 2;
    rotten[at] ^= 1;
    let (_, log, recovered) = open_bytes(rotten);
    assert_eq!(states(&log.shared, 1..4), [PARKED, None, PARKED]);
    assert_eq!((recovered.lost, recovered.damaged, recovered.doubtful), (vec![SessionId(2)], 1, 0));
}

#[test]
fn a_body_that_rots_while_the_process_runs_is_an_error_and_not_a_wrong_body() {
    let (disk, log, _) = open_bytes(bytes_of(&[(Kind::Parked, 1)]));
    let mut bytes = disk.bytes(LOG_NAME).expect("there is a log");
    *bytes.last_mut().expect("not empty") ^= 1;
    disk.put(LOG_NAME, bytes);
    let error = log.shared.read(SessionId(1)).expect_err("damaged");
    assert!(matches!(error, StoreError::Damaged { session: SessionId(1) }), "{error}");
}

#[test]
fn a_log_of_a_newer_release_is_refused_and_left_alone() {
    let mut newer = bytes_of(&[(Kind::Parked, 1)]);
    newer[6] = 2;
    let disk = Arc::new(FaultyDisk::new());
    disk.put(LOG_NAME, newer.clone());
    let error = Log::open(disk.clone(), Arc::new(PlainSeal), Limits::default()).err().expect("refused");
    assert!(matches!(error, StoreError::Version { found: 2, known: 1 }), "{error}");
    assert_eq!(disk.bytes(LOG_NAME), Some(newer));
}

#[test]
fn a_file_of_rubbish_is_no_panic_and_becomes_an_empty_log() {
    for len in [0, 1, 7, 8, 9, 40, 5000] {
        let rubbish: Vec<u8> = (0..len).map(|at| (at * 37 % 251) as u8).collect();
        let (disk, log, recovered) = open_bytes(rubbish);
        assert_eq!((log.shared.index().len(), recovered.parked.len()), (0, 0));
        assert_eq!(disk.bytes(LOG_NAME), Some(fresh_log_bytes()), "{len} bytes of rubbish");
    }
}

#[test]
fn records_across_many_read_windows_are_all_found() {
    let disk = Arc::new(FaultyDisk::new());
    let mut log = open(&disk).0;
    for session in 0..40 {
        write(&mut log, Kind::Parked, session, &vec![session as u8; 100_000]).expect("writes");
    }
    let (log, recovered) = open(&disk);
    assert_eq!(recovered.parked.len(), 40);
    assert_eq!(log.shared.read(SessionId(39)).expect("reads"), Some((RecordState::Parked, vec![39; 100_000])));
}

struct OtherKey;

impl Seal for OtherKey {
    fn seal(&self, purpose: &str, plain: &[u8]) -> Vec<u8> {
        PlainSeal.seal(&format!("other {purpose}"), plain)
    }

    fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        PlainSeal.open(&format!("other {purpose}"), sealed)
    }
}

#[test]
fn a_wrong_key_stops_the_start_and_destroys_nothing() {
    let whole = bytes_of(&[(Kind::Parked, 1)]);
    let disk = Arc::new(FaultyDisk::new());
    disk.put(LOG_NAME, whole.clone());
    let error = Log::open(disk.clone(), Arc::new(OtherKey), Limits::default()).err().expect("refused");
    assert!(matches!(error, StoreError::WrongKey), "{error}");
    assert_eq!(disk.bytes(LOG_NAME), Some(whole));
    assert_eq!(open(&disk).1.parked, [SessionId(1)], "with the right key everything is there");
}

#[test]
fn a_new_key_on_an_empty_log_is_fine() {
    let disk = Arc::new(FaultyDisk::new());
    disk.put(LOG_NAME, fresh_log_bytes());
    let (mut log, _) = Log::open(disk.clone(), Arc::new(OtherKey), Limits::default()).expect("nothing to lose");
    let mut unit = super::log::Unit::new();
    unit.push(&OtherKey, Kind::Parked, SessionId(1), b"x");
    log.append(&[unit]).remove(0).expect("parks");
    let (_, recovered) = Log::open(disk, Arc::new(OtherKey), Limits::default()).expect("opens");
    assert_eq!((recovered.parked, recovered.damaged), (vec![SessionId(1)], 0));
}
