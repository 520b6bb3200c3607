//! A client by hand: every byte is the test's own.

use crate::wait::within;
use crate::wire::{Socket, dial};
use futures_util::{SinkExt, StreamExt};
use http::Uri;
use serde_json::{Value, json};
use tidegate_protocol::frame::{MARK, SUBPROTOCOL};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Error};

/// What a hub sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A frame.
    Frame(Value),
    /// An app text as it travelled, its escape still on.
    Text(String),
    /// An app message of bytes.
    Binary(Vec<u8>),
    /// The end, with code and reason; without a code when the connection just broke.
    Close(Option<u16>, String),
}

/// An upgrade that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status, 0 when there was no answer.
    pub status: u16,
    /// The body, or why there was none.
    pub body: String,
}

/// A raw connection.
#[derive(Debug)]
pub struct RawClient {
    socket: Socket,
}

impl RawClient {
    /// Connects with the subprotocol, and nothing said yet.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn open(url: &str) -> Self {
        let opened = Self::try_open(url, &[("sec-websocket-protocol", SUBPROTOCOL)]).await;
        opened.unwrap_or_else(|refused| panic!("{url} refused a connection: {refused:?}"))
    }

    /// Connects with exactly these headers beside those of any WebSocket.
    ///
    /// # Errors
    /// What was answered instead.
    pub async fn try_open(url: &str, headers: &[(&str, &str)]) -> Result<Self, Refused> {
        let url: Uri = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
        let mut request = ClientRequestBuilder::new(url.clone());
        for (name, value) in headers {
            match *name {
                "sec-websocket-protocol" => request = request.with_sub_protocol(*value),
                _ => request = request.with_header(*name, *value),
            }
        }
        match within("an answer to an upgrade", dial(request, &url)).await {
            Ok(socket) => Ok(Self { socket }),
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().map(|body| String::from_utf8_lossy(body).into_owned());
                Err(Refused { status: answer.status().as_u16(), body: body.unwrap_or_default() })
            }
            Err(error) => Err(Refused { status: 0, body: error.to_string() }),
        }
    }

    /// Connects and is welcomed to a new session. Gives the `welcome` too.
    ///
    /// # Panics
    /// When it is not welcomed.
    pub async fn welcomed(url: &str) -> (Self, Value) {
        let mut client = Self::open(url).await;
        client.frame(&json!({"type": "hello"})).await;
        let welcome = client.expect("welcome").await;
        (client, welcome)
    }

    /// Connects and comes back with a token.
    pub async fn back(url: &str, token: &Value, attempt: u32, received: u64) -> Self {
        let mut client = Self::open(url).await;
        client.frame(&json!({"type": "hello", "token": token, "try": attempt, "received": received, "epoch": 1})).await;
        client
    }

    /// Sends a frame.
    pub async fn frame(&mut self, frame: &Value) {
        self.text(&format!("{MARK}{frame}")).await;
    }

    /// Sends a text as it is.
    pub async fn text(&mut self, text: &str) {
        self.message(Message::text(text)).await;
    }

    /// Sends bytes as a binary message.
    pub async fn binary(&mut self, bytes: &[u8]) {
        self.message(Message::binary(bytes.to_vec())).await;
    }

    /// Closes with a code.
    pub async fn close(&mut self, code: u16, reason: &str) {
        self.message(Message::Close(Some(CloseFrame { code: code.into(), reason: reason.to_owned().into() }))).await;
    }

    /// Sends any message. A hub that has closed already is no failure here: what it said is read next.
    pub async fn message(&mut self, message: Message) {
        drop(within("a message is written", self.socket.send(message)).await);
    }

    /// Sends any message; false when the connection is gone. Waits as long as the hub reads nothing.
    pub async fn try_message(&mut self, message: Message) -> bool {
        self.socket.send(message).await.is_ok()
    }

    /// Writes bytes past the WebSocket; false when the connection is gone.
    pub async fn try_bytes(&mut self, bytes: &[u8]) -> bool {
        within("bytes are written", self.socket.get_mut().write_all(bytes)).await.is_ok()
    }

    /// Writes bytes past the WebSocket, to break it.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        let written = within("bytes are written", self.socket.get_mut().write_all(bytes)).await;
        written.unwrap_or_else(|error| panic!("bytes could not be written: {error}"));
    }

    /// The next thing the hub sends. WebSocket pings are answered on the way.
    ///
    /// # Panics
    /// When nothing comes in time.
    pub async fn next(&mut self) -> Heard {
        loop {
            match within("something from the hub", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => {
                    let text = text.as_str();
                    return match text.strip_prefix(MARK) {
                        Some(json) if !json.starts_with(MARK) => {
                            let frame = serde_json::from_str(json);
                            Heard::Frame(frame.unwrap_or_else(|error| panic!("the hub sent {json:?}: {error}")))
                        }
                        Some(_) | None => Heard::Text(text.to_owned()),
                    };
                }
                Some(Ok(Message::Binary(bytes))) => return Heard::Binary(bytes.to_vec()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Heard::Close(Some(frame.code.into()), frame.reason.as_str().to_owned());
                }
                Some(Ok(Message::Close(None))) => return Heard::Close(None, "closed without a code".to_owned()),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Heard::Close(None, error.to_string()),
                None => return Heard::Close(None, "the connection ended".to_owned()),
            }
        }
    }

    /// The next frame of this type; acks and pings on the way are passed over.
    ///
    /// # Panics
    /// When anything else comes first.
    pub async fn expect(&mut self, kind: &str) -> Value {
        loop {
            match self.next().await {
                Heard::Frame(frame) if frame["type"] == kind => return frame,
                Heard::Frame(frame) if ["ack", "ping", "pong"].iter().any(|passed| frame["type"] == *passed) => {}
                other => panic!("expected the frame {kind}, the hub sent {other:?}"),
            }
        }
    }

    /// The next app text; frames on the way are passed over.
    ///
    /// # Panics
    /// When the connection ends first.
    pub async fn expect_text(&mut self) -> String {
        loop {
            match self.next().await {
                Heard::Text(text) => return text,
                Heard::Frame(_) => {}
                other => panic!("expected an app text, the hub sent {other:?}"),
            }
        }
    }

    /// The next app message of bytes; frames on the way are passed over.
    ///
    /// # Panics
    /// When anything else comes first.
    pub async fn expect_binary(&mut self) -> Vec<u8> {
        loop {
            match self.next().await {
                Heard::Binary(bytes) => return bytes,
                Heard::Frame(_) => {}
                other => panic!("expected an app message of bytes, the hub sent {other:?}"),
            }
        }
    }

    /// How the connection ends; everything on the way is passed over.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn closed(&mut self) -> (Option<u16>, String) {
        let end = async {
            loop {
                if let Heard::Close(code, reason) = self.next().await {
                    return (code, reason);
                }
            }
        };
        within("the end of a connection", end).await
    }
}
