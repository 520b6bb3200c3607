//! A hub without listeners, a session with a connection that the test reads by hand, and an app on loopback.

use crate::app::side::Stage;
use crate::app::{self, App, Opening};
use crate::auth::Auth;
use crate::config::Config;
use crate::drain::Driver;
use crate::hub::cell::Cell;
use crate::hub::conn::{Conn, Order};
use crate::hub::{Hub, Parts, act};
use crate::keys::{ClusterKeys, Sealer, TokenMint, fill_random};
use crate::message::Message;
use crate::peer::{Own, Peers};
use crate::public::stream::Stream;
use crate::store::{DataDir, Limits, Store};
use crate::telemetry::Metrics;
use crate::ws::Socket;
use axum::Router;
use axum::extract::{Json, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::post;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tidegate_protocol::id::{HubId, SessionId};
use tidegate_protocol::peer::{Handover, PeerMessage, SNAPSHOT_VERSION};
use tidegate_protocol::position::{Epoch, Offset};
use tidegate_protocol::session::record::{Profile, Record};
use tidegate_protocol::session::{Event, Item, Purpose, Receipt, Session, State as SessionState};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message as WsMessage, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// Nothing here takes so long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// The hub to which the tests push; it is not there.
pub(super) const ELSEWHERE: HubId = HubId(99);

/// Waits for something that must happen.
pub(super) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, happens).await.unwrap_or_else(|_| panic!("expected soon: {what}"))
}

/// Waits until a condition holds.
pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A socket that the hub dialled.
pub(super) struct Dialled {
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) socket: WebSocketStream<TcpStream>,
}

impl Dialled {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("(absent)", |value| value.to_str().expect("plain text"))
    }

    pub(super) async fn reads(&mut self) -> WsMessage {
        soon("a message at the app", self.socket.next()).await.expect("the socket is open").expect("a sound frame")
    }

    pub(super) async fn reads_text(&mut self) -> String {
        match self.reads().await {
            WsMessage::Text(text) => text.as_str().to_owned(),
            other => panic!("expected a text at the app, got {other:?}"),
        }
    }

    pub(super) async fn reads_close(&mut self) -> (u16, String) {
        match self.reads().await {
            WsMessage::Close(Some(frame)) => (frame.code.into(), frame.reason.as_str().to_owned()),
            other => panic!("expected a close with a code at the app, got {other:?}"),
        }
    }

    pub(super) async fn says(&mut self, text: &str) {
        soon("the app's message is written", self.socket.send(WsMessage::text(text)))
            .await
            .expect("the socket is open");
    }

    /// Writes bytes past the WebSocket.
    pub(super) async fn writes(&mut self, bytes: &[u8]) {
        soon("the app's bytes are written", self.socket.get_mut().write_all(bytes)).await.expect("the socket is open");
    }

    pub(super) async fn closes(&mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: code.into(), reason: Utf8Bytes::from_static(reason) };
        soon("the app's close is written", self.socket.close(Some(frame))).await.expect("the socket is open");
    }
}

/// An event that was posted; `answer` it.
pub(super) struct Posted {
    pub(super) body: Value,
    answer: oneshot::Sender<(StatusCode, Vec<u8>)>,
}

impl Posted {
    pub(super) fn name(&self) -> &str {
        self.body["event"].as_str().expect("every event has a name")
    }

    /// Answers, and gives the body back.
    pub(super) fn answer(self, status: u16, body: &[u8]) -> Value {
        let status = StatusCode::from_u16(status).expect("a status");
        // The hub may have given the post up.
        drop(self.answer.send((status, body.to_vec())));
        self.body
    }
}

/// An app that does what the test says, and nothing else.
pub(super) struct FakeApp {
    pub(super) url: String,
    pub(super) events_url: String,
    sockets: mpsc::Receiver<Dialled>,
    posts: mpsc::Receiver<Posted>,
}

