//! What the app answered to a dial or an event, and whether that is its last word.

use std::collections::BTreeSet;

/// Statuses with which an app refuses a client for good unless it is set otherwise. 403, 404 and 5xx are not
/// among them: an ingress gives those while no instance of the app is there.
pub const FINAL_BY_DEFAULT: [u16; 3] = [400, 401, 410];

/// What came of a dial or an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// This HTTP status.
    Status(u16),
    /// It could not even be asked, and never can: the request itself is impossible.
    Impossible,
    /// None: not reached, too late, broken on the way, or not by the protocol.
    None,
}

/// The statuses that mean "never", which is one decision for all who are refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FinalAnswers(BTreeSet<u16>);

impl Default for FinalAnswers {
    fn default() -> Self {
        Self(BTreeSet::from(FINAL_BY_DEFAULT))
    }
}

impl FinalAnswers {
    /// These and no others. A number that is no status (0) means nothing.
    pub fn of(statuses: impl IntoIterator<Item = u16>) -> Self {
        Self(statuses.into_iter().collect())
    }

    /// Whether another try cannot help.
    pub fn is_final(&self, answer: Answer) -> bool {
        match answer {
            Answer::Status(status) => self.0.contains(&status),
            Answer::Impossible => true,
            Answer::None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_ingress_without_an_endpoint_says_is_not_final_unless_it_is_set_so() {
        let usual = FinalAnswers::default();
        for later in [302, 403, 404, 408, 425, 429, 500, 502, 503, 504] {
            assert!(!usual.is_final(Answer::Status(later)), "{later}");
        }
        assert!(usual.is_final(Answer::Status(401)));
        assert!(!usual.is_final(Answer::None));
        let set = FinalAnswers::of([403]);
        assert!(set.is_final(Answer::Status(403)) && !set.is_final(Answer::Status(401)));
    }
}
