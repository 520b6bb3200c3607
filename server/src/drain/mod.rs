//! The drain's driver: runs the drain machine of the protocol crate against this hub.
//!
//! ```text
//!   cells, clients, peers ──► inbox (a slot a session for what clients say) ► the driver's task
//!                                                                             │ handle, poll_action
//!   GET, POST, DELETE /v1/drain ──► machine (behind a short lock) ◄───────────┤
//!                                                                             ▼
//!                                                     carry::out: notices, moves, pushes, parks
//! ```

mod carry;
mod census;
mod claims;
mod dialogue;
mod gate;
mod inbox;
mod keep;
mod leave;
mod tell;

use crate::app;
use crate::hub::Hub;
use crate::hub::cell::{Cell, Inner};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidegate_protocol::control::{
    AskedBy, CalledOff, DrainReport, DrainRequest, DrainStatus, HubState, Phase, PlanAnswer, Policy, PolicyError, Rest,
};
use tidegate_protocol::drain::{Consent, Drain, Event, Plan, Welcomed};
use tidegate_protocol::id::{DrainId, SessionId};
use tidegate_protocol::session::{Left, Outcome, State};
use tokio::sync::{Notify, watch};

use census::{consent, facts, population, rfc3339};
use inbox::{Inbox, Wish};
use keep::Keeper;
use tell::Teller;

pub use claims::{Asker, Caller};
pub use leave::{leave, park_everything};

/// How often the driver looks at the peers, in milliseconds.
const PEERS_EVERY: Duration = Duration::from_millis(1_000);
/// Actions carried out before the driver lets others run.
const BURST: usize = 256;

/// The driver.
#[derive(Debug)]
pub struct Driver {
    /// Taken under cells' locks, so whoever holds it takes no cell's.
    machine: Mutex<Option<Drain>>,
    /// Held while a drain begins, is joined or called off; see [`claims::Held`].
    claims: claims::Slot,
    asked_by: Mutex<Vec<AskedBy>>,
    called_off: Mutex<Option<CalledOff>>,
    /// Somebody looks at the app's address.
    looking: AtomicBool,
    stepping: Mutex<()>,
    report: Mutex<Option<DrainReport>>,
    keeper: Keeper,
    inbox: Inbox,
    bell: Notify,
    /// Whether a drain is on or has ended: events count. Read under cells' locks, so no lock here.
    on: AtomicBool,
    changed: watch::Sender<u64>,
    teller: Teller,
}

impl Default for Driver {
    fn default() -> Self {
        Self {
            machine: Mutex::default(),
            claims: Mutex::default(),
            asked_by: Mutex::default(),
            called_off: Mutex::default(),
            looking: AtomicBool::new(false),
            stepping: Mutex::default(),
            report: Mutex::default(),
            keeper: Keeper::default(),
            inbox: Inbox::default(),
            bell: Notify::new(),
            on: AtomicBool::new(false),
            changed: watch::Sender::new(0),
            teller: Teller::default(),
        }
    }
}

