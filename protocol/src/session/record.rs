//! What a session *is*, apart from who owns it: the part that a snapshot and a parked record carry.

use super::channels::Channels;
pub use super::profile::Profile;
use crate::frame::Old;
use crate::position::{Epoch, Offset};
use crate::replay::{Payload, Replay};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Serials of the resume tokens: accepted is the last one used, and any issued since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tokens {
    /// The last one used (0: none yet).
    pub used: u32,
    /// The last one issued.
    pub issued: u32,
}

/// What a `hello` with a token says, once the token was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HelloFacts {
    /// The token's serial.
    pub serial: u32,
    /// The number of this try.
    #[serde(rename = "try")]
    pub attempt: u32,
    /// Whether the client still has a working connection.
    pub old: Old,
    /// How many messages the client has.
    pub received: Offset,
    /// In which epoch it counts; absent: in the session's.
    pub epoch: Option<Epoch>,
}

/// Why the owner will not have a client's `hello`. Each but the last is final for this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A later token, or a higher try, was used already.
    TokenReuse,
    /// The client claims messages that were never sent, or another epoch.
    Impossible,
}

/// Stands among the stamps of [`Record::applied`] where fleet-wide messages may be missing, and at which offset that was
/// noted or told last. No incarnation is written like this; a release that does not know it passes it over.
const MISSED: &str = "missed";

/// Everything that moves with a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(serialize = "M: Payload + Serialize", deserialize = "M: Payload + Deserialize<'de>"))]
pub struct Record<M> {
    /// What the offsets count in.
    pub epoch: Epoch,
    /// Towards the client, not acked yet.
    #[serde(with = "outbox")]
    pub outbox: Replay<M>,
    /// What the client said that it has; below it nothing is given to it again, and nothing is a gap.
    #[serde(default)]
    pub acked: Offset,
    /// How many of the client's messages were counted.
    pub received: Offset,
    /// Counted, not yet taken by the app; `received - untaken.len()` is what was taken.
    pub untaken: VecDeque<M>,
    /// The app's own opaque bytes.
    #[serde(with = "bytes")]
    pub state: Vec<u8>,
    /// See [`Tokens`].
    pub tokens: Tokens,
    /// The highest try seen.
    #[serde(rename = "try")]
    pub attempt: u32,
    /// Which fleet-wide messages were applied, by origin incarnation: (origin, n).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub applied: BTreeMap<String, u64>,
    /// How many events the app was posted in this epoch.
    #[serde(default)]
    pub app_events: u64,
    /// The channels it has joined. Not in the profile, which sessions share.
    #[serde(default, skip_serializing_if = "Channels::is_empty")]
    pub channels: Channels,
    /// What the hub knows and does not interpret. Shared: most anonymous sessions have one and the same.
    pub profile: Arc<Profile>,
}

impl<M: Payload> Record<M> {
    /// A session that has just begun, in the channels that its profile opens.
    pub fn new(epoch: Epoch, profile: Profile) -> Self {
        Self {
            epoch,
            outbox: Replay::starting_at(Offset(0)),
            acked: Offset(0),
            received: Offset(0),
            untaken: VecDeque::new(),
            state: Vec::new(),
            tokens: Tokens::default(),
            attempt: 0,
            applied: BTreeMap::new(),
            app_events: 0,
            channels: profile.granted.clone(),
            profile: Profile::shared(profile),
        }
    }

    /// The profile, to change it.
    pub fn profile_mut(&mut self) -> &mut Profile {
        Arc::make_mut(&mut self.profile)
    }

    /// What a reset keeps of a session whose offsets lost their meaning: user, channels and state.
    pub fn after_reset(&self) -> Self {
        let mut fresh = Self::new(self.epoch.next(), Profile::clone(&self.profile));
        fresh.state = self.state.clone();
        fresh.channels = self.channels.clone();
        fresh
    }

    /// How many of the client's messages the app has taken: what the hub acks.
    pub fn taken(&self) -> Offset {
        Offset(self.received.0.saturating_sub(self.untaken.len() as u64))
    }

    /// Judges a client that wants this session (rules 11 and 24). Only the owner may.
    ///
    /// # Errors
    /// See [`Verdict`].
    pub fn judge(&self, hello: &HelloFacts) -> Result<(), Verdict> {
        if hello.serial < self.tokens.used || hello.serial > self.tokens.issued || hello.attempt <= self.attempt {
            return Err(Verdict::TokenReuse);
        }
        if hello.epoch.is_some_and(|epoch| epoch != self.epoch) || hello.received > self.outbox.end() {
            return Err(Verdict::Impossible);
        }
        Ok(())
    }

    /// Whether this is the very `hello` that was accepted last: a client raises its try each time.
    pub fn has_accepted(&self, hello: &HelloFacts) -> bool {
        hello.attempt == self.attempt && hello.serial == self.tokens.used
    }

    /// Notes what the client has. What was not given to its connection yet is kept: positions are
    /// counted, so a connection cannot skip (the client drops what it knows). False: never sent.
    pub fn ack(&mut self, received: Offset, place: Offset) -> bool {
        if received > self.outbox.end() {
            return false;
        }
        self.acked = self.acked.max(received);
        self.outbox.ack(self.acked.min(place))
    }

    /// Notes that this `hello` was accepted: older tokens and tries are void from now on.
    pub fn accept(&mut self, hello: &HelloFacts) {
        self.tokens.used = hello.serial;
        self.attempt = hello.attempt;
    }

    /// Fleet-wide messages may be missing, and nobody knows which: its client is to be told, as soon as there is one.
    pub fn miss(&mut self) {
        self.applied.insert(MISSED.to_owned(), self.outbox.end().0);
    }

    /// Whether its client is to be told so with the next welcome.
    pub fn has_missed(&self) -> bool {
        self.applied.contains_key(MISSED)
    }

    /// What [`Record::miss`] noted, when the stamps are taken out of it.
    pub fn keep_missed(&mut self, applied: &mut BTreeMap<String, u64>) {
        if let Some((name, at)) = applied.remove_entry(MISSED) {
            self.applied.insert(name, at);
        }
    }

    /// The client has so many messages. Who has one that was numbered after it was told has heard what it was told.
    pub fn heard(&mut self, received: Offset) {
        if !self.applied.is_empty() && self.applied.get(MISSED).is_some_and(|told| received.0 > *told) {
            self.applied.remove(MISSED);
        }
    }

    /// The serial for a new token.
    pub fn issue(&mut self) -> u32 {
        self.tokens.issued = self.tokens.issued.saturating_add(1);
        self.tokens.issued
    }
}

pub(super) mod outbox {
    use super::{Offset, Payload, Replay};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct Out<'a, M> {
        base: Offset,
        messages: Vec<&'a M>,
    }

    #[derive(Deserialize)]
    struct In<M> {
        base: Offset,
        messages: Vec<M>,
    }

    pub(in crate::session) fn serialize<M: Payload + Serialize, S: Serializer>(
        replay: &Replay<M>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        Out { base: replay.base(), messages: replay.iter().collect() }.serialize(to)
    }

    pub(in crate::session) fn deserialize<'de, M: Payload + Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Replay<M>, D::Error> {
        let read = In::<M>::deserialize(from)?;
        Ok(Replay::restored(read.base, read.messages))
    }
}

pub(super) mod bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::session) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(in crate::session) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}
