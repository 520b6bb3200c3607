//! Publishing and the session listing.

use crate::id::SessionId;
use crate::position::{Epoch, Generation};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

/// To whom a message goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "RawTarget", try_from = "RawTarget")]
pub enum Target {
    /// Every session.
    All,
    /// One session, wherever it lives.
    Session(SessionId),
    /// Every session of this user.
    User(String),
    /// Every session that joined this channel.
    Channel(String),
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTarget {
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
}

impl From<Target> for RawTarget {
    fn from(target: Target) -> Self {
        match target {
            Target::All => Self { all: Some(true), ..Self::default() },
            Target::Session(id) => Self { session: Some(id), ..Self::default() },
            Target::User(name) => Self { user: Some(name), ..Self::default() },
            Target::Channel(name) => Self { channel: Some(name), ..Self::default() },
        }
    }
}

impl TryFrom<RawTarget> for Target {
    type Error = String;

    fn try_from(raw: RawTarget) -> Result<Self, String> {
        match (raw.all, raw.session, raw.user, raw.channel) {
            (Some(true), None, None, None) => Ok(Self::All),
            (None, Some(id), None, None) => Ok(Self::Session(id)),
            (None, None, Some(name), None) if !name.is_empty() => Ok(Self::User(name)),
            (None, None, None, Some(name)) if !name.is_empty() => Ok(Self::Channel(name)),
            (Some(false), None, None, None) => {
                Err("`to.all` is false: say {\"all\":true}, or name a session, user or channel".into())
            }
            (None, None, Some(_), None) => Err("`to.user` is empty: name a user".into()),
            (None, None, None, Some(_)) => Err("`to.channel` is empty: name a channel".into()),
            (None, None, None, None) => {
                Err("`to` names nobody: give exactly one of all, session, user, channel".into())
            }
            _ => Err("`to` names more than one: give exactly one of all, session, user, channel".into()),
        }
    }
}

/// What is published.
#[derive(Clone, Debug)]
pub enum Payload {
    /// A text message.
    Text(String),
    /// A text message that is JSON; the sender's bytes are kept.
    Json(Box<RawValue>),
    /// A binary message, still encoded (standard alphabet with padding).
    Base64(String),
}

/// How far a publish to all, a user or a channel reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Every hub that this one knows.
    #[default]
    Fleet,
    /// This hub alone.
    Hub,
}

/// Body of `POST /v1/publish`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawPublish")]
pub struct PublishRequest {
    /// To whom.
    pub to: Target,
    /// What.
    pub payload: Payload,
    /// How far.
    pub scope: Scope,
    /// A repeat with the same key is answered like the first and not sent again.
    pub idempotency_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `to` and exactly one of text, json, base64")]
struct RawPublish {
    #[serde(deserialize_with = "target")]
    to: Target,
    text: Option<String>,
    #[serde(default, deserialize_with = "present")]
    json: Option<Box<RawValue>>,
    base64: Option<String>,
    #[serde(default)]
    scope: Scope,
    idempotency_key: Option<String>,
}

fn target<'de, D: Deserializer<'de>>(from: D) -> Result<Target, D::Error> {
    super::object(from, "an object with exactly one of all, session, user, channel")
}

/// `"json": null` is a message that says null, not a field that is missing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// Longest idempotency key, in bytes.
const IDEMPOTENCY_KEY_MAX_BYTES: usize = 256;

impl TryFrom<RawPublish> for PublishRequest {
    type Error = String;

    fn try_from(raw: RawPublish) -> Result<Self, String> {
        let payload = match (raw.text, raw.json, raw.base64) {
            (Some(text), None, None) => Payload::Text(text),
            (None, Some(json), None) => Payload::Json(json),
            (None, None, Some(base64)) => Payload::Base64(base64),
            (None, None, None) => {
                return Err("nothing to publish: give exactly one of text, json, base64".into());
            }
            _ => {
                return Err("more than one message: give exactly one of text, json, base64".into());
            }
        };
        if let Some(key) = &raw.idempotency_key
            && (key.is_empty() || key.len() > IDEMPOTENCY_KEY_MAX_BYTES)
        {
            return Err(format!("`idempotency_key` has {} bytes: give 1 to {IDEMPOTENCY_KEY_MAX_BYTES}", key.len()));
        }
        Ok(Self { to: raw.to, payload, scope: raw.scope, idempotency_key: raw.idempotency_key })
    }
}

impl Serialize for PublishRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("to", &self.to)?;
        match &self.payload {
            Payload::Text(text) => map.serialize_entry("text", text)?,
            Payload::Json(json) => map.serialize_entry("json", json)?,
            Payload::Base64(base64) => map.serialize_entry("base64", base64)?,
        }
        map.serialize_entry("scope", &self.scope)?;
        if let Some(key) = &self.idempotency_key {
            map.serialize_entry("idempotency_key", key)?;
        }
        map.end()
    }
}

