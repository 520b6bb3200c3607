//! What only a hand-made WebSocket does: fragments that mix, never end, or hold nothing.

use crate::calm::Calm;
use tidegate_tests::RawClient;

/// A client's frame, masked with zeros, which is a mask like any other.
fn frame(last: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![if last { 0x80 } else { 0 } | opcode];
    match payload.len() {
        short @ 0..=125 => bytes.push(0x80 | short as u8),
        middle @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

const TEXT: u8 = 1;
const MORE: u8 = 0;
const PING: u8 = 9;

#[tokio::test]
async fn fragments_that_mix_are_a_protocol_error_and_control_frames_between_them_are_not() {
    let calm = Calm::start(|setup| setup).await;
    let url = calm.hub.url("/connect");
    let (mut client, _) = RawClient::welcomed(&url).await;
    // One message in three fragments, a ping between them: as RFC 6455 has it.
    for bytes in
        [frame(false, TEXT, b"one "), frame(true, PING, b"?"), frame(false, MORE, b"two "), frame(true, MORE, b"three")]
    {
        client.bytes(&bytes).await;
    }
    assert_eq!(client.expect_text().await, "one two three", "the echo of the whole");
    for (what, bad) in [
        ("a new message inside another", vec![frame(false, TEXT, b"one"), frame(true, TEXT, b"two")]),
        ("a fragment of nothing", vec![frame(true, MORE, b"lost")]),
        ("a ping in fragments", vec![frame(false, PING, b"?")]),
        ("a ping that is too long", vec![frame(true, PING, &[7; 126])]),
    ] {
        let (mut client, _) = RawClient::welcomed(&url).await;
        for bytes in bad {
            client.bytes(&bytes).await;
        }
        let (code, reason) = client.closed().await;
        assert_eq!(code, Some(1002), "{what}: {reason}");
    }
    calm.unharmed();
}

#[tokio::test]
async fn a_message_that_never_ends_is_cut_off_at_the_limit_of_a_message() {
    let calm = Calm::start(|setup| setup).await;
    let url = calm.hub.url("/connect");
    // Four messages of 1 MiB in the making at a time, in buffers that grow by doubling, again and again; the
    // allocator gives memory back with a delay.
    calm.under("endless fragments", 64, move |going| async move {
        while going.on() {
            let mut attackers = tokio::task::JoinSet::new();
            for _ in 0..4 {
                let url = url.clone();
                attackers.spawn(async move {
                    let (mut client, _) = RawClient::welcomed(&url).await;
                    let part = [b'x'; 8_192];
                    let mut first = true;
                    // Far beyond the limit; the hub closes long before.
                    for _ in 0..400 {
                        let opcode = if first { TEXT } else { MORE };
                        first = false;
                        if !client.try_bytes(&frame(false, opcode, &part)).await {
                            return None;
                        }
                    }
                    client.closed().await.0
                });
            }
            while let Some(code) = attackers.join_next().await {
                let code = code.expect("an attacker does not fail");
                assert!(matches!(code, None | Some(1009)), "too big, or the socket is gone: {code:?}");
            }
        }
    })
    .await;
    calm.unharmed();
}

#[tokio::test]
async fn a_flood_of_fragments_of_nothing_holds_no_memory() {
    let calm = Calm::start(|setup| setup).await;
    let url = calm.hub.url("/connect");
    calm.under("fragments of nothing", 8, move |going| async move {
        let mut attackers = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let (url, going) = (url.clone(), going.clone());
            attackers.spawn(async move {
                let (mut client, _) = RawClient::welcomed(&url).await;
                let empty = frame(false, MORE, b"").repeat(500);
                let mut open = client.try_bytes(&frame(false, TEXT, b"")).await;
                while going.on() && open {
                    open = client.try_bytes(&empty).await;
                }
            });
        }
        while attackers.join_next().await.is_some() {}
    })
    .await;
    calm.unharmed();
}
