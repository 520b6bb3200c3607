//! An app message as the hub holds it: shared bytes, never decoded, never re-encoded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::hash::{Hash, Hasher};
use tidegate_protocol::replay::Payload;
use tokio_tungstenite::tungstenite::{Message as WsMessage, Utf8Bytes};

/// What an entry costs beside its bytes, so that many empty messages are bounded, too.
const OVERHEAD_BYTES: usize = 40;

/// A text or binary message of the app's own. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text, without the escape that it may carry on the wire.
    Text(Utf8Bytes),
    /// Binary.
    Binary(Bytes),
}

impl Message {
    /// The app's bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_str().as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// As it travels to the app: byte for byte.
    pub fn to_app(&self) -> WsMessage {
        match self {
            Self::Text(text) => WsMessage::Text(text.clone()),
            Self::Binary(bytes) => WsMessage::Binary(bytes.clone()),
        }
    }

    /// A text from a slice of a read buffer: copied, so that a queued message does not keep the buffer.
    pub fn copied_text(text: &str) -> Self {
        Self::Text(Utf8Bytes::from(text))
    }

    /// The same for binary messages.
    pub fn copied_binary(bytes: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes))
    }
}

impl Payload for Message {
    fn size_bytes(&self) -> usize {
        self.bytes().len() + OVERHEAD_BYTES
    }
}

impl Hash for Message {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        self.bytes().hash(state);
    }
}

#[derive(Serialize, Deserialize)]
enum Encoded {
    #[serde(rename = "t")]
    Text(String),
    #[serde(rename = "b")]
    Base64(String),
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => to.serialize_newtype_variant("Message", 0, "t", text.as_str()),
            Self::Binary(bytes) => to.serialize_newtype_variant("Message", 1, "b", &STANDARD.encode(bytes)),
        }
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Encoded::deserialize(from)? {
            Encoded::Text(text) => Ok(Self::Text(text.into())),
            Encoded::Base64(text) => {
                STANDARD.decode(text).map(|bytes| Self::Binary(bytes.into())).map_err(serde::de::Error::custom)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_a_snapshot_byte_for_byte() {
        for message in [Message::copied_text("\u{1}\"ü"), Message::copied_binary(&[0, 255, 1])] {
            let json = serde_json::to_string(&message).expect("plain values");
            assert_eq!(serde_json::from_str::<Message>(&json).expect("what was written"), message);
        }
    }
}
