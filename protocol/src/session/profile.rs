//! What the hub knows of a session and never interprets.

use super::channels::Channels;
use super::headers::{Entries, Headers};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// What the hub knows of a session and never interprets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Read")]
pub struct Profile {
    /// Who it is, from the JWT's `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
    /// Path of the first request; absent: `/connect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Arc<str>>,
    /// Query of the first request, without the question mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<Arc<str>>,
    /// Request headers that the app gets to see (cookies, origin, forwarded-for …), by lower-case name.
    #[serde(flatten)]
    pub headers: Headers,
    /// The subprotocols that the client's application offered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<String>,
    /// The app's choice among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The language for notices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Arc<str>>,
    /// When the JWT ends, in milliseconds of Unix time; moves with the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_expires_unix_ms: Option<u64>,
    /// The channels that the JWT names: a newer one that lacks some makes the session leave those, and no others.
    #[serde(skip_serializing_if = "Channels::is_empty")]
    pub granted: Channels,
}

/// The profile as any release has written it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Read {
    user: Option<Arc<str>>,
    path: Option<Arc<str>>,
    query: Option<Arc<str>>,
    headers: BTreeMap<String, String>,
    header_lines: Vec<(String, String)>,
    protocols: Vec<String>,
    protocol: Option<String>,
    language: Option<Arc<str>>,
    auth_expires_unix_ms: Option<u64>,
    granted: Channels,
}

impl TryFrom<Read> for Profile {
    type Error = String;

    fn try_from(read: Read) -> Result<Self, String> {
        Ok(Self {
            user: read.user,
            path: read.path,
            query: read.query,
            headers: Entries::new(read.headers, read.header_lines).try_into()?,
            protocols: read.protocols,
            protocol: read.protocol,
            language: read.language,
            auth_expires_unix_ms: read.auth_expires_unix_ms,
            granted: read.granted,
        })
    }
}

impl Profile {
    /// One allocation for all sessions of which nothing special is known.
    pub(super) fn shared(profile: Self) -> Arc<Self> {
        static PLAIN: OnceLock<Arc<Profile>> = OnceLock::new();
        let plain = PLAIN.get_or_init(Arc::default);
        if profile == **plain { plain.clone() } else { Arc::new(profile) }
    }
}
