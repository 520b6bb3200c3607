//! What a drain is asked to do, and the same with every default filled in.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// What the trigger says of itself: a free object, echoed in the report.
pub type Trigger = Map<String, Value>;

/// Longest deadline: a day. A hook has an hour at most; more is a mistake in the unit.
pub const DEADLINE_MAX_MS: u64 = 86_400_000;
/// Most moves that may be asked to be in flight at once.
pub const MAX_IN_FLIGHT_LIMIT: u64 = 65_536;
/// Most stages.
pub const STAGES_MAX: usize = 32;
/// Longest text of a notice, in bytes; each receiver gets one.
pub const TEXT_MAX_BYTES: usize = 1_024;
/// Most languages of one notice.
pub const LANGUAGES_MAX: usize = 32;
/// Longest reason, in bytes.
pub const REASON_MAX_BYTES: usize = 256;
/// Largest trigger object, in bytes of JSON.
pub const TRIGGER_MAX_BYTES: usize = 4_096;

/// Longest language tag, in bytes (BCP 47 recommends room for 35).
const LANGUAGE_MAX_BYTES: usize = 35;
/// A shorter lease than this could not be renewed reliably.
const LEASE_MIN_MS: u64 = 1_000;

const NOTICE_MS: u64 = 15_000;
const WINDOW_MS: u64 = 60_000;
const SETTLE_MS: u64 = 10_000;
const DEADLINE_MS: u64 = 300_000;
const MAX_IN_FLIGHT: u64 = 256;
const STAGES: [u64; 4] = [1, 9, 30, 60];
const BACK_MIN_PERCENT: u64 = 90;
/// How long a gate waits for the last stage; long enough for a client that dials twice.
const WAIT_MAX_MS: u64 = 10_000;
const LEASE_MS: u64 = 60_000;

/// What becomes of a drain when nobody has asked for its status during the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnOrphan {
    /// It goes on to its end.
    #[default]
    Continue,
    /// It is called off, for the instance stays in service.
    Recall,
}

/// What becomes of a drain when a gate fails: its wait is over, and no client of the stage was seen at another hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnGate {
    /// It is held until a client is seen elsewhere, or somebody says that it may go on; at its deadline it is called off.
    #[default]
    Hold,
    /// It is called off at once.
    Recall,
    /// It goes on.
    Continue,
}

/// An order about who is still here, beside the policy of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rest {
    /// Everything that is left is pushed or parked now, whatever the slots say; also when a drain
    /// is under way already, or has ended and somebody is left or came since.
    Now,
}

/// When the next stage may open, as asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateRequest {
    /// Share of the last stage that must be back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_min_percent: Option<u64>,
    /// After this long the stragglers are pushed and the next stage opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_max_ms: Option<u64>,
}

/// Body of `POST /v1/drain` and `POST /v1/drain/plan`; everything is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "an object of policy fields, all optional, such as {\"notice_ms\":15000}"
)]
pub struct DrainRequest {
    /// How long before anyone is moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notice_ms: Option<u64>,
    /// Over how long the moves are spread; 0 means unpaced: as many are in flight, up to `max_in_flight`, as the
    /// hubs pass on without a queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<u64>,
    /// How long to wait for the last ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle_ms: Option<u64>,
    /// When it ends, whatever happens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Bound on moves that are ordered and not yet live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u64>,
    /// Percentages that add to 100; the first stage is the canary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stages: Option<Vec<u64>>,
    /// When the next stage may open.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "gate")]
    pub gate: Option<GateRequest>,
    /// What to do when a gate fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_gate: Option<OnGate>,
    /// What users read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The same by language tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub texts: Option<BTreeMap<String, String>>,
    /// Why, for programs and logs (`deploy`, `scale-in`, …).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do when the trigger is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_orphan: Option<OnOrphan>,
    /// After how long without a status call the trigger counts as gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Echoed in the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// Whether sessions may be parked although other hubs are known: when none of them takes anybody, or their room
    /// does not suffice. Without it such a drain is refused with 409.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_park: Option<bool>,
    /// What to do with who is left, apart from the policy; it holds for a drain that is joined too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest: Option<Rest>,
}

fn gate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<GateRequest>, D::Error> {
    struct Named(GateRequest);
    impl<'de> Deserialize<'de> for Named {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            super::object(from, "an object with back_min_percent and wait_max_ms, both optional").map(Self)
        }
    }
    Ok(Option::<Named>::deserialize(from)?.map(|Named(gate)| gate))
}

/// When the next stage may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gate {
    /// Share of the last stage that must be back; 0 leaves the gate open.
    pub back_min_percent: u8,
    /// After this long the stragglers are pushed and the next stage opens.
    pub wait_max_ms: u64,
}

