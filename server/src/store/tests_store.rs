//! The async handle and the data directory, on a real disk where it matters.

use super::faulty::{Fault, FaultyDisk, Survives};
use super::group;
use super::log::Log;
use super::record::Kind;
use super::testing::{PlainSeal, body, fresh_log_bytes, write};
use super::writer::Call;
use super::{DataDir, DataDirError, LOG_NAME, Limits, Parked, RecordState, Store, StoreError};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::id::{Incarnation, SessionId};
use tokio::sync::{mpsc, oneshot};

fn parked(session: u128) -> Parked {
    Parked { session: SessionId(session), body: body(session, 1) }
}

fn ids(sessions: impl IntoIterator<Item = u128>) -> Vec<SessionId> {
    sessions.into_iter().map(SessionId).collect()
}

fn on(disk: &Arc<FaultyDisk>, limits: Limits) -> Store {
    Store::open(disk.clone(), Arc::new(PlainSeal), limits).expect("opens").0
}

async fn dir(path: &Path, now_unix_ms: u64) -> Result<DataDir, DataDirError> {
    DataDir::open(path, Duration::ZERO, now_unix_ms, &mut |bytes| bytes.fill(0x5a)).await
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_log_that_somebody_removed_parks_nobody_and_lets_everybody_go() {
    let temp = tempfile::tempdir().expect("a directory");
    let data = dir(&temp.path().join("data"), 1).await.expect("opens");
    let (store, _) = Store::open(data.disk(), Arc::new(PlainSeal), Limits::default()).expect("opens");
    assert_eq!(store.park((1..=3).map(parked).collect()).await.durable, ids(1..=3));
    fs::remove_file(temp.path().join("data").join(LOG_NAME)).expect("removed by somebody else");
    let outcome = store.park(vec![parked(4)]).await;
    assert_eq!(outcome.durable, ids([]), "nobody is told that it is safe there");
    assert!(outcome.failed[0].1.to_string().contains("was removed or replaced"), "{:?}", outcome.failed);
    // Who was parked before is taken up and handed on: this process still has it.
    store.taken_up(ids([1, 2])).await.expect("taken up");
    store.moved(ids([1])).await.expect("handed on");
    assert_eq!(store.read(SessionId(3)).await.expect("reads"), Some((RecordState::Parked, body(3, 1))));
}

#[tokio::test]
async fn sessions_parked_on_a_real_disk_are_taken_up_by_the_next_process_and_the_log_ends_empty() {
    let temp = tempfile::tempdir().expect("a directory");
    let data = dir(&temp.path().join("data"), 1).await.expect("opens");
    let (store, _) = Store::open(data.disk(), Arc::new(PlainSeal), Limits::default()).expect("opens");
    let outcome = store.park((1..=3).map(parked).collect()).await;
    assert_eq!((outcome.durable, outcome.failed.len()), (ids(1..=3), 0));
    store.close().await.expect("closes");

    let (store, recovered) = Store::open(data.disk(), Arc::new(PlainSeal), Limits::default()).expect("opens");
    assert_eq!(recovered.parked, ids(1..=3));
    assert_eq!(store.read(SessionId(2)).await.expect("reads"), Some((RecordState::Parked, body(2, 1))));
    store.taken_up(ids(1..=2)).await.expect("says so");
    drop(store);

    // No close: as after a crash.
    let (store, recovered) = Store::open(data.disk(), Arc::new(PlainSeal), Limits::default()).expect("opens");
    assert_eq!((recovered.parked, recovered.taken_up), (ids([3]), ids(1..=2)));
    assert_eq!(store.read(SessionId(1)).await.expect("reads"), Some((RecordState::TakenUp, body(1, 1))));
    store.moved(ids([1])).await.expect("says so");
    store.ended(ids([2, 77])).await.expect("says so, and 77 was never here");
    store.taken_up(ids([3])).await.expect("says so");
    store.close().await.expect("closes");
    assert_eq!(
        fs::read(data.path().join(LOG_NAME)).expect("reads"),
        fresh_log_bytes(),
        "everything was taken up: the log must be a new one"
    );
    assert_eq!(mode(&data.path().join(LOG_NAME)), 0o600);
    assert_eq!(mode(data.path()), 0o700);
}

#[tokio::test]
async fn a_store_that_still_has_parked_sessions_keeps_them_at_close() {
    let disk = Arc::new(FaultyDisk::new());
    let store = on(&disk, Limits::default());
    store.park(vec![parked(1), parked(2)]).await;
    store.taken_up(ids([1])).await.expect("says so");
    store.close().await.expect("closes");
    assert!(matches!(store.taken_up(ids([2])).await, Err(StoreError::Closed)));
    let (_, recovered) = Store::open(disk, Arc::new(PlainSeal), Limits::default()).expect("opens");
    assert_eq!((recovered.parked, recovered.taken_up), (ids([2]), ids([1])));
}

#[tokio::test]
async fn only_what_is_in_the_log_can_be_taken_up_and_twice_is_fine() {
    let store = on(&Arc::new(FaultyDisk::new()), Limits::default());
    store.park(vec![parked(1), parked(2)]).await;
    store.taken_up(ids([1])).await.expect("says so");
    store.taken_up(ids([1])).await.expect("again is fine");
    store.moved(ids([1])).await.expect("says so");
    let error = store.taken_up(ids([2, 1])).await.expect_err("1 is gone");
    assert!(matches!(error, StoreError::NotParked { session: SessionId(1) }), "{error}");
    assert_eq!(store.state(SessionId(2)), Some(RecordState::Parked), "a refused call changes nothing");
    assert_eq!(store.list(None, 10), [(SessionId(2), RecordState::Parked)]);
}

#[tokio::test]
async fn a_hundred_calls_at_once_through_a_short_queue_are_all_durable() {
    let disk = Arc::new(FaultyDisk::new());
    let store = on(&disk, Limits { queue_calls_max: 8, queue_bytes_max: 2048, ..Limits::default() });
    let calls: Vec<_> = (0..100u128)
        .map(|session| {
            let store = store.clone();
            tokio::spawn(async move { store.park(vec![parked(session)]).await.durable })
        })
        .collect();
    for (session, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.expect("no panic"), ids([session as u128]));
    }
    let (_, recovered) =
        Store::open(Arc::new(disk.reboot(Survives::Synced)), Arc::new(PlainSeal), Limits::default()).expect("opens");
    assert_eq!(recovered.parked, ids(0..100));
}

