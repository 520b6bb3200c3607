//! One client's WebSocket over the simulated network: dialling, a queue of what is to be written, and
//! a reader that can be told to rest.

use crate::net::resolve;
use futures_util::{Sink, Stream};
use http::Uri;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tidegate_protocol::frame::SUBPROTOCOL;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use turmoil::net::TcpStream;

type Socket = WebSocketStream<TcpStream>;
type Dialling = Pin<Box<dyn Future<Output = Result<Socket, String>> + Send>>;

/// What a wire tells.
#[derive(Debug)]
pub(crate) enum Happening {
    Opened,
    Text(String),
    /// Something that counts only as a sign of life.
    Heard,
    /// It is over; the code if there was one, and in words.
    Closed(Option<u16>, String),
}

/// A connection from its dialling to its end.
pub(crate) enum Wire {
    Dialling(Dialling),
    Open { socket: Box<Socket>, queue: VecDeque<Message> },
}

impl Wire {
    pub(crate) fn dial(url: Uri) -> Self {
        Self::Dialling(Box::pin(async move { dial(url).await }))
    }

    /// Queues a text; before the upgrade nothing can be sent.
    pub(crate) fn send(&mut self, text: String) {
        if let Self::Open { queue, .. } = self {
            queue.push_back(Message::text(text));
        }
    }

    /// Says goodbye: queues a close. Whoever holds the wire polls it until it is over, or drops it.
    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        if let Self::Open { queue, .. } = self {
            queue.push_back(Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() })));
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// The next thing that happens here; without `may_read` only what is queued is written.
    pub(crate) fn poll(&mut self, may_read: bool, cx: &mut Context<'_>) -> Poll<Happening> {
        match self {
            Self::Dialling(dialling) => Poll::Ready(match ready!(dialling.as_mut().poll(cx)) {
                Ok(socket) => {
                    *self = Self::Open { socket: Box::new(socket), queue: VecDeque::new() };
                    Happening::Opened
                }
                Err(why) => Happening::Closed(None, why),
            }),
            Self::Open { socket, queue } => {
                if let Poll::Ready(Err(error)) = poll_write(socket, queue, cx) {
                    return Poll::Ready(Happening::Closed(None, error.to_string()));
                }
                if may_read { poll_read(socket, cx) } else { Poll::Pending }
            }
        }
    }
}

fn poll_read(socket: &mut Socket, cx: &mut Context<'_>) -> Poll<Happening> {
    Poll::Ready(match ready!(Pin::new(socket).poll_next(cx)) {
        Some(Ok(Message::Text(text))) => Happening::Text(text.as_str().to_owned()),
        Some(Ok(Message::Close(Some(frame)))) => {
            Happening::Closed(Some(frame.code.into()), frame.reason.as_str().to_owned())
        }
        Some(Ok(Message::Close(None))) => Happening::Closed(None, "closed without a code".to_owned()),
        Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Happening::Heard,
        Some(Err(error)) => Happening::Closed(None, error.to_string()),
        None => Happening::Closed(None, "the connection ended".to_owned()),
    })
}

fn poll_write(socket: &mut Socket, queue: &mut VecDeque<Message>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
    while !queue.is_empty() {
        ready!(Pin::new(&mut *socket).poll_ready(cx))?;
        if let Some(message) = queue.pop_front() {
            Pin::new(&mut *socket).start_send(message)?;
        }
    }
    Pin::new(socket).poll_flush(cx)
}

/// A fresh read buffer is zeroed at each read: 128 KiB of it would be a tenth of what a simulation costs.
pub(crate) fn small() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4 << 10)
}

async fn dial(url: Uri) -> Result<Socket, String> {
    let (host, port) = (url.host().unwrap_or_default().to_owned(), url.port_u16().unwrap_or(80));
    let tcp = TcpStream::connect((resolve(&host), port)).await.map_err(|error| error.to_string())?;
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    let (socket, _) = client_async_with_config(request, tcp, Some(small())).await.map_err(|error| error.to_string())?;
    Ok(socket)
}
