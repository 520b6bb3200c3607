//! Bytes as messages. The checks are those of tungstenite, in the same order, with one difference: what
//! a frame's header shows to be wrong is told at the header, before the payload is waited for.

use super::parts::{Parts, Whole};
use super::{Role, frame};
use std::io::Cursor;
use std::ops::ControlFlow;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The longest payload of a control frame, in bytes.
const CONTROL_BYTES_MAX: usize = 125;
/// What is kept of half a frame has at most this much room to spare, in bytes, once a frame was taken out of it.
const SPARE_BYTES: usize = 1024;
/// What a close says instead of a code that may not travel.
const VIOLATION: (u16, &str) = (1002, "Protocol violation");

/// What the other end said. Payloads are unmasked, and borrowed for as long as they are looked at.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message, all of it.
    Text(&'a str),
    /// A binary message, all of it.
    Binary(&'a [u8]),
    /// To be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// The answer to a ping, or a sign of life.
    Pong(&'a [u8]),
    /// Nothing comes after it. With code and reason, if it gave some.
    Close(Option<(u16, &'a str)>),
}

/// What makes a connection useless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The other end does not keep to the protocol.
    #[error(transparent)]
    Protocol(ProtocolError),
    /// A message is too long.
    #[error("a message of {bytes} bytes; at most {bytes_max}")]
    TooLong {
        /// How long it would be, as far as its frames have come.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// A text that is none.
    #[error("a text message that is not UTF-8")]
    Utf8,
}

/// Makes messages of bytes. Costs no heap between messages.
#[derive(Debug)]
pub struct Reader {
    role: Role,
    /// What came and is not taken yet: half a frame, or whole ones that nobody wanted to see yet.
    rest: Vec<u8>,
    parts: Option<Box<Parts>>,
    /// Whether whole frames may be among what is kept.
    was_stopped: bool,
    /// Whether something could not be read: then nothing that follows can be, and nothing is kept.
    is_broken: bool,
}

/// A frame's header, checked.
struct Head {
    opcode: OpCode,
    is_final: bool,
    mask: Option<[u8; 4]>,
    header_bytes: usize,
    payload_bytes: usize,
}

impl Reader {
    /// A reader for what the other end says from its first frame on; `early` came right behind the handshake.
    pub fn new(role: Role, early: Vec<u8>) -> Self {
        let was_stopped = !early.is_empty();
        Self { role, rest: early, parts: None, was_stopped, is_broken: false }
    }

    /// Whether there may be messages among what came already: [`Reader::feed`] it nothing to see them, before
    /// more is read.
    pub fn was_stopped(&self) -> bool {
        self.was_stopped
    }

    /// How much heap it holds, in bytes.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.rest.capacity() + self.parts.as_ref().map_or(0, |parts| parts.len())
    }

    /// Takes bytes that came, and shows each message to `see` until it breaks off; the rest is kept.
    /// The bytes are changed where they are masked.
    ///
    /// # Errors
    /// See [`ReadError`]. Nothing can be read after one, or after a close; what there was of a message is let go at
    /// once, for the connection may stand open for a while yet.
    pub fn feed<B>(
        &mut self,
        bytes: &mut [u8],
        bytes_max: usize,
        see: &mut dyn FnMut(Event<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, ReadError> {
        if self.is_broken {
            return Err(ReadError::Protocol(ProtocolError::ReceivedAfterClosing));
        }
        let fed = self.take_in(bytes, bytes_max, see);
        if fed.is_err() {
            (self.rest, self.parts, self.was_stopped, self.is_broken) = (Vec::new(), None, false, true);
        }
        fed
    }

    fn take_in<B>(
        &mut self,
        bytes: &mut [u8],
        bytes_max: usize,
        see: &mut dyn FnMut(Event<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, ReadError> {
        if self.rest.is_empty() {
            let (used, flow) = self.take(bytes, bytes_max, see)?;
            self.rest = bytes[used..].to_vec();
            self.was_stopped = flow.is_break() && !self.rest.is_empty();
            return Ok(flow);
        }
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let (used, flow) = self.take(&mut all, bytes_max, see)?;
        self.was_stopped = flow.is_break() && used < all.len();
        if used == all.len() {
            return Ok(flow);
        }
        if used > 0 {
            all.drain(..used);
            all.shrink_to(all.len() + SPARE_BYTES);
        }
        self.rest = all;
        Ok(flow)
    }

    /// Takes whole frames out of `bytes`; says how many bytes they were.
    fn take<B>(
        &mut self,
        bytes: &mut [u8],
        bytes_max: usize,
        see: &mut dyn FnMut(Event<'_>) -> ControlFlow<B>,
    ) -> Result<(usize, ControlFlow<B>), ReadError> {
        let mut at = 0;
        while let Some(head) = self.head(&bytes[at..], bytes_max)? {
            let begin = at + head.header_bytes;
            let Some(payload) = bytes.get_mut(begin..begin + head.payload_bytes) else { break };
            at = begin + head.payload_bytes;
            if let Some(mask) = head.mask {
                frame::mask(payload, mask);
            }
            if let ControlFlow::Break(broken) = self.frame(&head, payload, see)? {
                return Ok((at, ControlFlow::Break(broken)));
            }
        }
        Ok((at, ControlFlow::Continue(())))
    }

    /// The next frame's header, if all of it is here.
    fn head(&self, bytes: &[u8], bytes_max: usize) -> Result<Option<Head>, ReadError> {
        let mut cursor = Cursor::new(bytes);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|error| match error {
            WsError::Protocol(error) => ReadError::Protocol(error),
            // Reading from memory does not fail in another way.
            _ => ReadError::Protocol(ProtocolError::InvalidOpcode(bytes.first().map_or(0, |first| first & 0x0f))),
        })?;
        let Some((header, payload_bytes)) = parsed else { return Ok(None) };
        let payload_bytes = usize::try_from(payload_bytes).unwrap_or(usize::MAX);
        let head = Head {
            opcode: header.opcode,
            is_final: header.is_final,
            mask: header.mask,
            header_bytes: cursor.position() as usize,
            payload_bytes,
        };
        if payload_bytes > bytes_max {
            return Err(ReadError::TooLong { bytes: payload_bytes, bytes_max });
        }
        self.check(&header, &head, bytes_max).map(|()| Some(head))
    }

    fn check(&self, header: &FrameHeader, head: &Head, bytes_max: usize) -> Result<(), ReadError> {
        let wrong = |error| Err(ReadError::Protocol(error));
        if self.role == Role::Server && header.mask.is_none() {
            return wrong(ProtocolError::UnmaskedFrameFromClient);
        }
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return wrong(ProtocolError::NonZeroReservedBits);
        }
        if self.role == Role::Client && header.mask.is_some() {
            return wrong(ProtocolError::MaskedFrameFromServer);
        }
        match (head.opcode, &self.parts) {
            (OpCode::Control(_), _) if !head.is_final => wrong(ProtocolError::FragmentedControlFrame),
            (OpCode::Control(_), _) if head.payload_bytes > CONTROL_BYTES_MAX => {
                wrong(ProtocolError::ControlFrameTooBig)
            }
            (OpCode::Control(Control::Close), _) if head.payload_bytes == 1 => {
                wrong(ProtocolError::InvalidCloseSequence)
            }
            (OpCode::Control(_), _) => Ok(()),
            (OpCode::Data(Data::Continue), None) => wrong(ProtocolError::UnexpectedContinueFrame),
            (OpCode::Data(Data::Continue), Some(parts)) => {
                let bytes = parts.len().saturating_add(head.payload_bytes);
                if bytes > bytes_max { Err(ReadError::TooLong { bytes, bytes_max }) } else { Ok(()) }
            }
            (OpCode::Data(data), Some(_)) => wrong(ProtocolError::ExpectedFragment(data)),
            (OpCode::Data(_), None) => Ok(()),
        }
    }

    /// One frame whose payload is all here; what it completes is shown.
    fn frame<B>(
        &mut self,
        head: &Head,
        payload: &[u8],
        see: &mut dyn FnMut(Event<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, ReadError> {
        let data = match head.opcode {
            OpCode::Control(Control::Ping) => return Ok(see(Event::Ping(payload))),
            OpCode::Control(Control::Pong) => return Ok(see(Event::Pong(payload))),
            OpCode::Control(Control::Close | Control::Reserved(_)) => return Ok(see(Event::Close(close(payload)?))),
            OpCode::Data(data) => data,
        };
        let is_text = data == Data::Text;
        match (&mut self.parts, head.is_final) {
            (None, true) if is_text => {
                let text = std::str::from_utf8(payload).map_err(|_| ReadError::Utf8)?;
                Ok(see(Event::Text(text)))
            }
            (None, true) => Ok(see(Event::Binary(payload))),
            (parts, is_final) => {
                parts.get_or_insert_with(|| Box::new(Parts::new(is_text))).add(payload)?;
                if !is_final {
                    return Ok(ControlFlow::Continue(()));
                }
                let Some(parts) = parts.take() else { return Ok(ControlFlow::Continue(())) };
                Ok(see(match parts.whole()? {
                    Whole::Text(text) => Event::Text(text),
                    Whole::Binary(bytes) => Event::Binary(bytes),
                }))
            }
        }
    }
}

fn close(payload: &[u8]) -> Result<Option<(u16, &str)>, ReadError> {
    let Some((code, reason)) = payload.split_at_checked(2) else { return Ok(None) };
    let code = u16::from_be_bytes([code[0], code[1]]);
    let reason = std::str::from_utf8(reason).map_err(|_| ReadError::Utf8)?;
    Ok(Some(if frame::may_travel(code) { (code, reason) } else { VIOLATION }))
}
