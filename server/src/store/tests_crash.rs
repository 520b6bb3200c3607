//! Crashes and refusals at every operation of a script, with every kind of memory a disk may have.

use super::faulty::{Fault, FaultyDisk, Survives};
use super::index::RecordState;
use super::log::{Log, Unit};
use super::record::Kind;
use super::testing::{PlainSeal, body, small_limits, write};
use super::{LOG_NAME, Limits, Recovered, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_protocol::id::SessionId;

/// What is true of a session: nothing, or its state and which body.
type Truth = Option<(RecordState, u8)>;

#[derive(Clone, Copy, Debug)]
enum Step {
    Say(Kind, u128, u8),
    /// The process ends without a word and the next one opens the log.
    Reopen,
    /// Sessions `from..from + 3` in one write.
    ParkThree(u128),
    Compact,
}

/// Every transition, re-parking, three in one write, rewrites by threshold and on demand, and reopening.
fn script() -> Vec<Step> {
    use Kind::{Ended, Moved, Parked, TakenUp};
    use Step::{Compact, ParkThree, Reopen, Say};
    vec![
        Say(Parked, 1, 1),
        Say(Parked, 2, 1),
        ParkThree(10),
        Say(TakenUp, 1, 0),
        Say(Moved, 2, 0),
        Reopen,
        Say(TakenUp, 10, 0),
        Say(Ended, 10, 0),
        Say(Parked, 1, 2),
        Compact,
        Reopen,
        Say(TakenUp, 11, 0),
        Say(Moved, 11, 0),
        Say(TakenUp, 12, 0),
        ParkThree(20),
        Say(Moved, 20, 0),
        Reopen,
        Say(TakenUp, 1, 0),
        Say(Ended, 1, 0),
        Say(Moved, 21, 0),
        Say(Parked, 3, 1),
        Say(Parked, 12, 2),
    ]
}

fn after(truth: Truth, kind: Kind, nth: u8) -> Truth {
    match kind {
        Kind::Parked => Some((RecordState::Parked, nth)),
        Kind::TakenUp => truth.map(|(_, nth)| (RecordState::TakenUp, nth)),
        Kind::Moved | Kind::Ended | Kind::Key => None,
    }
}

/// What the store said, and so what must be found.
#[derive(Clone, Debug, Default)]
struct Model {
    said: BTreeMap<u128, Truth>,
    /// What would also be right, because the process was gone before the answer.
    or: BTreeMap<u128, Truth>,
}

impl Model {
    fn truth(&self, session: u128) -> Truth {
        self.said.get(&session).copied().flatten()
    }

    fn step(&mut self, kind: Kind, session: u128, nth: u8, result: &Result<(), StoreError>, crashed: bool) {
        let next = after(self.truth(session), kind, nth);
        match result {
            Ok(()) => {
                self.said.insert(session, next);
                self.or.clear();
            }
            Err(_) if crashed => drop(self.or.insert(session, next)),
            Err(StoreError::Disk { may_resurface: true, .. }) => panic!("one refusal must be repaired at once"),
            Err(_) => {}
        }
    }

    fn check(&self, log: &Log, context: &str) {
        let sessions = [1, 2, 3, 10, 11, 12, 20, 21, 22];
        for session in sessions {
            let found = log.shared.read(SessionId(session)).unwrap_or_else(|error| panic!("{context}: {error}"));
            let (said, or) = (self.truth(session), self.or.get(&session));
            let matches = |truth: Truth| match (&found, truth) {
                (None, None) => true,
                (Some((state, bytes)), Some((expected, nth))) => *state == expected && *bytes == body(session, nth),
                _ => false,
            };
            let state = found.as_ref().map(|(state, _)| *state);
            assert!(
                matches(said) || or.is_some_and(|or| matches(*or)),
                "{context}: session {session} must be {said:?} or {or:?}, found {state:?}"
            );
        }
    }
}

fn open(disk: &Arc<FaultyDisk>) -> Result<(Log, Recovered), StoreError> {
    Log::open(disk.clone(), Arc::new(PlainSeal), small_limits())
}

/// Runs the script until it ends, or until the process is gone.
fn run(disk: &Arc<FaultyDisk>, crashes: bool) -> Model {
    let mut model = Model::default();
    let open_again = || match open(disk) {
        // A start that the disk refused is tried again by whoever runs the hub.
        Err(_) if !crashes => Some(open(disk).expect("the disk refuses only once").0),
        opened => opened.ok().map(|(log, _)| log),
    };
    let Some(mut log) = open_again() else { return model };
    for step in script() {
        let crashed = |disk: &FaultyDisk| crashes && !disk.fault_is_ahead();
        match step {
            Step::Say(kind, session, nth) => {
                let result =
                    write(&mut log, kind, session, &if kind == Kind::Parked { body(session, nth) } else { Vec::new() });
                model.step(kind, session, nth, &result, crashed(disk));
            }
            Step::ParkThree(from) => {
                let units: Vec<Unit> = (from..from + 3)
                    .map(|session| {
                        let mut unit = Unit::new();
                        unit.push(&PlainSeal, Kind::Parked, SessionId(session), &body(session, 1));
                        unit
                    })
                    .collect();
                for (session, result) in (from..).zip(log.append(&units)) {
                    model.step(Kind::Parked, session, 1, &result, crashed(disk));
                }
            }
            Step::Compact => log.compact(),
            Step::Reopen => match open_again() {
                Some(opened) => log = opened,
                None => return model,
            },
        }
        if crashed(disk) {
            return model;
        }
        model.check(&log, &format!("while running, after {step:?}"));
    }
    model
}

/// Runs `each` with a fault at every operation of the script in turn, and says how many there were.
fn at_every_operation(fault: Fault, mut each: impl FnMut(u64, &Arc<FaultyDisk>, Model)) -> u64 {
    for nth in 0..1_000 {
        let disk = Arc::new(FaultyDisk::new());
        disk.fail_at(nth, fault);
        let model = run(&disk, matches!(fault, Fault::CrashBefore | Fault::CrashAfter));
        if disk.fault_is_ahead() {
            return nth;
        }
        each(nth, &disk, model);
    }
    panic!("the script does not end");
}

#[test]
fn what_was_said_holds_after_a_crash_at_any_operation() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        let operations = at_every_operation(fault, |nth, disk, model| {
            for survives in Survives::EVERY {
                let context = format!("{fault:?} at operation {nth}, {survives:?} survives");
                let disk = Arc::new(disk.reboot(survives));
                let (mut log, _) = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
                model.check(&log, &context);
                write(&mut log, Kind::Parked, 99, &body(99, 1)).expect("the log must be usable after a crash");
                let again = Arc::new(disk.reboot(Survives::Synced));
                let (log, _) = open(&again).expect("opens");
                model.check(&log, &format!("{context}, second start"));
                assert_eq!(
                    log.shared.read(SessionId(99)).expect("reads"),
                    Some((RecordState::Parked, body(99, 1))),
                    "{context}"
                );
            }
        });
        assert!(operations > 60, "the script has too few operations to prove anything: {operations}");
    }
}

