//! The private API from the outside: real requests through the real router, over a real hub on a
//! directory of its own.

mod admission;
mod bad_input;
mod clock;
mod drains;
mod listener;
mod origins;
mod page;
mod publishing;
mod sessions;
mod taking_up;

use super::router;
use crate::app::App;
use crate::auth::Auth;
use crate::config::Config;
use crate::drain::Driver;
use crate::hub::cell::Cell;
use crate::hub::{Hub, Parts};
use crate::keys::{ClusterKeys, PrivateToken, Sealer, TokenMint, fill_random};
use crate::message::Message;
use crate::peer::{Own, Peers};
use crate::public::stream::Stream;
use crate::store::{DataDir, Limits, Store};
use crate::telemetry::Metrics;
use crate::world::World;
use crate::ws::Socket;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::id::SessionId;
use tidegate_protocol::position::Epoch;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::record::{Profile, Record};
use tower::ServiceExt;

/// How long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// A hub that nobody connects to, and its private API.
struct Bench {
    hub: Arc<Hub>,
    router: Router,
    data_dir: DataDir,
    dir: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

async fn bench(flags: &[&str]) -> Bench {
    bench_with(flags, None).await
}

async fn bench_with(flags: &[&str], token: Option<PrivateToken>) -> Bench {
    bench_in(tempfile::tempdir().expect("a temporary directory"), flags, token).await
}

async fn bench_in(dir: tempfile::TempDir, flags: &[&str], token: Option<PrivateToken>) -> Bench {
    bench_in_world(dir, flags, token, crate::world::system()).await
}

async fn bench_in_world(dir: tempfile::TempDir, flags: &[&str], token: Option<PrivateToken>, world: World) -> Bench {
    let path = dir.path().to_str().expect("UTF-8").to_owned();
    let argv: Vec<OsString> =
        ["tidegate", "serve", "--data-dir", &path].iter().chain(flags).map(OsString::from).collect();
    let config = Config::read(&argv, &|_| None).expect("good flags");
    let data_dir =
        DataDir::open(&config.data_dir, Duration::from_secs(1), 1, &mut |bytes: &mut [u8]| fill_random(bytes))
            .await
            .expect("a free directory");
    let keys = ClusterKeys::for_hub(&config, &data_dir).expect("a key");
    let (store, _) =
        Store::open(data_dir.disk(), Arc::new(Sealer::new(&keys)), Limits::default()).expect("an empty store");
    let (public, private) = (SocketAddr::from(([127, 0, 0, 1], 1)), config.private);
    let own = Own { hub: data_dir.hub(), run: data_dir.incarnation(), public, private };
    let hub = Hub::new(Parts {
        world: world.clone(),
        id: data_dir.hub(),
        incarnation: data_dir.incarnation(),
        mint: TokenMint::new(&keys),
        auth: Auth::new(&config.auth, config.limits.channels_per_session).expect("no auth"),
        metrics: Metrics::new(1),
        app: App::new(&config, &world).expect("no app"),
        peers: Peers::new(&config, &world, &keys, own).expect("no peers"),
        drain: Driver::keeping(data_dir.report_file()),
        store,
        private,
        config,
    });
    Bench { router: router(hub.clone(), token), hub, data_dir, dir }
}

impl Bench {
    /// A session with a connection, as if its client had just been welcomed.
    fn session(&self, id: u128, user: Option<&str>, channels: &[&str]) -> Arc<Cell> {
        let profile = Profile { user: user.map(Into::into), ..Profile::default() };
        let conn = self.hub.connect(Socket::new(Stream::Other(Box::new(tokio::io::duplex(1).0))));
        self.hub.register(conn.clone());
        let mut record = Record::new(Epoch(1), profile);
        record.channels = channels.iter().map(|name| Arc::from(*name)).collect();
        let session = Session::begin(SessionId(id), self.hub.id, record, conn.id, 0, &mut Vec::new());
        let cell = Cell::new(session, self.hub.now());
        {
            let mut inner = cell.lock();
            self.hub.index.add(cell.id, inner.session.record());
            inner.conn = Some(conn);
        }
        self.hub.insert(cell.clone());
        cell
    }

    /// The next process on the same directory.
    async fn again(self) -> Self {
        drop(self.data_dir);
        bench_in(self.dir, &[], None).await
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("a router answers");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    /// A call without a body, as a caller on this machine makes it.
    async fn call(&self, method: &str, path: &str) -> Answer {
        self.send(request(method, path).body(Body::empty()).expect("a good request")).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path).await
    }

    /// A call with a JSON body.
    async fn json(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        self.typed(method, path, "application/json", body).await
    }

    async fn typed(&self, method: &str, path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
        let request = request(method, path).header(header::CONTENT_TYPE, content_type);
        self.send(request.body(body.into()).expect("a good request")).await
    }

    async fn publish(&self, body: impl Into<Body>) -> Answer {
        self.json("POST", "/v1/publish", body).await
    }
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:8081")
}

/// What was numbered for a session's client, in order.
fn outbox(cell: &Cell) -> Vec<Message> {
    let inner = cell.lock();
    inner.session.record().expect("a session that is served").outbox.iter().cloned().collect()
}

fn id(session: u128) -> String {
    SessionId(session).to_string()
}

impl Answer {
    fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("expected JSON, got {error} in {self:?}"))
    }

    /// The body of an answer with this status.
    #[track_caller]
    fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        if self.body.is_empty() { Value::Null } else { self.value() }
    }

    /// The detail of a problem with this status, checked to be a whole problem.
    #[track_caller]
    fn problem(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{self:?}");
        let problem = self.value();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("/problems/")), "{problem}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{problem}");
        problem["detail"].as_str().expect("a detail").to_owned()
    }

    #[track_caller]
    fn says(&self, status: u16, expected: &str) {
        let detail = self.problem(status);
        assert!(detail.contains(expected), "expected \"{expected}\" in \"{detail}\"");
    }
}
