//! Who a session's client has proved to be, until when, and which channels that opens. Pure: the JWT is read and
//! verified elsewhere, and the wall clock's time is handed in.
//!
//! The newest JWT counts, and newest is the one that expires last. It may come with any `hello` and, while a
//! connection serves, in a frame `auth`. What expires ends connections, not sessions: the session waits its time
//! for a client with a newer one.

use super::channels::Channels;
use super::record::{Profile, Record};
use crate::replay::Payload;
use std::sync::Arc;

/// How far our clock may be from the issuer's, in milliseconds: so long after its `exp` a JWT still counts, for
/// whoever comes with it and for whoever is here with it. Applied by [`counts_until_unix_ms`] and nowhere else.
pub const AUTH_LEEWAY_MS: u64 = 60_000;

/// The last moment at which a JWT that expires then counts.
pub fn counts_until_unix_ms(expires_unix_ms: u64) -> u64 {
    expires_unix_ms.saturating_add(AUTH_LEEWAY_MS)
}

/// What a verified JWT says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its `sub`.
    pub user: Arc<str>,
    /// Its `channels`.
    pub channels: Channels,
    /// Its `exp`, in milliseconds of Unix time.
    pub expires_unix_ms: u64,
}

/// Why credentials do not fit a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It is another user's session.
    OtherUser,
    /// What the session has, and what was shown, is no longer good.
    Expired,
    /// With these channels the session would be in more than it may.
    TooManyChannels {
        /// In how many it would be.
        given: usize,
    },
}

/// What newer credentials changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Regrouped {
    /// Channels that the session is in from now on.
    pub joined: Vec<Arc<str>>,
    /// Channels that it is not in any more.
    pub left: Vec<Arc<str>>,
}

impl Profile {
    /// The credentials that this profile was made from; none for an anonymous one.
    pub fn credentials(&self) -> Option<Credentials> {
        Some(Credentials {
            user: self.user.clone()?,
            channels: self.granted.clone(),
            expires_unix_ms: self.auth_expires_unix_ms?,
        })
    }
}

impl<M: Payload> Record<M> {
    /// Whether what its client has proved counts no longer.
    pub fn has_expired(&self, now_unix_ms: u64) -> bool {
        self.profile.auth_expires_unix_ms.is_some_and(|expires| now_unix_ms > counts_until_unix_ms(expires))
    }

    /// Takes credentials that a client of this session shows: they must be the same user's. Newer ones (those
    /// that expire no sooner) take the place of the old: the session leaves channels that only the older ones
    /// opened, and stays in those that the app had it join.
    ///
    /// # Errors
    /// See [`Denied`]; nothing is changed then.
    pub fn show(&mut self, shown: &Credentials, channels_max: u64) -> Result<Regrouped, Denied> {
        // A session without a user was never bound to a JWT: there is nothing to renew.
        let Some(user) = &self.profile.user else { return Ok(Regrouped::default()) };
        if *user != shown.user {
            return Err(Denied::OtherUser);
        }
        if self.profile.auth_expires_unix_ms.is_some_and(|known| known > shown.expires_unix_ms) {
            return Ok(Regrouped::default());
        }
        let granted = &self.profile.granted;
        let is_left = |name: &&Arc<str>| granted.contains(name) && !shown.channels.contains(name);
        let left: Vec<Arc<str>> = self.channels.iter().filter(is_left).cloned().collect();
        let is_joined = |name: &&Arc<str>| !self.channels.contains(name);
        let joined: Vec<Arc<str>> = shown.channels.iter().filter(is_joined).cloned().collect();
        let given = self.channels.len() + joined.len() - left.len();
        if given as u64 > channels_max {
            return Err(Denied::TooManyChannels { given });
        }
        let stays = self.channels.iter().filter(|name| !left.contains(name));
        let channels: Channels = stays.chain(&joined).cloned().collect();
        self.channels = channels;
        let profile = self.profile_mut();
        profile.granted = shown.channels.clone();
        profile.auth_expires_unix_ms = Some(shown.expires_unix_ms);
        Ok(Regrouped { joined, left })
    }

