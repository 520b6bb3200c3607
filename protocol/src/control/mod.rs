//! Bodies of the private API, field for field as its table names them, and what a drain policy
//! may say. Plain values: the hub fills them, the trigger and the tests read them.
//!
//! Unknown values are `null`, never left out, so that a reader can tell "not known" from "not
//! there in this version". All times are spans in milliseconds, counted from the answer.

mod claims;
mod drain;
mod policy;
mod publish;
mod ready;

pub use claims::{AskedBy, CalledOff, ClaimLife, ClaimStatus};
pub use drain::{
    AppCounts, ClientCounts, DrainReport, DrainResult, DrainStatus, GapMs, HeldKind, MessageCounts, Phase, PlanAnswer,
    PlanParks, PlanShare, PlanStage, ReportSessions, Returns, SessionCounts, StageReport, SuccessorReport,
    UnroutableBy, WaitingFor,
};
pub use policy::{
    DEADLINE_MAX_MS, LANGUAGES_MAX, MAX_IN_FLIGHT_LIMIT, REASON_MAX_BYTES, STAGES_MAX, TEXT_MAX_BYTES,
    TRIGGER_MAX_BYTES,
};
pub use policy::{DrainRequest, Gate, GateRequest, OnGate, OnOrphan, Policy, PolicyError, Rest, Trigger};
pub use publish::{Payload, PublishAnswer, PublishRequest, Scope, SessionInfo, SessionPhase, SessionsPage, Target};
pub use ready::{Readiness, WhenDraining};

use crate::id::{HubId, Incarnation};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// What a hub says of itself to its peers and to operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HubState {
    /// Takes sessions from anywhere.
    #[default]
    Serving,
    /// Serves, and said that it will be drained next: nobody should move there.
    WillDrain,
    /// Is handing its sessions on.
    Draining,
    /// Holds nobody of its starting population any more; stays up to hand on whoever still comes.
    Drained,
}

impl HubState {
    /// The word that the API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::WillDrain => "will_drain",
            Self::Draining => "draining",
            Self::Drained => "drained",
        }
    }
}

/// Answer of `GET /v1/hub`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubInfo {
    /// The hub's persistent id.
    pub id: HubId,
    /// This run of the process.
    pub incarnation: Incarnation,
    /// Version of the program, as `tidegate --version` prints it.
    pub version: String,
    /// What it tells its peers.
    pub state: HubState,
    /// How a client reaches this very hub; null when clients come through a balancer only.
    pub public_url: Option<String>,
    /// Sessions held here, whatever their phase.
    pub sessions: u64,
    /// Open client connections.
    pub connections: u64,
    /// For how many more sessions there is room.
    #[serde(default)]
    pub room: u64,
    /// Every hub it knows of and what that hub said last.
    pub peers: Vec<PeerInfo>,
    /// Sessions on the disks of hubs that do not run; their clients wait for them.
    #[serde(default)]
    pub parked_elsewhere: Vec<ParkedElsewhere>,
    /// Limits in force, by name with the unit in it (`message_bytes`, `sessions`, …).
    pub limits: BTreeMap<String, u64>,
}

/// One peer as a hub knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Its id; null until it answered once.
    pub hub: Option<HubId>,
    /// Its run; null until it answered once.
    pub incarnation: Option<Incarnation>,
    /// Private base URL by which it is asked.
    pub url: String,
    /// How clients reach it by name; null when they cannot.
    pub public_url: Option<String>,
    /// What it said last; null until it answered once.
    pub state: Option<HubState>,
    /// Whether it answered the last time it was asked.
    pub reachable: bool,
    /// Milliseconds since it was last heard; null if never.
    pub heard_ms: Option<u64>,
    /// Its version; null until it answered once.
    pub version: Option<String>,
    /// For how many more sessions it has room; null until it answered once, and if it does not tell.
    #[serde(default)]
    pub room: Option<u64>,
    /// Why it cannot be talked with, in a sentence; null when its last answer could be taken.
    #[serde(default)]
    pub why: Option<String>,
}

/// Sessions that a hub parked before it ended, or fell silent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedElsewhere {
    /// Which hub.
    pub hub: HubId,
    /// Where it was asked last.
    pub url: String,
    /// How many, as it said last.
    pub sessions: u64,
    /// For how long it has not been heard.
    pub gone_ms: u64,
}

impl std::fmt::Display for ParkedElsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { hub, sessions, gone_ms, .. } = self;
        write!(
            f,
            "{sessions} sessions are parked in the data directory of hub {hub}, which has not been heard for {} s: \
             their clients wait until a process comes back there",
            gone_ms / 1_000
        )
    }
}

/// An error answer, `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI reference that names the kind of problem; `about:blank` when the status says it all.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The kind in a few words, the same for each occurrence.
    pub title: String,
    /// The HTTP status, repeated so that a saved body stays complete.
    pub status: u16,
    /// What was wrong here, with the value, and what would be right.
    pub detail: String,
    /// Further members, such as the numbers that did not fit.
    #[serde(flatten)]
    pub extensions: Map<String, Value>,
}

/// Reads an object as one: by itself the reader would take a list for an object whose fields have no names.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D, expected: &'static str) -> Result<T, D::Error> {
    struct Named<T>(&'static str, PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Named<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    from.deserialize_map(Named(expected, PhantomData))
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

impl Problem {
    /// The media type of this body.
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    /// A problem of the named kind (`/problems/<kind>`), without further members.
    pub fn new(status: u16, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/problems/{kind}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            extensions: Map::new(),
        }
    }

    /// The same problem with one more member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extensions.insert(name.to_owned(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_carries_its_extra_members_beside_the_standard_ones() {
        let problem = Problem::new(422, "impossible-policy", "Impossible policy", "too long").with("deadline_ms", 1000);
        let text = serde_json::to_string(&problem).unwrap();
        assert_eq!(
            text,
            r#"{"type":"/problems/impossible-policy","title":"Impossible policy","status":422,"detail":"too long","deadline_ms":1000}"#
        );
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
    }

    #[test]
    fn hub_states_are_the_words_of_the_contract() {
        for state in [HubState::Serving, HubState::WillDrain, HubState::Draining, HubState::Drained] {
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{}\"", state.as_str()));
        }
    }
}
