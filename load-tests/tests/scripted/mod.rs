//! Two scripted hubs with one app behind them, just enough of the wire to move sessions from the
//! first to the second, and able to break each promise on purpose.

#![allow(dead_code, reason = "each test program uses a part of it")]

use futures_util::{SinkExt, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate_protocol::frame::{ClientFrame, Hello, ServerFrame, Text, Welcome, WireLimits, sort};
use tidegate_protocol::id::{DrainId, HubId, ResumeToken, SessionId};
use tidegate_protocol::position::{Epoch, Generation, Offset};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

/// What the scripted app or hub does wrong, once per session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    /// Nothing.
    None,
    /// The app never sees `u 3`.
    LosesThirdUp,
    /// The app sends its third message twice.
    DoublesThirdDown,
    /// The hub's report says that one session less was moved.
    ReportsOneLess,
    /// The app's third and fourth message are lost, and the hub declares it.
    DeclaresGap,
    /// The app never answers `sum`.
    KeepsSilent,
}

#[derive(Default)]
struct Session {
    generation: u32,
    taken: u64,
    numbers: BTreeSet<u64>,
    duplicates: u64,
    app_sent: u64,
    outbox: Vec<Down>,
    breach_done: bool,
}

#[derive(Clone)]
enum Down {
    App(String),
    Gap(u64),
}

struct World {
    breach: Breach,
    sessions: Mutex<BTreeMap<u128, Session>>,
    moved: Mutex<BTreeSet<u128>>,
    draining: watch::Sender<bool>,
    second: SocketAddr,
}

/// The addresses of the two scripted hubs and of the first one's private API.
pub(crate) struct Scripted {
    pub(crate) public: SocketAddr,
    pub(crate) private: SocketAddr,
    world: Arc<World>,
}

impl Scripted {
    pub(crate) async fn start(breach: Breach) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (first, second, private) = (bind().await.unwrap(), bind().await.unwrap(), bind().await.unwrap());
        let world = Arc::new(World {
            breach,
            sessions: Mutex::default(),
            moved: Mutex::default(),
            draining: watch::channel(false).0,
            second: second.local_addr().unwrap(),
        });
        let scripted = Self {
            public: first.local_addr().unwrap(),
            private: private.local_addr().unwrap(),
            world: Arc::clone(&world),
        };
        tokio::spawn(accept(first, HubId(1), Arc::clone(&world)));
        tokio::spawn(accept(second, HubId(2), Arc::clone(&world)));
        tokio::spawn(answer_private(private, world));
        scripted
    }

    pub(crate) fn drain(&self) {
        self.world.draining.send_replace(true);
    }
}

async fn accept(listener: TcpListener, hub: HubId, world: Arc<World>) {
    while let Ok((stream, _)) = listener.accept().await {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let mut pushes = true;
            #[expect(clippy::result_large_err, reason = "the signature is the library's")]
            let choose = |asked: &Request, mut answer: Response| {
                pushes = asked.uri().path() != "/connect";
                answer.headers_mut().insert("sec-websocket-protocol", "tidegate.v1".parse().unwrap());
                Ok(answer)
            };
            if let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, choose).await {
                serve(socket, hub, &world, pushes).await;
            }
        });
    }
}

async fn serve(mut socket: WebSocketStream<TcpStream>, hub: HubId, world: &World, pushes: bool) {
    let Some(Ok(Message::Text(text))) = socket.next().await else { return };
    let Text::Frame(json) = sort(text.as_str()) else { panic!("expected hello, got {text}") };
    let ClientFrame::Hello(hello) = ClientFrame::decode(json).unwrap() else { panic!("expected hello, got {json}") };
    let (id, generation, welcome) = admit(hello, hub, world);
    socket.send(Message::text(ServerFrame::Welcome(welcome.clone()).encode())).await.unwrap();
    let mut draining = world.draining.subscribe();
    let mut told = hub == HubId(2);
    let mut position = welcome.from.0 as usize;
    let mut push = tokio::time::interval(Duration::from_millis(30));
    loop {
        for down in pending(world, id, generation, &mut position) {
            let text = match down {
                Down::App(text) => text,
                Down::Gap(at) => {
                    ServerFrame::Gap { from: Offset(at), to: Offset(at + 2), why: "scripted".into() }.encode()
                }
            };
            if socket.feed(Message::text(text)).await.is_err() {
                return;
            }
        }
        let _ = socket.flush().await;
        if superseded(world, id, generation) {
            let close = CloseFrame { code: 1012.into(), reason: "moved".into() };
            let _ = socket.close(Some(close)).await;
            return;
        }
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => take(world, id, generation, text.as_str()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            _ = push.tick(), if pushes => with(world, id, |session| app_sends(session, world.breach, 0)),
            _ = async { draining.wait_for(|on| *on).await.is_ok() }, if !told => {
                told = true;
                let url = Some(format!("ws://{}", world.second));
                let order = ServerFrame::Move { drain: DrainId(5), seq: 1, token: token(id), url };
                let _ = socket.send(Message::text(order.encode())).await;
            }
        }
    }
}

fn token(id: u128) -> ResumeToken {
    ResumeToken(id.to_string())
}

fn with<T>(world: &World, id: u128, act: impl FnOnce(&mut Session) -> T) -> T {
    act(world.sessions.lock().unwrap().entry(id).or_default())
}

fn superseded(world: &World, id: u128, generation: u32) -> bool {
    with(world, id, |session| session.generation != generation)
}