#[test]
fn calls_that_wait_at_the_same_time_share_one_write_and_one_sync() {
    let disk = Arc::new(FaultyDisk::new());
    let (mut log, _) = Log::open(disk.clone(), Arc::new(PlainSeal), Limits::default()).expect("opens");
    for session in 0..50 {
        write(&mut log, Kind::Parked, session, &body(session, 1)).expect("parks");
    }
    let (queue, calls) = mpsc::channel(50);
    let answers: Vec<_> = (0..50)
        .map(|session| {
            let (answer, answered) = oneshot::channel();
            let call = Call::Mark { kind: Kind::TakenUp, sessions: ids([session]), answer };
            assert!(queue.try_send(call).is_ok(), "the queue has room for 50 calls");
            answered
        })
        .collect();
    drop(queue);
    let before = disk.operations();
    group::run(log, calls);
    assert_eq!(disk.operations() - before, 2, "one append and one sync for all 50 calls");
    for answered in answers {
        answered.blocking_recv().expect("answered").expect("durable");
    }
    let (_, recovered) = Log::open(disk, Arc::new(PlainSeal), Limits::default()).expect("opens");
    assert_eq!(recovered.taken_up, ids(0..50));
}

#[tokio::test]
async fn limits_refuse_the_one_session_that_breaks_them_and_say_which() {
    let limits = Limits { record_bytes_max: 200, sessions_max: 2, queue_bytes_max: 1024, ..Limits::default() };
    let store = on(&Arc::new(FaultyDisk::new()), limits);
    let big = Parked { session: SessionId(9), body: vec![0; 5000] };
    let outcome = store.park(vec![parked(1), big, parked(2), parked(3), parked(1)]).await;
    assert_eq!(outcome.durable, ids([1, 2, 1]));
    let said: Vec<String> = outcome.failed.iter().map(|(session, error)| format!("{}: {error}", session.0)).collect();
    assert!(
        said[0].starts_with("9: session") && said[0].contains("5000 bytes") && said[0].contains("at most 200"),
        "{said:?}"
    );
    assert!(said[1].starts_with("3: 2 sessions are in the log"), "{said:?}");
}