impl Driver {
    fn machine(&self) -> MutexGuard<'_, Option<Drain>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        if self.on.load(Ordering::Acquire) {
            self.inbox.push(event);
            self.bell.notify_one();
        }
    }

    /// What became of a session; called under its cell's lock.
    pub fn told(&self, _hub: &Arc<Hub>, id: SessionId, inner: &mut Inner, outcome: Outcome) {
        let moving = inner.moving.as_deref().copied();
        match outcome {
            Outcome::Began => {
                // Asked of the machine: the freeze, which fills `moving`, comes later.
                if let Some(to) = inner.session.successor() {
                    self.tell(Event::HandoverBegan { id, to });
                }
            }
            Outcome::Thawed { blocked } => {
                let to = inner.moving.take().and_then(|moving| moving.to);
                let why = "the handover was not finished in time, or refused".to_owned();
                self.tell(if blocked { Event::Blocked { id, to, why } } else { Event::Refused { id, to, why } });
            }
            Outcome::Committed => {
                carry::app_finished(self, id, inner);
                if let Some(to) = moving.and_then(|moving| moving.to) {
                    let exchange_ms = moving.and_then(|moving| Some(moving.committed_at?.since(moving.sent_at?)));
                    self.tell(Event::Committed { id, to, exchange_ms });
                }
            }
            Outcome::Live(to) => {
                let had_connection = moving.is_some_and(|moving| moving.connected);
                let resume = moving.and_then(|moving| moving.resume);
                self.tell(Event::Live { id, to, had_connection, resume });
            }
            Outcome::Parked => {
                carry::app_finished(self, id, inner);
                self.tell(Event::Parked { id });
            }
            Outcome::ParkFailed => {
                let why = "it could not be written to the data directory".to_owned();
                self.tell(Event::ParkFailed { id, why });
            }
            Outcome::Bounced => self.tell(Event::Bounced { id }),
            // Replaced sessions of a lost successor were committed; only owners' ends are ends here.
            Outcome::Left(Left::Ended | Left::Evicted | Left::Expired | Left::Replaced) => {
                self.tell(Event::Left { id })
            }
            // A session that comes here from elsewhere while this hub drains is an arrival.
            Outcome::Arrived(_) => self.tell(Event::Arrived { id, facts: facts(inner, 0) }),
            // Committed, and never live: unconfirmed at the deadline.
            Outcome::SuccessorLost | Outcome::NeverConfirmed(_) => {}
        }
    }

    /// The client of a moved session is back at its successor; what that hub says of it.
    pub fn resumed(&self, hub: &Arc<Hub>, id: SessionId, welcomed: &Welcomed) {
        let Some(cell) = hub.cell(id) else { return };
        let mut inner = cell.lock();
        let Some(resume) = carry::reconcile(hub, &mut inner, welcomed) else { return };
        // `live` and `resumed` may overtake each other: whichever is second tells the machine.
        if matches!(inner.session.state(), State::Moved { .. }) {
            self.tell(Event::Resumed { id, resume });
        }
    }

    /// A connection was welcomed for this session; under the cell's lock.
    pub fn connected(&self, hub: &Arc<Hub>, id: SessionId, inner: &mut Inner) {
        self.tell(Event::ConnectionBack { id });
        dialogue::repeat(self, hub, inner);
    }

    /// A session's connection is gone; under the cell's lock.
    pub fn disconnected(&self, id: SessionId) {
        self.tell(Event::ConnectionLost { id });
    }

    /// A new session began here; under the cell's lock.
    pub fn arrived(&self, hub: &Arc<Hub>, cell: &Arc<Cell>, inner: &mut Inner) {
        let idle_ms = hub.now().since(inner.active_at);
        self.tell(Event::Arrived { id: cell.id, facts: facts(inner, idle_ms) });
    }

    /// The client may be moved now.
    pub fn ready(&self, id: SessionId, drain: DrainId) {
        if self.is_current(drain) && self.inbox.wish(id, Wish::Ready) {
            self.bell.notify_one();
        }
    }

    /// The client asks not to be moved for so long.
    pub fn busy(&self, id: SessionId, drain: DrainId, ms: u64, why: Option<String>) {
        if self.is_current(drain) && self.inbox.wish(id, Wish::Busy { ms, why: why.unwrap_or_default() }) {
            self.bell.notify_one();
        }
    }

    fn is_current(&self, drain: DrainId) -> bool {
        self.machine().as_ref().is_some_and(|machine| machine.id() == drain)
    }

    /// Whether this hub is draining or drained: it takes no pushes.
    pub fn is_leaving(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// Whether whoever comes is pushed or parked at once ([`Drain::takes_along`]).
    pub fn takes_along(&self) -> bool {
        self.is_leaving() && self.machine().as_ref().is_some_and(Drain::takes_along)
    }

    /// Whether this hub wants its clients elsewhere, and an eligible peer exists.
    pub fn has_elsewhere(&self, hub: &Hub) -> bool {
        self.is_leaving() && hub.peers.successors().iter().any(|successor| successor.eligible)
    }

    /// What this hub tells its peers of itself.
    pub fn hub_state(&self) -> HubState {
        match self.machine().as_ref().map(Drain::phase) {
            None | Some(Phase::Serving) => HubState::Serving,
            Some(Phase::Drained) => HubState::Drained,
            Some(Phase::Noticing | Phase::Releasing | Phase::Held | Phase::Settling | Phase::Forcing) => {
                HubState::Draining
            }
        }
    }

    /// A dry run of this policy on the sessions that are here now.
    ///
    /// # Errors
    /// What is impossible about the policy.
    pub fn plan(&self, hub: &Arc<Hub>, request: &DrainRequest) -> Result<PlanAnswer, PolicyError> {
        let plan = Plan::new(request.resolve()?, population(hub), &hub.peers.successors(), hub.random() as u64);
        let mut answer = plan.answer();
        answer.blockers.extend(hub.peers.obstacles());
        let consent = consent(hub, &plan.policy, plan.sessions());
        answer.needs_consent = consent.is_some();
        answer.fits &= consent.is_none();
        Ok(answer)
    }

    /// Starts a drain, or joins the one that is on. `who` asks; none is the hub's own process, which stops.
    ///
    /// # Errors
    /// What is impossible about the policy, or that this attempt was called off; nothing was started then.
    pub fn start(&self, hub: &Arc<Hub>, request: &DrainRequest, who: Option<Asker>) -> Result<DrainStatus, StartError> {
        let rest = request.rest == Some(Rest::Now);
        let joined = {
            let mut held = self.claims();
            let (lease, is_on) = (request.lease()?, self.is_on());
            // The policy of a second one is ignored, so it is not judged either.
            let policy = if is_on { None } else { Some(self.agreed(hub, request, rest)?) };
            self.claim(hub, &mut held, who, lease)?;
            match policy {
                Some(policy) => self.begin(hub, policy, rest),
                None => self.join(hub, rest),
            }
            is_on
        };
        if !joined {
            self.tell_apps(hub);
        }
        // An empty hub is drained at once, and its app may be stopped and started before the next look.
        self.look_at_app(hub);
        hub.peers.set_state(self.hub_state());
        self.bell.notify_one();
        let mut status = self.status_now(hub);
        status.joined = Some(joined);
        Ok(status)
    }

    /// The policy of a drain that may begin.
    fn agreed(&self, hub: &Arc<Hub>, request: &DrainRequest, rest: bool) -> Result<Policy, StartError> {
        let policy = request.resolve()?;
        // The balancer has let go, or the process ends: nobody is asked any more.
        if !rest && let Some(consent) = consent(hub, &policy, population(hub).len() as u64) {
            hub.metrics.drain_refused.increment(1);
            tracing::warn!(%consent, "a drain was refused: it would park sessions, and nobody agreed to that");
            return Err(StartError::NeedsConsent(consent));
        }
        Ok(policy)
    }

    /// A drain is under way, or over and not called off.
    fn is_on(&self) -> bool {
        self.machine().as_ref().is_some_and(|machine| machine.phase() != Phase::Serving)
    }

    fn join(&self, hub: &Hub, rest: bool) {
        if rest && let Some(running) = self.machine().as_mut() {
            running.handle(Event::PushAndParkRest, hub.now());
        }
    }

    fn begin(&self, hub: &Hub, policy: Policy, rest: bool) {
        // From here on every change is queued, so that none falls between the census and the start.
        self.inbox.clear();
        self.on.store(true, Ordering::Release);
        let successors = hub.peers.successors();
        // The census takes cells' locks, so it is done before the machine's.
        let plan = Plan::new(policy, population(hub), &successors, hub.random() as u64);
        let id = DrainId(hub.random() as u64);
        let mut begun = Drain::start(id, plan, &successors, rfc3339(hub.unix_ms()), hub.now());
        if rest {
            begun.handle(Event::PushAndParkRest, hub.now());
        }
        tracing::info!(drain = %id, sessions = begun.plan().sessions(), "drain begins");
        let mut machine = self.machine();
        *machine = Some(begun);
        // Once more, under the lock: a step of the drain before may have switched it off meanwhile.
        self.on.store(true, Ordering::Release);
    }

    fn tell_apps(&self, hub: &Arc<Hub>) {
        let notice = self.machine().as_ref().map(|machine| {
            let policy = machine.policy();
            app::Notice::Drain {
                drain: machine.id(),
                reason: dialogue::reason(policy),
                deadline_ms: policy.deadline_ms,
            }
        });
        if let Some(notice) = notice {
            app::notify_all(hub, &notice);
        }
    }

    fn status_now(&self, hub: &Hub) -> DrainStatus {
        let mut status = self.machine().as_ref().map(|machine| machine.status(hub.now())).unwrap_or_default();
        if !matches!(status.phase, Phase::Serving | Phase::Drained) {
            status.blockers.extend(hub.peers.obstacles());
        }
        status.notes.extend(hub.peers.parked_elsewhere().iter().map(ToString::to_string));
        self.with_claims(hub, status)
    }

    /// The status; waits up to `wait_ms` for a `seq` past `after`. Asking renews the lease of who asks.
    pub async fn status(&self, hub: &Hub, who: Asker, wait_ms: u64, after: Option<u64>) -> DrainStatus {
        self.renew(hub, who);
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                changed.borrow_and_update();
                let status = self.status_now(hub);
                if after.is_none_or(|after| status.seq != after) {
                    return status;
                }
                if changed.changed().await.is_err() {
                    return status;
                }
            }
        };
        match tokio::time::timeout(Duration::from_millis(wait_ms), waiting).await {
            Ok(status) => status,
            Err(_) => self.status_now(hub),
        }
    }

    /// Feeds what came in, and carries out what is due. True: there may be more.
    fn step(&self, hub: &Arc<Hub>) -> bool {
        // Orders of two steps must not overtake each other: a recall comes after the notices before it.
        let _one_at_a_time = self.stepping.lock().unwrap_or_else(PoisonError::into_inner);
        let now = hub.now();
        let mut actions = Vec::new();
        let (phases, figures) = {
            let mut machine = self.machine();
            let Some(machine) = machine.as_mut() else { return false };
            let before = machine.phase();
            for event in self.inbox.take(now) {
                machine.handle(event, now);
            }
            while actions.len() < BURST
                && let Some(action) = machine.poll_action(now)
            {
                actions.push(action);
            }
            self.changed.send_replace(machine.seq());
            if machine.phase() == Phase::Serving {
                // Under the machine's lock, as where it is switched on: a drain that begins is never deaf.
                self.on.store(false, Ordering::Release);
            }
            ((before, machine.phase(), machine.id()), machine.figures())
        };
        let more = actions.len() == BURST;
        self.phase_changed(hub, phases);
        self.teller.tell(hub, phases.2, phases.1, &figures);
        for action in actions {
            carry::out(hub, phases.2, action);
        }
        more
    }

    fn phase_changed(&self, hub: &Arc<Hub>, (before, after, id): (Phase, Phase, DrainId)) {
        if after == Phase::Serving && before != after {
            hub.set_parked_for_good(false);
        }
        if before != after {
            if after == Phase::Serving {
                app::notify_all(hub, &app::Notice::Recalled { drain: id });
            }
            hub.peers.set_state(self.hub_state());
            if after == Phase::Drained && hub.store.stats().parked > 0 {
                // Should this process be killed, its peers know what waits on its disk.
                let hub = hub.clone();
                tokio::spawn(async move { hub.peers.tell_parked(&hub).await });
            }
        }
    }

    fn keep_report(&self, hub: &Arc<Hub>, report: DrainReport) {
        let counts = &report.sessions.counts;
        tracing::info!(
            drain = %report.drain, result = report.result.as_str(), took_ms = report.took_ms, moved = counts.moved, parked = counts.parked,
            left = counts.left, forced = counts.forced, unconfirmed = counts.unconfirmed, remaining = counts.remaining, lost = report.messages.lost,
            cut = report.cut, unroutable = report.unroutable, why = report.why, "drain ended"
        );
        self.keeper.keep(hub, self.with_askers(report));
    }

    /// What readers get from now on.
    fn show_report(&self, report: DrainReport) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
        // Wakes who waits for it.
        self.changed.send_modify(|_| {});
    }
}

