//! What comes from the client: a hello, then frames and messages, each only while it can count.

use super::connection::{End, Held, Life, Serving, Worker, close};
use super::hello;
use crate::app;
use crate::hub::Hub;
use crate::hub::conn::Conn;
use crate::hub::entrance::HELLO_BYTES_FREE;
use crate::message::Message;
use crate::telemetry::{Direction, Rejected};
use crate::ws::{self, Event as Said, ReadError, frame};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tidegate_protocol::close::Close;
use tidegate_protocol::frame::{ClientFrame, FRAME_BYTES_MAX, Hello, ServerFrame, Text, sort};
use tidegate_protocol::session::{Event, Receipt};

/// A client that sent so many bytes since its last ack may be out of room, so it is acked as soon as they are taken.
const ACK_BYTES: u64 = 64 * 1024;
/// What may stand before a message or a frame: its mark.
const FRAME_ROOM_BYTES: usize = 16;

/// Reading goes on, rests (`None`), or is over.
type Flow = ControlFlow<Option<End>>;

impl Worker {
    /// Reads once and takes what came. Ready: look at everything again, the connection or its session may
    /// have changed.
    pub(super) fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let Self { hub, conn, reader, life, .. } = self;
        ws::with_read_buffer(|buffer| {
            let mut bytes = 0;
            if !reader.was_stopped() {
                bytes = match ready!(conn.line().socket.poll_read(cx, buffer)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(End::Gone)),
                    Ok(bytes) => bytes,
                };
                conn.hear(hub.now_s());
            }
            let bytes_max = FRAME_ROOM_BYTES
                + match life {
                    Life::Serving(_) => (hub.config.limits.message_bytes as usize).max(FRAME_BYTES_MAX),
                    // There is nothing to say but a hello.
                    _ => FRAME_BYTES_MAX,
                };
            let seen = reader.feed(&mut buffer[..bytes], bytes_max, &mut |said| on_said(hub, conn, life, said));
            if let Life::Waiting { request, .. } = life
                && reader.kept_bytes() > HELLO_BYTES_FREE
                && request.half_hello.is_none()
            {
                request.half_hello = hub.entrance.half_hello();
                if request.half_hello.is_none() {
                    hub.metrics.rejected.of(Rejected::QueueFull).increment(1);
                    return Poll::Ready(Err(close(Close::Later, "too many hellos that come in parts; come back")));
                }
            }
            Poll::Ready(match seen {
                Ok(ControlFlow::Continue(()) | ControlFlow::Break(None)) => Ok(()),
                Ok(ControlFlow::Break(Some(end))) => Err(end),
                Err(error) => Err(broken(hub, error)),
            })
        })
    }
}

fn on_said(hub: &Arc<Hub>, conn: &Arc<Conn>, life: &mut Life, said: Said<'_>) -> Flow {
    match said {
        Said::Close(with) => {
            ControlFlow::Break(Some(End::Closed(with.map(|(code, reason)| (code, reason.to_owned())))))
        }
        Said::Ping(payload) => {
            ws::with_scratch(|batch| {
                frame::pong(batch, payload, None);
                conn.line().socket.put(batch);
            });
            ControlFlow::Continue(())
        }
        Said::Pong(_) => ControlFlow::Continue(()),
        Said::Text(text) => going_on(on_text(hub, conn, life, text)),
        Said::Binary(bytes) => going_on(match life {
            Life::Serving(serving) => take_bytes(hub, conn, serving, bytes.len(), || Message::binary(bytes)),
            Life::Waiting { .. } => Err(protocol_error(hub, "expected a hello frame first".into())),
            Life::Arriving(_) | Life::Greeting(_) | Life::Greeted { .. } | Life::Parting(_) => Err(too_early(hub)),
        }),
    }
}

fn going_on(taken: Result<bool, End>) -> Flow {
    match taken {
        Ok(true) => ControlFlow::Continue(()),
        Ok(false) => ControlFlow::Break(None),
        Err(end) => ControlFlow::Break(Some(end)),
    }
}

/// Says whether to read on at once.
fn on_text(hub: &Arc<Hub>, conn: &Arc<Conn>, life: &mut Life, text: &str) -> Result<bool, End> {
    match life {
        Life::Waiting { request, .. } => {
            let hello = first_frame(hub, text)?;
            let request = std::mem::take(request);
            let (hub, conn) = (hub.clone(), conn.clone());
            // Rare and large: it must not widen every idle connection's future.
            let greeting = async move { hello::greet(&hub, &conn, &request, hello).await };
            *life = Life::Greeting(Box::pin(greeting));
            Ok(false)
        }
        Life::Arriving(_) | Life::Greeting(_) | Life::Greeted { .. } | Life::Parting(_) => match sort(text) {
            Text::Frame(json) if is_heartbeat(json) => Ok(true),
            Text::Frame(_) | Text::App(_) => Err(too_early(hub)),
        },
        Life::Serving(serving) => match sort(text) {
            Text::App(text) => take_bytes(hub, conn, serving, text.len(), || Message::text(text)),
            Text::Frame(json) => take_frame(hub, conn, serving, json),
        },
    }
}

