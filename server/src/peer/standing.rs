//! Where one other hub stands, and what hellos and time may change about that.

use super::wire::Hello;
use http::Uri;
use tidegate_protocol::control::HubState;
use tidegate_protocol::drain::{Room, Successor};
use tidegate_protocol::id::{HubId, Incarnation};
use tidegate_protocol::peer::{SNAPSHOT_VERSIONS, common_version};
use tidegate_protocol::position::Millis;

/// After this long without a word a hub counts as silent: three hellos missed.
pub(super) const SILENT_MS: u64 = 3_000;
/// Where another hub stands with this one.
///
/// ```text
///   a peer hears it ──► Unheard ── hello ──► Heard ── 3 s without a word ──► Silent
///                          │      hello ──►  │  ▲ └───────── word ───────────┘ │
///                          │                 │  │                              │ silent for
///                          │         goodbye ▼  │ later run                    │ --peer-forget-after
///                          │                Left                              ▼
///                          └──────── never heard for as long ───────────────► Lost ── word ──► Heard
/// ```
/// Goodbye is heard in any state. Left and Lost are forgotten: nobody waits for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// A peer told of it.
    Unheard {
        since: Millis,
    },
    Heard {
        last: Millis,
        said: Box<Said>,
    },
    Silent {
        last: Millis,
        said: Box<Said>,
    },
    /// It said goodbye. `parked`: sessions that it left in its data directory.
    Left {
        at: Millis,
        run: Incarnation,
        parked: u64,
    },
    /// It was silent for too long. `parked`: as it had said last.
    Lost {
        at: Millis,
        run: Option<Incarnation>,
        parked: u64,
    },
}

/// What a hub said last, and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) hello: Hello,
    /// When it said so.
    pub(super) at: Millis,
    /// When it answered a hello of ours last.
    pub(super) answered: Option<Millis>,
}

/// One other hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) url: Uri,
    pub(super) standing: Standing,
}

impl Peer {
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.standing, Standing::Left { .. } | Standing::Lost { .. })
    }

    pub(super) fn said(&self) -> Option<&Said> {
        match &self.standing {
            Standing::Heard { said, .. } | Standing::Silent { said, .. } => Some(said),
            Standing::Unheard { .. } | Standing::Left { .. } | Standing::Lost { .. } => None,
        }
    }

    pub(super) fn last_heard(&self) -> Option<Millis> {
        match self.standing {
            Standing::Heard { last, .. } | Standing::Silent { last, .. } => Some(last),
            Standing::Unheard { .. } | Standing::Left { .. } | Standing::Lost { .. } => None,
        }
    }

    /// Whether its last answer to us is fresh.
    pub(super) fn answers(&self, now: Millis) -> bool {
        self.said().and_then(|said| said.answered).is_some_and(|at| now.since(at) < SILENT_MS)
    }

    pub(super) fn is_heard(&self) -> bool {
        matches!(self.standing, Standing::Heard { .. })
    }

    /// Sessions that lie on the disk of a hub that does not run, as far as it told, and since when it is not heard.
    pub(super) fn parked_and_gone(&self) -> Option<(u64, Millis)> {
        let (parked, since) = match &self.standing {
            Standing::Left { parked, at, .. } | Standing::Lost { parked, at, .. } => (*parked, *at),
            Standing::Silent { said, last } => (said.hello.parked, *last),
            Standing::Unheard { .. } | Standing::Heard { .. } => (0, Millis(0)),
        };
        (parked > 0).then_some((parked, since))
    }

    /// How a drain sees it; `None` once it is forgotten.
    pub(super) fn successor(&self, hub: HubId, now: Millis) -> Option<Successor> {
        if self.is_gone() {
            return None;
        }
        let said = self.said().filter(|_| self.is_heard());
        let fit = |said: &Said| {
            let reads = common_version(&SNAPSHOT_VERSIONS, &said.hello.versions).is_some();
            let room = said.hello.room && said.hello.places != Some(0);
            said.hello.state == HubState::Serving && room && reads
        };
        let room = |said: &Said| said.hello.places.map(|places| Room { places, told_at: said.at });
        Some(Successor {
            hub,
            url: self.said().and_then(|said| said.hello.public_url.clone()),
            eligible: said.is_some_and(fit) && self.answers(now),
            state: said.map(|said| said.hello.state),
            sessions: said.map(|said| said.hello.sessions),
            room: said.and_then(room),
            admission: said.and_then(|said| said.hello.admission),
        })
    }
}

/// How a hello came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// This hub asked at that URL, and was answered.
    Asking(Uri),
    /// The other one came by itself; the URL is what it said of itself, if that is one.
    Coming(Option<Uri>),
}

/// What a hello changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is taken.
    Taken(News),
    /// From a run that is over.
    Over,
    /// There are as many hubs as `--limit-peers` allows.
    Full,
    /// Nobody knows how to reach that hub.
    NoWay,
}

/// What is new after a hello.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// It was not known, or forgotten.
    pub(super) met: bool,
    /// It had been silent, since then.
    pub(super) back_after_ms: Option<u64>,
    /// Its run before this one, whose memory is no more.
    pub(super) replaced: Option<Incarnation>,
    /// Whether a drain would plan otherwise now.
    pub(super) changed: bool,
}

/// What time changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing was heard of it for three seconds.
    Silent(HubId, Uri),
    /// It is forgotten, with so many sessions on its disk.
    Forgotten(HubId, Option<Incarnation>, u64),
}
