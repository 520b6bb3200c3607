//! WebSocket frames as a thin client needs them: built masked, read as they lie in the buffer. Pure.

/// First byte of a whole text message.
pub(crate) const TEXT: u8 = 0x81;
/// First byte of a close.
pub(crate) const CLOSE: u8 = 0x88;
/// First byte of a ping.
pub(crate) const PING: u8 = 0x89;
/// First byte of a pong.
pub(crate) const PONG: u8 = 0x8a;

const OPCODE: u8 = 0x0f;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// One frame in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// The first byte: FIN, reserved bits and opcode.
    pub(crate) head: u8,
    /// What it carries, without the mask if there was one.
    pub(crate) payload: &'a [u8],
}

/// What lies at the beginning of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// A whole frame, and how many bytes it takes.
    Frame(Frame<'a>, usize),
    /// The beginning of one; so many bytes are needed at least.
    Short(usize),
}

impl Frame<'_> {
    /// Whether it is a whole text or binary message.
    pub(crate) const fn is_whole(&self) -> bool {
        self.head & FIN != 0 && matches!(self.head & OPCODE, 1 | 2)
    }
}

/// Reads the frame at the beginning of `bytes`. A masked payload is unmasked in place.
pub(crate) fn parse(bytes: &mut [u8]) -> Parsed<'_> {
    let (Some(&head), Some(&second)) = (bytes.first(), bytes.get(1)) else { return Parsed::Short(2) };
    let (length, at): (usize, usize) = match second & !MASKED {
        LENGTH_16 => match bytes.get(2..4) {
            Some(&[a, b]) => (usize::from(u16::from_be_bytes([a, b])), 4),
            _ => return Parsed::Short(4),
        },
        LENGTH_64 => match bytes.get(2..10).and_then(|eight| <[u8; 8]>::try_from(eight).ok()) {
            // A length that no memory holds is one that never comes to its end.
            Some(eight) => (usize::try_from(u64::from_be_bytes(eight)).unwrap_or(usize::MAX / 2), 10),
            None => return Parsed::Short(10),
        },
        short => (usize::from(short), 2),
    };
    let masked = second & MASKED != 0;
    let begins = if masked { at + 4 } else { at };
    let ends = begins.saturating_add(length);
    if bytes.len() < ends {
        return Parsed::Short(ends);
    }
    if masked {
        let key = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        mask(&mut bytes[begins..ends], key);
    }
    Parsed::Frame(Frame { head, payload: &bytes[begins..ends] }, ends)
}

/// Appends a frame as a client sends it: masked with this key.
pub(crate) fn push_masked(out: &mut Vec<u8>, head: u8, payload: &[u8], key: [u8; 4]) {
    push_length(out, head, payload.len(), MASKED);
    out.extend_from_slice(&key);
    let at = out.len();
    out.extend_from_slice(payload);
    mask(&mut out[at..], key);
}

/// Appends a frame as a server sends it.
pub(crate) fn push_plain(out: &mut Vec<u8>, head: u8, payload: &[u8]) {
    push_length(out, head, payload.len(), 0);
    out.extend_from_slice(payload);
}

fn push_length(out: &mut Vec<u8>, head: u8, length: usize, masked: u8) {
    out.push(head);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < LENGTH_16 => out.push(masked | short),
        (_, Ok(middle)) => {
            out.push(masked | LENGTH_16);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            out.push(masked | LENGTH_64);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Puts a mask on, or takes it off. Word by word: the compiler makes wide instructions of it.
fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let wide = u64::from(u32::from_ne_bytes(key)) << 32 | u64::from(u32::from_ne_bytes(key));
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        if let Ok(eight) = <[u8; 8]>::try_from(&*word) {
            word.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
        }
    }
    for (at, byte) in words.into_remainder().iter_mut().enumerate() {
        *byte ^= key[at % 4];
    }
}

/// The end of an HTTP head in `bytes`: where what follows it begins.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINARY: u8 = 0x82;
    const KEY: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

    fn round(length: usize) {
        let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
        for masked in [true, false] {
            let mut wire = Vec::new();
            if masked {
                push_masked(&mut wire, TEXT, &payload, KEY);
                assert!(length < 8 || !wire.ends_with(&payload[length - 8..]), "a client's payload is hidden");
            } else {
                push_plain(&mut wire, TEXT, &payload);
            }
            let whole = wire.len();
            wire.extend_from_slice(b"next");
            let expected = Parsed::Frame(Frame { head: TEXT, payload: &payload }, whole);
            assert_eq!(parse(&mut wire), expected, "{length} bytes");
        }
    }

    #[test]
    fn a_frame_of_each_length_form_is_read_as_it_was_built_with_a_mask_and_without() {
        [0, 1, 7, 8, 80, 125, 126, 127, 4_096, 65_535, 65_536, 70_001].into_iter().for_each(round);
    }

    #[test]
    fn the_beginning_of_a_frame_says_how_much_is_needed_at_least_and_never_more() {
        for length in [3_usize, 200, 70_000] {
            let mut wire = Vec::new();
            push_masked(&mut wire, BINARY, &vec![7; length], KEY);
            for cut in (0..wire.len()).step_by(wire.len().div_ceil(300)) {
                match parse(&mut wire[..cut].to_vec()) {
                    Parsed::Short(needed) => assert!(needed > cut && needed <= wire.len(), "{length} cut at {cut}"),
                    Parsed::Frame(..) => panic!("{cut} of {} bytes are no frame", wire.len()),
                }
            }
        }
    }

    #[test]
    fn only_a_text_or_binary_message_in_one_frame_is_whole() {
        let whole = |head| Frame { head, payload: b"" }.is_whole();
        assert!(whole(TEXT) && whole(BINARY));
        assert!(!whole(0x80) && !whole(0x01) && !whole(0x00) && !whole(PING) && !whole(PONG) && !whole(CLOSE));
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        assert_eq!(head_end(b"HTTP/1.1 101 ok\r\nA: b\r\n\r\n\x81\x00"), Some(25));
        assert_eq!(head_end(b"HTTP/1.1 101 ok\r\nA: b\r\n\r"), None);
    }
}
