//! The settings as resolved: flags over `TIDEGATE_*` over the file over the defaults, each value
//! checked once, each error naming where it stands and what would be right.

use crate::lifecycle::{Deployment, Task};
use crate::text::millis;
use http::Uri;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tidegate_protocol::control::{DrainRequest, GateRequest, OnGate, OnOrphan, Rest};

/// Values by the name of their setting, not yet judged.
pub(crate) type Given = BTreeMap<&'static str, String>;

/// The names of all settings, in the order of `--help`.
pub(crate) const KEYS: [&str; 28] = [
    "hub",
    "token_file",
    "ca_file",
    "data_dir",
    "state_file",
    "json",
    "notice",
    "window",
    "settle",
    "deadline",
    "rest_deadline",
    "max_in_flight",
    "stages",
    "gate_back_percent",
    "gate_wait",
    "on_gate",
    "text",
    "texts",
    "reason",
    "on_orphan",
    "lease",
    "allow_park",
    "strict",
    "require_hub",
    "no_recall",
    "give_up_after",
    "connect_timeout",
    "answer_timeout",
];

const HUB: &str = "http://127.0.0.1:8081";
/// Where the address of the last success is kept, if this process may write there.
const STATE_FILE: &str = "/var/lib/tidegate-hook/last-hub";
/// Longest that giving the hub back may take; appspec.yml allows twice as much.
const SERVE_GIVE_UP_MS: u64 = 30_000;
const CONNECT_TIMEOUT_MS: u64 = 2_000;
const ANSWER_TIMEOUT_MS: u64 = 5_000;
/// Deadline of AfterBlockTraffic: nobody is warned or paced any more, so a minute is much.
const REST_DEADLINE_MS: u64 = 60_000;
/// Settle of AfterBlockTraffic.
const REST_SETTLE_MS: u64 = 2_000;
/// Longest duration of any setting: a day. More is a mistake in the unit.
const SPAN_MAX_MS: u64 = 86_400_000;

/// Everything a run needs to know, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Private base URL, without a trailing slash.
    pub(crate) hub: String,
    /// Where that address stands, for messages.
    pub(crate) hub_place: String,
    /// The settings file, for messages.
    pub(crate) file_path: PathBuf,
    /// The data directory of the hub that is meant; none: any hub of this machine may be.
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the address of the last success is kept.
    pub(crate) state_file: PathBuf,
    /// Where the bearer token stands.
    pub(crate) token_file: Option<PathBuf>,
    /// The only certificates to trust.
    pub(crate) ca_file: Option<PathBuf>,
    /// JSON instead of words.
    pub(crate) json: bool,
    /// What is asked of the hub.
    pub(crate) request: DrainRequest,
    /// Exit 3 unless everybody went in good order.
    pub(crate) strict: bool,
    /// Exit 5 if nobody listens.
    pub(crate) require_hub: bool,
    /// A failed drain is undone.
    pub(crate) recall: bool,
    /// The trigger's own deadline.
    pub(crate) give_up_after: Duration,
    /// How long the last ones are awaited; also how long a report may take.
    pub(crate) settle: Duration,
    /// Limit for one connection.
    pub(crate) connect_timeout: Duration,
    /// Limit for one answer.
    pub(crate) answer_timeout: Duration,
}

/// A setting that cannot be meant like that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadSetting(pub(crate) String);

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The three sources of values, the first that has one wins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// As typed.
    pub(crate) flags: Given,
    /// From `TIDEGATE_*`.
    pub(crate) env: Given,
    /// From the file.
    pub(crate) file: Given,
    /// Which file that is, for messages.
    pub(crate) file_path: PathBuf,
}

/// The settings among the environment's variables: `TIDEGATE_<NAME>`. Empty values count as absent.
pub(crate) fn from_env(var: impl Fn(&str) -> Option<String>) -> Given {
    let named = |key: &'static str| {
        let value = var(&format!("TIDEGATE_{}", key.to_uppercase()))?;
        (!value.is_empty()).then_some((key, value))
    };
    KEYS.into_iter().filter_map(named).collect()
}

