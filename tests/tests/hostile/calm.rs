//! The ordinary client, and the hub that it shares with an attacker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate_tests::{Client, FakeApp, Hub, Setup};

/// Attacks must not disturb each other, whatever runs the tests side by side.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Echoes of one round.
const ECHOES: usize = 120;
/// Rounds during an attack; the best one counts.
const ROUNDS: usize = 3;
/// Between two echoes.
const PAUSE: Duration = Duration::from_millis(4);
/// A p99 below this is fine whatever the quiet one was. The programs of the tests are not optimized, and share two
/// cores with the attacker: where an optimized hub answers in 4 to 8 ms, this one takes 20 to 60.
const FLOOR: Duration = Duration::from_millis(120);
/// How much slower than quiet an echo may be.
const TIMES: u32 = 3;
/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A hub with an echo behind it, and one ordinary client.
pub(crate) struct Calm {
    pub(crate) hub: Arc<Hub>,
    client: Client,
    /// The same on a hub that nobody attacks: what the machine does to both is not the hub's.
    control: Control,
    echoes: AtomicU64,
    _app: FakeApp,
}

/// A client of a hub of its own.
struct Control {
    client: Client,
    _hub: Hub,
    _app: FakeApp,
}

impl Calm {
    /// Starts it with short times for what attackers stretch.
    pub(crate) async fn start(further: impl FnOnce(Setup) -> Setup) -> Self {
        let app = FakeApp::echo().await;
        let setup = Setup::new("A")
            .app(&app.address)
            .flag("--limit-header-time", "1s")
            .flag("--limit-hello-time", "1s")
            .flag("--log-level", "error");
        let hub = Arc::new(further(setup).start().await);
        let client = Client::connect(&hub.url("/connect")).await;
        let control_app = FakeApp::echo().await;
        let control = Setup::new("B").app(&control_app.address).start().await;
        let control =
            Control { client: Client::connect(&control.url("/connect")).await, _hub: control, _app: control_app };
        Self { hub, client, control, echoes: AtomicU64::new(0), _app: app }
    }

    /// The p99 of one round of echoes, at this hub and at the one beside it, by turns.
    async fn p99(&self) -> (Duration, Duration) {
        let mut times = [Vec::with_capacity(ECHOES), Vec::with_capacity(ECHOES)];
        for _ in 0..ECHOES {
            let text = format!("echo {}", self.echoes.fetch_add(1, Ordering::Relaxed));
            for (times, client) in times.iter_mut().zip([&self.client, &self.control.client]) {
                let began = Instant::now();
                client.send(text.as_str()).await;
                client.wait("its echo", |seen| seen.received.last() == Some(&text)).await;
                times.push(began.elapsed());
                tokio::time::sleep(PAUSE).await;
            }
        }
        let [here, control] = times.map(|mut times| {
            times.sort_unstable();
            times[ECHOES * 99 / 100]
        });
        (here, control)
    }

    /// Runs an attack, in a thread of its own, until the ordinary client has been measured, and checks the
    /// bounds. The attack gets a flag that says whether it shall go on.
    pub(crate) async fn under<F>(&self, attack: &str, growth_mib: u64, run: impl FnOnce(Going) -> F + Send + 'static)
    where
        F: Future<Output = ()>,
    {
        let _alone = ONE_AT_A_TIME.lock().await;
        let (quiet, _) = self.p99().await;
        let before_kib = self.hub.memory_kib();
        let going = Going(Arc::new(AtomicBool::new(true)));
        let (attacking, looking, hub) = (going.clone(), going.clone(), self.hub.clone());
        let attacker = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime for the attack").block_on(run(attacking));
        });
        let looker = std::thread::spawn(move || peak(&hub, &looking));
        let (mut best, mut beside, mut bound) = (Duration::MAX, Duration::MAX, FLOOR);
        for _ in 0..ROUNDS {
            let (here, control) = self.p99().await;
            if here < best {
                (best, beside, bound) = (here, control, FLOOR.max(quiet.max(control) * TIMES));
            }
            if best <= bound {
                break;
            }
        }
        going.stop();
        let joined = tokio::task::spawn_blocking(move || (attacker.join(), looker.join()));
        let (attacker, looker) = joined.await.expect("threads are joined");
        assert!(attacker.is_ok(), "{attack}: the attack itself failed, see above");
        let peak_kib = looker.expect("memory is looked at");
        let grown_kib = peak_kib.saturating_sub(before_kib);
        println!(
            "{attack}: echo p99 quiet {quiet:?}, under attack {best:?}, at a hub beside it {beside:?}; memory {before_kib} KiB, \
             at most {grown_kib} KiB more"
        );
        assert!(
            best <= bound,
            "{attack}: an ordinary client's p99 is {best:?}; quiet {quiet:?}, beside it {beside:?}, at most {bound:?}"
        );
        assert!(
            grown_kib <= growth_mib * 1024,
            "{attack}: the hub grew by {grown_kib} KiB; at most {growth_mib} MiB is stated"
        );
    }

    /// The ordinary client is where it was, with everything that was sent, once.
    pub(crate) fn unharmed(&self) {
        let seen = self.client.seen();
        let echoes: Vec<String> = (0..self.echoes.load(Ordering::Relaxed)).map(|n| format!("echo {n}")).collect();
        assert_eq!((seen.resets(), seen.resumes(), seen.received), (0, 0, echoes));
    }
}

/// Whether an attack shall go on.
#[derive(Clone, Debug)]
pub(crate) struct Going(Arc<AtomicBool>);

impl Going {
    pub(crate) fn on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Keeps things open until the attack is over.
    pub(crate) async fn hold<T>(&self, held: T) {
        while self.on() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        drop(held);
    }
}

fn peak(hub: &Hub, going: &Going) -> u64 {
    let mut peak = 0;
    while going.on() {
        peak = peak.max(hub.memory_kib());
        std::thread::sleep(LOOK_EVERY);
    }
    peak.max(hub.memory_kib())
}
