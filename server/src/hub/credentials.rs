//! Clients' credentials, carried out: what a client shows reaches its session, the index follows the channels, and
//! whose JWT has run out is closed. What counts is decided in [`tidegate_protocol::session::credentials`].

use super::Hub;
use super::cell::Inner;
use super::conn::Conn;
use crate::keys::TokenError;
use crate::telemetry::Rejected;
use std::sync::Arc;
use tidegate_protocol::close::Close;
use tidegate_protocol::frame::NUMBER_MAX;
use tidegate_protocol::id::{ConnectionId, SessionId};
use tidegate_protocol::session::credentials::{Credentials, Denied, Regrouped};

/// The last word to a client whose JWT has run out.
const EXPIRED: &str = "the JWT has expired: the session waits, come back with its token and a fresh JWT";

impl Hub {
    /// Judges the client that is about to be welcomed, by what its hello showed beside the token and by what the
    /// session has. Here, because this hub has verified the one and owns the other.
    pub(super) fn admits(&self, id: SessionId, inner: &mut Inner, conn: ConnectionId) -> Result<(), Denied> {
        let shown = self.said.take(conn).and_then(|profile| profile.credentials());
        if !self.auth.is_needed() {
            return Ok(());
        }
        let Some(record) = inner.session.record_mut(false) else { return Ok(()) };
        let channels_max = self.config.limits.channels_per_session;
        let regrouped = record.admit(shown.as_ref(), channels_max, self.unix_ms())?;
        self.regroup(id, inner, &regrouped);
        Ok(())
    }

    /// The client of a session that is served here has shown a newer JWT.
    pub(crate) fn renew(&self, id: SessionId, inner: &mut Inner, shown: &Credentials) -> Result<(), Denied> {
        let Some(record) = inner.session.record_mut(false) else { return Ok(()) };
        let regrouped = record.show(shown, self.config.limits.channels_per_session)?;
        self.regroup(id, inner, &regrouped);
        Ok(())
    }

    fn regroup(&self, id: SessionId, inner: &mut Inner, regrouped: &Regrouped) {
        for name in &regrouped.joined {
            self.index.join(id, name.clone());
        }
        for name in &regrouped.left {
            self.index.leave(id, name);
        }
        if !regrouped.joined.is_empty()
            && let Some(record) = inner.session.record_mut(false)
        {
            self.index.share(record);
        }
    }

    /// Until when the session's JWT is good, for its client: milliseconds from now.
    pub(super) fn auth_expires_ms(&self, inner: &Inner) -> Option<u64> {
        let expires = inner.session.record()?.profile.auth_expires_unix_ms.filter(|_| self.auth.is_needed())?;
        Some(expires.saturating_sub(self.unix_ms()).min(NUMBER_MAX))
    }

    /// The connection of a session whose JWT has run out by then. The session waits for its client.
    pub(super) fn has_run_out(inner: &Inner, now_unix_ms: u64) -> Option<Arc<Conn>> {
        let conn = inner.conn.as_ref()?;
        inner.session.record().is_some_and(|record| record.has_expired(now_unix_ms)).then(|| conn.clone())
    }

    /// Closes the connection of a client whose JWT has run out.
    pub(super) fn run_out(&self, conn: &Conn) {
        conn.close(Close::AuthExpired, EXPIRED);
    }

    /// The last word to a client whose credentials do not fit the session.
    pub(crate) fn turn_away(&self, conn: &Conn, denied: Denied) {
        let why = match denied {
            Denied::OtherUser | Denied::Expired => Rejected::Unauthorized,
            Denied::TooManyChannels { .. } => Rejected::Channels,
        };
        self.metrics.rejected.of(why).increment(1);
        match denied {
            Denied::OtherUser => conn.close(Close::BadToken, TokenError::OtherUser.to_string()),
            Denied::Expired => conn.close(Close::AuthExpired, EXPIRED),
            Denied::TooManyChannels { given } => {
                let limit = self.config.limits.channels_per_session;
                let why = format!("{given} channels with those of the JWT: at most {limit} (--limit-channels)");
                conn.close(Close::TooManyChannels, why)
            }
        };
    }
}