fn admit(hello: Hello, hub: HubId, world: &World) -> (u128, u32, Welcome) {
    let known: Option<u128> = hello.token.map(|token| token.0.parse().unwrap());
    let id = known.unwrap_or_else(|| world.sessions.lock().unwrap().len() as u128 + 1);
    if known.is_some() && hub == HubId(2) {
        world.moved.lock().unwrap().insert(id);
    }
    let (generation, received) = with(world, id, |session| {
        session.generation += 1;
        (session.generation, session.taken)
    });
    let welcome = Welcome {
        session: SessionId(id),
        token: token(id),
        epoch: Epoch(1),
        generation: Generation(generation),
        resumed: known.is_some(),
        from: hello.received,
        received: Offset(received),
        heartbeat_ms: 25_000,
        hub,
        protocol: None,
        auth_expires_ms: None,
        limits: WireLimits { message_bytes: 1024 },
    };
    (id, generation, welcome)
}

/// What this connection has not sent yet; a gap stands for two places.
fn pending(world: &World, id: u128, generation: u32, position: &mut usize) -> Vec<Down> {
    with(world, id, |session| {
        if session.generation != generation {
            return Vec::new();
        }
        let fresh = session.outbox[(*position).min(session.outbox.len())..].to_vec();
        *position = session.outbox.len();
        let second_half = |down: &Down| matches!(down, Down::Gap(at) if *at == u64::MAX);
        fresh.into_iter().filter(|down| !second_half(down)).collect()
    })
}

fn take(world: &World, id: u128, generation: u32, text: &str) {
    let Text::App(line) = sort(text) else { return };
    with(world, id, |session| {
        if session.generation != generation {
            return;
        }
        session.taken += 1;
        let first_breach = |session: &mut Session| !std::mem::replace(&mut session.breach_done, true);
        match line.strip_prefix("u ").map(|n| n.parse::<u64>().unwrap()) {
            Some(3) if world.breach == Breach::LosesThirdUp && first_breach(session) => {}
            Some(n) => {
                if !session.numbers.insert(n) {
                    session.duplicates += 1;
                }
                app_sends(session, world.breach, n);
            }
            None if line == "sum" && world.breach != Breach::KeepsSilent => {
                let highest = session.numbers.last().copied().unwrap_or(0);
                let missing = (1..highest).find(|n| !session.numbers.contains(n)).unwrap_or(0);
                let (received, duplicates, sent) = (session.numbers.len(), session.duplicates, session.app_sent);
                session.outbox.push(Down::App(format!("sum {received} {missing} {duplicates} 0 {sent}")));
            }
            None => {}
        }
    });
}

fn app_sends(session: &mut Session, breach: Breach, n: u64) {
    session.app_sent += 1;
    let m = session.app_sent;
    if m == 3 && breach == Breach::DeclaresGap {
        session.app_sent += 1;
        let at = session.outbox.len() as u64;
        session.outbox.extend([Down::Gap(at), Down::Gap(u64::MAX)]);
        return;
    }
    session.outbox.push(Down::App(format!("d {m} {n}")));
    if m == 3 && breach == Breach::DoublesThirdDown {
        session.outbox.push(Down::App(format!("d {m} {n}")));
    }
}

async fn answer_private(listener: TcpListener, world: Arc<World>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let mut asked = Vec::new();
            let mut buffer = [0; 1024];
            while !asked.windows(4).any(|four| four == b"\r\n\r\n") {
                match stream.read(&mut buffer).await {
                    Ok(bytes) if bytes > 0 => asked.extend_from_slice(&buffer[..bytes]),
                    _ => return,
                }
            }
            let (status, body) = private_answer(&String::from_utf8_lossy(&asked), &world);
            let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n");
            let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }
}

fn private_answer(asked: &str, world: &World) -> (&'static str, String) {
    let population = world.sessions.lock().unwrap().len();
    let moved = world.moved.lock().unwrap().len();
    let draining = *world.draining.borrow();
    let done = draining && moved == population;
    let counts = |moved: usize| {
        format!(
            r#"{{"at_start":{population},"arrived":0,"moved":{moved},"parked":0,"left":0,"forced":0,"unconfirmed":0,"remaining":{},"resumed":{moved}}}"#,
            population - moved
        )
    };
    if asked.starts_with("GET /v1/drain?") {
        let (phase, sessions) = match (draining, done) {
            (false, _) => ("serving", "null".to_owned()),
            (true, false) => ("releasing", counts(moved)),
            (true, true) => ("drained", counts(moved)),
        };
        let body = format!(
            r#"{{"phase":"{phase}","drain":null,"seq":{moved},"since_ms":null,"deadline_in_ms":null,"sessions":{sessions},"cut":null,"unroutable":null,"in_flight":null,"stage":null,"stages":null,"rate_per_s":null,"eta_ms":null,"waiting_for":[],"successors":[],"joined":null,"why":null}}"#
        );
        return ("200 OK", body);
    }
    if !done {
        return ("404 Not Found", "{}".to_owned());
    }
    let told = moved - usize::from(world.breach == Breach::ReportsOneLess);
    let gaps = if world.breach == Breach::DeclaresGap { population } else { 0 };
    let lost = if world.breach == Breach::LosesThirdUp { population } else { 0 };
    let body = format!(
        r#"{{"drain":"0000000000000005","result":"drained","started_at":"2026-11-22T00:00:00Z","took_ms":7,"sessions":{},"cut":0,"unroutable":0,"clients":{{"notified":0,"ready":0,"busy":0,"granted":0}},"messages":{{"replayed":0,"duplicates_dropped":0,"gaps":{gaps},"lost":{lost}}},"gap_ms":{{"p50":1,"p99":1,"max":1}},"stages":[],"successors":[],"trigger":null,"why":null}}"#,
        counts(told)
    );
    ("200 OK", body)
}
