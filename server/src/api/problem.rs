//! Refusals of the private API: each says what was wrong, with which value, and what would be right.

use crate::drain::StartError;
use crate::hub::calls::CallError;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use tidegate_protocol::control::{PolicyError, Problem};

/// An error answer: a problem, and the header that belongs to its status.
#[derive(Debug)]
pub(super) struct Refusal {
    problem: Box<Problem>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        Self { problem: Box::new(Problem::new(status.as_u16(), kind, title, detail)), header: None }
    }

    /// 400: the request cannot be understood.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "Bad request", detail)
    }

    /// 404 for a session.
    pub(super) fn unknown_session(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown-session", "Unknown session", detail)
    }

    /// 413: `what` has `given` bytes where `limit` are allowed by `option`.
    pub(super) fn too_large(what: &str, given: u64, limit: u64, option: &str) -> Self {
        let detail = format!("{what} has {given} bytes: at most {limit} are allowed ({option})");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail)
            .with("given", given)
            .with("limit", limit)
    }

    /// 503: not now; come back after so many milliseconds.
    pub(super) fn busy(why: &str, after_ms: u64) -> Self {
        let after_s = after_ms.div_ceil(1_000).max(1);
        let detail = format!("not now: {why}; try again in {after_s} s");
        let mut refusal =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Not now", detail).with("retry_after_ms", after_ms);
        refusal.header = Some((header::RETRY_AFTER, HeaderValue::from(after_s)));
        refusal
    }

    /// Whether it says to come back later.
    pub(super) fn is_busy(&self) -> bool {
        self.problem.status == StatusCode::SERVICE_UNAVAILABLE.as_u16()
    }

    #[must_use]
    pub(super) fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.problem = Box::new(self.problem.with(name, value));
        self
    }

    #[must_use]
    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unknown(session) => Self::unknown_session(format!("no hub knows session {session}")),
            CallError::Busy { why, after_ms } => Self::busy(&why, after_ms),
            CallError::TooMuch { what, limit, given } => {
                let detail = format!("{what}: at most {limit} are allowed, and this would make {given}");
                let (status, kind) = match what.contains("bytes") {
                    true => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
                    false => (StatusCode::UNPROCESSABLE_ENTITY, "too-many"),
                };
                Self::new(status, kind, "Over a limit", detail).with("limit", limit).with("given", given)
            }
            CallError::Unreachable(hub) => {
                let detail =
                    format!("hub {hub} has the session and did not answer: whether this was done is not known");
                Self::new(StatusCode::GATEWAY_TIMEOUT, "owner-silent", "The session's hub did not answer", detail)
                    .with("hub", hub.to_string())
            }
        }
    }
}

impl From<PolicyError> for Refusal {
    fn from(error: PolicyError) -> Self {
        Self { problem: Box::new(error.problem()), header: None }
    }
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Policy(error) => error.into(),
            StartError::NeedsConsent(consent) => Self { problem: Box::new(consent.problem()), header: None },
            StartError::CalledOff(attempt) => {
                let detail = StartError::CalledOff(attempt.clone()).to_string();
                Self::new(StatusCode::CONFLICT, "called-off", "Called off", detail).with("attempt", attempt)
            }
            StartError::TooManyClaims => Self::new(
                StatusCode::CONFLICT,
                "too-many-claims",
                "Too many claims",
                StartError::TooManyClaims.to_string(),
            ),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, Problem::CONTENT_TYPE)], body).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_protocol::id::{HubId, SessionId};

    #[test]
    fn each_error_of_a_call_has_its_status_and_says_whom_it_is_about() {
        let table = [
            (CallError::Unknown(SessionId(1)), 404, "00000000000000000000000000000001"),
            (CallError::Busy { why: "it is frozen".into(), after_ms: 1_200 }, 503, "it is frozen; try again in 2 s"),
            (CallError::TooMuch { what: "channels of one session".into(), limit: 2, given: 3 }, 422, "at most 2"),
            (CallError::TooMuch { what: "state bytes of one session".into(), limit: 2, given: 3 }, 413, "would make 3"),
            (CallError::Unreachable(HubId(7)), 504, "0000000000000007"),
        ];
        for (error, status, said) in table {
            let shown = format!("{error:?}");
            let refusal = Refusal::from(error);
            assert_eq!(refusal.problem.status, status, "{shown}");
            assert!(refusal.problem.detail.contains(said), "{shown}: {}", refusal.problem.detail);
        }
    }

    #[test]
    fn a_busy_answer_says_when_to_come_back_in_whole_seconds() {
        for (after_ms, header) in [(0, "1"), (250, "1"), (1_000, "1"), (1_001, "2")] {
            let response = Refusal::busy("x", after_ms).into_response();
            assert_eq!(response.headers()[header::RETRY_AFTER], header, "{after_ms} ms");
        }
    }
}
