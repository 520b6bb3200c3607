//! What can go wrong when the hub is asked, told apart by what an operator would do about it.

use crate::text::{clip, span};
use std::error::Error;
use std::fmt;
use std::io;

/// Why a call to the hub brought no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The connection was refused: no process has that port. Often nothing is wrong.
    NothingListens,
    /// No connection for another reason: name, route, certificate, a handshake that failed.
    Unreachable(String),
    /// It accepted, and no full answer came within the limit.
    Silent {
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// 401: the token is missing or wrong.
    Unauthorized,
    /// The connection ended in the middle of the call.
    Vanished(String),
    /// Something answered, but not as a hub does.
    Garbage(String),
    /// The hub said no.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said, in a line.
        detail: String,
    },
    /// The hub would park sessions although other hubs are known: it wants to hear that this is meant.
    NeedsConsent(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingListens => f.write_str("nothing listens there"),
            Self::Unreachable(why) => write!(f, "no connection: {why}"),
            Self::Silent { waited_ms } => write!(f, "it accepts and does not answer within {}", span(*waited_ms)),
            Self::Unauthorized => f.write_str("it answered 401: --token-file is missing or holds the wrong token"),
            Self::Vanished(why) => write!(f, "it vanished in the middle: {why}"),
            Self::Garbage(what) => write!(f, "what answers is not a Tidegate hub: {what}"),
            Self::Refused { status, detail } => {
                write!(f, "the hub refused with {status}: {detail}")
            }
            Self::NeedsConsent(facts) => write!(f, "the hub asks first: {facts}"),
        }
    }
}

impl Failure {
    /// Whether a short pause may help: the connection broke, but nobody said no.
    pub(crate) const fn is_passing(&self) -> bool {
        match self {
            Self::NothingListens | Self::Unreachable(_) | Self::Vanished(_) => true,
            Self::Silent { .. }
            | Self::Unauthorized
            | Self::Garbage(_)
            | Self::Refused { .. }
            | Self::NeedsConsent(_) => false,
        }
    }

    /// Sorts an error of the HTTP client; `connecting` tells whether there was a connection yet.
    pub(crate) fn sort(error: &(dyn Error + 'static), connecting: bool) -> Self {
        let refused = |io: &io::Error| io.kind() == io::ErrorKind::ConnectionRefused;
        if connecting {
            return match causes(error).any(|error| error.downcast_ref::<io::Error>().is_some_and(refused)) {
                true => Self::NothingListens,
                false => Self::Unreachable(innermost(error)),
            };
        }
        if causes(error).any(|error| error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)) {
            return Self::Garbage(innermost(error));
        }
        Self::Vanished(innermost(error))
    }
}

/// The last cause, which is the one that says something.
fn innermost(error: &(dyn Error + 'static)) -> String {
    clip(&causes(error).last().unwrap_or(error).to_string(), 80)
}

/// The error and what it came from, and so on.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_says_what_it_is() {
        let said = [
            Failure::NothingListens,
            Failure::Unreachable("no such name".to_owned()),
            Failure::Silent { waited_ms: 5_000 },
            Failure::Unauthorized,
            Failure::Vanished("connection reset".to_owned()),
            Failure::Garbage("HTML".to_owned()),
            Failure::Refused { status: 409, detail: "busy".to_owned() },
        ]
        .map(|failure| failure.to_string());
        let expected = [
            "nothing listens there",
            "no connection: no such name",
            "it accepts and does not answer within 5 s",
            "it answered 401: --token-file is missing or holds the wrong token",
            "it vanished in the middle: connection reset",
            "what answers is not a Tidegate hub: HTML",
            "the hub refused with 409: busy",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn only_a_refused_connection_means_that_nobody_is_there() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(Failure::sort(&refused, true), Failure::NothingListens);
        let lost = io::Error::from(io::ErrorKind::HostUnreachable);
        assert!(matches!(Failure::sort(&lost, true), Failure::Unreachable(_)));
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(matches!(Failure::sort(&reset, false), Failure::Vanished(_)));
    }
}
