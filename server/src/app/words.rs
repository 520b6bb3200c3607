//! The last words of a link whose session ended or is elsewhere, and how long links rest between tries.

use super::events::{self, Answer, Event, Subject};
use super::side::Farewell;
use super::socket::AppSocket;
use super::troubles;
use crate::hub::Hub;
use crate::telemetry::AppTrouble;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Tries of an event that nothing waits for; then it is given up, and the log says so.
pub(super) const EVENT_TRIES: u32 = 8;
/// The first rest is up to so long, in milliseconds; doubled with each failed try.
const REST_FIRST_MS: u64 = 100;
/// No rest is longer than this, in milliseconds.
const REST_MAX_MS: u64 = 5_000;
/// And none is shorter.
const REST_MIN_MS: u64 = 10;

/// How long to rest before try number `tries` + 1: full jitter, so that sessions that lost one app do not
/// come back to it in step.
pub(super) fn backoff(hub: &Hub, tries: u32) -> Duration {
    let most = REST_FIRST_MS.saturating_mul(1 << tries.min(16)).min(REST_MAX_MS);
    Duration::from_millis(REST_MIN_MS.max((hub.random() % u128::from(most)) as u64))
}

/// Failed tries in a row, and until when to rest.
#[derive(Debug, Default)]
pub(super) struct Rest {
    pub(super) tries: u32,
    until: Option<Instant>,
}

impl Rest {
    /// One more failure.
    pub(super) fn after_failure(&mut self, hub: &Hub) {
        self.until = Some(Instant::now() + backoff(hub, self.tries));
        self.tries = self.tries.saturating_add(1);
    }

    /// Until when, if it is not over.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }
}

/// Closes the socket if there still is one, then posts what is left to tell.
pub(super) async fn last_words(hub: Arc<Hub>, subject: Arc<Subject>, farewell: Farewell, socket: Option<AppSocket>) {
    let Farewell { code, reason, rest, events } = farewell;
    match socket {
        Some(socket) => {
            let limits = &hub.config.limits;
            socket.part(rest, Some((code, reason)), limits.close_ms, limits.message_bytes as usize).await;
        }
        None if !rest.is_empty() => {
            let messages = format_args!("{} messages", rest.len()).to_string();
            troubles::tell(&hub, AppTrouble::Missed, subject.session, &messages);
        }
        None => {}
    }
    for event in events {
        tell(&hub, &subject, &event).await;
    }
}

async fn tell(hub: &Hub, subject: &Subject, event: &Event) {
    let body = events::body(hub.id, subject, event, &[]);
    for tries in 0..EVENT_TRIES {
        let answer = {
            let _turn = hub.app.posts.acquire().await;
            events::post(hub, body.clone(), false).await
        };
        match answer {
            Answer::Taken(_) => return,
            Answer::Refused(status) => {
                return tracing::warn!(session = %subject.session, %status, ?event, "the app refused an event");
            }
            Answer::Failed(_) => tokio::time::sleep(backoff(hub, tries)).await,
        }
    }
    tracing::error!(session = %subject.session, ?event, "the app took this event in none of {EVENT_TRIES} tries: it is given up");
}
