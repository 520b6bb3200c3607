//! Which hubs there are, as far as this one knows. Pure: time is handed in, and what follows from a
//! change is told, not done.

use super::standing::{By, Fate, Heard, News, Peer, SILENT_MS, Said, Standing};
use super::wire::{Acquaintance, Hello};
use http::Uri;
use std::collections::BTreeMap;
use tidegate_protocol::drain::{Room, Successor};
use tidegate_protocol::id::{HubId, Incarnation};
use tidegate_protocol::position::Millis;

/// Forgotten hubs that are remembered as such; the oldest goes first.
const GONE_MAX: usize = 1_024;

/// The table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    peers: BTreeMap<HubId, Peer>,
    forget_after_ms: u64,
    limit: usize,
}

impl Table {
    pub(super) fn new(forget_after_ms: u64, limit: usize) -> Self {
        // A hub must be able to be silent before it is forgotten.
        Self { peers: BTreeMap::new(), forget_after_ms: forget_after_ms.max(SILENT_MS), limit }
    }

    pub(super) fn get(&self, hub: HubId) -> Option<&Peer> {
        self.peers.get(&hub)
    }

    /// Everybody who is not forgotten.
    pub(super) fn present(&self) -> impl Iterator<Item = (HubId, &Peer)> {
        self.peers.iter().filter(|(_, peer)| !peer.is_gone()).map(|(hub, peer)| (*hub, peer))
    }

    /// A test leads the way to a hub elsewhere, as a network that is broken would.
    #[cfg(test)]
    pub(super) fn lead(&mut self, hub: HubId, url: Uri) {
        if let Some(peer) = self.peers.get_mut(&hub) {
            peer.url = url;
        }
    }

    /// The run of a hub that is not forgotten, if it was heard.
    pub(super) fn run_of(&self, hub: HubId) -> Option<Incarnation> {
        self.peers.get(&hub)?.said().map(|said| said.hello.incarnation)
    }

    /// Whether a hub says for which run its calls are.
    pub(super) fn names_runs(&self, hub: HubId) -> bool {
        self.peers.get(&hub).and_then(Peer::said).is_some_and(|said| said.hello.names_runs)
    }

    pub(super) fn successors(&self, now: Millis) -> Vec<Successor> {
        self.peers.iter().filter_map(|(hub, peer)| peer.successor(*hub, now)).collect()
    }

    /// Those that are heard now, as they are told to others. Silent ones are not, else a dead hub
    /// would be passed on for ever.
    pub(super) fn acquaintances(&self) -> Vec<Acquaintance> {
        let heard = self.peers.iter().filter(|(_, peer)| peer.is_heard());
        let line = |(hub, peer): (&HubId, &Peer)| {
            let incarnation = peer.said()?.hello.incarnation;
            Some(Acquaintance { hub: *hub, incarnation, url: peer.url.to_string() })
        };
        heard.filter_map(line).collect()
    }

    /// A hub said who it is.
    pub(super) fn hear(&mut self, now: Millis, hello: &Hello, by: By) -> Heard {
        let before = self.peers.get(&hello.from);
        let over = match before.map(|peer| &peer.standing) {
            Some(Standing::Left { run, .. }) => hello.incarnation <= *run,
            Some(Standing::Heard { said, .. } | Standing::Silent { said, .. }) => {
                hello.incarnation < said.hello.incarnation
            }
            Some(Standing::Lost { run, .. }) => run.is_some_and(|run| hello.incarnation < run),
            Some(Standing::Unheard { .. }) | None => false,
        };
        if over {
            return Heard::Over;
        }
        if before.is_none_or(Peer::is_gone) && self.present().count() >= self.limit {
            return Heard::Full;
        }
        let Some(url) = self.url_after(now, hello, &by) else { return Heard::NoWay };
        let new_run = before.and_then(Peer::said).map(|said| said.hello.incarnation) != Some(hello.incarnation);
        let answered = match by {
            By::Asking(_) => Some(now),
            By::Coming(_) if new_run => None,
            By::Coming(_) => before.and_then(Peer::said).and_then(|said| said.answered),
        };
        let said = Box::new(Said { hello: Hello { known: Vec::new(), ..hello.clone() }, at: now, answered });
        let after = Peer { url, standing: Standing::Heard { last: now, said } };
        let news = News {
            met: before.is_none_or(|peer| peer.said().is_none()),
            back_after_ms: match before.map(|peer| &peer.standing) {
                Some(Standing::Silent { last, .. }) => Some(now.since(*last)),
                _ => None,
            },
            replaced: before.and_then(Peer::said).filter(|_| new_run).map(|said| said.hello.incarnation),
            changed: plan_view(before, hello.from, now) != plan_view(Some(&after), hello.from, now),
        };
        self.peers.insert(hello.from, after);
        Heard::Taken(news)
    }

