//! The addresses that the settings name, and who was found there. Pure.
//!
//! A session may be reset on knowledge only, and an address that never answered means that knowledge
//! is missing: until it does, or `--peer-forget-after` has passed, it stands in the list of known hubs
//! under a made-up id, and whoever waits for that id's answer waits in vain, as it should.

use http::Uri;
use std::collections::BTreeMap;
use tidegate_protocol::id::HubId;
use tidegate_protocol::position::Millis;

/// Addresses whose hub is reached elsewhere (or is this one) are asked again every so many rounds:
/// addresses change hands.
const LOOK_AGAIN_ROUNDS: u64 = 10;

/// Who is at an address.
///
/// ```text
///   Unheard ── answer ──► Own │ Hub ◄── answer ──► Open (answered once; who is there now is open)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Unheard { since: Millis },
    Own,
    Hub(HubId),
    Open,
}

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct Seeds {
    places: BTreeMap<String, (Uri, Place)>,
    sources: Sources,
    forget_after_ms: u64,
}

/// Whether the file and the names behind the addresses could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sources {
    /// Not all of them yet, since the start.
    Unread,
    /// All of them, at least once (or there are none).
    Read,
}

impl Seeds {
    pub(super) fn new(any: bool, forget_after_ms: u64) -> Self {
        let sources = if any { Sources::Unread } else { Sources::Read };
        Self { places: BTreeMap::new(), sources, forget_after_ms }
    }

    /// The list as it is now. Says whether there is a new address. `complete`: all sources were read.
    pub(super) fn update(&mut self, now: Millis, urls: Vec<Uri>, complete: bool) -> bool {
        let mut any = false;
        let places = urls.into_iter().map(|url| {
            let key = key(&url);
            let place = self.places.get(&key).map(|(_, place)| *place);
            any |= place.is_none();
            (key, (url, place.unwrap_or(Place::Unheard { since: now })))
        });
        self.places = places.collect();
        if complete {
            self.sources = Sources::Read;
        }
        any
    }

    /// Somebody answered there: `None` is this hub itself.
    pub(super) fn answered(&mut self, url: &Uri, hub: Option<HubId>) {
        if let Some((_, place)) = self.places.get_mut(&key(url)) {
            *place = hub.map_or(Place::Own, Place::Hub);
        }
    }

    /// The hub that was there is not there any more.
    pub(super) fn misled(&mut self, url: &Uri) {
        if let Some((_, place)) = self.places.get_mut(&key(url))
            && matches!(place, Place::Hub(_))
        {
            *place = Place::Open;
        }
    }

    /// Made-up ids for what is not known yet.
    pub(super) fn unheard(&self, now: Millis) -> Vec<HubId> {
        let unread = self.sources == Sources::Unread && now.0 < self.forget_after_ms;
        let places = self.places.iter().filter(|(_, (_, place))| match place {
            Place::Unheard { since } => now.since(*since) < self.forget_after_ms,
            Place::Own | Place::Hub(_) | Place::Open => false,
        });
        unread.then(|| made_up("sources")).into_iter().chain(places.map(|(key, _)| made_up(key))).collect()
    }

    /// The addresses to ask in this round, apart from those by which hubs are reached anyway.
    pub(super) fn to_ask(&self, round: u64, reached: &BTreeMap<String, HubId>) -> Vec<Uri> {
        let due = |key: &str, place: &Place| match place {
            Place::Unheard { .. } | Place::Open => true,
            Place::Hub(hub) if reached.get(key) == Some(hub) => false,
            Place::Own | Place::Hub(_) => round.is_multiple_of(LOOK_AGAIN_ROUNDS),
        };
        self.places.iter().filter(|(key, (_, place))| due(key, place)).map(|(_, (url, _))| url.clone()).collect()
    }

    /// The addresses where nobody was found yet.
    pub(super) fn silent(&self) -> Vec<Uri> {
        let unheard = self.places.values().filter(|(_, place)| matches!(place, Place::Unheard { .. }));
        unheard.map(|(url, _)| url.clone()).collect()
    }
}

/// One spelling for one address: scheme, host and port.
pub(super) fn key(url: &Uri) -> String {
    format!("{}://{}", url.scheme_str().unwrap_or("http"), url.authority().map_or("", |authority| authority.as_str()))
}

/// FNV-1a: the same address has the same id each time, and no real hub is likely to have it.
fn made_up(name: &str) -> HubId {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    HubId(name.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn url(port: u16) -> Uri {
        format!("http://127.0.0.1:{port}/").parse().expect("a URL")
    }

    #[test]
    fn until_every_address_has_answered_somebody_unknown_is_waited_for() {
        let mut seeds = Seeds::new(true, HOUR);
        assert_eq!(seeds.unheard(Millis(0)).len(), 1, "nothing was read yet");
        assert!(seeds.update(Millis(1), vec![url(1), url(2)], true), "both are new");
        assert_eq!(seeds.unheard(Millis(1)).len(), 2);
        seeds.answered(&url(1), None);
        seeds.answered(&url(2), Some(HubId(2)));
        assert_eq!(seeds.unheard(Millis(2)), []);
        seeds.misled(&url(2));
        assert_eq!(seeds.unheard(Millis(2)), [], "it was heard since the start");
        assert!(!seeds.update(Millis(3), vec![url(1)], false), "none is new");
    }

    #[test]
    fn an_address_that_never_answers_is_waited_for_only_so_long() {
        let mut seeds = Seeds::new(true, HOUR);
        seeds.update(Millis(5), vec![url(1)], false);
        assert_eq!(seeds.unheard(Millis(HOUR - 1)).len(), 2, "the address, and a source that was never read");
        assert_eq!(seeds.unheard(Millis(HOUR + 5)), []);
    }

    #[test]
    fn a_hub_without_peers_in_its_settings_waits_for_nobody() {
        assert_eq!(Seeds::new(false, HOUR).unheard(Millis(0)), []);
    }

    #[test]
    fn an_address_by_which_a_hub_is_reached_is_not_asked_twice() {
        let mut seeds = Seeds::new(true, HOUR);
        seeds.update(Millis(0), vec![url(1), url(2)], true);
        seeds.answered(&url(1), Some(HubId(1)));
        seeds.answered(&url(2), None);
        let reached = BTreeMap::from([(key(&url(1)), HubId(1))]);
        assert_eq!(seeds.to_ask(1, &reached), Vec::<Uri>::new());
        assert_eq!(seeds.to_ask(10, &reached), [url(2)], "from time to time who is there is looked at again");
        assert_eq!(seeds.to_ask(1, &BTreeMap::new()), Vec::<Uri>::new(), "its hub is reached elsewhere");
    }
}
