//! Waiting on conditions: level-triggered, bounded, and with words for a failure.

use std::time::{Duration, Instant};

/// How long a condition may take to come true. Far beyond what is usual: the machine may be busy.
pub const WAIT: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// Looks until the condition holds, for at most [`WAIT`], and gives what it found. `look` answers
/// `Err` with what it sees as long as the condition does not hold.
///
/// # Panics
/// When the time is over: with what was expected, and what was seen last.
pub async fn wait_until<T, Fut>(what: &str, mut look: impl FnMut() -> Fut) -> T
where
    Fut: Future<Output = Result<T, String>>,
{
    let end = Instant::now() + WAIT;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < end, "expected within {WAIT:?}: {what}; last seen: {seen}"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits for something to end, for at most [`WAIT`].
///
/// # Panics
/// When the time is over: with what was expected.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(WAIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("expected within {WAIT:?}: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_comes_true_ends_the_wait_with_what_it_found() {
        let mut looks = 0;
        let found = wait_until("three looks", || {
            looks += 1;
            let seen = looks;
            async move { if seen == 3 { Ok(seen) } else { Err(format!("{seen} looks")) } }
        })
        .await;
        assert_eq!(found, 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "expected within 30s: never")]
    async fn a_wait_has_an_end() {
        within("never", std::future::pending::<()>()).await;
    }
}