#[test]
fn what_a_restarted_process_says_holds_through_a_power_cut_after_it() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        at_every_operation(fault, |nth, disk, model| {
            let context = format!("{fault:?} at operation {nth}, then a restart, then a power cut");
            disk.restart_process();
            let (mut log, _) = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
            model.check(&log, &context);
            let states = |log: &Log| log.shared.index().iter().map(|(id, entry)| (id, entry.state)).collect::<Vec<_>>();
            let (cut, _) = open(&Arc::new(disk.reboot(Survives::Synced))).expect("opens");
            assert_eq!(states(&cut), states(&log), "{context}: what was found counts, so it must be durable");
            write(&mut log, Kind::Parked, 99, &body(99, 1)).expect("the log must be usable after a crash");
            let (log, _) = open(&Arc::new(disk.reboot(Survives::Synced))).expect("opens");
            model.check(&log, &context);
            let found = log.shared.read(SessionId(99)).expect("reads");
            assert_eq!(found, Some((RecordState::Parked, body(99, 1))), "{context}");
        });
    }
}

#[test]
fn a_second_crash_while_the_log_is_being_opened_changes_nothing() {
    at_every_operation(Fault::CrashBefore, |nth, disk, model| {
        for (first, second) in
            Survives::EVERY.into_iter().flat_map(|first| Survives::EVERY.map(|second| (first, second)))
        {
            for (at, fault) in (0..8).flat_map(|at| [(at, Fault::CrashBefore), (at, Fault::CrashAfter)]) {
                let disk = Arc::new(disk.reboot(first));
                disk.fail_at(at, fault);
                if open(&disk).is_ok() && disk.fault_is_ahead() {
                    break;
                }
                let disk = Arc::new(disk.reboot(second));
                let context =
                    format!("crash at operation {nth} ({first:?}), {fault:?} at {at} of the next start ({second:?})");
                let (log, _) = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
                model.check(&log, &context);
            }
        }
    });
}

