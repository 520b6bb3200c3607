//! A client's connection, byte by byte, into the real listener.

use super::inputs;
use crate::bench::{Bench, UPGRADE, hear, say, with_bench};
use std::cell::RefCell;
use std::time::Duration;
use tidegate_protocol::frame::{MARK, ServerFrame};

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

const FLAGS: &[&str] = &["--limit-message-bytes=4096", "--session-ttl=2s"];
/// Nothing came for so long: longer than the hub waits for anything that a client owes it.
const QUIET: Duration = Duration::from_secs(40);

/// The first byte says how to begin, how much is written at a time, and the rest are frames: a letter, a length,
/// and so many bytes.
pub(super) fn connection(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    with_bench(&BENCH, FLAGS, |bench| {
        bench.run(async {
            let mut bytes = Vec::new();
            if first & 1 == 0 {
                bytes.extend_from_slice(UPGRADE.as_bytes());
            }
            if first & 2 == 0 {
                frame(&mut bytes, 0x81, format!("{MARK}{{\"type\":\"hello\"}}").as_bytes());
            }
            let all = frames(rest, &mut bytes);
            let mut stream = bench.public.open().await;
            // How the bytes are cut must make no difference to anybody.
            let piece = [usize::MAX, 1, 2, 7, 64, 1000, 4096, 3][usize::from(first >> 2 & 7)].min(all.max(1));
            for piece in bytes.chunks(piece) {
                say(&mut stream, piece).await;
                if first & 0x40 != 0 {
                    tokio::task::yield_now().await;
                }
            }
            let heard = hear(&mut stream, QUIET).await;
            judge(&heard, first & 1 == 0);
            drop(stream);
            bench.must_live().await;
        });
    });
}

/// Adds one masked frame as a client sends it.
fn frame(out: &mut Vec<u8>, head: u8, payload: &[u8]) {
    out.push(head);
    match payload.len() {
        short @ ..126 => out.push(0x80 | short as u8),
        middle @ ..65_536 => {
            out.push(0x80 | 126);
            out.extend((middle as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend((long as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Frames out of an input. `R`: raw bytes, as they are; any other letter is a frame's first byte.
pub(super) fn frames(mut rest: &[u8], out: &mut Vec<u8>) -> usize {
    while let [letter, length, left @ ..] = rest {
        let length = match *length {
            255 => left.len(),
            254 => 5000.min(left.len()),
            short => usize::from(short).min(left.len()),
        };
        let (payload, next) = left.split_at(length);
        match letter {
            b'R' => out.extend_from_slice(payload),
            b'T' => frame(out, 0x81, payload),
            b'F' => frame(out, 0x81, &[&[MARK as u8], payload].concat()),
            b'B' => frame(out, 0x82, payload),
            other => frame(out, *other, payload),
        }
        rest = next;
    }
    out.len()
}

/// What a hub says is HTTP and then whole unmasked frames, its own frames can be read, and it ends with a close
/// whose code may travel.
fn judge(heard: &[u8], upgraded: bool) {
    let head = heard.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    let Some(head) = head.filter(|_| upgraded && heard.starts_with(b"HTTP/1.1 101")) else { return };
    let mut rest = &heard[head..];
    while let [first, second, left @ ..] = rest {
        assert_eq!(first & 0xf0, 0x80, "a hub's frames are whole and use no reserved bit");
        assert_eq!(second & 0x80, 0, "and are not masked");
        let (length, left) = match second {
            126 => (usize::from(u16::from_be_bytes([left[0], left[1]])), &left[2..]),
            127 => (u64::from_be_bytes(left[..8].try_into().expect("eight bytes")) as usize, &left[8..]),
            short => (usize::from(*short), left),
        };
        let (payload, next) = left.split_at(length);
        match first & 0x0f {
            1 => {
                let text = std::str::from_utf8(payload).expect("a hub's texts are texts");
                if let Some(json) = text.strip_prefix(MARK).filter(|json| !json.starts_with(MARK)) {
                    assert!(ServerFrame::decode(json).is_ok(), "a hub's frames can be read: {json}");
                }
            }
            2 | 9 | 10 => {}
            8 => {
                if let [high, low, reason @ ..] = payload {
                    let code = u16::from_be_bytes([*high, *low]);
                    assert!((1000..5000).contains(&code) && ![1004, 1005, 1006, 1015].contains(&code), "{code}");
                    assert!(std::str::from_utf8(reason).is_ok() && reason.len() <= 123, "{reason:?}");
                }
                assert!(next.is_empty(), "nothing comes after a close");
            }
            other => panic!("a hub sends no frame of kind {other}"),
        }
        rest = next;
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = inputs([
        &b"\x00T\x05helloB\x03\0\x01\x02"[..],
        b"\x00F\x1e{\"type\":\"ack\",\"received\":0}   F\x0f{\"type\":\"ping\"}",
        b"\x00F\x18{\"type\":\"bye\",\"code\":4001}",
        b"\x04\x01\x03abc\x00\x02de\x80\x02fg\x89\x04ping\x88\x02\x03\xe8",
        b"\x02F\x10{\"type\":\"hello\"} F\x10{\"type\":\"hello\"} ",
        b"\x01R\xffGET /healthz/ready HTTP/1.1\r\nhost: x\r\n\r\nPOST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc",
        b"\x00\xc1\x03rsv\x83\x03bad\x09\x02fr",
        b"\x00R\x06\x81\xfe\xff\xff\x00\x00",
        b"\x00F\x44{\"type\":\"busy\",\"drain\":\"0000000000000001\",\"ms\":5,\"why\":\"x\"}       ",
        b"\x00T\x05\x01\x01abc\x81\x02\xff\xfe",
    ]);
    seeds.push([b"\x00B\xff".as_slice(), &[7; 5000]].concat());
    seeds
}
