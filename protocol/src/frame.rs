//! The whole wire vocabulary on one screen, and the border between frames and app messages.
//!
//! A frame is a text message that begins with U+0001, followed by one JSON object with a `type`.
//! All other messages are the app's own (`protocol/README.md`, section 1).

pub use crate::number::NUMBER_MAX;

use crate::id::{DrainId, HubId, ResumeToken, SessionId};
use crate::number;
use crate::position::{Epoch, Generation, Offset};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::fmt;

/// The first character of every frame, and of an escaped app text.
pub const MARK: char = '\u{1}';

/// The longest frame that either side accepts, in bytes, its mark not counted.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "tidegate.v1";

/// Whether the client still has a working connection for the session that it asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Old {
    /// It works: the client may be sent away with `retry`.
    Open,
    /// It is gone: resume as soon as possible.
    #[default]
    Lost,
}

/// The client's first frame. With nothing but its type it asks for a new session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hello {
    /// The secret to come back with; absent: a new session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<ResumeToken>,
    /// Raised by the client with every hello of a session.
    #[serde(rename = "try", default = "first_try", deserialize_with = "this_try")]
    pub attempt: u32,
    /// Whether the old connection still works.
    #[serde(default, deserialize_with = "old")]
    pub old: Old,
    /// How many messages of this epoch the client has delivered.
    #[serde(default, deserialize_with = "received")]
    pub received: Offset,
    /// The epoch that `received` counts in.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_epoch")]
    pub epoch: Option<Epoch>,
    /// The subprotocols that the client's application offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "subprotocols")]
    pub protocols: Vec<String>,
    /// A JWT, with `--auth jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<ResumeToken>,
    /// The language for notices, as BCP 47.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

fn first_try() -> u32 {
    1
}

/// `null` in a field that may be absent counts as absent.
fn this_try<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    Ok(number::optional(from)?.unwrap_or_else(first_try))
}

fn old<'de, D: Deserializer<'de>>(from: D) -> Result<Old, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn received<'de, D: Deserializer<'de>>(from: D) -> Result<Offset, D::Error> {
    Ok(Offset(number::optional(from)?.unwrap_or_default()))
}

fn some_whole<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<u64>::deserialize(from)?;
    let too_high = |number| D::Error::custom(format!("{number} is too high: numbers are whole and below 2^53"));
    number.map(|number| (number <= NUMBER_MAX).then_some(number).ok_or_else(|| too_high(number))).transpose()
}

fn offset<'de, D: Deserializer<'de>>(from: D) -> Result<Offset, D::Error> {
    number::whole(from).map(Offset)
}

fn epoch<'de, D: Deserializer<'de>>(from: D) -> Result<Epoch, D::Error> {
    number::whole(from).map(Epoch)
}

fn known_epoch<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Epoch>, D::Error> {
    Ok(number::optional(from)?.map(Epoch))
}

fn generation<'de, D: Deserializer<'de>>(from: D) -> Result<Generation, D::Error> {
    number::whole(from).map(Generation)
}

/// Bytes of the subprotocols in a `hello`, as the header that they become: the names, and two for each comma
/// between them. Some applications put their tokens there.
pub const PROTOCOLS_BYTES_MAX: usize = 8 * 1024;

/// They become a header of the request to the app, so each must be a token as HTTP has it (RFC 9110, 5.6.2).
fn subprotocols<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    const SHOWN_CHARS_MAX: usize = 24;
    const SEPARATOR_BYTES: usize = 2;
    let names = Option::<Vec<String>>::deserialize(from)?.unwrap_or_default();
    let bytes = names.iter().map(|name| name.len() + SEPARATOR_BYTES).sum::<usize>().saturating_sub(SEPARATOR_BYTES);
    if bytes > PROTOCOLS_BYTES_MAX {
        return Err(D::Error::custom(format!(
            "hello.protocols has {bytes} bytes with commas and spaces: at most {PROTOCOLS_BYTES_MAX} in all"
        )));
    }
    let is_token_char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_token = |name: &String| !name.is_empty() && name.bytes().all(is_token_char);
    match names.iter().find(|name| !is_token(name)) {
        None => Ok(names),
        Some(bad) => {
            let shown: String = bad.chars().take(SHOWN_CHARS_MAX).collect();
            Err(D::Error::custom(format!("hello.protocols: {shown:?} is no HTTP token")))
        }
    }
}