#[tokio::test]
async fn a_log_at_its_limit_drops_what_is_dead_before_it_refuses() {
    let store = on(&Arc::new(FaultyDisk::new()), Limits { log_bytes_max: 600, ..Limits::default() });
    for _ in 0..20 {
        assert_eq!(store.park(vec![parked(1)]).await.durable, ids([1]));
    }
    let outcome = store.park((2..10).map(parked).collect()).await;
    assert!(!outcome.durable.is_empty() && !outcome.failed.is_empty(), "{outcome:?}");
    assert!(matches!(outcome.failed[0].1, StoreError::LogFull { bytes_max: 600, .. }), "{outcome:?}");
    assert!(store.stats().log_bytes <= 600, "{:?}", store.stats());
    store.moved(ids([1])).await.expect("what makes a session gone always fits");
}

#[tokio::test]
async fn a_refused_sync_fails_the_call_and_the_next_one_works() {
    let disk = Arc::new(FaultyDisk::new());
    let store = on(&disk, Limits::default());
    disk.fail_at(1, Fault::Refuse);
    let outcome = store.park(vec![parked(1)]).await;
    assert_eq!(outcome.durable, []);
    assert!(outcome.failed[0].1.to_string().contains("sync the log"), "{outcome:?}");
    assert_eq!(store.state(SessionId(1)), None);
    assert_eq!(store.park(vec![parked(2)]).await.durable, ids([2]));
}

#[tokio::test]
async fn a_second_process_waits_for_the_directory_and_gets_it_when_the_first_ends() {
    let temp = tempfile::tempdir().expect("a directory");
    let first = dir(temp.path(), 1).await.expect("opens");
    let error = dir(temp.path(), 1).await.expect_err("in use").to_string();
    assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");

    let path = temp.path().to_owned();
    let second =
        tokio::spawn(async move { DataDir::open(&path, Duration::from_secs(60), 1, &mut |bytes| bytes.fill(1)).await });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    let (hub, incarnation) = (first.hub(), first.incarnation());
    drop(first);
    let second = second.await.expect("no panic").expect("free now");
    assert_eq!(second.hub(), hub, "the id stays");
    assert!(second.incarnation() > incarnation);
}

/// What is logged on this thread while it lives.
#[derive(Clone, Default)]
struct Logged(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_waits_for_the_directory_says_so_at_once_and_every_ten_seconds() {
    let logged = Logged::default();
    let writer = logged.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _listening = tracing::subscriber::set_default(log);
    let temp = tempfile::tempdir().expect("a directory");
    let _first = dir(temp.path(), 1).await.expect("opens");
    let refused = DataDir::open(temp.path(), Duration::from_secs(25), 1, &mut |bytes| bytes.fill(1)).await;
    refused.expect_err("in use all the time");
    let text = String::from_utf8(logged.0.lock().expect("no panic").clone()).expect("logs are text");
    let expected = format!(
        "--data-dir {} is in use by process {}: this hub does not serve",
        temp.path().display(),
        std::process::id()
    );
    assert_eq!(text.matches(&expected).count(), 3, "at 0, 10 and 20 s: {text}");
}

#[tokio::test]
async fn each_start_has_a_higher_incarnation_even_if_the_clock_went_back() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut found = Vec::new();
    for now_unix_ms in [5000, 1000, 5001, 9000] {
        found.push(dir(temp.path(), now_unix_ms).await.expect("opens").incarnation());
    }
    assert!(found.is_sorted_by(|earlier, later| earlier < later), "strictly rising: {found:?}");
    let Incarnation(last) = found[3];
    assert_eq!(last >> 20, 9000, "once the clock is ahead again, it shows in the incarnation");
}