impl FakeApp {
    pub(super) async fn start() -> Self {
        let (dialled, sockets) = mpsc::channel(16);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("ws://{}", listener.local_addr().expect("bound"));
        tokio::spawn(accept(listener, dialled));
        let (posted, posts) = mpsc::channel(16);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let events_url = format!("http://{}/events", listener.local_addr().expect("bound"));
        let router = Router::new().route("/events", post(take)).with_state(posted);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, events_url, sockets, posts }
    }

    pub(super) async fn dialled(&mut self) -> Dialled {
        soon("a dial of the app", self.sockets.recv()).await.expect("the app listens")
    }

    pub(super) fn not_dialled(&mut self) -> bool {
        self.sockets.try_recv().is_err()
    }

    pub(super) async fn posted(&mut self, name: &str) -> Posted {
        let posted = soon(name, self.posts.recv()).await.expect("the app listens");
        assert_eq!(posted.name(), name, "the next event: {}", posted.body);
        posted
    }
}

#[allow(clippy::result_large_err, reason = "the signature is tungstenite's")]
async fn accept(listener: TcpListener, dialled: mpsc::Sender<Dialled>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let mut asked = None;
        let answer = |request: &Request, mut response: Response| {
            let offered =
                request.headers().get("sec-websocket-protocol").map_or("", |value| value.to_str().expect("plain text"));
            if offered.split(", ").any(|one| one == "chat") {
                response.headers_mut().insert("sec-websocket-protocol", "chat".parse().expect("plain text"));
            }
            asked = Some((request.uri().clone(), request.headers().clone()));
            Ok(response)
        };
        let Ok(socket) = accept_hdr_async(tcp, answer).await else { continue };
        let (uri, headers) = asked.expect("the handshake was answered");
        if dialled.send(Dialled { uri, headers, socket }).await.is_err() {
            return;
        }
    }
}

async fn take(State(posted): State<mpsc::Sender<Posted>>, Json(body): Json<Value>) -> (StatusCode, Vec<u8>) {
    let (answer, answered) = oneshot::channel();
    if posted.send(Posted { body, answer }).await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, Vec::new());
    }
    answered.await.unwrap_or((StatusCode::SERVICE_UNAVAILABLE, Vec::new()))
}

/// A hub with these options; its directory lives as long as what is returned.
pub(crate) async fn hub(options: &[&str]) -> (Arc<Hub>, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().to_str().expect("a plain path");
    let argv = ["tidegate", "serve", "--public", "127.0.0.1:0", "--private", "127.0.0.1:0", "--data-dir", data];
    let argv: Vec<_> = argv.iter().chain(options).map(Into::into).collect();
    let config = Config::read(&argv, &|_| None).unwrap_or_else(|error| panic!("{error}"));
    let data_dir = DataDir::open(&config.data_dir, PATIENCE, 0, &mut |bytes: &mut [u8]| fill_random(bytes))
        .await
        .expect("a data directory");
    let keys = ClusterKeys::for_hub(&config, &data_dir).expect("a key is made");
    let (store, _) =
        Store::open(data_dir.disk(), Arc::new(Sealer::new(&keys)), Limits::default()).expect("an empty log");
    let address = "127.0.0.1:8081".parse().expect("an address");
    let own = Own { hub: data_dir.hub(), run: data_dir.incarnation(), public: address, private: address };
    let world = crate::world::system();
    let hub = Hub::new(Parts {
        world: world.clone(),
        id: data_dir.hub(),
        incarnation: data_dir.incarnation(),
        mint: TokenMint::new(&keys),
        auth: Auth::new(&config.auth, config.limits.channels_per_session).expect("no auth"),
        metrics: Metrics::new(0),
        app: App::new(&config, &world).expect("an app"),
        peers: Peers::new(&config, &world, &keys, own).expect("no peers"),
        drain: Driver::default(),
        store,
        private: address,
        config,
    });
    (hub, dir)
}

