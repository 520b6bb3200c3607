//! Clients that came here with a token for a session that lives elsewhere: drives [`Claim`], one per
//! connection, and gives its answer to the client.

use super::Hub;
use super::calls::CallError;
use super::parking::Stored;
use super::timers::Due;
use crate::app;
use crate::message::Message;
use crate::telemetry::Rejected;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidegate_protocol::claim::{CLAIM_MS, Claim, Step};
use tidegate_protocol::frame::Old;
use tidegate_protocol::id::{ConnectionId, HubId, SessionId};
use tidegate_protocol::peer::{ClaimId, Knowledge, PeerMessage, Refusal};
use tidegate_protocol::position::Millis;
use tidegate_protocol::session::record::{HelloFacts, Record};
use tidegate_protocol::session::{Event, Left, State};
use tokio::sync::oneshot;

/// Sessions whose clients wait for a silent owner, remembered for their `orphan_after_ms`.
const WAITERS_MAX: usize = 20_000;

/// All claims under way.
#[derive(Debug)]
pub struct Claims {
    table: Mutex<Table>,
    count: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    claims: BTreeMap<ClaimId, Claim>,
    by_conn: BTreeMap<ConnectionId, ClaimId>,
    /// Calls that only want to know who owns a session.
    questions: BTreeMap<ClaimId, Question>,
    /// Since when a session's client waits here for a silent owner.
    waiting_since: BTreeMap<SessionId, Millis>,
}

#[derive(Debug)]
struct Question {
    asked: BTreeMap<HubId, Option<Knowledge>>,
    answer: Option<oneshot::Sender<Option<HubId>>>,
}