fn is_heartbeat(json: &str) -> bool {
    matches!(ClientFrame::decode(json), Ok(ClientFrame::Ping {} | ClientFrame::Pong {}))
}

fn broken(hub: &Hub, error: ReadError) -> End {
    match error {
        ReadError::TooLong { .. } => {
            hub.metrics.rejected.of(Rejected::TooLarge).increment(1);
            close(Close::TooBig, error.to_string())
        }
        ReadError::Utf8 => {
            hub.metrics.rejected.of(Rejected::Protocol).increment(1);
            End::Close(1007, "a text message that is not UTF-8".into())
        }
        ReadError::Protocol(error) => {
            hub.metrics.rejected.of(Rejected::Protocol).increment(1);
            End::Close(1002, error.to_string().into())
        }
    }
}

fn too_early(hub: &Hub) -> End {
    protocol_error(hub, "nothing may be sent between hello and its answer".into())
}

fn protocol_error(hub: &Hub, why: String) -> End {
    hub.metrics.rejected.of(Rejected::Protocol).increment(1);
    close(Close::ProtocolError, why)
}

fn first_frame(hub: &Hub, text: &str) -> Result<Hello, End> {
    let Text::Frame(json) = sort(text) else {
        return Err(protocol_error(hub, "expected a hello frame first".into()));
    };
    match ClientFrame::decode(json) {
        Ok(ClientFrame::Hello(hello)) if hello.attempt >= 1 => Ok(hello),
        Ok(ClientFrame::Hello(_)) => Err(protocol_error(hub, "hello: `try` is 0; expected 1 or more".into())),
        Ok(_) => Err(protocol_error(hub, "expected hello first".into())),
        Err(error) => Err(protocol_error(hub, error.to_string())),
    }
}

/// An app message, if it is not too long.
fn take_bytes(
    hub: &Arc<Hub>,
    conn: &Conn,
    serving: &mut Serving,
    bytes: usize,
    message: impl FnOnce() -> Message,
) -> Result<bool, End> {
    let bytes_max = hub.config.limits.message_bytes;
    if bytes as u64 > bytes_max {
        hub.metrics.rejected.of(Rejected::TooLarge).increment(1);
        return Err(close(Close::TooBig, format!("a message of {bytes} bytes; at most {bytes_max}")));
    }
    take_message(hub, conn, serving, message())
}

/// Counts an app message, or holds it while the session is frozen. Says whether to read on at once.
pub(super) fn take_message(hub: &Arc<Hub>, conn: &Conn, serving: &mut Serving, message: Message) -> Result<bool, End> {
    let bytes = message.bytes().len() as u64;
    match serving.cell.receive(hub, conn.id, &message) {
        (Receipt::Counted, has_room) => {
            hub.metrics.messages.of(Direction::FromClient).increment(1);
            hub.metrics.bytes.of(Direction::FromClient).increment(bytes);
            serving.fresh_bytes += bytes;
            if serving.fresh_bytes >= ACK_BYTES {
                serving.ask_for_ack();
            }
            Ok(has_room)
        }
        (Receipt::Hold, _) => {
            serving.held = Some(Box::new(Held::App(message)));
            Ok(false)
        }
        (Receipt::Deaf, _) => Ok(true),
    }
}

/// Carries out a frame, or holds it while the session is frozen. Says whether to read on at once.
pub(super) fn take_frame(hub: &Arc<Hub>, conn: &Conn, serving: &mut Serving, json: &str) -> Result<bool, End> {
    let frame = ClientFrame::decode(json).map_err(|error| protocol_error(hub, error.to_string()))?;
    let cell = &serving.cell;
    if cell.lock().session.listens_to(conn.id) == Receipt::Hold {
        serving.held = Some(Box::new(Held::Frame(json.to_owned())));
        return Ok(false);
    }
    match frame {
        ClientFrame::Hello(_) => return Err(protocol_error(hub, "hello again: it is said once per connection".into())),
        ClientFrame::Ack { received } => cell.acked(hub, conn.id, received),
        ClientFrame::Ping {} => {
            conn.send(&ServerFrame::Pong {});
            serving.ask_for_ack();
        }
        ClientFrame::Pong {} => {}
        ClientFrame::Ready { drain } => hub.drain.ready(cell.id, drain),
        ClientFrame::Busy { drain, ms, why } => hub.drain.busy(cell.id, drain, ms, why),
        ClientFrame::Auth { auth } => hello::renew(hub, conn, cell, &auth),
        ClientFrame::Bye { code, reason } => {
            let code = code.unwrap_or(1000);
            app::client_bye(&mut cell.lock(), conn.id, code, reason.unwrap_or_default());
            cell.feed(hub, Event::Bye { conn: conn.id });
        }
    }
    Ok(true)
}
