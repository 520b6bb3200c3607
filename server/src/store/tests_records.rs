//! The log as earlier releases wrote it: recorded once, kept for ever, read by every later release.
//!
//! A new version of the format gets a new file here and leaves the others as they are:
//! `TIDEGATE_WRITE_RECORDS=1 cargo test -p tidegate tests_records` writes the one of this version.

use super::LOG_NAME;
use super::faulty::FaultyDisk;
use super::index::RecordState;
use super::log::Log;
use super::record::Kind;
use super::testing::{PlainSeal, body, write};
use super::{Limits, Recovered};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegate_protocol::id::SessionId;

/// What was said of four sessions: one stays parked, one was taken up, one moved, one ended.
const SAID: [(Kind, u128); 7] = [
    (Kind::Parked, 1),
    (Kind::Parked, 2),
    (Kind::Parked, 3),
    (Kind::Parked, 4),
    (Kind::TakenUp, 2),
    (Kind::Moved, 3),
    (Kind::Ended, 4),
];

fn path(version: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/records/sessions-{version}.tglog"))
}

/// The log of this build with what was said.
fn written_now() -> Vec<u8> {
    let disk = Arc::new(FaultyDisk::new());
    let (mut log, _) = Log::open(disk.clone(), Arc::new(PlainSeal), Limits::default()).expect("a new log");
    for (kind, session) in SAID {
        let body = if kind == Kind::Parked { body(session, 1) } else { Vec::new() };
        write(&mut log, kind, session, &body).expect("writes");
    }
    disk.bytes(LOG_NAME).expect("there is a log")
}

#[test]
fn a_log_of_each_version_that_was_released_is_read_with_all_that_it_says() {
    if std::env::var_os("TIDEGATE_WRITE_RECORDS").is_some() {
        std::fs::write(path(1), written_now()).expect("the record can be written");
    }
    let recorded = std::fs::read(path(1)).expect("the record of version 1 is kept");
    let disk = Arc::new(FaultyDisk::new());
    disk.put(LOG_NAME, recorded.clone());
    let (log, recovered) = Log::open(disk, Arc::new(PlainSeal), Limits::default()).expect("version 1 is read");
    let expected = Recovered { parked: vec![SessionId(1)], taken_up: vec![SessionId(2)], ..Recovered::default() };
    assert_eq!(recovered, expected);
    let found = log.shared.read(SessionId(1)).expect("whole");
    assert_eq!(found, Some((RecordState::Parked, body(1, 1))));
    assert_eq!(log.shared.read(SessionId(3)).expect("whole"), None, "it moved");
    assert_eq!(log.shared.read(SessionId(4)).expect("whole"), None, "it ended");
    assert_eq!(written_now(), recorded, "a change of the format needs a new version and a new record");
}