impl Claims {
    /// `first` is chosen at random: an answer to a claim of an earlier run of this hub must not fit one of this run.
    pub fn counting_from(first: u64) -> Self {
        Self { table: Mutex::default(), count: AtomicU64::new(first) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_id(&self) -> ClaimId {
        ClaimId(self.count.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Whether this session's client has waited for a silent owner long enough (rule 14). Who still
    /// has a connection is served over it: the clock starts when it is first said to be lost.
    fn orphaned(&self, hub: &Hub, session: SessionId, hello: &HelloFacts) -> bool {
        let now = hub.now();
        let mut table = self.table();
        if hello.old != Old::Lost {
            table.waiting_since.remove(&session);
            return false;
        }
        if table.waiting_since.len() >= WAITERS_MAX {
            let after = hub.config.orphan_after_ms;
            table.waiting_since.retain(|_, since| now.since(*since) < 4 * after);
        }
        let since = *table.waiting_since.entry(session).or_insert(now);
        now.since(since) >= hub.config.orphan_after_ms
    }

    /// The client has its answer; its wait is over.
    pub fn settled(&self, session: SessionId) {
        self.table().waiting_since.remove(&session);
    }

    /// A client waits for a session that this hub does not own.
    pub fn begin(&self, hub: &Arc<Hub>, session: SessionId, conn: ConnectionId, hello: HelloFacts, named: HubId) {
        let id = self.next_id();
        let orphaned = self.orphaned(hub, session, &hello);
        let mut hubs = hub.peers.known();
        // The hub that the token names may be one that nobody here has met: it is asked all the same,
        // unless it is known to be gone. This hub itself knows nothing, else nobody would claim.
        if named != hub.id && !hubs.contains(&named) && !hub.peers.is_forgotten(named) {
            hubs.push(named);
        }
        hubs.retain(|other| *other != hub.id);
        // What this hub itself still has (a tombstone, kept data) is an answer like any other's.
        if hub.cell(session).is_some() || hub.parked_elsewhere(session).is_some() {
            hubs.push(hub.id);
        }
        let mut steps = Vec::new();
        let claim = Claim::begin(session, id, conn, hello, orphaned, hubs, &mut steps);
        let mut table = self.table();
        table.by_conn.insert(conn, id);
        table.claims.insert(id, claim);
        drop(table);
        hub.timers.arm(hub.now().plus(hub.config.limits.locate_ms), Due::Silence(id));
        hub.timers.arm(hub.now().plus(CLAIM_MS), Due::ClaimLimit(id));
        self.carry_out(hub, id, session, conn, steps);
    }

    fn with(&self, hub: &Arc<Hub>, id: ClaimId, change: impl FnOnce(&mut Claim, &mut Vec<Step<Message>>)) {
        let mut table = self.table();
        let Some(claim) = table.claims.get_mut(&id) else { return };
        let mut steps = Vec::new();
        change(claim, &mut steps);
        let (session, conn) = (claim.session(), claim.connection());
        drop(table);
        self.carry_out(hub, id, session, conn, steps);
    }

    fn carry_out(
        &self,
        hub: &Arc<Hub>,
        id: ClaimId,
        session: SessionId,
        conn: ConnectionId,
        steps: Vec<Step<Message>>,
    ) {
        for step in steps {
            match step {
                Step::Say(to, message) => {
                    // The client need not wait out the whole claim for a hub that is known not to answer.
                    if matches!(message, PeerMessage::Claim { .. }) && to != hub.id && !hub.peers.is_heard(to) {
                        hub.timers.arm(hub.now().plus(hub.config.limits.locate_ms), Due::ClaimSilence(id, to));
                    }
                    hub.say(to, message);
                }
                Step::Retry { after_ms, why } => hub.retry(conn, after_ms, why),
                Step::Refuse(close, why) => {
                    if close == tidegate_protocol::close::Close::TokenReuse {
                        hub.metrics.rejected.of(Rejected::TokenReuse).increment(1);
                    }
                    if let Some(conn) = hub.connection(conn) {
                        conn.close(close, why);
                    }
                }
                Step::Reset { why, record } => {
                    self.settled(session);
                    hub.spawn_reset(conn, session, why, record);
                }
            }
        }
        let mut table = self.table();
        if table.claims.get(&id).is_some_and(Claim::is_done) {
            table.claims.remove(&id);
            table.by_conn.remove(&conn);
        }
    }

    /// A peer's answer to `locate`.
    pub fn located(&self, hub: &Arc<Hub>, from: HubId, id: ClaimId, knowledge: Knowledge) {
        self.answer_question(id, from, Some(knowledge));
        self.with(hub, id, |claim, out| claim.on_located(from, knowledge, out));
    }

    /// The owner will not give it.
    pub fn refused(&self, hub: &Arc<Hub>, from: HubId, id: ClaimId, why: Refusal) {
        self.with(hub, id, |claim, out| claim.on_refused(from, why, out));
    }

    /// What is left of a lost session.
    pub fn reset_from(&self, hub: &Arc<Hub>, id: ClaimId, record: Box<Record<Message>>) {
        self.with(hub, id, |claim, out| claim.on_reset_from(record, out));
    }

    /// A hub is forgotten, or back in a new run: whoever waits asks everybody afresh.
    pub fn gone(&self, hub: &Arc<Hub>, gone: HubId) {
        let (claims, questions): (Vec<ClaimId>, Vec<ClaimId>) = {
            let table = self.table();
            (table.claims.keys().copied().collect(), table.questions.keys().copied().collect())
        };
        for id in claims {
            self.with(hub, id, |claim, out| claim.on_gone(gone, out));
        }
        for id in questions {
            self.answer_question(id, gone, Some(Knowledge::Unknown));
        }
    }

    /// See [`tidegate_protocol::claim::LOCATE_MS`].
    pub fn silence(&self, hub: &Arc<Hub>, id: ClaimId) {
        self.with(hub, id, |claim, out| claim.on_silence(out));
    }

    /// A claim went to a hub that was silent then.
    pub fn peer_silence(&self, hub: &Arc<Hub>, id: ClaimId, silent: HubId) {
        self.with(hub, id, |claim, out| claim.on_peer_silence(silent, out));
    }

    /// See [`CLAIM_MS`].
    pub fn limit(&self, hub: &Arc<Hub>, id: ClaimId) {
        self.with(hub, id, |claim, out| claim.on_limit(out));
    }

    /// A connection is gone; its claim has nobody to answer to. A snapshot that still comes is aborted.
    pub fn connection_lost(&self, _hub: &Arc<Hub>, conn: ConnectionId) {
        let mut table = self.table();
        if let Some(id) = table.by_conn.remove(&conn) {
            table.claims.remove(&id);
        }
    }

    /// The connection that waits for this claim's snapshot, and what it said; the claim is used up.
    pub(super) fn take_for_snapshot(&self, id: ClaimId) -> Option<(ConnectionId, HelloFacts)> {
        let mut table = self.table();
        let claim = table.claims.get_mut(&id)?;
        let waits = claim.on_snapshot().then(|| (claim.connection(), claim.hello()));
        if let Some(claim) = table.claims.remove(&id) {
            table.by_conn.remove(&claim.connection());
        }
        waits
    }

    fn answer_question(&self, id: ClaimId, from: HubId, knowledge: Option<Knowledge>) {
        let mut table = self.table();
        let Some(question) = table.questions.get_mut(&id) else { return };
        question.asked.insert(from, knowledge);
        let owner =
            question.asked.iter().find_map(|(hub, said)| matches!(said, Some(Knowledge::Owner(_))).then_some(*hub));
        if (owner.is_some() || question.asked.values().all(Option::is_some))
            && let Some(answer) = question.answer.take()
        {
            // Whoever asked may have given up.
            let _ = answer.send(owner);
        }
    }
}

impl Hub {
    /// Which hub owns a session that this one does not know; None: every known hub said that it does not.
    ///
    /// # Errors
    /// [`CallError::Busy`] if a hub is silent, for then nobody knows.
    pub async fn locate_owner(self: &Arc<Self>, session: SessionId) -> Result<Option<HubId>, CallError> {
        let hubs = self.peers.known();
        if hubs.is_empty() {
            return Ok(None);
        }
        let id = self.claims.next_id();
        let (answer, answered) = oneshot::channel();
        let asked = hubs.iter().map(|hub| (*hub, None)).collect();
        self.claims.table().questions.insert(id, Question { asked, answer: Some(answer) });
        for hub in hubs {
            self.say(hub, PeerMessage::Locate { session, claim: id });
        }
        let answer = tokio::time::timeout(Duration::from_millis(self.config.limits.locate_ms), answered).await;
        self.claims.table().questions.remove(&id);
        match answer {
            Ok(Ok(owner)) => Ok(owner),
            Ok(Err(_)) | Err(_) => Err(CallError::Busy {
                why: "a hub is silent, so nobody knows where the session is".into(),
                after_ms: 1_000,
            }),
        }
    }

    /// A client came here with a token: resume it here, wait for a copy, or claim it from its owner.
    pub async fn returning(self: &Arc<Self>, session: SessionId, conn: ConnectionId, hello: HelloFacts, named: HubId) {
        if self.cell(session).is_none()
            && self.store.state(session).is_some()
            && !self.come_back_from_disk(session, conn).await
        {
            return;
        }
        let Some(cell) = self.cell(session) else {
            self.claim_or_send_away(session, conn, hello, named);
            return;
        };
        let (elsewhere, leaving, waits, away) = {
            let mut inner = cell.lock();
            let away = matches!(inner.session.state(), State::Serving { .. }) && app::is_away(self, &cell, &mut inner);
            let ordered = inner.drain.is_some_and(|dialogue| dialogue.moved);
            let leaving = if ordered { self.drain.sends_away(self, session) } else { None };
            (!inner.session.answers_hello(), leaving, matches!(inner.session.state(), State::Copy { .. }), away)
        };
        if away {
            self.claims.settled(session);
            self.retry(conn, app::LOOK_AGAIN_MS, app::AWAY);
        } else if elsewhere {
            self.claim_or_send_away(session, conn, hello, named);
        } else if waits && self.parked_elsewhere(session).is_some() {
            // This copy never went live, and what its predecessor has is on disk: safe, and to be waited for.
            self.claim_or_send_away(session, conn, hello, named);
        } else if waits && self.claims.orphaned(self, session, &hello) {
            self.claims.settled(session);
            cell.feed(self, Event::Orphaned { conn, hello });
        } else {
            if !waits {
                self.claims.settled(session);
            }
            cell.feed(self, Event::Hello { conn, hello, leaving });
        }
    }

    /// A parked session is taken up first (true); a lost one is reset, a waiting one told so (false).
    async fn come_back_from_disk(self: &Arc<Self>, session: SessionId, conn: ConnectionId) -> bool {
        if self.is_parked_for_good() {
            self.retry(conn, tidegate_protocol::session::RETRY_PARKED_MS, "parked");
            return false;
        }
        match self.stored(session) {
            Stored::Lost => {
                let record = self.read_parked(session).await.map(|(_, record, _)| Box::new(record.after_reset()));
                self.spawn_reset(conn, session, "taken_up_lost", record);
                self.forget_parked(session).await;
                false
            }
            Stored::Parked | Stored::ComingUp => match self.take_up(session).await {
                Ok(()) => true,
                Err(error) => {
                    self.disk_refused("taken up", session, &error);
                    self.retry(conn, 1_000, "parked");
                    false
                }
            },
            Stored::Not => true,
        }
    }

    /// A draining hub sends clients of other hubs' sessions on, up to their third try; then it serves them. Once
    /// the balancer has let go, or the process ends, it takes none in any more: it would only push them back.
    fn claim_or_send_away(self: &Arc<Self>, session: SessionId, conn: ConnectionId, hello: HelloFacts, named: HubId) {
        const HANDED_ON_TRIES: u32 = 3;
        let closed = self.is_parked_for_good() || self.drain.takes_along();
        if closed || (self.drain.has_elsewhere(self) && hello.attempt <= HANDED_ON_TRIES) {
            self.retry(conn, self.drain.retry_ms(), "other_hub");
            return;
        }
        self.claims.begin(self, session, conn, hello, named);
    }

    pub(super) fn answer_locate(self: &Arc<Self>, from: HubId, session: SessionId, claim: ClaimId) {
        let known = self.cell(session).map(|cell| cell.lock().session.knowledge());
        let knowledge = match known {
            Some(known @ (Knowledge::Owner(_) | Knowledge::Ended(_))) => known,
            // A tombstone shows where it was, and a copy what it was; the disk has it.
            Some(known) => self.parked_elsewhere(session).map_or(known, Knowledge::Parked),
            None => match self.stored(session) {
                // Parked by an earlier process, not in memory yet: this hub owns it.
                Stored::Parked | Stored::ComingUp => Knowledge::Owner(Default::default()),
                Stored::Lost => Knowledge::Copy(Default::default()),
                Stored::Not => self.parked_elsewhere(session).map_or(Knowledge::Unknown, Knowledge::Parked),
            },
        };
        self.say(from, PeerMessage::Located { session, claim, knowledge });
    }

    /// A claim for, or a word of the end of, a session that only the data directory knows (or nobody).
    pub(super) fn unknown_here(self: &Arc<Self>, from: HubId, session: SessionId, message: PeerMessage<Message>) {
        let hub = self.clone();
        tokio::spawn(async move {
            match (&message, hub.stored(session)) {
                (PeerMessage::Replaced { .. }, Stored::Parked | Stored::Lost) => hub.forget_parked(session).await,
                (PeerMessage::Claim { .. }, Stored::Parked | Stored::ComingUp)
                | (PeerMessage::Replaced { .. }, Stored::ComingUp) => {
                    if let Err(error) = hub.take_up(session).await {
                        return hub.disk_refused("taken up", session, &error);
                    }
                    if let Some(cell) = hub.cell(session) {
                        cell.feed(&hub, Event::Peer { from, message });
                    }
                }
                (PeerMessage::Claim { claim, .. }, Stored::Lost) => {
                    if let Some((_, record, _)) = hub.read_parked(session).await {
                        hub.say(
                            from,
                            PeerMessage::ResetFrom { session, claim: *claim, record: Box::new(record.after_reset()) },
                        );
                    }
                }
                _ => super::cell::Cell::new(tidegate_protocol::session::Session::unknown(session, hub.id), hub.now())
                    .feed(&hub, Event::Peer { from, message }),
            }
        });
    }

    /// Ends a session that was replaced, here and everywhere.
    pub fn replaced(self: &Arc<Self>, session: SessionId) {
        if let Some(cell) = self.cell(session) {
            cell.feed(self, Event::End(Left::Replaced));
        }
        self.peers.say_all(PeerMessage::Replaced { session });
    }
}
