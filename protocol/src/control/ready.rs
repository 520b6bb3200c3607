//! What `GET /healthz/ready` answers. *Ready* means: send newcomers here.

use super::HubState;

/// Whether a hub wants newcomers, and if not, why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Readiness {
    /// It serves and has room.
    Serving,
    /// A drain is under way. Newcomers are served or handed on until the balancer lets go.
    Draining,
    /// The drain has ended: whoever comes is only handed on, or told to wait.
    Drained,
    /// It has as many sessions as it may have.
    Full {
        /// How many it may have.
        limit: u64,
    },
}

/// What a hub answers while it drains. Which of them a load balancer needs differs: some cut every connection of a
/// target that is not ready, some send newcomers to it until it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhenDraining {
    /// 200, so that nothing is cut and nothing is replaced: the default.
    Ready,
    /// 503: `--unready-when-draining`.
    Unready,
    /// 404: `?draining=404`, which HAProxy (`http-check disable-on-404`) takes for *no newcomers, keep the others*.
    NotFound,
}

impl WhenDraining {
    /// What a health check asks for by its query: nothing, or `draining=404`. The error says what would be right.
    pub fn asked_in(query: &str) -> Result<Option<Self>, String> {
        match query {
            "" => Ok(None),
            "draining=404" => Ok(Some(Self::NotFound)),
            other => {
                let shown: String = other.chars().take(40).collect();
                Err(format!("the query is {shown:?}: give draining=404, or none"))
            }
        }
    }
}

impl Readiness {
    /// Judges a hub by what it does and by how many more sessions it has room for, of so many.
    pub const fn judge(state: HubState, places: u64, limit: u64) -> Self {
        match state {
            HubState::Drained => Self::Drained,
            // A full hub that drains makes room by itself, and hands newcomers on: what counts is the drain.
            HubState::Draining => Self::Draining,
            HubState::Serving | HubState::WillDrain if places == 0 => Self::Full { limit },
            HubState::Serving | HubState::WillDrain => Self::Serving,
        }
    }

    /// The HTTP status.
    pub const fn status(self, when_draining: WhenDraining) -> u16 {
        match (self, when_draining) {
            (Self::Serving, _) | (Self::Draining, WhenDraining::Ready) => 200,
            (Self::Draining, WhenDraining::NotFound) => 404,
            (Self::Draining, WhenDraining::Unready) | (Self::Drained | Self::Full { .. }, _) => 503,
        }
    }

    /// The kind of it, in a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "ready",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Full { .. } => "full",
        }
    }

    /// Why, in a sentence.
    pub fn why(self) -> String {
        match self {
            Self::Serving => "this hub takes newcomers".to_owned(),
            Self::Draining => "this hub hands its sessions on; newcomers are served or handed on, too".to_owned(),
            Self::Drained => "this hub was drained and takes nobody until it is told to serve again".to_owned(),
            Self::Full { limit } => {
                format!("this hub has all the {limit} sessions that it may have (--limit-sessions, open files)")
            }
        }
    }

    /// What the body says: `ready`, or the kind and why.
    pub fn words(self) -> String {
        match self {
            Self::Serving => self.as_str().to_owned(),
            Self::Draining | Self::Drained | Self::Full { .. } => format!("{}: {}", self.as_str(), self.why()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAYS: [WhenDraining; 3] = [WhenDraining::Ready, WhenDraining::Unready, WhenDraining::NotFound];

    fn statuses(readiness: Readiness) -> [u16; 3] {
        WAYS.map(|way| readiness.status(way))
    }

    #[test]
    fn only_a_drain_under_way_is_answered_as_the_balancer_wants_it() {
        assert_eq!(statuses(Readiness::judge(HubState::Serving, 1, 9)), [200, 200, 200]);
        assert_eq!(statuses(Readiness::judge(HubState::Draining, 1, 9)), [200, 503, 404]);
        assert_eq!(statuses(Readiness::judge(HubState::Drained, 9, 9)), [503, 503, 503]);
        assert_eq!(statuses(Readiness::judge(HubState::Serving, 0, 9)), [503, 503, 503]);
    }

    #[test]
    fn a_full_hub_that_drains_is_draining_and_not_full() {
        assert_eq!(Readiness::judge(HubState::Draining, 0, 9), Readiness::Draining);
        assert_eq!(Readiness::judge(HubState::WillDrain, 0, 9), Readiness::Full { limit: 9 });
    }

    #[test]
    fn another_query_is_refused_with_what_would_be_right() {
        assert_eq!(WhenDraining::asked_in(""), Ok(None));
        assert_eq!(WhenDraining::asked_in("draining=404"), Ok(Some(WhenDraining::NotFound)));
        let wrong = WhenDraining::asked_in("draining=503").unwrap_err();
        assert_eq!(wrong, "the query is \"draining=503\": give draining=404, or none");
    }
}