/// What a client says. Unknown fields are ignored, unknown types refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ClientFrame {
    /// First, once per connection.
    Hello(Hello),
    /// "I have everything up to here."
    Ack {
        /// How many messages of this epoch were delivered.
        #[serde(deserialize_with = "offset")]
        received: Offset,
    },
    /// Answered by `pong`.
    Ping {},
    /// The answer to `ping`.
    Pong {},
    /// May be moved now.
    Ready {
        /// The drain whose notice this answers.
        drain: DrainId,
    },
    /// Please not in the next `ms` milliseconds.
    Busy {
        /// The drain whose notice this answers.
        drain: DrainId,
        /// How long, in milliseconds from receipt.
        #[serde(deserialize_with = "number::whole")]
        ms: u64,
        /// For the operator's eyes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A newer JWT of the same user, for the session that this connection serves. Only for hubs whose `welcome`
    /// has `auth_expires_ms`: others do not know it.
    Auth {
        /// The JWT.
        auth: ResumeToken,
    },
    /// Ends the session; the app sees this code and reason.
    Bye {
        /// The close code for the app.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional")]
        code: Option<u16>,
        /// The close reason for the app.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

/// What `welcome` says of the limits that a client must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WireLimits {
    /// The largest app message, in bytes.
    #[serde(deserialize_with = "number::whole")]
    pub message_bytes: u64,
}

/// The answer to `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Welcome {
    /// The session's public id.
    pub session: SessionId,
    /// The secret to come back with; replaces every earlier one.
    pub token: ResumeToken,
    /// What the offsets count in.
    #[serde(deserialize_with = "epoch")]
    pub epoch: Epoch,
    /// The owner's fencing number.
    #[serde(deserialize_with = "generation")]
    pub generation: Generation,
    /// Whether this continues a session.
    pub resumed: bool,
    /// The position at which this connection starts.
    #[serde(deserialize_with = "offset")]
    pub from: Offset,
    /// How many of the client's messages the hub has counted.
    #[serde(deserialize_with = "offset")]
    pub received: Offset,
    /// See README section 6.
    #[serde(deserialize_with = "number::whole")]
    pub heartbeat_ms: u64,
    /// The hub that holds the session now.
    pub hub: HubId,
    /// The app's choice among `hello.protocols`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// When the session's JWT expires, in milliseconds from receipt; 0: it has, and counts for a little while
    /// yet. Absent: there is none, or the hub does not know the frame `auth`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_whole")]
    pub auth_expires_ms: Option<u64>,
    /// What the client must keep to.
    pub limits: WireLimits,
}

/// The word before a move: the service is pausing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Notice {
    /// Names the drain.
    pub drain: DrainId,
    /// Rises with every drain frame to this session; lower ones are ignored.
    #[serde(deserialize_with = "number::whole")]
    pub seq: u32,
    /// A word for programs, such as `deployment`.
    pub reason: String,
    /// A sentence for people.
    pub text: String,
    /// The language of `text`.
    pub language: String,
    /// When everything ends, in milliseconds from receipt.
    #[serde(deserialize_with = "number::whole")]
    pub deadline_ms: u64,
    /// When this client will be asked to move, in milliseconds from receipt.
    #[serde(deserialize_with = "number::whole")]
    pub slot_ms: u64,
}