    /// Judges a client that is to be welcomed: what it shows is taken, and what counts by then must be good.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn admit(
        &mut self,
        shown: Option<&Credentials>,
        channels_max: u64,
        now_unix_ms: u64,
    ) -> Result<Regrouped, Denied> {
        let regrouped = shown.map_or_else(|| Ok(Regrouped::default()), |shown| self.show(shown, channels_max))?;
        if self.has_expired(now_unix_ms) { Err(Denied::Expired) } else { Ok(regrouped) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Epoch;

    const EXP: u64 = 1_000_000;

    fn names(list: &[&str]) -> Channels {
        list.iter().map(|name| Arc::from(*name)).collect()
    }

    fn ann(expires_unix_ms: u64, channels: &[&str]) -> Credentials {
        Credentials { user: "ann".into(), channels: names(channels), expires_unix_ms }
    }

    fn record(of: &Credentials) -> Record<String> {
        let profile = Profile {
            user: Some(of.user.clone()),
            granted: of.channels.clone(),
            auth_expires_unix_ms: Some(of.expires_unix_ms),
            ..Profile::default()
        };
        Record::new(Epoch(1), profile)
    }

    #[test]
    fn the_newer_ones_end_counts_and_the_channels_follow() {
        let mut session = record(&ann(EXP, &["desk", "news"]));
        session.channels.insert("by the app".into());
        let regrouped = session.show(&ann(EXP + 1, &["desk", "team"]), 8);
        assert_eq!(regrouped, Ok(Regrouped { joined: vec!["team".into()], left: vec!["news".into()] }));
        assert_eq!(session.channels, names(&["by the app", "desk", "team"]));
        assert_eq!(session.profile.credentials(), Some(ann(EXP + 1, &["desk", "team"])));
    }

    #[test]
    fn an_older_one_changes_nothing() {
        let mut session = record(&ann(EXP, &["desk"]));
        assert_eq!(session.show(&ann(EXP - 1, &[]), 8), Ok(Regrouped::default()));
        assert_eq!(session.profile.credentials(), Some(ann(EXP, &["desk"])));
    }

    #[test]
    fn a_channel_that_the_app_had_it_join_is_left_only_where_a_jwt_opened_it() {
        let mut session = record(&ann(EXP, &["desk"]));
        session.channels.insert("news".into());
        session.show(&ann(EXP + 1, &["news"]), 8).expect("the same user");
        assert_eq!(session.channels, names(&["news"]), "the desk was the older one's");
        session.show(&ann(EXP + 2, &[]), 8).expect("the same user");
        assert_eq!(session.channels, names(&[]), "the newer one opened the news, too");
    }

    #[test]
    fn another_user_and_too_many_channels_change_nothing() {
        let mut session = record(&ann(EXP, &["desk"]));
        session.channels.insert("by the app".into());
        let before = session.clone();
        let bob = Credentials { user: "bob".into(), ..ann(EXP + 1, &[]) };
        assert_eq!(session.show(&bob, 8), Err(Denied::OtherUser));
        assert_eq!(session.show(&ann(EXP + 1, &["a", "b"]), 2), Err(Denied::TooManyChannels { given: 3 }));
        assert_eq!(session, before);
    }

    #[test]
    fn one_leeway_holds_for_who_comes_and_for_who_is_here() {
        let mut session = record(&ann(EXP, &[]));
        let last = counts_until_unix_ms(EXP);
        assert_eq!(last, EXP + AUTH_LEEWAY_MS);
        for (now, expired) in [(EXP, false), (last, false), (last + 1, true)] {
            assert_eq!(session.has_expired(now), expired, "{now}");
            assert_eq!(session.admit(None, 8, now).is_err(), expired, "whoever is let in may stay: {now}");
        }
        assert_eq!(session.admit(Some(&ann(EXP, &[])), 8, last + 1), Err(Denied::Expired));
        assert!(session.admit(Some(&ann(last + 1, &[])), 8, last + 1).is_ok(), "a newer one opens it again");
    }

    #[test]
    fn an_anonymous_session_has_nothing_that_could_expire() {
        let mut session: Record<String> = Record::new(Epoch(1), Profile::default());
        assert_eq!(session.admit(Some(&ann(1, &["desk"])), 8, u64::MAX), Ok(Regrouped::default()));
        assert!(session.channels.is_empty());
    }
}
