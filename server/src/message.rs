//! An app message as the hub holds it: the bytes of the frame in which it travels to clients, made once
//! and shared by all who get it. Never decoded, never re-encoded.

use crate::ws::{self, frame};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;
use tidegate_protocol::frame::MARK;
use tidegate_protocol::replay::Payload;

/// What an entry costs beside its bytes, so that many empty messages are bounded, too.
const OVERHEAD_BYTES: usize = 40;
/// The first byte of a text message that is one frame; a binary one has [`BINARY`].
const TEXT: u8 = 0x81;
#[cfg(test)]
const BINARY: u8 = 0x82;
/// A text or binary message of the app's own. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// One unmasked frame. A text of the app's that begins with the mark has one more here.
    frame: Arc<[u8]>,
}

impl Message {
    /// A text, as the app wrote it.
    pub fn text(text: &str) -> Self {
        let escape = if text.starts_with(MARK) { &[MARK as u8][..] } else { &[] };
        Self::framed(true, escape, text.as_bytes())
    }

    /// A binary message.
    pub fn binary(bytes: &[u8]) -> Self {
        Self::framed(false, &[], bytes)
    }

    fn framed(is_text: bool, escape: &[u8], payload: &[u8]) -> Self {
        ws::with_scratch(|scratch| {
            frame::head(scratch, is_text, escape.len() + payload.len());
            scratch.extend_from_slice(escape);
            scratch.extend_from_slice(payload);
            Self { frame: Arc::from(scratch.as_slice()) }
        })
    }

    /// The frame in which it travels to a client.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Its share of the memory that it has together with everybody else who holds it, in bytes.
    pub fn share_bytes(&self) -> usize {
        self.frame.len() / Arc::strong_count(&self.frame) + OVERHEAD_BYTES
    }

    /// Whether it is text.
    pub fn is_text(&self) -> bool {
        self.frame.first() == Some(&TEXT)
    }

    /// The app's bytes.
    pub fn bytes(&self) -> &[u8] {
        let header_bytes = match self.frame.get(1) {
            Some(126) => 4,
            Some(127) => 10,
            _ => 2,
        };
        let payload = self.frame.get(header_bytes..).unwrap_or_default();
        // On the wire an app text never begins with a single mark: that would be a frame of ours.
        let escaped = self.is_text() && payload.first() == Some(&(MARK as u8));
        &payload[usize::from(escaped)..]
    }

    /// The app's text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        if self.is_text() { std::str::from_utf8(self.bytes()).ok() } else { None }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_text() {
            Some(text) => f.debug_tuple("Text").field(&text).finish(),
            None => f.debug_tuple("Binary").field(&self.bytes()).finish(),
        }
    }
}

impl Payload for Message {
    fn size_bytes(&self) -> usize {
        self.bytes().len() + OVERHEAD_BYTES
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
        match self.as_text() {
            Some(text) => to.serialize_newtype_variant("Message", 0, "t", text),
            None => to.serialize_newtype_variant("Message", 1, "b", &STANDARD.encode(self.bytes())),
        }
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Encoded::deserialize(from)? {
            Encoded::Text(text) => Ok(Self::text(&text)),
            Encoded::Base64(text) => {
                STANDARD.decode(text).map(|bytes| Self::binary(&bytes)).map_err(serde::de::Error::custom)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_a_snapshot_byte_for_byte() {
        for message in [Message::text("\u{1}\"ü"), Message::text(""), Message::binary(&[0, 255, 1])] {
            let json = serde_json::to_string(&message).expect("plain values");
            assert_eq!(serde_json::from_str::<Message>(&json).expect("what was written"), message);
        }
    }

    #[test]
    fn a_message_gives_back_what_was_put_into_it_at_any_length() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let text = "x".repeat(length);
            assert_eq!(Message::text(&text).as_text(), Some(text.as_str()));
            let marked = format!("{MARK}{text}");
            assert_eq!(Message::text(&marked).as_text(), Some(marked.as_str()));
            let bytes = vec![1; length];
            let binary = Message::binary(&bytes);
            assert_eq!((binary.bytes(), binary.is_text(), binary.as_text()), (&bytes[..], false, None));
            assert_eq!(binary.frame()[0], BINARY);
        }
    }

    #[test]
    fn a_text_that_begins_with_the_mark_travels_with_one_more() {
        assert_eq!(Message::text("\u{1}x").frame(), [0x81, 3, 1, 1, b'x']);
        assert_eq!(Message::text("hi").frame(), [0x81, 2, b'h', b'i']);
        assert_eq!(Message::text("\u{1}x").bytes(), b"\x01x");
    }

    #[test]
    fn a_message_is_two_words_and_its_clones_share_the_bytes() {
        assert_eq!(size_of::<Message>(), 16);
        let message = Message::text("once");
        assert!(std::ptr::eq(message.clone().frame(), message.frame()));
    }
}