/// What a hub says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServerFrame {
    /// The session is served here.
    Welcome(Welcome),
    /// Not here, not now; 1013 follows.
    Retry {
        /// When to try again, in milliseconds.
        #[serde(deserialize_with = "number::whole")]
        after_ms: u64,
        /// Why, as a word.
        why: Cow<'static, str>,
    },
    /// Continuity was lost; a `welcome` of a new session follows.
    Reset {
        /// Why, as a word.
        why: Cow<'static, str>,
        /// The session that is no more.
        replaces: SessionId,
    },
    /// "I have everything up to here."
    Ack {
        /// How many of the client's messages were taken.
        #[serde(deserialize_with = "offset")]
        received: Offset,
    },
    /// Answered by `pong`.
    Ping {},
    /// The answer to `ping`.
    Pong {},
    /// Messages `from`+1 … `to` are lost for good.
    Gap {
        /// The last position before the gap.
        #[serde(deserialize_with = "offset")]
        from: Offset,
        /// The position after it.
        #[serde(deserialize_with = "offset")]
        to: Offset,
        /// Why, as a word.
        why: Cow<'static, str>,
    },
    /// The service is pausing.
    Notice(Notice),
    /// Open a second connection now.
    Move {
        /// Names the drain.
        drain: DrainId,
        /// See [`Notice::seq`].
        #[serde(deserialize_with = "number::whole")]
        seq: u32,
        /// The token for the second connection.
        token: ResumeToken,
        /// Where to; absent: the public URL that the client used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
    },
    /// The drain was cancelled.
    Recall {
        /// Names the drain.
        drain: DrainId,
        /// See [`Notice::seq`].
        #[serde(deserialize_with = "number::whole")]
        seq: u32,
    },
    /// The session is over.
    Bye {
        /// The app's or the administrator's code.
        #[serde(deserialize_with = "number::whole")]
        code: u16,
        /// Its reason.
        reason: String,
    },
}

/// Why a frame was refused; the text goes into the close reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameError(String);

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FrameError {}

/// A text message, sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// The JSON of a frame, without the mark.
    Frame(&'a str),
    /// An app message as the app wrote it.
    App(&'a str),
}

/// Sorts a text message into frame and app message, and takes the escape off.
pub fn sort(text: &str) -> Text<'_> {
    match text.strip_prefix(MARK) {
        None => Text::App(text),
        Some(rest) if rest.starts_with(MARK) => Text::App(rest),
        Some(rest) => Text::Frame(rest),
    }
}

/// An app text as it travels: with one more mark if it begins with one.
pub fn escape(text: &str) -> Cow<'_, str> {
    if text.starts_with(MARK) { Cow::Owned(format!("{MARK}{text}")) } else { Cow::Borrowed(text) }
}

fn decode<'a, F: Deserialize<'a>>(json: &'a str) -> Result<F, FrameError> {
    if json.len() > FRAME_BYTES_MAX {
        return Err(FrameError(format!("frame of {} bytes; at most {FRAME_BYTES_MAX}", json.len())));
    }
    // serde would also take an array whose first element is the type.
    if !json.trim_ascii_start().starts_with('{') {
        return Err(FrameError("bad frame: expected one JSON object".to_owned()));
    }
    serde_json::from_str(json).map_err(|error| FrameError(format!("bad frame: {error}")))
}

fn encode<F: Serialize>(frame: &F) -> String {
    let json = serde_json::to_string(frame).expect("frames have string keys and plain values only");
    format!("{MARK}{json}")
}

impl ClientFrame {
    /// Reads a frame from its JSON, without the mark.
    ///
    /// # Errors
    /// Names the fault: not JSON, an unknown type, a missing or wrongly typed field, too long.
    pub fn decode(json: &str) -> Result<Self, FrameError> {
        decode(json)
    }

    /// The text message that carries this frame.
    pub fn encode(&self) -> String {
        encode(self)
    }
}

impl ServerFrame {
    /// Reads a frame from its JSON, without the mark.
    ///
    /// # Errors
    /// As [`ClientFrame::decode`].
    pub fn decode(json: &str) -> Result<Self, FrameError> {
        decode(json)
    }

    /// The text message that carries this frame.
    pub fn encode(&self) -> String {
        encode(self)
    }
}