#[tokio::test]
async fn hubs_that_start_in_the_same_millisecond_have_different_incarnations() {
    let (one, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let mut found = Vec::new();
    for temp in [&one, &other] {
        let opened = DataDir::open(temp.path(), Duration::ZERO, 5000, &mut crate::keys::fill_random).await;
        found.push(opened.expect("opens").incarnation());
    }
    assert_ne!(found[0], found[1]);
}

#[tokio::test]
async fn a_secret_is_made_once_and_neither_it_nor_the_ids_are_overwritten_when_damaged() {
    let temp = tempfile::tempdir().expect("a directory");
    let path = temp.path().join("data");
    let data = dir(&path, 1).await.expect("opens");
    let made = data.read_or_create_secret("key", 32, &mut |bytes| bytes.fill(7)).expect("makes it");
    let read = data.read_or_create_secret("key", 32, &mut |bytes| bytes.fill(8)).expect("reads it");
    assert_eq!((made, read), (vec![7; 32], vec![7; 32]));
    assert_eq!(mode(&path.join("key")), 0o600);
    fs::write(path.join("key"), "0707").expect("writes");
    let error = data.read_or_create_secret("key", 32, &mut |_| {}).expect_err("too short").to_string();
    assert!(error.contains("expected 64 hexadecimal digits") && !error.contains("0707"), "{error}");
    drop(data);
    fs::write(path.join("hub-id"), "rubbish").expect("writes");
    let error = dir(&path, 1).await.expect_err("damaged").to_string();
    assert!(error.contains("hub-id is damaged") && error.contains("\"rubbish\""), "{error}");
}

#[tokio::test]
async fn a_pipe_in_the_place_of_the_id_is_named_and_not_waited_for() {
    let temp = tempfile::tempdir().expect("a directory");
    drop(dir(temp.path(), 1).await.expect("a free directory"));
    let id = temp.path().join("hub-id");
    fs::remove_file(&id).expect("it was there");
    let made = rustix::fs::mkfifoat(rustix::fs::CWD, &id, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
    made.expect("a pipe can be made");
    let error = dir(temp.path(), 2).await.map(|_| ()).expect_err("no id is in there");
    assert!(error.to_string().contains("hub-id is damaged: expected a plain file"), "{error}");
}

#[tokio::test]
async fn what_may_be_somebody_elses_is_refused_and_its_mode_stays() {
    let temp = tempfile::tempdir().expect("a directory");
    let with_mode = |name: &str, mode: u32| {
        let path = temp.path().join(name);
        if name.ends_with("file") {
            fs::write(&path, "of another program").expect("writes");
        } else {
            fs::create_dir(&path).expect("makes it");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("sets the mode");
        path
    };
    let (file, shared, full) = (with_mode("a file", 0o644), with_mode("shared", 0o1777), with_mode("full", 0o755));
    fs::write(full.join("lock"), "of another program, too").expect("writes");
    fs::write(full.join("letters.txt"), "of another program").expect("writes");
    for (path, mode, why) in [
        (file, 0o100_644, "it is no directory"),
        (shared, 0o041_777, "it is shared by many (mode 1777)"),
        (full, 0o040_755, "other things such as letters.txt"),
    ] {
        let error = dir(&path, 1).await.expect_err("refused").to_string();
        assert!(error.contains(why) && error.contains("give a directory for this hub alone"), "{error}");
        assert_eq!(fs::metadata(&path).expect("is there").permissions().mode(), mode, "{} stays", path.display());
    }
    let mounted = with_mode("mounted", 0o755);
    fs::create_dir(mounted.join("lost+found")).expect("makes it");
    fs::write(mounted.join("lock"), "").expect("writes");
    let _data = dir(&mounted, 1).await.expect("a new file system is a hub's own");
}

#[tokio::test]
async fn a_directory_that_others_can_read_is_closed_to_them() {
    let temp = tempfile::tempdir().expect("a directory");
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).expect("sets the mode");
    let _data = dir(temp.path(), 1).await.expect("opens");
    assert_eq!(mode(temp.path()), 0o700);
    for file in fs::read_dir(temp.path()).expect("lists") {
        let path = file.expect("lists").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}