/// Why no drain began.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The policy is impossible.
    #[error("{0}")]
    Policy(#[from] PolicyError),
    /// It would park sessions although other hubs are known.
    #[error("{0}")]
    NeedsConsent(Consent),
    /// Its trigger has called it off before it was heard.
    #[error("attempt {0:?} was called off by DELETE /v1/drain before this call was heard: start with another one")]
    CalledOff(String),
    /// Others have as many claims as there may be.
    #[error(
        "there are {} claims on this drain already: release some with DELETE /v1/drain",
        tidegate_protocol::drain::claims::CLAIMS_MAX
    )]
    TooManyClaims,
}

/// Starts the driver's task.
pub fn spawn(hub: &Arc<Hub>) {
    let hub = hub.clone();
    tokio::spawn(async move {
        let mut look = tokio::time::interval(PEERS_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            while hub.drain.step(&hub) {
                tokio::task::yield_now().await;
            }
            hub.drain.look_after_claims(&hub);
            let next = hub.drain.machine().as_ref().and_then(Drain::poll_timeout);
            let next = next.into_iter().chain(hub.drain.inbox.next()).min();
            let wait_ms = next.map_or(u64::MAX, |at| at.since(hub.now()).max(1)).min(hub.drain.claims_wait_ms(&hub));
            tokio::select! {
                biased;
                () = hub.drain.bell.notified() => {}
                _ = look.tick() => {
                    hub.drain.look_at_app(&hub);
                    hub.drain.tell(Event::PeersChanged(hub.peers.successors()));
                    hub.drain.look_at_blockers(&hub);
                }
                () = tokio::time::sleep(Duration::from_millis(wait_ms.min(60_000))) => {}
            }
        }
    });
}
