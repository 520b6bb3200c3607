//! One WebSocket to the app. The link's task reads it and waits for it; frames are put into it by whoever
//! has some (`relay`), so that an app that writes while it does not read cannot lock up with us.

use super::pulse::Pulse;
use crate::message::Message;
use crate::public::dropping::drop_rest;
use crate::public::stream::Stream;
use crate::ws::{self, Event, ReadError, Reader, Role, Socket, frame, fresh_mask};
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tidegate_protocol::close;

/// What a frame costs beside the message in it.
const FRAME_ROOM_BYTES: usize = 16;

/// What the hub's own pings carry; their pongs stay here.
const PING: &[u8] = b"tidegate";

/// What happened at the socket.
#[derive(Debug)]
pub(super) enum Step {
    /// Everything that was put is written.
    Written,
    /// The app said something: each message was shown.
    Read,
    /// The app closed, with this code and reason if it gave one.
    Closed(Option<(u16, String)>),
    /// It broke, or ended without a close.
    Lost,
    /// The app said what cannot be passed on; nothing after it can be read.
    Broken(ReadError),
}

/// The way to the app's socket for those who write into it: below the cell's lock in the order of locks.
#[derive(Clone, Debug)]
pub(super) struct Line(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: Mutex<Socket>,
    pulse: Pulse,
}

