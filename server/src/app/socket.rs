//! One WebSocket to the app, as one type that owns it: writes and reads go on side by side, so that an
//! app that writes while it does not read cannot lock up with us.

use crate::config::Limits;
use crate::message::Message;
use crate::public::stream::Stream;
use futures_util::{Sink, SinkExt, Stream as _, StreamExt};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tidegate_protocol::close;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message as WsMessage, Utf8Bytes};

/// What a frame costs beside the message in it.
const FRAME_ROOM_BYTES: usize = 16;

/// What happened at the socket.
#[derive(Debug)]
pub(super) enum Step {
    /// Everything that was put is written.
    Written,
    /// The app said something.
    Read(Message),
    /// The app closed, with this code and reason if it gave one.
    Closed(Option<(u16, String)>),
    /// It broke, or ended without a close.
    Lost,
}

/// The socket of one session.
pub(super) struct AppSocket {
    socket: WebSocketStream<Stream>,
    out: Out,
}

/// What was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    /// All of it is written.
    Written,
    /// Some of it may not be.
    Waiting,
    /// It cannot be written any more; what the app said before is still read.
    Broken,
}

impl std::fmt::Debug for AppSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppSocket").field("out", &self.out).finish_non_exhaustive()
    }
}

impl AppSocket {
    /// A socket on a stream whose handshake is done; `early` is what came right behind it.
    pub(super) async fn new(stream: Stream, early: Vec<u8>, limits: &Limits) -> Self {
        // An app's message may be as large as a client's; so may a batch of them be that waits to be written.
        let message_bytes = limits.message_bytes as usize + FRAME_ROOM_BYTES;
        let write_bytes = limits.write_buffer_bytes as usize;
        let config = WebSocketConfig::default()
            .read_buffer_size(limits.read_buffer_bytes as usize)
            .write_buffer_size(write_bytes)
            .max_write_buffer_size((write_bytes + message_bytes + super::link::BATCH_BYTES) * 2)
            .max_message_size(Some(message_bytes))
            .max_frame_size(Some(message_bytes));
        let socket = WebSocketStream::from_partially_read(stream, early, Role::Client, Some(config)).await;
        Self { socket, out: Out::Written }
    }

    /// Hands a message to the socket; [`Step::Written`] says when it is out, and never comes if it broke.
    pub(super) fn put(&mut self, message: &Message) {
        self.put_frame(message.to_app());
    }

    /// Hands over the close. What the app still says can be read until [`Step::Closed`].
    pub(super) fn put_close(&mut self, code: u16, reason: &str) {
        self.put_frame(WsMessage::Close(Some(close_frame(code, reason))));
    }

    fn put_frame(&mut self, frame: WsMessage) {
        if self.out != Out::Broken {
            let put = Pin::new(&mut self.socket).start_send(frame);
            self.out = if put.is_ok() { Out::Waiting } else { Out::Broken };
        }
    }

    /// Waits for the next thing to happen. May be dropped at any moment without a loss.
    pub(super) async fn step(&mut self, may_read: bool) -> Step {
        poll_fn(|cx| self.poll_step(cx, may_read)).await
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, may_read: bool) -> Poll<Step> {
        if self.out == Out::Waiting {
            match Pin::new(&mut self.socket).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.out = Out::Written;
                    return Poll::Ready(Step::Written);
                }
                Poll::Ready(Err(_)) => self.out = Out::Broken,
                Poll::Pending => {}
            }
        }
        if !may_read {
            return Poll::Pending;
        }
        loop {
            let Poll::Ready(read) = Pin::new(&mut self.socket).poll_next(cx) else { return Poll::Pending };
            return Poll::Ready(match read {
                // Copied: a queued message must not keep the read buffer.
                Some(Ok(WsMessage::Text(text))) => Step::Read(Message::copied_text(text.as_str())),
                Some(Ok(WsMessage::Binary(bytes))) => Step::Read(Message::copied_binary(&bytes)),
                Some(Ok(WsMessage::Close(frame))) => {
                    Step::Closed(frame.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned())))
                }
                // Pings are answered by the socket itself.
                Some(Ok(WsMessage::Ping(_) | WsMessage::Pong(_) | WsMessage::Frame(_))) => continue,
                Some(Err(error)) => {
                    told(&error);
                    Step::Lost
                }
                None => Step::Lost,
            });
        }
    }

    /// Takes leave: writes `rest` and a close (none: the app closed first), reads to the end, and gives up
    /// after `within_ms`.
    pub(super) async fn part(mut self, rest: Vec<Message>, with: Option<(u16, String)>, within_ms: u64) {
        let parting = async {
            for message in rest {
                if self.socket.send(message.to_app()).await.is_err() {
                    return;
                }
            }
            if let Some((code, reason)) = with
                && self.socket.send(WsMessage::Close(Some(close_frame(code, &reason)))).await.is_err()
            {
                return;
            }
            // Reading lets the close through, both ways.
            while let Some(Ok(_)) = self.socket.next().await {}
        };
        // An app that does not answer its close loses the socket.
        drop(tokio::time::timeout(Duration::from_millis(within_ms), parting).await);
    }
}

/// A socket that breaks is daily life; an app that says more than the hub may carry is a matter of settings.
fn told(error: &WsError) {
    match error {
        WsError::Capacity(error) => {
            tracing::warn!(%error, "the app sent a message above --limit-message-bytes: its socket is dropped")
        }
        error => tracing::debug!(%error, "the app's socket broke"),
    }
}

fn close_frame(code: u16, reason: &str) -> CloseFrame {
    CloseFrame { code: CloseCode::from(on_the_wire(code)), reason: Utf8Bytes::from(close::reason(reason)) }
}

/// A code that may stand in a close frame: others (1005, 1006, what nobody has defined) become 1000.
pub(super) fn on_the_wire(code: u16) -> u16 {
    if CloseCode::from(code).is_allowed() { code } else { 1000 }
}
