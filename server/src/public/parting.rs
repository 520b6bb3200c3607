//! The end of a connection: last words within a time, then the stream is let go.

use super::connection::{End, ROUNDS_PER_TURN};
use super::dropping;
use crate::hub::conn::Conn;
use crate::ws::{self, Event, Reader, frame};
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tidegate_protocol::close;
use tidegate_protocol::frame::FRAME_BYTES_MAX;

/// Says what is left to say, for at most `close_ms`.
pub(super) async fn part(conn: Arc<Conn>, mut reader: Reader, end: End, close_ms: u64) {
    let within = Duration::from_millis(close_ms);
    match end {
        End::Close(code, why) => {
            put_close(&conn, Some((code, close::reason(&why))));
            let closing = async {
                if poll_fn(|cx| conn.line().socket.poll_flush(cx)).await.is_ok() {
                    // What still arrives is not counted: the connection is deaf. Reading lets the close through.
                    let is_unread = poll_fn(|cx| read_to_close(&conn, &mut reader, cx)).await;
                    let stream = if is_unread { conn.line().socket.take() } else { None };
                    if let Some(mut stream) = stream {
                        dropping::drop_rest(&mut stream).await;
                    }
                }
            };
            // A client that does not answer loses its socket; the session is safe elsewhere by now.
            drop(tokio::time::timeout(within, closing).await);
        }
        End::Closed(with) => {
            put_close(&conn, with.as_ref().map(|(code, reason)| (*code, reason.as_str())));
            drop(tokio::time::timeout(within, poll_fn(|cx| conn.line().socket.poll_flush(cx))).await);
        }
        End::Gone => {}
    }
    conn.line().socket.shut();
}

fn put_close(conn: &Conn, with: Option<(u16, &str)>) {
    ws::with_scratch(|batch| {
        frame::close(batch, with, None);
        conn.line().socket.put(batch);
    });
}

/// Reads to the other side's close or end. True: what comes cannot be read as messages, the rest of one that is too
/// long above all, and there may be much of it.
fn read_to_close(conn: &Conn, reader: &mut Reader, cx: &mut Context<'_>) -> Poll<bool> {
    ws::with_read_buffer(|buffer| {
        let mut bytes = 0;
        for round in 0..=ROUNDS_PER_TURN {
            let seen = reader.feed(&mut buffer[..bytes], FRAME_BYTES_MAX, &mut |event| match event {
                Event::Close(_) => ControlFlow::Break(()),
                Event::Text(_) | Event::Binary(_) | Event::Ping(_) | Event::Pong(_) => ControlFlow::Continue(()),
            });
            if !matches!(seen, Ok(ControlFlow::Continue(()))) {
                return Poll::Ready(seen.is_err());
            }
            if round < ROUNDS_PER_TURN {
                bytes = match ready!(conn.line().socket.poll_read(cx, buffer)) {
                    Ok(0) | Err(_) => return Poll::Ready(false),
                    Ok(bytes) => bytes,
                };
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}
