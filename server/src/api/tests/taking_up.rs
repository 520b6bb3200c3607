//! What is asked of a session, or called off, at the moment in which it comes back from the disk.

use super::sessions::park;
use super::*;
use crate::hub::calls::Call;
use crate::hub::parking::Stored;
use crate::store::RecordState;
use futures_util::FutureExt;

/// So many sessions that their moments between disk and memory are met.
const SESSIONS: u128 = 64;

/// The next process on a directory in which these sessions were parked.
async fn parked(sessions: u128) -> Bench {
    let bench = bench(&[]).await;
    for number in 1..=sessions {
        park(&bench, &bench.session(number, None, &[])).await;
    }
    bench.again().await
}

#[tokio::test]
async fn a_call_that_is_given_up_while_it_takes_a_session_up_does_not_lose_it() {
    let bench = parked(SESSIONS).await;
    for session in (1..=SESSIONS).map(SessionId) {
        let mut call = Box::pin(bench.hub.call(session, Call::GetState, true));
        while bench.hub.store.state(session) == Some(RecordState::Parked) {
            assert!(call.as_mut().now_or_never().is_none_or(|answer| answer.is_ok()), "{session}");
            tokio::task::yield_now().await;
        }
        drop(call);
        let again = bench.hub.call(session, Call::GetState, true).await;
        assert!(again.is_ok(), "{session} is neither on disk nor in memory: {again:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_being_taken_up_is_never_told_to_be_lost_and_calls_wait_for_it() {
    let bench = parked(SESSIONS).await;
    let mut met = 0;
    for session in (1..=SESSIONS).map(SessionId) {
        let hub = bench.hub.clone();
        let taking_up = tokio::spawn(async move { hub.take_up(session).await });
        let asking = tokio::task::spawn_blocking({
            let hub = bench.hub.clone();
            move || {
                let mut coming_up = false;
                while hub.cell(session).is_none() {
                    let stored = hub.stored(session);
                    assert!(matches!(stored, Stored::Parked | Stored::ComingUp), "{session}: {stored:?}");
                    coming_up |= stored == Stored::ComingUp;
                }
                coming_up
            }
        });
        while bench.hub.store.state(session) == Some(RecordState::Parked) {
            tokio::task::yield_now().await;
        }
        let answer = bench.hub.call(session, Call::GetState, true).await;
        assert!(answer.is_ok(), "{session} was asked for while it came up: {answer:?}");
        met += u32::from(asking.await.expect("never lost"));
        taking_up.await.expect("no panic").expect("taken up");
    }
    assert!(met > 0, "of {SESSIONS} moments not one was met, so nothing was tried");
}

#[tokio::test]
async fn a_session_that_a_dead_process_had_taken_up_is_lost_also_while_others_are_taken_up() {
    let bench = parked(2).await;
    bench.hub.take_up(SessionId(1)).await.expect("taken up");
    let next = bench.again().await;
    // Every lane is busy, as with many who come back at once.
    let _busy = next.hub.stop_taking_up(std::time::Duration::from_secs(60)).await;
    assert_eq!([1, 2, 3].map(|id| next.hub.stored(SessionId(id))), [Stored::Lost, Stored::Parked, Stored::Not]);
}
