//! Carries out what the claims on the drain decide: who may begin one, who keeps it up, and when the hub serves again.

use super::{Driver, StartError};
use crate::hub::Hub;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidegate_protocol::control::{CalledOff, DrainReport, DrainStatus, OnOrphan, Phase};
use tidegate_protocol::drain::claims::{
    AppLook, Ask, ClaimAction, ClaimEvent, Claimant, Claims, Ended, Instance, Refused,
};
use tidegate_protocol::drain::{Drain, Event};

/// Longest wait for the app to take a connection, when it is looked at.
const APP_LOOK_WAIT: Duration = Duration::from_secs(2);

/// What a caller says of itself, by the headers of its call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// `Tidegate-Attempt`: the run of a trigger.
    pub attempt: Option<String>,
    /// `Tidegate-Claimant`: whom it asks for.
    pub claimant: Option<String>,
    /// `Tidegate-Event`: the lifecycle event of a deployment.
    pub event: Option<String>,
    /// `Tidegate-Deployment`: its id.
    pub deployment: Option<String>,
}

/// Where a call came from, for what an operator does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    remote: Option<SocketAddr>,
    token: bool,
}

impl Caller {
    /// A caller at this address.
    pub fn at(remote: SocketAddr) -> Self {
        Self { remote: Some(remote), token: false }
    }

    /// Whether it had to show the token of the private API.
    pub fn with_token(self, token: bool) -> Self {
        Self { token, ..self }
    }

    fn words(self) -> String {
        let from = self.remote.map_or("an unknown address".to_owned(), |remote| remote.to_string());
        let token = if self.token { "with the token of --private-token-file" } else { "no token is asked for" };
        format!("an operator: DELETE /v1/drain from {from}, {token}")
    }
}

/// The claims, made when the hub's settings are known.
pub(super) type Slot = Mutex<Option<Claims>>;

/// The claims under their lock. Nothing is begun, joined or called off without it, so these come one after the other.
pub(super) struct Held<'a>(MutexGuard<'a, Option<Claims>>);

impl Held<'_> {
    fn get(&mut self, hub: &Hub) -> &mut Claims {
        self.0.get_or_insert_with(|| Claims::new(hub.config.return_after_ms))
    }
}

