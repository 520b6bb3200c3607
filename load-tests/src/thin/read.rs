//! What comes in, and what follows from it at once.

use super::clock::now_ns;
use super::codec::{self, Frame, Parsed};
use super::conn::{Got, KEY, Phase};
use super::engine::Engine;
use super::orders::{Dialect, Kind};
use tidegate_protocol::frame::{ClientFrame, ServerFrame, Text, sort};
use tidegate_protocol::position::Offset;

/// Messages after which a client acks at once, and the longest that an ack waits: as the wire asks.
const ACK_MESSAGES: u16 = 32;
const ACK_WAIT_NS: u64 = 250_000_000;

/// No head and no frame is longer than this, in bytes.
const UNIT_MAX: usize = 2 * 1024 * 1024;

/// Begins a message whose time is told: `s <ns> …` was published, `e <ns> …` is to be sent back.
pub(crate) const PUBLISHED: &str = "s ";
pub(super) const ECHO: &str = "e ";

/// What a frame means for the connection that it came on.
enum Then {
    Go,
    Gone(String),
}

impl Engine {
    /// Reads what there is. `ended`: the other side has said that nothing comes after it, and no event will tell again.
    pub(super) fn readable(&mut self, slot: usize, ended: bool) {
        // Out of the way, so that the connection and the rest of the engine can both be used.
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(conn) = self.conns[slot].as_mut() {
            match conn.read(&mut buffer) {
                Ok(Got::Bytes(length)) => {
                    let full = length == buffer.len();
                    let mut at = 0;
                    let then = self.take_in(slot, &mut buffer[..length], &mut at);
                    if let Then::Gone(why) = then {
                        self.gone(slot, &why);
                        break;
                    }
                    if at < length
                        && let Some(conn) = self.conns[slot].as_mut()
                    {
                        conn.keep(&buffer[at..length]);
                    }
                    // Less than there was room for: the socket is empty, and its next byte is an event.
                    if !full && !ended {
                        break;
                    }
                }
                Ok(Got::Nothing) => break,
                Ok(Got::End) => {
                    self.gone(slot, "the other side ended the connection");
                    break;
                }
                Err(error) => {
                    self.gone(slot, &error.to_string());
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Takes in what lies in the buffer, as far as it is whole; `at` is how far that was.
    fn take_in(&mut self, slot: usize, bytes: &mut [u8], at: &mut usize) -> Then {
        while *at < bytes.len() {
            let Some(conn) = self.conns[slot].as_mut() else { return Then::Go };
            if matches!(conn.phase, Phase::Connecting | Phase::Upgrading) {
                let Some(end) = codec::head_end(&bytes[*at..]) else { return short(bytes.len() - *at) };
                if let Then::Gone(why) = self.upgraded(slot, &bytes[*at..*at + end]) {
                    return Then::Gone(why);
                }
                *at += end;
                continue;
            }
            match codec::parse(&mut bytes[*at..]) {
                Parsed::Short(needed) => return short(needed),
                Parsed::Frame(frame, length) => {
                    if let Then::Gone(why) = self.frame(slot, frame) {
                        return Then::Gone(why);
                    }
                    *at += length;
                }
            }
        }
        Then::Go
    }

    fn upgraded(&mut self, slot: usize, head: &[u8]) -> Then {
        let Some(conn) = self.conns[slot].as_mut() else { return Then::Go };
        if !head.starts_with(b"HTTP/1.1 101") {
            let line = head.split(|byte| *byte == b'\r').next().unwrap_or(head);
            return Then::Gone(format!("upgrade answered {}", String::from_utf8_lossy(line)));
        }
        let accept = self.accept.as_bytes();
        if !head.windows(accept.len()).any(|window| window == accept) {
            return Then::Gone("upgrade with a wrong Sec-WebSocket-Accept".to_owned());
        }
        match self.setup.dialect {
            Dialect::Tidegate => conn.phase = Phase::Greeting,
            Dialect::Plain => return self.opened(slot),
        }
        Then::Go
    }

    fn opened(&mut self, slot: usize) -> Then {
        let Some(conn) = self.conns[slot].as_mut() else { return Then::Go };
        if !matches!(conn.phase, Phase::Upgrading | Phase::Greeting) {
            return Then::Gone("a welcome on a connection that was welcomed already".to_owned());
        }
        conn.phase = Phase::Open;
        let now = now_ns();
        self.active = true;
        self.figures.opening.note(now.saturating_sub(conn.due_ns));
        self.figures.last_open_ns = now;
        *self.figures.opened_by_10ms.entry(now / 10_000_000).or_default() += 1;
        self.figures.progress.opening -= 1;
        self.figures.progress.open += 1;
        self.schedule.oldest.push_back((slot as u32, conn.generation));
        Then::Go
    }

    fn frame(&mut self, slot: usize, frame: Frame<'_>) -> Then {
        match frame.head {
            codec::PING => self.send(slot, codec::PONG, frame.payload),
            codec::PONG => {
                if let Ok(stamp) = <[u8; 8]>::try_from(frame.payload) {
                    self.came_back(slot, u64::from_be_bytes(stamp), Kind::Ping);
                }
                Then::Go
            }
            codec::CLOSE => {
                let code = frame.payload.first_chunk().map_or(1005, |two| u16::from_be_bytes(*two));
                let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default()).into_owned();
                let _ = self.send(slot, codec::CLOSE, &frame.payload[..frame.payload.len().min(2)]);
                Then::Gone(format!("closed with {code} {reason}").trim_end().to_owned())
            }
            codec::TEXT if self.setup.dialect == Dialect::Tidegate && frame.payload.first() == Some(&1) => {
                self.sorted(slot, frame.payload)
            }
            _ if frame.is_whole() => self.message(slot, frame.payload),
            _ => Then::Gone("a fragmented message, which this tool does not put together".to_owned()),
        }
    }

    /// A text that may be a frame of the protocol.
    fn sorted(&mut self, slot: usize, payload: &[u8]) -> Then {
        let Ok(text) = std::str::from_utf8(payload) else { return Then::Gone("text that is not UTF-8".to_owned()) };
        let json = match sort(text) {
            Text::App(message) => return self.message(slot, message.as_bytes()),
            Text::Frame(json) => json,
        };
        match ServerFrame::decode(json) {
            Ok(ServerFrame::Welcome(welcome)) => {
                if let Some(conn) = self.conns[slot].as_mut() {
                    conn.received = welcome.from.0;
                }
                self.opened(slot)
            }
            Ok(ServerFrame::Ping {}) => self.send(slot, codec::TEXT, ClientFrame::Pong {}.encode().as_bytes()),
            Ok(ServerFrame::Retry { after_ms, .. }) => self.retried(slot, after_ms),
            Ok(ServerFrame::Gap { to, .. }) => {
                self.figures.error("a declared gap");
                if let Some(conn) = self.conns[slot].as_mut() {
                    conn.received = to.0;
                }
                Then::Go
            }
            Ok(_) => Then::Go,
            Err(error) => Then::Gone(format!("a frame that cannot be read: {error}")),
        }
    }

    /// Turned away for now: the same attempt goes on later, from wherever it is sent then.
    fn retried(&mut self, slot: usize, after_ms: u64) -> Then {
        let Some(conn) = self.conns[slot].take_if(|conn| conn.phase == Phase::Greeting) else {
            return Then::Gone("a retry on a connection that was welcomed already".to_owned());
        };
        self.free.push(slot as u32);
        self.figures.retried += 1;
        self.figures.progress.opening -= 1;
        self.schedule.again(now_ns().saturating_add(after_ms.saturating_mul(1_000_000)), conn.due_ns);
        Then::Go
    }

    fn message(&mut self, slot: usize, payload: &[u8]) -> Then {
        let now = now_ns();
        self.active = true;
        self.figures.progress.received += 1;
        self.figures.last_receipt_ns = now;
        let Some(conn) = self.conns[slot].as_mut() else { return Then::Go };
        if let Some((stamp, _)) = stamp(payload, PUBLISHED) {
            if stamp > now || stamp <= conn.published_ns {
                self.figures.wrong("a published message came twice, out of order, or from the future");
            } else {
                conn.published_ns = stamp;
                self.figures.delivery.note(now - stamp);
            }
        }
        if self.setup.dialect == Dialect::Tidegate {
            conn.received += 1;
            conn.unacked += 1;
            if conn.unacked >= ACK_MESSAGES {
                if let Then::Gone(why) = self.ack(slot) {
                    return Then::Gone(why);
                }
            } else if !conn.ack_queued {
                conn.ack_queued = true;
                self.schedule.acks.push_back((now + ACK_WAIT_NS, slot as u32, conn.generation));
            }
        }
        if let Some((stamp, rest)) = stamp(payload, ECHO) {
            let who = rest.strip_prefix(b" ").and_then(number).map(|(who, _)| who);
            let ours = self.conns[slot].as_ref().is_some_and(|conn| who == Some(self.setup.who(conn.generation)));
            if !ours || payload.len() < self.echo_bytes {
                self.figures.wrong("an answer was cut, or is another client's");
            } else {
                self.came_back(slot, stamp, Kind::Echo);
            }
        }
        Then::Go
    }

    fn ack(&mut self, slot: usize) -> Then {
        let Some(conn) = self.conns[slot].as_mut() else { return Then::Go };
        if conn.unacked == 0 || conn.phase != Phase::Open {
            return Then::Go;
        }
        conn.unacked = 0;
        let ack = ClientFrame::Ack { received: Offset(conn.received) }.encode();
        self.send(slot, codec::TEXT, ack.as_bytes())
    }

    /// Acks whose time has come.
    pub(super) fn send_due_acks(&mut self, now: u64) {
        while let Some((at, slot, generation)) = self.schedule.acks.front().copied().filter(|(at, ..)| *at <= now) {
            self.schedule.acks.pop_front();
            let slot = slot as usize;
            let Some(conn) = self.conns[slot].as_mut().filter(|conn| conn.generation == generation) else { continue };
            conn.ack_queued = false;
            if let Then::Gone(why) = self.ack(slot) {
                self.gone(slot, &why);
            }
            debug_assert!(at <= now);
        }
    }

    /// Writes one frame.
    fn send(&mut self, slot: usize, head: u8, payload: &[u8]) -> Then {
        let key = self.next_key();
        self.out.clear();
        codec::push_masked(&mut self.out, head, payload, key);
        let Some(conn) = self.conns[slot].as_mut() else { return Then::Go };
        match conn.write(&self.out) {
            Ok(true) => Then::Go,
            Ok(false) => {
                self.figures.error("not sent: the socket takes nothing");
                Then::Go
            }
            Err(error) => Then::Gone(error.to_string()),
        }
    }

    /// Writes one frame from outside of reading.
    pub(super) fn say(&mut self, slot: usize, head: u8, payload: &[u8]) {
        if let Then::Gone(why) = self.send(slot, head, payload) {
            self.gone(slot, &why);
        }
    }
}

fn short(needed: usize) -> Then {
    if needed > UNIT_MAX { Then::Gone(format!("a head or frame of {needed} bytes or more")) } else { Then::Go }
}

/// The time in a message that begins with these words, and what follows it.
fn stamp<'a>(payload: &'a [u8], begins: &str) -> Option<(u64, &'a [u8])> {
    payload.strip_prefix(begins.as_bytes()).and_then(number).filter(|(ns, _)| *ns > 0)
}

/// The number at the beginning, and what follows it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at(digits);
    let number =
        digits.iter().try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
    (!digits.is_empty()).then_some((number, rest))
}

/// A message with a time in it, filled up to a length.
pub(crate) fn stamped(begins: &str, ns: u64, bytes: usize) -> String {
    let mut text = format!("{begins}{ns} ");
    fill(&mut text, bytes);
    text
}

/// A message that is to be sent back to whom it names.
pub(super) fn addressed(ns: u64, who: u64, bytes: usize) -> String {
    let mut text = format!("{ECHO}{ns} {who} ");
    fill(&mut text, bytes);
    text
}

fn fill(text: &mut String, bytes: usize) {
    while text.len() < bytes {
        text.push('.');
    }
}

/// What the server must answer to our key.
pub(super) fn accept() -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(KEY.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_from_where_it_was_put_and_from_nowhere_else() {
        let text = stamped(PUBLISHED, 123_456, 80);
        assert_eq!(text.len(), 80);
        assert_eq!(stamp(text.as_bytes(), PUBLISHED).map(|(ns, _)| ns), Some(123_456));
        assert_eq!(stamp(text.as_bytes(), ECHO), None);
        for wrong in ["s", "s ", "s x", "s 99999999999999999999999", "hello"] {
            assert_eq!(stamp(wrong.as_bytes(), PUBLISHED), None, "{wrong}");
        }
    }

    #[test]
    fn a_message_that_is_to_come_back_names_whose_it_is() {
        let text = addressed(123_456, 1 << 32 | 7, 64);
        let (ns, rest) = stamp(text.as_bytes(), ECHO).expect("a stamp");
        let who = rest.strip_prefix(b" ").and_then(number).map(|(who, _)| who);
        assert_eq!((ns, who, text.len()), (123_456, Some(1 << 32 | 7), 64));
    }

    #[test]
    fn a_stamp_longer_than_the_message_asked_for_is_kept_whole() {
        assert_eq!(stamped(ECHO, 7, 0), "e 7 ");
    }
}