/// A drain policy with every default filled in, checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// How long before anyone is moved.
    pub notice_ms: u64,
    /// Over how long the moves are spread; 0 means unpaced.
    pub window_ms: u64,
    /// How long to wait for the last ones.
    pub settle_ms: u64,
    /// When it ends, whatever happens.
    pub deadline_ms: u64,
    /// Bound on moves that are ordered and not yet live.
    pub max_in_flight: u32,
    /// Percentages that add to 100.
    pub stages: Vec<u8>,
    /// When the next stage may open.
    pub gate: Gate,
    /// What to do when a gate fails.
    pub on_gate: OnGate,
    /// What users read; none: the client's own words.
    pub text: Option<String>,
    /// The same by language tag.
    pub texts: BTreeMap<String, String>,
    /// Why, for programs and logs.
    pub reason: Option<String>,
    /// What to do when the trigger is gone.
    pub on_orphan: OnOrphan,
    /// After how long without a status call the trigger counts as gone.
    pub lease_ms: u64,
    /// Whether sessions may be parked, as soon as that is due, although other hubs are known.
    #[serde(default)]
    pub allow_park: bool,
    /// Echoed in the report.
    pub trigger: Option<Trigger>,
}

/// Why a policy cannot be carried out; answered with 422.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// The three spans, given explicitly, are longer than the deadline.
    TooLong {
        /// As given; 0 if it was not.
        notice_ms: u64,
        /// As given; 0 if it was not.
        window_ms: u64,
        /// As given; 0 if it was not.
        settle_ms: u64,
        /// As given, or the default.
        deadline_ms: u64,
    },
    /// One field has a value that cannot be used.
    Field {
        /// Its name in the request.
        name: &'static str,
        /// What is wrong with it and what would be right.
        detail: String,
    },
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { notice_ms, window_ms, settle_ms, deadline_ms } => write!(
                f,
                "notice_ms {notice_ms} + window_ms {window_ms} + settle_ms {settle_ms} = {} is more than deadline_ms {deadline_ms}: \
                 shorten one of the three or raise the deadline",
                notice_ms.saturating_add(*window_ms).saturating_add(*settle_ms)
            ),
            Self::Field { name, detail } => write!(f, "{name}: {detail}"),
        }
    }
}

impl std::error::Error for PolicyError {}

impl PolicyError {
    /// This error as an answer.
    pub fn problem(&self) -> super::Problem {
        let problem = super::Problem::new(422, "impossible-policy", "Impossible drain policy", self.to_string());
        match self {
            Self::TooLong { notice_ms, window_ms, settle_ms, deadline_ms } => problem
                .with("notice_ms", *notice_ms)
                .with("window_ms", *window_ms)
                .with("settle_ms", *settle_ms)
                .with("deadline_ms", *deadline_ms),
            Self::Field { name, .. } => problem.with("field", *name),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        DrainRequest::default().resolve().expect("the defaults fit, as a test shows")
    }
}

impl DrainRequest {
    /// Fills in the defaults, shrunk in proportion to a deadline below the default one and then to
    /// what explicit spans leave of it; says what is impossible.
    pub fn resolve(&self) -> Result<Policy, PolicyError> {
        let deadline_ms = in_range("deadline_ms", self.deadline_ms.unwrap_or(DEADLINE_MS), 1, DEADLINE_MAX_MS)?;
        let [notice_ms, window_ms, settle_ms] = self.spans(deadline_ms)?;
        let (on_orphan, lease_ms) = self.lease()?;
        Ok(Policy {
            notice_ms,
            window_ms,
            settle_ms,
            deadline_ms,
            max_in_flight: self.in_flight()?,
            stages: self.stages()?,
            gate: self.gate(deadline_ms)?,
            on_gate: self.on_gate.unwrap_or_default(),
            text: bounded_text("text", self.text.as_deref(), TEXT_MAX_BYTES)?,
            texts: self.texts()?,
            reason: bounded_text("reason", self.reason.as_deref(), REASON_MAX_BYTES)?,
            on_orphan,
            lease_ms,
            allow_park: self.allow_park.unwrap_or(false),
            trigger: self.trigger()?,
        })
    }

    /// What becomes of a claim whose trigger is gone, and after how long without a status call it counts as gone. Of
    /// one that joins a drain, this is all that is looked at.
    ///
    /// # Errors
    /// A lease out of its range.
    pub fn lease(&self) -> Result<(OnOrphan, u64), PolicyError> {
        let lease_ms = in_range("lease_ms", self.lease_ms.unwrap_or(LEASE_MS), LEASE_MIN_MS, DEADLINE_MAX_MS)?;
        Ok((self.on_orphan.unwrap_or_default(), lease_ms))
    }

