//! The link between two hubs, as a proxy that reads what it carries: a call or its answer is lost at
//! the very message that a test names, and the link may be cut from there on.

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What gets lost of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The call itself: the other hub never sees it.
    Call,
    /// The answer: the other hub has acted on it.
    Answer,
    /// The call arrives with one byte changed.
    GarbledCall,
    /// The answer arrives with one byte changed.
    GarbledAnswer,
}

/// How a broken link looks to who uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Connections end at once.
    Refuse,
    /// Nothing ever comes.
    Silence,
}

/// A rule: what happens at which message.
#[derive(Clone, Copy, Debug)]
struct Trap {
    kind: &'static str,
    times: u64,
    loss: Loss,
    cut: Option<Manner>,
}

#[derive(Debug, Default)]
struct State {
    targets: [Option<SocketAddr>; 2],
    cut: Option<Manner>,
    traps: Vec<Trap>,
    /// Per kind: how many arrived, and their bytes.
    carried: BTreeMap<String, (u64, u64)>,
    lost: u64,
    /// What each post waits before it is carried, by turns, in milliseconds.
    delays: Vec<u64>,
    posts: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Raised with every change of `cut`: who is under way looks again.
    changed: watch::Sender<u64>,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// Two proxies that share one fate: `ends[0]` leads to the first hub, `ends[1]` to the second. Both end
/// when it is dropped.
#[derive(Debug)]
pub struct PeerLink {
    /// Where the hubs are reached through it.
    pub ends: [SocketAddr; 2],
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

/// What happens to one post.
enum Judged {
    /// The link is cut.
    Cut,
    /// It goes through.
    Pass(Option<SocketAddr>),
    /// It was named by a test.
    Lose(Option<SocketAddr>, Loss),
}

/// The call is lost.
#[derive(Debug)]
struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("lost on the way")
    }
}

impl std::error::Error for Lost {}

impl PeerLink {
    /// A link that leads nowhere until [`PeerLink::lead`] is called: hubs need its addresses to start.
    ///
    /// # Panics
    /// When no loopback port is free.
    pub async fn new() -> Self {
        let http = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(HttpConnector::new());
        let shared = Arc::new(Shared { state: Mutex::default(), changed: watch::Sender::new(0), http });
        let (mut ends, mut tasks) = (Vec::new(), Vec::new());
        for end in 0..2 {
            let listener =
                TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("no port for a link: {error}"));
            ends.push(listener.local_addr().expect("a bound listener has an address"));
            tasks.push(tokio::spawn(accept(listener, end, shared.clone())).abort_handle());
        }
        Self { ends: [ends[0], ends[1]], shared, tasks }
    }

    /// Says where its ends lead: the private addresses of the first and the second hub.
    pub fn lead(&self, first: SocketAddr, second: SocketAddr) {
        self.shared.lock().targets = [Some(first), Some(second)];
    }

    /// Loses the first `times` posts with a message of this kind, or their answers.
    pub fn lose(&self, kind: &'static str, times: u64, loss: Loss) {
        self.shared.lock().traps.push(Trap { kind, times, loss, cut: None });
    }

    /// Loses the first post with a message of this kind, or its answer, and cuts the link with it.
    pub fn cut_at(&self, kind: &'static str, loss: Loss, manner: Manner) {
        self.shared.lock().traps.push(Trap { kind, times: 1, loss, cut: Some(manner) });
    }

    /// Lets each post wait so many milliseconds before it is carried, by turns: later ones overtake earlier ones.
    pub fn delay(&self, by_turns: &[u64]) {
        self.shared.lock().delays = by_turns.to_vec();
    }

    /// Cuts the link now.
    pub fn cut(&self, manner: Manner) {
        self.shared.set_cut(Some(manner));
    }

    /// Carries everything again; what was lost stays lost.
    pub fn heal(&self) {
        self.shared.lock().traps.clear();
        self.shared.set_cut(None);
    }

    /// Whether it is cut.
    pub fn is_cut(&self) -> bool {
        self.shared.lock().cut.is_some()
    }

    /// How many posts or answers a rule has lost.
    pub fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    /// How many messages of this kind arrived.
    pub fn carried(&self, kind: &str) -> u64 {
        self.shared.lock().carried.get(kind).map_or(0, |(count, _)| *count)
    }

    /// How many bytes the messages of this kind that arrived had in all.
    pub fn bytes(&self, kind: &str) -> u64 {
        self.shared.lock().carried.get(kind).map_or(0, |(_, bytes)| *bytes)
    }
}