impl Sources {
    /// Judges every value and fills in the defaults, which depend on the task and on who runs us.
    pub(crate) fn resolve(&self, task: &Task, deployment: &Deployment) -> Result<Settings, BadSetting> {
        let mut request = self.request()?;
        request.trigger = deployment.trigger();
        let recall = deployment.recalls() && !self.switch("no_recall")?;
        if deployment.is_codedeploy() {
            request.reason.get_or_insert_with(|| "deployment".to_owned());
            request.on_orphan.get_or_insert(if recall { OnOrphan::Recall } else { OnOrphan::Continue });
        }
        if *task == Task::Rest {
            make_rest(&mut request, self.span("rest_deadline")?);
        }
        let policy = request.resolve().map_err(|error| BadSetting(format!("impossible policy: {error}")))?;
        request.deadline_ms = Some(policy.deadline_ms);
        let own_ms = policy.deadline_ms + policy.settle_ms;
        let give_up_ms = match (task, self.span("give_up_after")?) {
            // It is meant for the drain, which takes longer: appspec.yml gives these events less time.
            (Task::Rest, given) => given.unwrap_or(own_ms).min(own_ms),
            (Task::Serve, given) => given.unwrap_or(SERVE_GIVE_UP_MS).min(SERVE_GIVE_UP_MS),
            (_, given) => given.unwrap_or(own_ms),
        };
        Ok(Settings {
            hub: self.parsed("hub", hub)?.unwrap_or_else(|| HUB.to_owned()),
            hub_place: self.hub_place(),
            file_path: self.file_path.clone(),
            data_dir: self.text("data_dir").map(PathBuf::from),
            state_file: self.text("state_file").map_or_else(|| PathBuf::from(STATE_FILE), PathBuf::from),
            token_file: self.text("token_file").map(PathBuf::from),
            ca_file: self.text("ca_file").map(PathBuf::from),
            json: self.switch("json")?,
            request,
            strict: self.switch("strict")?,
            require_hub: self.switch("require_hub")?,
            recall,
            give_up_after: Duration::from_millis(give_up_ms.max(1)),
            settle: Duration::from_millis(policy.settle_ms),
            connect_timeout: self.limit("connect_timeout", CONNECT_TIMEOUT_MS)?,
            answer_timeout: self.limit("answer_timeout", ANSWER_TIMEOUT_MS)?,
        })
    }

    /// The policy as given; what is not given is left to the hub.
    fn request(&self) -> Result<DrainRequest, BadSetting> {
        let gate = GateRequest {
            back_min_percent: self.parsed("gate_back_percent", number)?,
            wait_max_ms: self.span("gate_wait")?,
        };
        Ok(DrainRequest {
            notice_ms: self.span("notice")?,
            window_ms: self.span("window")?,
            settle_ms: self.span("settle")?,
            deadline_ms: self.span("deadline")?,
            max_in_flight: self.parsed("max_in_flight", number)?,
            stages: self.parsed("stages", |text| text.split(',').map(|part| number(part.trim())).collect())?,
            gate: (gate != GateRequest::default()).then_some(gate),
            text: self.text("text"),
            texts: self.parsed("texts", texts)?,
            reason: self.text("reason"),
            on_gate: self.parsed("on_gate", on_gate)?,
            on_orphan: self.parsed("on_orphan", on_orphan)?,
            lease_ms: self.span("lease")?,
            allow_park: self.parsed("allow_park", switch)?,
            trigger: None,
            rest: None,
        })
    }

    fn text(&self, key: &str) -> Option<String> {
        [&self.flags, &self.env, &self.file].into_iter().find_map(|given| given.get(key).cloned())
    }

