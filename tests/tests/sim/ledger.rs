//! The verdict at the end of a run: every message both ways, every publish, every report.

use crate::account::{Account, Over, Part};
use crate::book::{Book, Entry};
use crate::ops::{Published, Records, To};
use crate::watch::Watch;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_protocol::id::SessionId;

/// What the judge looks at.
pub(crate) struct Case<'a> {
    pub(crate) accounts: &'a [Account],
    pub(crate) book: &'a Book,
    pub(crate) records: &'a Records,
    pub(crate) watch: &'a Watch,
    /// How many hubs the fleet has.
    pub(crate) hubs: usize,
    /// Hubs were cut off from each other for longer than an orphan waits.
    pub(crate) long_trouble: bool,
}

/// What a run amounted to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) publishes: u64,
    pub(crate) resets: u64,
    pub(crate) reports: u64,
}

impl Case<'_> {
    /// Everything that is wrong.
    pub(crate) fn judge(&self) -> (Sums, Vec<String>) {
        let (mut sums, mut wrong) = (Sums::default(), Vec::new());
        let complete = self.complete();
        let may_double: BTreeSet<u64> =
            self.records.published().iter().filter(|one| one.may_double).map(|one| one.id).collect();
        for (client, account) in self.accounts.iter().enumerate() {
            let state = account.state();
            if state.doubled {
                continue;
            }
            for part in &state.parts {
                sums.up += part.sent.len() as u64;
                sums.down += part.received.len() as u64;
                sums.resets += u64::from(matches!(part.over, Some((_, Over::Reset(_)))));
                let mut complain = |what: String| wrong.push(format!("client {client}, {}: {what}", part.session));
                let entry = self.book.entry(part.session);
                self.end(part, &mut complain);
                self.upward(part, &entry, &mut complain);
                self.downward(part, &entry, &mut complain);
                once_and_in_order(part, &complete, &may_double, &mut complain);
            }
        }
        self.publishes(&mut sums, &mut wrong);
        self.reports(&mut sums, &mut wrong);
        (sums, wrong)
    }

    /// Publishes that every hub had numbered when they were answered, and which hub was asked: only then does the
    /// next one come after them.
    fn complete(&self) -> BTreeMap<u64, usize> {
        let published = self.records.published();
        let complete = published.iter().filter(|one| match &one.answer {
            // A hub that has just started and met nobody yet names nobody either.
            Some((200, answer)) => {
                answer["unreachable"].as_array().is_some_and(Vec::is_empty)
                    && (matches!(one.to, To::Session(_)) || answer["hubs"].as_u64() == Some(self.hubs as u64))
            }
            Some(_) | None => false,
        });
        complete.map(|one| (one.id, one.hub)).collect()
    }

    /// A session ends by a reset only if a crash or a long cut gave reason for it.
    fn end(&self, part: &Part, complain: &mut dyn FnMut(String)) {
        match &part.over {
            None => {}
            Some((at, Over::Reset(why))) => {
                let excused = self.watch.shaken.contains_key(&part.session)
                    || self.watch.stranded.contains(&part.session)
                    || self.long_trouble;
                if !excused {
                    complain(format!("was reset at {at} ms ({why}), and no hub that held it had crashed"));
                }
            }
            Some((at, Over::Ended(code, why))) => complain(format!("ended at {at} ms with {code}: {why}")),
        }
    }

    /// What the client sent is what the app was given; all of it, if the session goes on.
    fn upward(&self, part: &Part, entry: &Entry, complain: &mut dyn FnMut(String)) {
        for (at, (given, sent)) in entry.taken.iter().zip(&part.sent).enumerate() {
            if given != sent && !given.is_empty() {
                return complain(format!("the app was given {given:?} as its message {}, which was {sent:?}", at + 1));
            }
        }
        if !entry.swallowed.is_empty() && !self.watch.shaken.contains_key(&part.session) {
            complain(format!("acked and never read by the app: messages {:?}", entry.swallowed));
        }
        let acked = part.sent.len() - part.unsent.len().min(part.sent.len());
        if part.over.is_some() && entry.taken.len() < acked && !self.watch.shaken.contains_key(&part.session) {
            complain(format!("{acked} messages were acked and the app was given {}", entry.taken.len()));
        }
        if part.over.is_none() && entry.taken.len() != part.sent.len() {
            complain(format!(
                "the client sent {} messages and the app was given {}",
                part.sent.len(),
                entry.taken.len()
            ));
        }
    }

    /// What the app said is what the client got; all of it, if the session goes on.
    fn downward(&self, part: &Part, entry: &Entry, complain: &mut dyn FnMut(String)) {
        let numbers: Vec<u64> = part.received.iter().filter_map(|(_, text)| number(text)).collect();
        if let Some(pair) = numbers.windows(2).find(|pair| pair[0] >= pair[1]) {
            complain(format!("the app's message {} came after {}", pair[1], pair[0]));
        }
        let got: BTreeSet<u64> = numbers.iter().copied().collect();
        let last = if part.over.is_none() { entry.said } else { numbers.last().copied().unwrap_or(0) };
        let missing: Vec<u64> =
            (1..=last).filter(|n| !got.contains(n) && !self.book.may_miss(part.session, *n)).collect();
        let declared: u64 = part.gaps.iter().map(|(_, count, _)| count).sum();
        if missing.len() as u64 > declared {
            complain(format!(
                "of the app's {last} messages these never came: {missing:?} (gaps declared: {:?}, received {})",
                part.gaps,
                numbers.len()
            ));
        }
    }

    fn publishes(&self, sums: &mut Sums, wrong: &mut Vec<String>) {
        // Who got what: by message, the clients' parts.
        let mut got: BTreeMap<String, Vec<SessionId>> = BTreeMap::new();
        for account in self.accounts {
            for part in &account.state().parts {
                for (_, text) in part.received.iter().filter(|(_, text)| text.starts_with('p')) {
                    got.entry(text.clone()).or_default().push(part.session);
                }
            }
        }
        for one in self.records.published().iter() {
            sums.publishes += 1;
            if let Err(why) = self.publish(one, &got) {
                wrong.push(format!("publish {} to {:?}, asked at {} ms: {why}", one.id, one.to, one.asked_ms));
            }
        }
    }

    fn publish(&self, one: &Published, got: &BTreeMap<String, Vec<SessionId>>) -> Result<(), String> {
        let none = Vec::new();
        let Some((200, answer)) = &one.answer else { return Ok(()) };
        if let To::Session(session) = &one.to {
            let receivers = got.get(&format!("ps {}", one.id)).unwrap_or(&none);
            return self.reached(*session, receivers.contains(session), one);
        }
        if answer["unreachable"].as_array().is_none_or(|hubs| !hubs.is_empty()) {
            return Ok(());
        }
        let receivers = match &one.to {
            To::All => got.get(&format!("pa {}", one.id)),
            To::User(_) => got.get(&format!("pu {}", one.id)),
            To::Channel(_) => got.get(&format!("pc {}", one.id)),
            To::Session(_) => None,
        };
        let receivers = receivers.unwrap_or(&none);
        if one.to == To::All && one.everywhere {
            self.reached_all(receivers, one)?;
        }
        let numbered = answer["sessions"].as_u64().unwrap_or(0);
        let lost_sight = self.accounts.iter().any(|account| account.state().doubled)
            || !self.watch.shaken.is_empty()
            || self.long_trouble;
        // A session that lay on the disk of a hub that was down, and whose client was reset meanwhile, is taken
        // up when that hub is back: it is a session, and nobody is there to hear.
        let left_behind: usize =
            self.accounts.iter().map(|account| account.state().parts.len().saturating_sub(1)).sum();
        if !lost_sight && numbered > (receivers.len() + left_behind) as u64 {
            let gaps =
                self.accounts.iter().any(|account| account.state().parts.iter().any(|part| !part.gaps.is_empty()));
            if !gaps {
                return Err(format!("numbered for {numbered} sessions, and {} clients got it", receivers.len()));
            }
        }
        Ok(())
    }

    /// What every running hub took comes to everybody who was there then, on the disk of whichever hub he lay, whether
    /// that ran or not; or he is told that something may be missing.
    fn reached_all(&self, receivers: &[SessionId], one: &Published) -> Result<(), String> {
        for account in self.accounts {
            let state = account.state();
            let was_there = |part: &&Part| part.began_ms < one.asked_ms && part.over.is_none() && part.gaps.is_empty();
            for part in state.parts.iter().filter(was_there) {
                let excused = state.doubled || self.watch.shaken.contains_key(&part.session) || self.long_trouble;
                if !excused && !receivers.contains(&part.session) {
                    return Err(format!("answered 200 by every hub that ran, and {} never got it", part.session));
                }
            }
        }
        Ok(())
    }

    /// A message that was numbered for a session comes to its client, unless the session was lost and that was told.
    fn reached(&self, session: SessionId, came: bool, one: &Published) -> Result<(), String> {
        for account in self.accounts {
            let state = account.state();
            for part in state.parts.iter().filter(|part| part.session == session) {
                if !came && part.over.is_none() && part.gaps.is_empty() && !state.doubled {
                    return Err(format!("answered 200 at {} ms, and its client never got it", one.answered_ms));
                }
            }
        }
        Ok(())
    }

    fn reports(&self, sums: &mut Sums, wrong: &mut Vec<String>) {
        for (hub, report) in self.records.reports().iter() {
            sums.reports += 1;
            let counts = report.sessions.counts;
            let population = counts.at_start + counts.arrived;
            let outcomes =
                counts.moved + counts.parked + counts.left + counts.forced + counts.unconfirmed + counts.remaining;
            if population != outcomes {
                wrong.push(format!("the report of hub {hub} does not add up: {counts:?}"));
            }
            if report.messages.lost > 0 {
                wrong.push(format!("the report of hub {hub} counts {} lost messages", report.messages.lost));
            }
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let mut words = text.split(' ');
    matches!(words.next(), Some("d" | "e")).then(|| words.next()?.parse().ok())?
}

/// What a publish was for, and its number.
fn publish_of(text: &str) -> Option<(&str, u64)> {
    let (kind, id) = text.split_once(' ').filter(|(kind, _)| kind.starts_with('p'))?;
    Some((kind, id.parse().ok()?))
}

/// No message comes twice, and those of one caller come in its order.
fn once_and_in_order(
    part: &Part,
    complete: &BTreeMap<u64, usize>,
    may_double: &BTreeSet<u64>,
    complain: &mut dyn FnMut(String),
) {
    let mut seen = BTreeSet::new();
    let mut last: BTreeMap<(&str, u64, usize), u64> = BTreeMap::new();
    for (at, text) in &part.received {
        if !seen.insert(text.as_str()) {
            if publish_of(text).is_some_and(|(_, id)| may_double.contains(&id)) {
                continue;
            }
            complain(format!("{text:?} came twice, the second time at {at} ms"));
        }
        let Some((kind, id)) = publish_of(text) else { continue };
        let Some(hub) = complete.get(&id) else { continue };
        // Order holds per caller: towards one session by any hub, and fleet-wide by each hub.
        let way = if kind == "ps" { ("one", 0) } else { ("many", *hub) };
        if let Some(before) = last.insert((way.0, id / 1_000_000, way.1), id)
            && before > id
        {
            complain(format!("publish {id} came after {before} of the same caller"));
        }
    }
}
