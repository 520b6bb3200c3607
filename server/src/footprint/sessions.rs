//! Real sessions over real sockets at a hub that runs on this thread alone, so that its account is exact.
//! Their clients live on a thread of their own.

use super::Account;
use crate::app::tests::harness;
use crate::hub::Hub;
use crate::hub::calls::Call;
use crate::hub::cell::Cell;
use crate::message::Message;
use crate::public;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tidegate_protocol::control::Target;
use tidegate_protocol::id::SessionId;

/// Sessions that are measured together, so that what a map or a vector grows by does not show.
const CROWD: usize = 512;

/// What the clients' thread is asked to do; it answers when all of them have done it.
enum Ask {
    /// Open so many more sessions.
    Open(usize),
    /// Read so many bytes at each client, and say that it has so many messages.
    Hear { bytes: usize, received: u64 },
    /// Close all.
    Close,
}

/// Clients on a thread of their own.
struct Clients {
    ask: Sender<Ask>,
    done: Receiver<()>,
}

impl Clients {
    fn of(hub: SocketAddr) -> Self {
        let (ask, asked) = channel::<Ask>();
        let (tell, done) = channel();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for ask in asked {
                match ask {
                    Ask::Open(count) => open.extend((0..count).map(|_| connect(hub))),
                    Ask::Hear { bytes, received } => open.iter_mut().for_each(|stream| hear(stream, bytes, received)),
                    Ask::Close => open.clear(),
                }
                tell.send(()).expect("the test waits");
            }
        });
        Self { ask, done }
    }

    /// Asks, and lets the hub run until it is done.
    async fn asked(&self, ask: Ask) {
        self.ask.send(ask).expect("the thread is there");
        while self.done.try_recv().is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn connect(hub: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(hub).expect("the hub listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.set_nodelay(true).expect("a TCP socket");
    let request = "GET /connect HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: tidegate.v1\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("open");
    say(&mut stream, r#"{"type":"hello"}"#);
    let mut heard = Vec::new();
    while !heard.windows(9).any(|bytes| bytes == b"\"welcome\"") || !heard.ends_with(b"}}") {
        let mut bytes = [0; 2048];
        let count = stream.read(&mut bytes).expect("a welcome");
        assert!(count > 0, "the hub closed after {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&bytes[..count]);
    }
    stream
}

fn hear(stream: &mut TcpStream, bytes: usize, received: u64) {
    stream.read_exact(&mut vec![0; bytes]).expect("what was published");
    say(stream, &format!(r#"{{"type":"ack","received":{received}}}"#));
}

fn say(stream: &mut TcpStream, frame: &str) {
    let mut bytes = vec![0x81, 0x80 | (frame.len() as u8 + 1), 0, 0, 0, 0, 1];
    bytes.extend_from_slice(frame.as_bytes());
    stream.write_all(&bytes).expect("open");
}

struct Scene {
    hub: Arc<Hub>,
    clients: Clients,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn set() -> Self {
        let (hub, dir) = harness::hub(&[]).await;
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = hub.world.listen(any_port).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(public::serve(hub.clone(), listener, None));
        Self { hub, clients: Clients::of(address), _dir: dir }
    }

    /// So many sessions more, each in the same two channels.
    async fn grow(&self, count: usize) {
        let before: Vec<SessionId> = self.hub.all_cells().iter().map(|cell| cell.id).collect();
        self.clients.asked(Ask::Open(count)).await;
        for cell in self.hub.all_cells() {
            if !before.contains(&cell.id) {
                for name in ["all-of-them", "some-of-them"] {
                    let joined = self.hub.call(cell.id, Call::Join(name.into()), false).await;
                    assert!(joined.is_ok(), "{joined:?}");
                }
            }
        }
        self.settle().await;
    }

    /// Lets everything that is under way come to rest.
    async fn settle(&self) {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    async fn broadcast(&self, message: &Message) {
        let entry = self.hub.fan.lock().stamp(Target::All, message.clone());
        let sessions = self.hub.fan.lock().apply(&self.hub, entry);
        assert_eq!(sessions.sessions, self.hub.cell_count() as u64);
    }

    fn unacked_bytes(&self) -> usize {
        let bytes = |record: &tidegate_protocol::session::record::Record<Message>| record.outbox.bytes();
        self.hub.all_cells().iter().filter_map(|cell| cell.lock().session.record().map(bytes)).sum()
    }

    /// The clients hear so many bytes each, and the hub hears that they did.
    async fn all_hear(&self, bytes: usize, received: u64) {
        self.clients.asked(Ask::Hear { bytes, received }).await;
        while self.unacked_bytes() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.settle().await;
    }
}

/// Whether something was numbered that was not given to the connection yet.
fn is_behind(cell: &Cell) -> bool {
    let inner = cell.lock();
    inner.session.record().is_some_and(|record| inner.session.position() < Some(record.outbox.end()))
}

fn each(account: Account, of: usize) -> (f64, f64) {
    (account.live_bytes as f64 / of as f64, account.live_blocks as f64 / of as f64)
}

#[tokio::test]
async fn an_idle_session_with_two_channels_has_little_on_the_heap_and_keeps_nothing_of_a_burst() {
    let scene = Scene::set().await;
    // What is grown once (maps, the thread's buffers) is grown here.
    scene.grow(CROWD).await;
    let before = Account::of_this_thread();
    scene.grow(CROWD).await;
    let idle = Account::of_this_thread();
    let (bytes, blocks) = each(idle.since(before), CROWD);
    eprintln!("an idle session: {bytes:.0} bytes in {blocks:.1} blocks");
    assert!(bytes <= 1500.0, "an idle session has {bytes:.0} bytes on the heap; at most 1500");
    assert!(blocks <= 8.0, "an idle session has {blocks:.1} blocks on the heap; at most 8");

    let large = Message::text(&"x".repeat(4096));
    scene.broadcast(&large).await;
    scene.all_hear(large.frame().len(), 1).await;
    let small = Message::text("one of a hundred");
    for _ in 0..100 {
        scene.broadcast(&small).await;
    }
    scene.all_hear(100 * small.frame().len(), 101).await;
    let (kept, _) = each(Account::of_this_thread().since(idle), 2 * CROWD);
    eprintln!("kept of a burst: {kept:.0} bytes");
    assert!(kept <= bytes * 0.05, "a burst left {kept:.0} bytes for each session; at most 5 % of {bytes:.0}");

    scene.clients.asked(Ask::Close).await;
    scene.settle().await;
    assert_eq!(scene.hub.connection_count(), 0, "all of them are gone");
}

#[tokio::test]
async fn a_broadcast_allocates_once_for_each_session_and_wakes_no_task_of_theirs() {
    let scene = Scene::set().await;
    scene.grow(CROWD).await;
    let message = Message::text("the same for all of them");
    // The first one grows what is grown once.
    scene.broadcast(&message).await;
    scene.all_hear(message.frame().len(), 1).await;
    let cells = scene.hub.all_cells();
    let metrics = tokio::runtime::Handle::current().metrics();
    let alive = metrics.num_alive_tasks();
    let before = Account::of_this_thread();
    scene.broadcast(&message).await;
    while cells.iter().any(|cell| is_behind(cell)) {
        tokio::task::yield_now().await;
    }
    let allocations = Account::of_this_thread().since(before).allocations as f64 / CROWD as f64;
    eprintln!("allocations for each delivery: {allocations:.2}");
    assert!(allocations <= 1.5, "{allocations:.2} allocations for each delivery; at most 1.5");
    assert!(metrics.num_alive_tasks() <= alive + 2, "no task for each session");
    scene.all_hear(message.frame().len(), 2).await;
}
