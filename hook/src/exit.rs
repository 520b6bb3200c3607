//! What the process says when it ends. CodeDeploy sees zero or not; people and scripts read the number.

/// Every way in which the trigger ends, with the number that the contract gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Drained, or nothing to drain, or nothing listens there (which is said), or the question was answered.
    Done,
    /// A flag, a setting or the policy cannot be meant like that; the hub was not troubled.
    Usage,
    /// `--strict` and somebody was forced, cut, unconfirmed or left; or a plan that does not fit.
    NotClean,
    /// Somebody else called the drain off.
    Cancelled,
    /// No answer that can be used: silent, 401, gone in the middle, not a hub; or nobody there with `--require-hub`.
    Unanswered,
    /// The hub said no, or has no report.
    Refused,
    /// The hub would park sessions although other hubs are known, and nobody agreed to that.
    NeedsConsent,
    /// No client of a stage arrived at another hub, and the hub has called the drain off.
    GateFailed,
    /// Ctrl-C. Not in the contract; it is what a shell reports for a program that SIGINT ended.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl Exit {
    /// The exit status of the process.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 2,
            Self::NotClean => 3,
            Self::Cancelled => 4,
            Self::Unanswered => 5,
            Self::Refused => 6,
            Self::NeedsConsent => 7,
            Self::GateFailed => 8,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The word for it in the `end` object of `--json`.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Usage => "usage",
            Self::NotClean => "not_clean",
            Self::Cancelled => "cancelled",
            Self::Unanswered => "unanswered",
            Self::Refused => "refused",
            Self::NeedsConsent => "needs_consent",
            Self::GateFailed => "gate_failed",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_numbers_are_those_of_the_contract() {
        let ends = [
            Exit::Done,
            Exit::Usage,
            Exit::NotClean,
            Exit::Cancelled,
            Exit::Unanswered,
            Exit::Refused,
            Exit::NeedsConsent,
            Exit::GateFailed,
            Exit::Terminated,
        ];
        assert_eq!(ends.map(Exit::code), [0, 2, 3, 4, 5, 6, 7, 8, 143]);
    }
}