impl Drop for PeerLink {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_cut(&self, cut: Option<Manner>) {
        self.lock().cut = cut;
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// What happens to a post with these messages.
    fn judge(&self, end: usize, kinds: &[(String, u64)]) -> Judged {
        let mut state = self.lock();
        if state.cut.is_some() {
            return Judged::Cut;
        }
        let target = state.targets[end];
        let trap =
            state.traps.iter_mut().find(|trap| trap.times > 0 && kinds.iter().any(|(kind, _)| kind == trap.kind));
        let Some(trap) = trap else { return Judged::Pass(target) };
        trap.times -= 1;
        let trap = *trap;
        state.lost += 1;
        if trap.cut.is_some() {
            state.cut = trap.cut;
            self.changed.send_modify(|changes| *changes += 1);
        }
        Judged::Lose(target, trap.loss)
    }

    /// What the next post waits.
    fn next_delay(&self) -> Duration {
        let mut state = self.lock();
        state.posts += 1;
        let turn = state.posts % state.delays.len().max(1);
        Duration::from_millis(state.delays.get(turn).copied().unwrap_or(0))
    }

    /// Ends when the link is cut or whole again, whichever it is not now.
    async fn change(&self, changed: &mut watch::Receiver<u64>) {
        if changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What a call gets that is lost now: an end, or nothing until the link is whole.
    async fn lose(&self, changed: &mut watch::Receiver<u64>) -> Lost {
        while self.lock().cut == Some(Manner::Silence) {
            self.change(changed).await;
        }
        Lost
    }
}

async fn accept(listener: TcpListener, end: usize, shared: Arc<Shared>) {
    // All connections end with this set, and it with the link.
    let mut served = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = served.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else { continue };
        let shared = shared.clone();
        served.spawn(async move {
            let service = service_fn(move |request| carry(shared.clone(), end, request));
            // An error is how a lost call looks from here.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn carry(shared: Arc<Shared>, end: usize, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Lost> {
    let mut changed = shared.changed.subscribe();
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Lost)?.to_bytes();
    let kinds = kinds(&body);
    tokio::time::sleep(shared.next_delay()).await;
    let (target, loss) = match shared.judge(end, &kinds) {
        Judged::Cut => return Err(shared.lose(&mut changed).await),
        Judged::Pass(target) => (target, None),
        Judged::Lose(target, loss) => (target, Some(loss)),
    };
    // A cut that this very call has caused is none that it waits for.
    changed.mark_unchanged();
    if loss == Some(Loss::Call) {
        return Err(shared.lose(&mut changed).await);
    }
    let body = if loss == Some(Loss::GarbledCall) { garbled(&body) } else { body };
    let exchange = pass_on(&shared, target, head, body, kinds);
    let answer = match loss {
        Some(Loss::Answer) => {
            drop(exchange.await);
            Err(Lost)
        }
        Some(Loss::GarbledAnswer) => exchange.await.map(|answer| answer.map(|body| garbled(&body))),
        Some(Loss::Call | Loss::GarbledCall) | None => tokio::select! {
            answer = exchange => answer,
            () = shared.change(&mut changed) => Err(Lost),
        },
    };
    match answer {
        Ok(answer) => Ok(answer.map(Full::new)),
        Err(Lost) => Err(shared.lose(&mut changed).await),
    }
}

async fn pass_on(
    shared: &Shared,
    target: Option<SocketAddr>,
    mut head: http::request::Parts,
    body: Bytes,
    kinds: Vec<(String, u64)>,
) -> Result<Response<Bytes>, Lost> {
    let target = target.ok_or(Lost)?;
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    head.uri = format!("http://{target}{path}").parse::<Uri>().map_err(|_| Lost)?;
    let answer = shared.http.request(Request::from_parts(head, Full::new(body))).await.map_err(|_| Lost)?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|_| Lost)?.to_bytes();
    let mut state = shared.lock();
    for (kind, bytes) in kinds {
        let carried = state.carried.entry(kind).or_default();
        *carried = (carried.0 + 1, carried.1 + bytes);
    }
    Ok(Response::from_parts(head, body))
}

/// The same with one byte in the middle changed.
fn garbled(body: &Bytes) -> Bytes {
    let mut bytes = body.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes.into()
}

/// The kinds of the machine messages in a body, if it has some, and how long each is.
fn kinds(body: &[u8]) -> Vec<(String, u64)> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let messages = body["messages"].as_array().into_iter().flatten();
    messages
        .filter_map(|message| Some((message["say"].as_str()?.to_owned(), message.to_string().len() as u64)))
        .collect()
}