impl Driver {
    pub(super) fn claims(&self) -> Held<'_> {
        Held(self.claims.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Somebody wants the hub drained. `true`: a drain is on, which it joins.
    pub(super) fn claim(
        &self,
        hub: &Hub,
        held: &mut Held<'_>,
        who: Option<Asker>,
        (on_orphan, lease_ms): (OnOrphan, u64),
    ) -> Result<bool, StartError> {
        let claimant = match &who {
            Some(who) => Claimant::of(who.claimant.as_deref(), who.attempt.as_deref()),
            None => Claimant::Process,
        };
        let Asker { attempt, event, deployment, .. } = who.unwrap_or_default();
        tracing::info!(
            %claimant, event = event.as_deref(), deployment = deployment.as_deref(), "asked to drain"
        );
        let ask = Ask { claimant, attempt, event, deployment, on_orphan, lease_ms };
        let mut joined = false;
        for action in held.get(hub).handle(ClaimEvent::Asked(ask), hub.now()) {
            match action {
                ClaimAction::Start => joined = false,
                ClaimAction::Join => joined = true,
                ClaimAction::Refuse(Refused::CalledOff(attempt)) => return Err(StartError::CalledOff(attempt)),
                ClaimAction::Refuse(Refused::TooMany) => return Err(StartError::TooManyClaims),
                action => self.carry_out(action),
            }
        }
        let asked_by = held.get(hub).asked_by().to_vec();
        *self.asked_by.lock().unwrap_or_else(PoisonError::into_inner) = asked_by;
        self.show_claims(hub, held);
        Ok(joined)
    }

    /// Tells the claims what happened, and does what follows. True: the hub is called back into service.
    pub(super) fn on_claims(&self, hub: &Hub, held: &mut Held<'_>, event: ClaimEvent) -> bool {
        let mut recalled = false;
        for action in held.get(hub).handle(event, hub.now()) {
            recalled |= matches!(action, ClaimAction::Recall { .. });
            self.carry_out(action);
        }
        self.show_claims(hub, held);
        recalled
    }

    fn carry_out(&self, action: ClaimAction) {
        match action {
            ClaimAction::Dropped { claimant, why } => {
                tracing::info!(%claimant, why = %in_words(&why), "claim on the drain ended");
            }
            ClaimAction::Kept { still_for } => tracing::info!(still_for = still_for.join(", "), "still drained"),
            ClaimAction::Recall { by } => {
                let drain = self.machine().as_ref().filter(|machine| machine.phase() != Phase::Serving).map(Drain::id);
                let Some(drain) = drain else { return };
                tracing::info!(%drain, %by, "called off: the hub serves again");
                let called_off = CalledOff { drain, by: by.clone() };
                *self.called_off.lock().unwrap_or_else(PoisonError::into_inner) = Some(called_off);
                // Handed in like any event, so that the step sees the change of phase and the peers hear of it.
                let why = Some(format!("called off by {by}"));
                self.inbox.push(Event::Cancel(why));
            }
            ClaimAction::Start | ClaimAction::Join | ClaimAction::Refuse(_) => {}
        }
    }

    fn show_claims(&self, hub: &Hub, held: &mut Held<'_>) {
        hub.metrics.drain_claims(&held.get(hub).status(hub.now()));
    }

    /// `GET /v1/drain`: who asks shows that it is there.
    pub(super) fn renew(&self, hub: &Hub, who: Asker) {
        if self.is_leaving() {
            let Asker { attempt, claimant, .. } = who;
            self.on_claims(hub, &mut self.claims(), ClaimEvent::Renewed { attempt, claimant });
        }
    }

    /// Gives the hub back, as far as the caller may: what one run asked for, what one claimant has, or, for an operator
    /// who names neither, all there is.
    pub fn cancel(&self, hub: &Arc<Hub>, who: Asker, caller: Caller) -> DrainStatus {
        let event = match who {
            Asker { attempt: Some(attempt), .. } => ClaimEvent::Undone { attempt },
            Asker { claimant: Some(claimant), event, deployment, .. } => {
                ClaimEvent::Released { claimant, event, deployment }
            }
            Asker { .. } => ClaimEvent::AllCalledOff { by: caller.words() },
        };
        {
            let mut held = self.claims();
            if self.on_claims(hub, &mut held, event) {
                self.step(hub);
            }
        }
        self.status_now(hub)
    }

    /// Tells the claims how far the drain is and what time it is; calls the hub back when the last one has ended.
    pub(super) fn look_after_claims(&self, hub: &Arc<Hub>) {
        let mut held = self.claims();
        let seen = self.machine().as_ref().map(|machine| (machine.phase(), machine.has_parked()));
        let (phase, parked) = seen.unwrap_or_default();
        let mut recalled = match phase {
            Phase::Serving if held.get(hub).status(hub.now()).is_empty() => return,
            Phase::Serving => self.on_claims(hub, &mut held, ClaimEvent::DrainGone),
            Phase::Drained => self.on_claims(hub, &mut held, ClaimEvent::DrainOver),
            Phase::Noticing | Phase::Releasing | Phase::Held | Phase::Settling | Phase::Forcing => false,
        };
        recalled |= self.on_claims(hub, &mut held, ClaimEvent::Time { parked });
        if recalled {
            self.step(hub);
        }
    }

    /// When the claims have something to say by themselves, in milliseconds from now.
    pub(super) fn claims_wait_ms(&self, hub: &Hub) -> u64 {
        let next = self.claims().get(hub).next_at();
        next.map_or(u64::MAX, |at| at.since(hub.now()).max(1))
    }

    /// Looks at the app's address, if that can tell whether a deployment is through, and nobody looks already.
    pub(super) fn look_at_app(&self, hub: &Arc<Hub>) {
        if hub.config.app.is_none() || !self.claims().get(hub).wants_look() || self.looking.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let hub = hub.clone();
        tokio::spawn(async move {
            let look = look(&hub).await;
            hub.drain.looking.store(false, Ordering::Release);
            let mut held = hub.drain.claims();
            if hub.drain.on_claims(&hub, &mut held, ClaimEvent::AppLooked(look)) {
                hub.drain.step(&hub);
            }
        });
    }

    /// A report with who asked for the drain.
    pub(super) fn with_askers(&self, report: DrainReport) -> DrainReport {
        DrainReport { asked_by: self.asked_by.lock().unwrap_or_else(PoisonError::into_inner).clone(), ..report }
    }

    /// A status with who wants it so.
    pub(super) fn with_claims(&self, hub: &Hub, mut status: DrainStatus) -> DrainStatus {
        status.claims = self.claims().get(hub).status(hub.now());
        status.called_off = self.called_off.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status
    }
}

async fn look(hub: &Hub) -> AppLook {
    let Some(app) = &hub.config.app else { return AppLook::Unclear };
    let (host, port) = crate::world::host_and_port(app);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let connected = tokio::time::timeout(APP_LOOK_WAIT, hub.world.connect(host, port)).await;
    match connected {
        Ok(Ok(_)) => {
            let world = hub.world.clone();
            // Of another machine's app the tables of this one say nothing.
            let listeners = match is_here {
                true => tokio::task::spawn_blocking(move || world.listeners_at(port)).await.unwrap_or_default(),
                false => Vec::new(),
            };
            AppLook::Healthy(Instance(listeners))
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => AppLook::Refused,
        Ok(Err(_)) | Err(_) => AppLook::Unclear,
    }
}

fn in_words(why: &Ended) -> String {
    match why {
        Ended::Released => "released by its claimant".into(),
        Ended::Undone => "undone by the run that asked".into(),
        Ended::Orphaned { lease_ms } => format!("nobody asked for the status for {lease_ms} ms"),
        Ended::AppBack => "the app has gone and is back".into(),
        Ended::TimeOver { after_ms } => format!("nothing ended it for {after_ms} ms after the drain"),
        Ended::CalledOff => "an operator called everything off".into(),
        Ended::DrainGone => "the drain recalled itself".into(),
        Ended::Displaced => "too many others came after it".into(),
    }
}
