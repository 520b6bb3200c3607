//! A scripted hub: one thread accepts, one per connection answers what the script says.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The drain that the scripts tell of.
pub(crate) const DRAIN: &str = "00000000000000d1";

/// What the trigger asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) at: Instant,
}

impl Asked {
    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path.split('?').next() == Some(path)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("body {:?} is not JSON: {error}", self.body))
    }
}

/// What a script answers.
pub(crate) enum Reply {
    /// A well-formed answer.
    Json(u16, Value),
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// Nothing, with the connection left open.
    Silence,
    /// The end of the connection.
    HangUp,
    /// The end of the connection and of the hub: nothing listens any more.
    Die,
}

type Script = dyn FnMut(&Asked) -> Reply + Send;

struct Shared {
    script: Mutex<Box<Script>>,
    asked: Mutex<Vec<Asked>>,
    stop: AtomicBool,
    address: SocketAddr,
}

/// A hub that answers by its script until it is dropped.
pub(crate) struct Hub {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Hub {
    pub(crate) fn scripted(script: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            asked: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
            address,
        });
        let accepting = std::thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        });
        Self { shared, accepting: Some(accepting) }
    }

    /// A hub that goes through these statuses, one per question, and then stays at the last.
    pub(crate) fn draining(statuses: Vec<Value>, report: Value) -> Self {
        let mut at = 0;
        Self::scripted(move |asked| {
            if asked.is("GET", "/v1/drain/report") {
                return Reply::Json(200, report.clone());
            }
            if asked.is("DELETE", "/v1/drain") {
                return Reply::Json(200, serving());
            }
            let status = statuses[at.min(statuses.len() - 1)].clone();
            at += 1;
            Reply::Json(if asked.method == "POST" { 202 } else { 200 }, status)
        })
    }

    /// A hub whose drain never ends.
    pub(crate) fn endless() -> Self {
        Self::draining(vec![status("releasing", 1, 7)], Value::Null)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("no test thread panics with the lock").clone()
    }

    /// How often this was asked.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.asked().iter().filter(|asked| asked.is(method, path)).count()
    }

    /// Waits until this has been asked `n` times.
    pub(crate) fn wait_for(&self, method: &str, path: &str, n: usize) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.count(method, path) < n {
            assert!(Instant::now() < until, "expected {n} × {method} {path}, got {:#?}", self.asked());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        stop(&self.shared);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Closes the listener: a last connection wakes the accepting thread, which then drops it.
fn stop(shared: &Shared) {
    shared.stop.store(true, Ordering::SeqCst);
    let _ = TcpStream::connect(shared.address);
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let (Ok(stream), shared) = (stream, shared.clone()) else { continue };
        std::thread::spawn(move || converse(stream, &shared));
    }
}

fn converse(stream: TcpStream, shared: &Shared) {
    let Some(asked) = read_request(&stream) else { return };
    shared.asked.lock().expect("no test thread panics with the lock").push(asked.clone());
    let reply = (shared.script.lock().expect("no script panics"))(&asked);
    match reply {
        Reply::Json(status, body) => write_json(stream, status, &body),
        Reply::Bytes(bytes) => drop((&stream).write_all(&bytes)),
        Reply::Silence => {
            // Until the other end gives up, or the longest test is over.
            let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
            let _ = (&stream).read(&mut [0; 1]);
        }
        Reply::HangUp => drop(stream),
        Reply::Die => stop(shared),
    }
}

/// Reads one HTTP/1.1 request with its body.
pub(crate) fn read_request(stream: impl Read) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(0, |(_, value)| value.parse().unwrap_or(0));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Some(Asked { method, path, headers, body, at: Instant::now() })
}

/// An answer as bytes.
pub(crate) fn response(status: u16, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let kind = if status < 400 { "application/json" } else { "application/problem+json" };
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

fn write_json(mut stream: TcpStream, status: u16, body: &Value) {
    let _ = stream.write_all(&response(status, body));
}

/// No drain.
pub(crate) fn serving() -> Value {
    json!({ "phase": "serving", "drain": null, "seq": 9, "waiting_for": [], "successors": [] })
}

/// A status of ten sessions of which so many are left.
pub(crate) fn status(phase: &str, seq: u64, remaining: u64) -> Value {
    json!({
        "phase": phase, "drain": DRAIN, "seq": seq, "since_ms": 10, "deadline_in_ms": 60_000,
        "sessions": { "at_start": 10, "arrived": 0, "moved": 10 - remaining, "parked": 0, "left": 0, "forced": 0, "unconfirmed": 0, "remaining": remaining },
        "cut": 0, "unroutable": 0, "in_flight": 0, "stage": 1, "stages": 4, "rate_per_s": 2.0, "eta_ms": 3_000,
        "waiting_for": [{ "session": "000000000000000000000000000000aa", "why": "busy: typing", "since_ms": 1_200 }],
        "successors": [], "joined": false, "why": null
    })
}

/// A report of ten sessions of which so many were forced.
pub(crate) fn report(result: &str, forced: u64) -> Value {
    json!({
        "drain": DRAIN, "result": result, "started_at": "2026-11-22T20:00:00Z", "took_ms": 4_200,
        "sessions": { "at_start": 10, "arrived": 0, "moved": 10 - forced, "parked": 0, "left": 0, "forced": forced, "unconfirmed": 0, "remaining": 0, "resumed": 10 - forced },
        "cut": 0, "unroutable": 0,
        "clients": { "notified": 10, "ready": 9, "busy": 1, "granted": 1 },
        "messages": { "replayed": 3, "duplicates_dropped": 1, "gaps": 0, "lost": 0 },
        "gap_ms": { "p50": 8, "p99": 20, "max": 21 }, "stages": [],
        "successors": [{ "hub": "00000000000000bb", "url": null, "moved": 10 - forced, "state": "serving" }],
        "trigger": null, "why": null
    })
}

/// A problem of the hub.
pub(crate) fn problem(status: u16, detail: &str) -> Reply {
    Reply::Json(status, json!({ "type": "about:blank", "title": "No", "status": status, "detail": detail }))
}