/// A session with its connection.
pub(super) struct Guest {
    pub(super) hub: Arc<Hub>,
    pub(super) cell: Arc<Cell>,
    pub(super) conn: Arc<Conn>,
}

impl Guest {
    pub(super) fn profile() -> Profile {
        Profile {
            user: Some("ann".into()),
            path: Some("/room/1".into()),
            query: Some("a=b".into()),
            ..Profile::default()
        }
    }

    /// Comes to the hub as a new client does.
    pub(super) async fn arrives(hub: &Arc<Hub>, profile: Profile) -> Self {
        let id = SessionId(hub.random());
        let mut record = Record::new(Epoch(1), profile);
        let opened = app::open(hub, id, &mut record, Opening::New).await.expect("the app takes the session");
        let conn = hub.connect(Socket::new(Stream::Other(Box::new(tokio::io::duplex(1).0))));
        hub.register(conn.clone());
        let mut out = Vec::new();
        let cell = Cell::new(Session::begin(id, hub.id, record, conn.id, 0, &mut out), hub.now());
        hub.insert(cell.clone());
        {
            let mut inner = cell.lock();
            if let Some(opened) = opened {
                app::attach(hub, &cell, &mut inner, opened);
            }
            act::carry_out(hub, &cell, &mut inner, out, None);
        }
        assert!(matches!(conn.line().next_order(), Some(Order::Welcome(..))), "a new session is welcomed");
        Self { hub: hub.clone(), cell, conn }
    }

    pub(super) fn says(&self, message: Message) {
        assert_eq!(self.cell.receive(&self.hub, self.conn.id, &message).0, Receipt::Counted);
        // As the connection's task does right after it.
        app::relay(&self.hub, &mut self.cell.lock());
    }

    pub(super) fn says_text(&self, text: &str) {
        self.says(Message::text(text));
    }

    pub(super) async fn hears(&self) -> Message {
        let heard = std::future::poll_fn(|cx| {
            self.conn.listen(cx.waker());
            match self.cell.next_for(self.conn.id, self.hub.now()) {
                Some(Item::Message(message)) => Poll::Ready(message),
                Some(gap @ Item::Gap { .. }) => panic!("expected a message, got {gap:?}"),
                None => Poll::Pending,
            }
        });
        soon("a message at the client", heard).await
    }

    pub(super) fn acks(&self, received: u64) {
        self.cell.feed(&self.hub, Event::Acked { conn: self.conn.id, received: Offset(received) });
    }

    pub(super) fn record(&self) -> Record<Message> {
        self.cell.lock().session.record().expect("the session is here").clone()
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.cell.lock().session.state(), SessionState::Ended { .. })
    }

    /// Whether the link dials, or rests before it does.
    pub(super) fn is_waiting_for_app(&self) -> bool {
        let inner = self.cell.lock();
        inner.app.as_ref().is_some_and(|side| matches!(side.stage, Stage::Binding { .. }))
    }

    /// Freezes as for a push.
    pub(super) fn freezes(&self) -> Handover {
        self.cell.feed(&self.hub, Event::Push { to: ELSEWHERE, version: SNAPSHOT_VERSION });
        match self.cell.lock().session.state() {
            SessionState::Frozen { purpose: Purpose::Pushed(handover), .. } => *handover,
            other => panic!("expected a frozen session, got {other:?}"),
        }
    }

    pub(super) fn thaws(&self, handover: Handover) {
        let message = PeerMessage::Abort { session: self.cell.id, handover };
        self.cell.feed(&self.hub, Event::Peer { from: ELSEWHERE, message });
    }

    pub(super) fn is_settled(&self) -> bool {
        use tidegate_protocol::session::Stage as Freeze;
        matches!(self.cell.lock().session.state(), SessionState::Frozen { stage: Freeze::Offered { .. }, .. })
    }
}