    /// The value with its meaning, or where it stands and what would be right.
    fn parsed<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, BadSetting> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        parse(&text).map(Some).map_err(|right| BadSetting(format!("{} \"{text}\": {right}", self.place(key))))
    }

    /// Where the value of a setting was found, as its writer wrote it.
    fn place(&self, key: &str) -> String {
        if self.flags.contains_key(key) {
            format!("--{}", key.replace('_', "-"))
        } else if self.env.contains_key(key) {
            format!("TIDEGATE_{}", key.to_uppercase())
        } else {
            format!("{}: {key}", self.file_path.display())
        }
    }

    /// Where the hub's address was found, with the line of the file.
    fn hub_place(&self) -> String {
        match self.text("hub") {
            None => format!("the default, for there is no hub in {}", self.file_path.display()),
            Some(_) if self.flags.contains_key("hub") || self.env.contains_key("hub") => {
                self.place("hub").split(':').next().unwrap_or_default().to_owned()
            }
            Some(_) => match crate::file::line_of(&self.file_path, "hub") {
                Some(line) => format!("{}, line {line}", self.file_path.display()),
                None => self.file_path.display().to_string(),
            },
        }
    }

    fn span(&self, key: &str) -> Result<Option<u64>, BadSetting> {
        self.parsed(key, span_ms)
    }

    /// A time limit of one call; zero would forbid every call.
    fn limit(&self, key: &str, default_ms: u64) -> Result<Duration, BadSetting> {
        let positive = |text: &str| {
            span_ms(text).and_then(|ms| if ms == 0 { Err("must be more than 0".to_owned()) } else { Ok(ms) })
        };
        Ok(Duration::from_millis(self.parsed(key, positive)?.unwrap_or(default_ms)))
    }

    fn switch(&self, key: &str) -> Result<bool, BadSetting> {
        Ok(self.parsed(key, switch)?.unwrap_or(false))
    }
}

/// AfterBlockTraffic: no notice, no pacing, a short settle, and everybody now. Its deadline is its own: that of the
/// drain is meant for clients that are given time.
fn make_rest(request: &mut DrainRequest, given_ms: Option<u64>) {
    let deadline_ms = given_ms.unwrap_or_else(|| request.deadline_ms.unwrap_or(REST_DEADLINE_MS).min(REST_DEADLINE_MS));
    *request = DrainRequest {
        notice_ms: Some(0),
        window_ms: Some(0),
        settle_ms: Some(REST_SETTLE_MS.min(deadline_ms / 2)),
        deadline_ms: Some(deadline_ms),
        rest: Some(Rest::Now),
        ..std::mem::take(request)
    };
}

fn span_ms(text: &str) -> Result<u64, String> {
    let span = humantime::parse_duration(text).map_err(|_| "not a duration; write 500ms, 15s or 1m30s".to_owned())?;
    match millis(span) {
        ms if ms > SPAN_MAX_MS => Err("more than a day; is the unit right?".to_owned()),
        ms => Ok(ms),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "not a whole number, 0 or more".to_owned())
}

fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("neither yes nor no; write true or false".to_owned()),
    }
}

fn on_orphan(text: &str) -> Result<OnOrphan, String> {
    match text {
        "continue" => Ok(OnOrphan::Continue),
        "recall" => Ok(OnOrphan::Recall),
        _ => Err("unknown; write continue or recall".to_owned()),
    }
}

fn on_gate(text: &str) -> Result<OnGate, String> {
    match text {
        "hold" => Ok(OnGate::Hold),
        "recall" => Ok(OnGate::Recall),
        "continue" => Ok(OnGate::Continue),
        _ => Err("unknown; write hold, recall or continue".to_owned()),
    }
}

fn texts(text: &str) -> Result<BTreeMap<String, String>, String> {
    serde_json::from_str(text).map_err(|_| "not texts by language; write {\"de\":\"…\",\"fr\":\"…\"}".to_owned())
}

/// A base URL without its trailing slash.
fn hub(text: &str) -> Result<String, String> {
    let right = "write http://host:port or https://host:port";
    let uri: Uri = text.parse().map_err(|_| format!("not a URL; {right}"))?;
    match (uri.scheme_str(), uri.authority()) {
        (_, Some(authority)) if authority.as_str().contains('@') => {
            Err("a URL with a password in it ends up in logs; use --token-file".to_owned())
        }
        (Some("http" | "https"), Some(_)) if uri.query().is_none() => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(format!("not the address of a hub; {right}")),
    }
}

/// Where the settings file is, and whether somebody named it (then it must be there).
pub(crate) fn file_path(flag: Option<&str>, var: impl Fn(&str) -> Option<String>) -> (PathBuf, bool) {
    let named = flag.map(str::to_owned).or_else(|| var("TIDEGATE_HOOK_CONFIG").filter(|path| !path.is_empty()));
    match named {
        Some(path) => (PathBuf::from(path), true),
        None => (Path::new("/etc/tidegate/hook.toml").to_owned(), false),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