#[test]
fn one_refused_operation_fails_its_own_call_and_nothing_else() {
    for fault in [Fault::Refuse, Fault::RefuseLate] {
        at_every_operation(fault, |nth, disk, model| {
            for survives in Survives::EVERY {
                let context = format!("{fault:?} at operation {nth}, {survives:?} survives");
                let (log, _) =
                    open(&Arc::new(disk.reboot(survives))).unwrap_or_else(|error| panic!("{context}: {error}"));
                model.check(&log, &context);
            }
        });
    }
}

#[test]
fn a_full_disk_fails_exactly_the_sessions_that_do_not_fit() {
    let disk = Arc::new(FaultyDisk::new());
    let (mut log, _) = open(&disk).expect("opens");
    let unit = |session: u128, bytes: usize| {
        let mut unit = Unit::new();
        unit.push(&PlainSeal, Kind::Parked, SessionId(session), &vec![7; bytes]);
        unit
    };
    write(&mut log, Kind::Parked, 9, b"before").expect("fits");
    let used = disk.bytes(LOG_NAME).expect("there is a log").len();
    disk.set_capacity_bytes(Some(used + 500));
    let results = log.append(&[unit(1, 100), unit(2, 2000), unit(3, 100), unit(4, 1000)]);
    let fits: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(fits, [true, false, true, false], "{results:?}");
    let error = results[1].as_ref().expect_err("too large").to_string();
    assert!(error.contains("write to the log"), "{error}");
    disk.set_capacity_bytes(None);
    write(&mut log, Kind::Parked, 5, b"later").expect("the log is usable once there is room");
    for survives in Survives::EVERY {
        let (log, recovered) = open(&Arc::new(disk.reboot(survives))).expect("opens");
        assert_eq!(recovered.parked, [1, 3, 5, 9].map(SessionId), "{survives:?}");
        assert_eq!((recovered.damaged, recovered.torn_bytes), (0, 0), "{survives:?}");
        assert_eq!(log.shared.read(SessionId(3)).expect("reads"), Some((RecordState::Parked, vec![7; 100])));
    }
}

#[test]
fn a_disk_too_full_to_rewrite_keeps_the_log_as_it_was() {
    let disk = Arc::new(FaultyDisk::new());
    let (mut log, _) = open(&disk).expect("opens");
    for session in 0..20 {
        let mut unit = Unit::new();
        unit.push(&PlainSeal, Kind::Parked, SessionId(session), &body(session, 1));
        log.append(&[unit]).remove(0).expect("fits");
    }
    disk.set_capacity_bytes(Some(disk.bytes(LOG_NAME).expect("there is a log").len() + 100));
    log.compact();
    write(&mut log, Kind::Moved, 0, &[]).expect("the log goes on");
    let (_, recovered) = open(&Arc::new(disk.reboot(Survives::Synced))).expect("opens");
    assert_eq!(recovered.parked, (1..20).map(SessionId).collect::<Vec<_>>());
}

#[test]
fn a_rewrite_drops_what_is_dead_and_keeps_what_is_alive() {
    let disk = Arc::new(FaultyDisk::new());
    let limits = Limits { compact_dead_bytes_min: 2000, ..small_limits() };
    let (mut log, _) = Log::open(disk.clone(), Arc::new(PlainSeal), limits).expect("opens");
    for nth in 0..200 {
        write(&mut log, Kind::Parked, 1, &body(1, nth)).expect("parks");
        let len = disk.bytes(LOG_NAME).expect("there is a log").len();
        assert!(len < 2600, "the log must stay near its threshold, is {len} bytes after {nth} records");
    }
    write(&mut log, Kind::TakenUp, 1, &[]).expect("says so");
    log.compact();
    let (log, recovered) = open(&Arc::new(disk.reboot(Survives::Synced))).expect("opens");
    assert_eq!(recovered.taken_up, [SessionId(1)], "a rewrite must not forget that a session was taken up");
    assert_eq!(log.shared.read(SessionId(1)).expect("reads"), Some((RecordState::TakenUp, body(1, 199))));
}
