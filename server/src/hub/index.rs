//! Who is where: sessions by user and by channel, those on this hub's disk included.

use super::Hub;
use super::cell::Cell;
use crate::message::Message;
use std::collections::BTreeSet;
use std::sync::Arc;
use tidegate_protocol::control::Target;
use tidegate_protocol::id::SessionId;
use tidegate_protocol::session::record::Record;

/// Whom a fleet-wide message is for on this hub.
pub(super) struct Audience {
    /// Sessions in memory.
    pub(super) cells: Vec<Arc<Cell>>,
    /// How many lie on disk: they get it when they are taken up.
    pub(super) parked: u64,
}

/// Who is where: sessions by user and by channel, for those that this hub owns.
#[derive(Debug, Default)]
pub struct Index {
    users: dashmap::DashMap<Arc<str>, BTreeSet<SessionId>>,
    channels: dashmap::DashMap<Arc<str>, BTreeSet<SessionId>>,
}

impl Index {
    /// Notes a session's user and channels.
    pub fn add(&self, id: SessionId, record: Option<&Record<Message>>) {
        let Some(record) = record else { return };
        if let Some(user) = &record.profile.user {
            self.users.entry(user.clone()).or_default().insert(id);
        }
        for channel in record.channels.iter() {
            self.join(id, channel.clone());
        }
    }

    /// Notes one more channel. Gives its name back as the index has it, for the session to share.
    pub fn join(&self, id: SessionId, channel: Arc<str>) -> Arc<str> {
        let mut sessions = self.channels.entry(channel).or_default();
        sessions.insert(id);
        sessions.key().clone()
    }

    /// Lets a record share the names that the index has already.
    pub fn share(&self, record: &mut Record<Message>) {
        if !record.channels.is_empty() {
            let known = |name: &Arc<str>| self.channels.get(name).map_or_else(|| name.clone(), |one| one.key().clone());
            record.channels = record.channels.iter().map(known).collect();
        }
    }

    /// Forgets one channel of a session.
    pub fn leave(&self, id: SessionId, channel: &str) {
        remove(&self.channels, channel, id);
    }

    /// Forgets a session that is no longer owned here.
    pub fn remove(&self, id: SessionId, record: Option<&Record<Message>>) {
        let Some(record) = record else { return };
        if let Some(user) = &record.profile.user {
            remove(&self.users, user, id);
        }
        for channel in record.channels.iter() {
            remove(&self.channels, channel, id);
        }
    }

    pub(super) fn audience(&self, hub: &Hub, to: &Target) -> Audience {
        let parked = hub.store.stats().parked as u64;
        let some = |map: &dashmap::DashMap<Arc<str>, BTreeSet<SessionId>>, name: &str| {
            let ids: Vec<SessionId> = map.get(name).map(|ids| ids.iter().copied().collect()).unwrap_or_default();
            let parked = if parked == 0 { 0 } else { ids.iter().filter(|id| hub.is_parked(**id)).count() as u64 };
            Audience { cells: ids.into_iter().filter_map(|id| hub.cell(id)).collect(), parked }
        };
        match to {
            Target::All => Audience { cells: hub.all_cells(), parked },
            Target::User(name) => some(&self.users, name),
            Target::Channel(name) => some(&self.channels, name),
            Target::Session(_) => Audience { cells: Vec::new(), parked: 0 },
        }
    }
}

fn remove(map: &dashmap::DashMap<Arc<str>, BTreeSet<SessionId>>, name: &str, id: SessionId) {
    if let Some(mut ids) = map.get_mut(name) {
        ids.remove(&id);
    }
    map.remove_if(name, |_, ids| ids.is_empty());
}

impl Hub {
    /// Learns for whom the sessions are that an earlier process has parked, without taking them up.
    pub async fn index_parked(&self) {
        const PAGE: usize = 256;
        let mut after = None;
        loop {
            let page = self.store.list(after, PAGE);
            let Some((last, _)) = page.last() else { return };
            after = Some(*last);
            for (session, _) in page {
                if self.is_parked(session)
                    && let Some((_, record, _)) = self.read_parked(session).await
                {
                    self.index.add(session, Some(&record));
                }
            }
            tokio::task::yield_now().await;
        }
    }
}