    /// The address that works is kept; one that does not gives way to any other.
    fn url_after(&self, now: Millis, hello: &Hello, by: &By) -> Option<Uri> {
        let known = self.peers.get(&hello.from).filter(|peer| !peer.is_gone());
        let same_run = known.is_some_and(|peer| {
            peer.answers(now) && peer.said().is_some_and(|said| said.hello.incarnation == hello.incarnation)
        });
        match (known, by) {
            (Some(peer), _) if same_run => Some(peer.url.clone()),
            (_, By::Asking(url)) => Some(url.clone()),
            (_, By::Coming(Some(url))) => Some(url.clone()),
            (Some(peer), By::Coming(None)) => Some(peer.url.clone()),
            (None, By::Coming(None)) => None,
        }
    }

    /// Another word than a hello came from a hub.
    pub(super) fn word(&mut self, now: Millis, hub: HubId) {
        if let Some(Peer { standing: Standing::Heard { last, .. }, .. }) = self.peers.get_mut(&hub) {
            *last = now;
        }
    }

    /// Hubs that do not run and have sessions on their disks: how many, and since when they are not heard.
    pub(super) fn parked_and_gone(&self) -> impl Iterator<Item = (HubId, &Uri, u64, Millis)> {
        self.peers.iter().filter_map(|(hub, peer)| {
            let (parked, since) = peer.parked_and_gone()?;
            Some((*hub, &peer.url, parked, since))
        })
    }

    /// A peer hears these hubs. Says whether one of them is new here.
    pub(super) fn hearsay(&mut self, now: Millis, own: HubId, told: &[(HubId, Incarnation, Uri)]) -> bool {
        let mut any = false;
        for (hub, run, url) in told {
            let new = match self.peers.get(hub).map(|peer| &peer.standing) {
                None | Some(Standing::Lost { .. }) => true,
                Some(Standing::Left { run: left, .. }) => run > left,
                Some(Standing::Unheard { .. } | Standing::Heard { .. } | Standing::Silent { .. }) => false,
            };
            if !new || *hub == own || self.present().count() >= self.limit {
                continue;
            }
            self.peers.insert(*hub, Peer { url: url.clone(), standing: Standing::Unheard { since: now } });
            any = true;
        }
        any
    }

    /// A run is over. Says whether that is new.
    pub(super) fn goodbye(&mut self, now: Millis, hub: HubId, run: Incarnation, parked: u64) -> bool {
        let Some(peer) = self.peers.get_mut(&hub) else { return false };
        let is_current = match &peer.standing {
            Standing::Heard { said, .. } | Standing::Silent { said, .. } => said.hello.incarnation <= run,
            Standing::Unheard { .. } => true,
            Standing::Left { .. } | Standing::Lost { .. } => false,
        };
        if is_current {
            peer.standing = Standing::Left { at: now, run, parked };
        }
        is_current
    }

    /// Time passes.
    pub(super) fn tick(&mut self, now: Millis) -> Vec<Fate> {
        let mut fates = Vec::new();
        for (hub, peer) in &mut self.peers {
            let (last, run, parked) = match &peer.standing {
                Standing::Unheard { since } => (*since, None, 0),
                Standing::Heard { last, said } | Standing::Silent { last, said } => {
                    (*last, Some(said.hello.incarnation), said.hello.parked)
                }
                Standing::Left { .. } | Standing::Lost { .. } => continue,
            };
            let silent_ms = now.since(last);
            if silent_ms >= self.forget_after_ms {
                peer.standing = Standing::Lost { at: now, run, parked };
                fates.push(Fate::Forgotten(*hub, run, parked));
            } else if let Standing::Heard { last, said } = &peer.standing
                && silent_ms >= SILENT_MS
            {
                peer.standing = Standing::Silent { last: *last, said: said.clone() };
                fates.push(Fate::Silent(*hub, peer.url.clone()));
            }
        }
        self.drop_oldest_gone();
        fates
    }

    fn drop_oldest_gone(&mut self) {
        let mut gone: Vec<(Millis, HubId)> = self
            .peers
            .iter()
            .filter_map(|(hub, peer)| match peer.standing {
                Standing::Left { at, .. } | Standing::Lost { at, .. } => Some((at, *hub)),
                Standing::Unheard { .. } | Standing::Heard { .. } | Standing::Silent { .. } => None,
            })
            .collect();
        gone.sort_unstable();
        for (_, hub) in gone.iter().take(gone.len().saturating_sub(GONE_MAX)) {
            self.peers.remove(hub);
        }
    }
}

/// What a drain plans by, without the numbers that change with every hello.
fn plan_view(peer: Option<&Peer>, hub: HubId, now: Millis) -> Option<Successor> {
    peer.and_then(|peer| peer.successor(hub, now)).map(|successor| Successor {
        admission: None,
        room: successor.room.map(|room| Room { told_at: Millis(0), ..room }),
        ..successor
    })
}
