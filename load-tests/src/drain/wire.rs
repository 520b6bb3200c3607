//! One WebSocket of one client: dialled, read and written from a single task, without a buffer
//! larger than a few messages.

use futures_util::{Sink, Stream};
use http::Uri;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tidegate_protocol::frame::SUBPROTOCOL;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Error};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// A connected socket.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// How long a socket that we close may take for its goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Small buffers: what is measured is the hub, and thousands of clients share this process.
fn config(read_buffer_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(read_buffer_bytes)
        .write_buffer_size(4 * 1024)
        .max_write_buffer_size(256 * 1024)
        .max_message_size(Some(1024 * 1024))
        .max_frame_size(Some(1024 * 1024))
}

/// Opens a WebSocket that speaks `tidegate.v1`, from a given source address if there is one.
///
/// # Errors
/// In words: which address, and what it answered.
pub(crate) async fn dial(url: &Uri, source: Option<Ipv4Addr>, read_buffer_bytes: usize) -> Result<Socket, String> {
    let host = url.host().ok_or_else(|| format!("{url} names no host"))?;
    let bare_host = host.trim_start_matches('[').trim_end_matches(']');
    let address = lookup_host((bare_host, url.port_u16().unwrap_or(80)))
        .await
        .map_err(|error| format!("{url}: {error}"))?
        .next()
        .ok_or_else(|| format!("{url}: the name has no address"))?;
    let stream = connect(address, source).await.map_err(|error| format!("{address}: {error}"))?;
    let request = ClientRequestBuilder::new(url.clone()).with_sub_protocol(SUBPROTOCOL);
    match client_async_with_config(request, stream, Some(config(read_buffer_bytes))).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => {
            let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            Err(format!("{url} answered {} {}", answer.status(), body.trim()))
        }
        Err(error) => Err(format!("{url}: {error}")),
    }
}

async fn connect(address: SocketAddr, source: Option<Ipv4Addr>) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let (Some(source), true) = (source, address.is_ipv4()) {
        socket.bind(SocketAddr::from((source, 0)))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// What a wire tells its client.
#[derive(Debug)]
pub(crate) enum Happening {
    /// The upgrade succeeded.
    Opened,
    /// A text message.
    Text(String),
    /// A binary message, which no app of this tool sends.
    Binary,
    /// A WebSocket ping or pong.
    Heard,
    /// It is over, or never came to be; with the close code if there was one.
    Closed(Option<u16>, String),
}

type Dialling = Pin<Box<dyn Future<Output = Result<Socket, String>> + Send>>;

/// A connection from its dialling to its end.
pub(crate) enum Wire {
    /// Under way.
    Dialling(Dialling),
    /// Usable. The queue holds what the socket does not take yet; it is bounded by the client
    /// machine's limit of unacked messages.
    Open {
        /// The WebSocket.
        socket: Box<Socket>,
        /// Not yet written.
        queue: VecDeque<Message>,
    },
}

impl Wire {
    /// Begins to dial.
    pub(crate) fn dial(url: Uri, source: Option<Ipv4Addr>) -> Self {
        const READ_BUFFER_BYTES: usize = 1024;
        Self::Dialling(Box::pin(async move { dial(&url, source, READ_BUFFER_BYTES).await }))
    }

    /// Queues a text message. Before the upgrade nothing can be sent.
    pub(crate) fn send(&mut self, text: String) {
        if let Self::Open { queue, .. } = self {
            queue.push_back(Message::text(text));
        }
    }

    /// Says goodbye in the background, for [`GOODBYE`] at most. A wire that never opened just goes.
    pub(crate) fn close(self, code: u16, reason: &str) -> Option<JoinHandle<()>> {
        let Self::Open { socket, mut queue } = self else { return None };
        queue.push_back(Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() })));
        let mut wire = Self::Open { socket, queue };
        Some(tokio::spawn(async move {
            let goodbye = async { while !matches!(poll_fn(|cx| wire.poll(cx)).await, Happening::Closed(..)) {} };
            // Whoever does not answer a close in time is simply left.
            let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        }))
    }

    /// The next thing that happens here.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happening> {
        match self {
            Self::Dialling(dialling) => Poll::Ready(match ready!(dialling.as_mut().poll(cx)) {
                Ok(socket) => {
                    *self = Self::Open { socket: Box::new(socket), queue: VecDeque::new() };
                    Happening::Opened
                }
                Err(why) => Happening::Closed(None, why),
            }),
            Self::Open { socket, queue } => poll_open(socket, queue, cx),
        }
    }
}

fn poll_open(socket: &mut Socket, queue: &mut VecDeque<Message>, cx: &mut Context<'_>) -> Poll<Happening> {
    if let Poll::Ready(Err(error)) = poll_write(socket, queue, cx) {
        return Poll::Ready(Happening::Closed(None, error.to_string()));
    }
    let happening = match ready!(Pin::new(&mut *socket).poll_next(cx)) {
        Some(Ok(Message::Text(text))) => Happening::Text(text.as_str().to_owned()),
        Some(Ok(Message::Binary(_))) => Happening::Binary,
        Some(Ok(Message::Close(frame))) => match frame {
            Some(frame) => Happening::Closed(Some(frame.code.into()), frame.reason.as_str().to_owned()),
            None => Happening::Closed(None, "closed without a code".to_owned()),
        },
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Happening::Heard,
        Some(Err(error)) => Happening::Closed(None, error.to_string()),
        None => Happening::Closed(None, "the connection ended".to_owned()),
    };
    Poll::Ready(happening)
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