/// Answer of `POST /v1/publish`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishAnswer {
    /// For how many sessions the message was numbered.
    pub sessions: u64,
    /// On how many hubs, this one included.
    pub hubs: u64,
    /// Peers that did not answer, by id, or by URL where the id is not known.
    pub unreachable: Vec<String>,
}

/// What a session is doing on this hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionPhase {
    /// Its client is connected.
    Attached,
    /// It waits for its client.
    Detached,
    /// It is being handed over.
    Frozen,
    /// A snapshot held inert for another hub.
    Copy,
    /// On disk, for the next process.
    Parked,
}

/// One session, as `GET /v1/sessions` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its id.
    pub session: SessionId,
    /// Whose it is; null for an anonymous one.
    pub user: Option<String>,
    /// Channels it joined, sorted.
    pub channels: Vec<String>,
    /// Size of the app's opaque state in bytes.
    pub state_bytes: u64,
    /// What it is doing.
    pub phase: SessionPhase,
    /// Its generation here.
    pub generation: Generation,
    /// Its epoch.
    pub epoch: Epoch,
    /// How long its client has been connected; null without a connection.
    pub connected_ms: Option<u64>,
    /// How long since the last message in either direction; null if there was none.
    pub idle_ms: Option<u64>,
    /// Messages numbered towards the client.
    pub sent: u64,
    /// Of these, how many the client acked.
    pub acked: u64,
    /// Messages taken from the client.
    pub received: u64,
}

/// Answer of `GET /v1/sessions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsPage {
    /// In the order of their ids.
    pub sessions: Vec<SessionInfo>,
    /// Pass as `after` for the next page; null on the last.
    pub next: Option<SessionId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(text: &str) -> Result<PublishRequest, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn each_target_reads_and_writes_as_one_named_field() {
        for text in [
            r#"{"all":true}"#,
            r#"{"session":"000000000000000000000000000000ab"}"#,
            r#"{"user":"ann"}"#,
            r#"{"channel":"news"}"#,
        ] {
            let target: Target = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&target).unwrap(), text);
        }
    }

    #[test]
    fn json_payloads_keep_the_senders_bytes() {
        let request = publish(r#"{"to":{"all":true},"json":{"b" : 1.10, "a":[ ]}}"#).unwrap();
        let Payload::Json(json) = &request.payload else { panic!("expected json, got {:?}", request.payload) };
        assert_eq!(json.get(), r#"{"b" : 1.10, "a":[ ]}"#);
        assert_eq!(request.scope, Scope::Fleet, "fleet is the default scope");
    }

    #[test]
    fn a_json_null_is_a_message_and_not_a_missing_one() {
        let request = publish(r#"{"to":{"user":"ann"},"json":null}"#).unwrap();
        assert!(matches!(request.payload, Payload::Json(ref json) if json.get() == "null"));
    }

    #[test]
    fn a_request_survives_the_way_to_the_wire_and_back() {
        let text = r#"{"to":{"channel":"news"},"base64":"AAE=","scope":"hub","idempotency_key":"k1"}"#;
        assert_eq!(serde_json::to_string(&publish(text).unwrap()).unwrap(), text);
    }

    #[test]
    fn bad_requests_are_refused_with_what_would_be_right() {
        for (text, expected) in [
            (r#"{"to":{"all":true}}"#, "exactly one of text, json, base64"),
            (r#"{"to":{"all":true},"text":"a","json":1}"#, "more than one message"),
            (r#"{"to":{},"text":"a"}"#, "names nobody"),
            (r#"{"to":{"all":true,"user":"x"},"text":"a"}"#, "names more than one"),
            (r#"{"to":{"all":false},"text":"a"}"#, "`to.all` is false"),
            (r#"{"to":{"user":""},"text":"a"}"#, "`to.user` is empty"),
            (r#"{"to":{"session":"zz"},"text":"a"}"#, "expected 32 lower-case hexadecimal digits"),
            (r#"{"to":{"all":true},"text":"a","scop":"hub"}"#, "unknown field `scop`"),
            (r#"{"to":{"all":true},"text":"a","idempotency_key":""}"#, "has 0 bytes"),
        ] {
            let error = publish(text).unwrap_err();
            assert!(error.contains(expected), "{text}: expected \"{expected}\" in \"{error}\"");
        }
    }

    #[test]
    fn a_listed_session_shows_null_for_what_is_not_known() {
        let info = SessionInfo {
            session: SessionId(1),
            user: None,
            channels: vec![],
            state_bytes: 0,
            phase: SessionPhase::Detached,
            generation: Generation(2),
            epoch: Epoch(0),
            connected_ms: None,
            idle_ms: None,
            sent: 3,
            acked: 2,
            received: 1,
        };
        assert_eq!(
            serde_json::to_string(&info).unwrap(),
            r#"{"session":"00000000000000000000000000000001","user":null,"channels":[],"state_bytes":0,"phase":"detached","generation":2,"epoch":0,"connected_ms":null,"idle_ms":null,"sent":3,"acked":2,"received":1}"#
        );
    }
}