    /// Notice, window and settle. What is not given takes its default times
    /// `min(1, deadline / default deadline)`, or its share of what the given ones leave.
    fn spans(&self, deadline_ms: u64) -> Result<[u64; 3], PolicyError> {
        let given = [self.notice_ms, self.window_ms, self.settle_ms];
        let explicit_ms = given.iter().flatten().fold(0u64, |sum, ms| sum.saturating_add(*ms));
        if explicit_ms > deadline_ms {
            let [notice_ms, window_ms, settle_ms] = given.map(Option::unwrap_or_default);
            return Err(PolicyError::TooLong { notice_ms, window_ms, settle_ms, deadline_ms });
        }
        let defaults =
            [NOTICE_MS, WINDOW_MS, SETTLE_MS].map(|ms| shrink(ms, deadline_ms.min(DEADLINE_MS), DEADLINE_MS));
        let wanted_ms: u64 = given.iter().zip(defaults).filter(|(given, _)| given.is_none()).map(|(_, ms)| ms).sum();
        let room_ms = deadline_ms - explicit_ms;
        let fitted = defaults.map(|ms| if wanted_ms > room_ms { shrink(ms, room_ms, wanted_ms) } else { ms });
        Ok(std::array::from_fn(|i| given[i].unwrap_or(fitted[i])))
    }

    fn in_flight(&self) -> Result<u32, PolicyError> {
        let value = in_range("max_in_flight", self.max_in_flight.unwrap_or(MAX_IN_FLIGHT), 1, MAX_IN_FLIGHT_LIMIT)?;
        Ok(u32::try_from(value).expect("in range, and the range fits"))
    }

    fn stages(&self) -> Result<Vec<u8>, PolicyError> {
        let asked = self.stages.as_deref().unwrap_or(&STAGES);
        let refuse = |what: String| Err(PolicyError::Field { name: "stages", detail: what });
        if asked.is_empty() || asked.len() > STAGES_MAX {
            return refuse(format!("{} stages: give 1 to {STAGES_MAX} percentages that add to 100", asked.len()));
        }
        if let Some(bad) = asked.iter().find(|percent| !(1..=100).contains(*percent)) {
            return refuse(format!("{bad} is not a percentage from 1 to 100"));
        }
        let sum: u64 = asked.iter().sum();
        if sum != 100 {
            return refuse(format!("the percentages {asked:?} add to {sum}: they must add to 100"));
        }
        Ok(asked.iter().map(|percent| u8::try_from(*percent).expect("at most 100, checked above")).collect())
    }

    fn gate(&self, deadline_ms: u64) -> Result<Gate, PolicyError> {
        let asked = self.gate.unwrap_or_default();
        let percent = in_range("gate.back_min_percent", asked.back_min_percent.unwrap_or(BACK_MIN_PERCENT), 0, 100)?;
        let default_ms = shrink(WAIT_MAX_MS, deadline_ms.min(DEADLINE_MS), DEADLINE_MS);
        let wait_max_ms = in_range("gate.wait_max_ms", asked.wait_max_ms.unwrap_or(default_ms), 0, DEADLINE_MAX_MS)?;
        Ok(Gate { back_min_percent: u8::try_from(percent).expect("at most 100, checked above"), wait_max_ms })
    }

    fn texts(&self) -> Result<BTreeMap<String, String>, PolicyError> {
        let texts = self.texts.clone().unwrap_or_default();
        if texts.len() > LANGUAGES_MAX {
            let detail = format!("{} languages: give at most {LANGUAGES_MAX}", texts.len());
            return Err(PolicyError::Field { name: "texts", detail });
        }
        for (language, text) in &texts {
            let letters = language.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if language.is_empty() || language.len() > LANGUAGE_MAX_BYTES || !letters {
                let detail = format!("{language:?} is not a language tag such as \"en\" or \"pt-BR\"");
                return Err(PolicyError::Field { name: "texts", detail });
            }
            bounded_text("texts", Some(text), TEXT_MAX_BYTES)?;
        }
        Ok(texts)
    }

    fn trigger(&self) -> Result<Option<Trigger>, PolicyError> {
        let Some(trigger) = &self.trigger else {
            return Ok(None);
        };
        let bytes = Value::Object(trigger.clone()).to_string().len();
        if bytes > TRIGGER_MAX_BYTES {
            let detail = format!("{bytes} bytes of JSON: give at most {TRIGGER_MAX_BYTES}");
            return Err(PolicyError::Field { name: "trigger", detail });
        }
        Ok(Some(trigger.clone()))
    }
}

/// `ms * part / whole`, without overflow.
fn shrink(ms: u64, part: u64, whole: u64) -> u64 {
    let scaled = u128::from(ms) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

fn in_range(name: &'static str, value: u64, min: u64, max: u64) -> Result<u64, PolicyError> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(PolicyError::Field { name, detail: format!("{value} is out of range: give {min} to {max}") })
}

fn bounded_text(name: &'static str, text: Option<&str>, max_bytes: usize) -> Result<Option<String>, PolicyError> {
    match text {
        Some(text) if text.len() > max_bytes => {
            Err(PolicyError::Field { name, detail: format!("{} bytes: give at most {max_bytes}", text.len()) })
        }
        text => Ok(text.map(str::to_owned)),
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
