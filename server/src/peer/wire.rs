//! What hubs post to each other, as JSON. Unknown fields are ignored, so that the next release can
//! say more; a message of an unknown kind is left out and its batch is taken all the same.

use crate::hub::calls::Call;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use tidegate_protocol::control::HubState;
use tidegate_protocol::drain::Admission;
use tidegate_protocol::id::{HubId, Incarnation, SessionId};

/// Machine messages, in batches.
pub(super) const MESSAGES: &str = "/peer/v1/messages";
/// Who is there, once a second and when something changed.
pub(super) const HELLO: &str = "/peer/v1/hello";
/// A call about one session, for its owner.
pub(super) const CALL: &str = "/peer/v1/call";
/// Fleet-wide messages of one origin, in order.
pub(super) const PUBLISH: &str = "/peer/v1/publish";
/// What lies on a hub's disk, in pieces: said when it has parked, and before its goodbye.
pub(super) const PARKED: &str = "/peer/v1/parked";
/// The last word of a run.
pub(super) const GOODBYE: &str = "/peer/v1/goodbye";

/// What a hub says of itself; a hello is answered with one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Its id.
    pub(super) from: HubId,
    /// Its run.
    pub(super) incarnation: Incarnation,
    /// Its program's version.
    pub(super) version: String,
    /// How peers reach it, if it knows.
    pub(super) peer_url: Option<String>,
    /// How clients reach it by name.
    pub(super) public_url: Option<String>,
    /// What it is doing.
    pub(super) state: HubState,
    /// Sessions that it holds.
    pub(super) sessions: u64,
    /// Whether one more may begin there.
    pub(super) room: bool,
    /// For how many more it has room; a hub of an earlier release does not tell.
    #[serde(default)]
    pub(super) places: Option<u64>,
    /// Sessions that lie in its data directory.
    #[serde(default)]
    pub(super) parked: u64,
    /// How it admitted clients in its last seconds; none if nobody came.
    #[serde(default)]
    pub(super) admission: Option<Admission>,
    /// The last stamp that it gave to a fleet-wide message.
    pub(super) fan_last: u64,
    /// How far it is with the fleet-wide messages of each run that it knows.
    #[serde(default)]
    pub(super) fan_had: BTreeMap<String, u64>,
    /// Whether its calls name the run that they are for, and it wants that of others. Hubs of the release before
    /// do not.
    #[serde(default)]
    pub(super) names_runs: bool,
    /// Snapshot versions that it reads.
    pub(super) versions: Vec<u32>,
    /// The hubs that it hears itself.
    #[serde(default)]
    pub(super) known: Vec<Acquaintance>,
}

/// A hub that another one hears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Acquaintance {
    pub(super) hub: HubId,
    pub(super) incarnation: Incarnation,
    pub(super) url: String,
}

/// Body of [`GOODBYE`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Goodbye {
    pub(super) from: HubId,
    pub(super) incarnation: Incarnation,
    /// As in [`Calling`].
    #[serde(default)]
    pub(super) to: Option<Incarnation>,
    /// Sessions that it leaves in its data directory.
    #[serde(default)]
    pub(super) parked: u64,
}

/// Body of [`PARKED`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OnDisk {
    pub(super) from: HubId,
    pub(super) incarnation: Incarnation,
    /// As in [`Calling`].
    #[serde(default)]
    pub(super) to: Option<Incarnation>,
    /// Whether this piece is the first: what was said before counts no more.
    pub(super) first: bool,
    pub(super) sessions: Vec<SessionId>,
}

/// Body of [`MESSAGES`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Messages {
    pub(super) from: HubId,
    pub(super) incarnation: Incarnation,
    /// The run that they are meant for: a later one must not act on what its forerunner was told.
    pub(super) to: Incarnation,
    pub(super) messages: Vec<Box<RawValue>>,
}

/// Answer to [`MESSAGES`] and [`GOODBYE`]: taken, by this run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Taken {
    pub(super) incarnation: Incarnation,
}

/// Body of [`CALL`]. The same (incarnation, n) is carried out once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Calling {
    pub(super) from: HubId,
    pub(super) incarnation: Incarnation,
    /// The run that it is meant for: what was recorded on its way to that one must not be played back to a later
    /// one, which does not remember it. Hubs of the release before leave it out.
    #[serde(default)]
    pub(super) to: Option<Incarnation>,
    pub(super) n: u64,
    /// Whether it was asked before, and nobody knows what became of it.
    #[serde(default)]
    pub(super) again: bool,
    pub(super) session: SessionId,
    pub(super) call: Call,
}

/// Body of [`PUBLISH`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Publish {
    pub(super) from: HubId,
    pub(super) incarnation: Incarnation,
    /// As in [`Calling`].
    #[serde(default)]
    pub(super) to: Option<Incarnation>,
    pub(super) entries: Vec<crate::hub::fan::Entry>,
}

/// Answer to [`PUBLISH`]: for how many sessions each entry was numbered, and who was between two hubs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Published {
    pub(super) sessions: Vec<u64>,
    #[serde(default)]
    pub(super) moving: Vec<Vec<SessionId>>,
    #[serde(default)]
    pub(super) came: Vec<Vec<SessionId>>,
}