impl Line {
    fn new(stream: Stream) -> Self {
        Self(Arc::new(Shared { socket: Mutex::new(Socket::new(stream)), pulse: Pulse::default() }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Socket> {
        self.0.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.0.pulse
    }

    /// Asks the app for a sign of life. Nothing is asked while it has not taken what was said before.
    pub(super) fn ping(&self) {
        let mut socket = self.lock();
        if socket.is_clean() {
            ws::with_scratch(|batch| {
                frame::masked_ping(batch, PING, fresh_mask());
                socket.put(batch);
            });
        }
    }
}

/// The socket of one session, as its link's task has it.
#[derive(Debug)]
pub(super) struct AppSocket {
    line: Line,
    reader: Reader,
    said_close: bool,
}

impl AppSocket {
    /// A socket on a stream whose handshake is done; `early` is what came right behind it.
    pub(super) fn new(stream: Stream, early: Vec<u8>) -> Self {
        let line = Line::new(stream);
        Self { line, reader: Reader::new(Role::Client, early), said_close: false }
    }

    /// Where frames are put.
    pub(super) fn line(&self) -> Line {
        self.line.clone()
    }

    /// Puts the close. What the app still says can be read until [`Step::Closed`].
    pub(super) fn put_close(&mut self, code: u16, reason: &str) {
        self.close(Some((on_the_wire(code), close::reason(reason))));
    }

    fn close(&mut self, with: Option<(u16, &str)>) {
        if !std::mem::replace(&mut self.said_close, true) {
            ws::with_scratch(|batch| {
                frame::close(batch, with, Some(fresh_mask()));
                self.line.lock().put(batch);
            });
        }
    }

    /// Waits for the next thing to happen. What the app says is shown to `hear`, until it wants no more.
    /// The longest message is `message_bytes` long. Any byte that comes or goes is a sign of life.
    pub(super) fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        may_read: bool,
        message_bytes: usize,
        now_s: &dyn Fn() -> u32,
        hear: &mut dyn FnMut(Message) -> bool,
    ) -> Poll<Step> {
        {
            let mut socket = self.line.lock();
            if socket.is_dirty() {
                let waited = socket.waiting_bytes();
                let flushed = socket.poll_flush(cx);
                if socket.waiting_bytes() < waited {
                    self.line.pulse().hear(now_s());
                }
                if matches!(flushed, Poll::Ready(Ok(()))) {
                    return Poll::Ready(Step::Written);
                }
            }
        }
        if !may_read {
            self.line.pulse().pause();
            return Poll::Pending;
        }
        self.line.pulse().resume(now_s);
        ws::with_read_buffer(|buffer| {
            let mut bytes = 0;
            if !self.reader.was_stopped() {
                let Poll::Ready(read) = self.line.lock().poll_read(cx, buffer) else { return Poll::Pending };
                match read {
                    Ok(0) => return Poll::Ready(Step::Lost),
                    Ok(read) => {
                        bytes = read;
                        self.line.pulse().hear(now_s());
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the app's socket broke");
                        return Poll::Ready(Step::Lost);
                    }
                }
            }
            Poll::Ready(self.hear(&mut buffer[..bytes], message_bytes + FRAME_ROOM_BYTES, hear))
        })
    }

    fn hear(&mut self, bytes: &mut [u8], bytes_max: usize, hear: &mut dyn FnMut(Message) -> bool) -> Step {
        let line = &self.line;
        let heard = self.reader.feed(bytes, bytes_max, &mut |said| {
            let message = match said {
                Event::Text(text) => Message::text(text),
                Event::Binary(bytes) => Message::binary(bytes),
                Event::Ping(payload) => {
                    ws::with_scratch(|batch| {
                        frame::pong(batch, payload, Some(fresh_mask()));
                        line.lock().put(batch);
                    });
                    return ControlFlow::Continue(());
                }
                Event::Pong(_) => return ControlFlow::Continue(()),
                Event::Close(with) => {
                    return ControlFlow::Break(Some(with.map(|(code, reason)| (code, reason.to_owned()))));
                }
            };
            if hear(message) { ControlFlow::Continue(()) } else { ControlFlow::Break(None) }
        });
        match heard {
            Ok(ControlFlow::Continue(()) | ControlFlow::Break(None)) => Step::Read,
            Ok(ControlFlow::Break(Some(with))) => {
                self.close(with.as_ref().map(|(code, reason)| (*code, reason.as_str())));
                Step::Closed(with)
            }
            Err(error) => Step::Broken(error),
        }
    }

    /// Takes leave: writes `rest` and a close (none: the app closed first), reads to the end, and gives up
    /// after `within_ms`. What the app says meanwhile counts no more, at most `message_bytes` at a time.
    pub(super) async fn part(
        mut self,
        rest: Vec<Message>,
        with: Option<(u16, String)>,
        within_ms: u64,
        message_bytes: usize,
    ) {
        let parting = async {
            for message in rest {
                ws::with_scratch(|batch| {
                    frame::masked(batch, message.is_text(), message.bytes(), fresh_mask());
                    self.line.lock().put(batch);
                });
                if self.flush().await.is_err() {
                    return;
                }
            }
            if let Some((code, reason)) = with {
                self.put_close(code, &reason);
            }
            // Reading lets the close through, both ways.
            while self.flush().await.is_ok() && self.read_on(message_bytes).await {}
        };
        // An app that does not answer its close loses the socket.
        drop(tokio::time::timeout(Duration::from_millis(within_ms), parting).await);
    }

    /// Closes on an app that cannot be read any more. What it still sends is dropped, else the kernel would reset
    /// the connection, and the reset could overtake the close.
    pub(super) async fn refuse(mut self, code: u16, reason: String, within_ms: u64) {
        let refusing = async {
            self.put_close(code, &reason);
            if self.flush().await.is_ok() {
                let stream = self.line.lock().take();
                if let Some(mut stream) = stream {
                    drop_rest(&mut stream).await;
                }
            }
        };
        drop(tokio::time::timeout(Duration::from_millis(within_ms), refusing).await);
    }

    async fn flush(&self) -> std::io::Result<()> {
        poll_fn(|cx| self.line.lock().poll_flush(cx)).await
    }

    /// Reads once; what is said counts no more. False: it is over.
    async fn read_on(&mut self, message_bytes: usize) -> bool {
        match poll_fn(|cx| self.poll_step(cx, true, message_bytes, &|| 0, &mut |_| true)).await {
            Step::Written | Step::Read => true,
            // Its end of the stream comes next.
            Step::Closed(_) => true,
            Step::Lost | Step::Broken(_) => false,
        }
    }
}

impl Drop for AppSocket {
    fn drop(&mut self) {
        // The cell may still know the way to it.
        self.line.lock().shut();
    }
}

/// A code that may stand in a close frame: others (1005, 1006, what nobody has defined) become 1000.
pub(super) fn on_the_wire(code: u16) -> u16 {
    if frame::may_travel(code) { code } else { 1000 }
}
