//! Hubs as time passes, without a clock.

use crate::peer::standing::{By, Fate, Heard, News, SILENT_MS};
use crate::peer::table::Table;
use crate::peer::wire::Hello;
use http::Uri;
use tidegate_protocol::control::HubState;
use tidegate_protocol::drain::Admission;
use tidegate_protocol::id::{HubId, Incarnation};
use tidegate_protocol::peer::SNAPSHOT_VERSION;
use tidegate_protocol::position::Millis;

const A: HubId = HubId(0xa);
const FORGET_MS: u64 = 60_000;

fn hello(run: u64) -> Hello {
    Hello {
        from: A,
        incarnation: Incarnation(run),
        version: "1.0.0".into(),
        peer_url: None,
        public_url: None,
        state: HubState::Serving,
        sessions: 0,
        room: true,
        places: None,
        parked: 0,
        admission: None,
        fan_last: 0,
        fan_had: Default::default(),
        names_runs: true,
        versions: vec![SNAPSHOT_VERSION],
        known: vec![],
    }
}

fn url(port: u16) -> Uri {
    format!("http://10.0.0.1:{port}/").parse().expect("a URL")
}

fn asked(port: u16) -> By {
    By::Asking(url(port))
}

fn news(heard: Heard) -> News {
    match heard {
        Heard::Taken(news) => news,
        other => panic!("expected it to be taken, and it was {other:?}"),
    }
}

fn table() -> Table {
    Table::new(FORGET_MS, 3)
}

fn eligible(table: &Table, now: u64) -> bool {
    table.successors(Millis(now)).iter().any(|peer| peer.eligible)
}

#[test]
fn a_hub_is_met_goes_silent_is_back_and_is_forgotten_in_the_end() {
    let mut table = table();
    assert!(news(table.hear(Millis(0), &hello(1), asked(1))).met);
    assert_eq!(table.tick(Millis(SILENT_MS - 1)), []);
    assert!(eligible(&table, SILENT_MS - 1));
    assert_eq!(table.tick(Millis(SILENT_MS)), [Fate::Silent(A, url(1))]);
    assert!(!eligible(&table, SILENT_MS));
    assert_eq!(table.present().count(), 1, "a silent one is waited for");
    let back = news(table.hear(Millis(5_000), &hello(1), asked(1)));
    assert_eq!((back.met, back.back_after_ms, back.changed), (false, Some(5_000), true));
    table.tick(Millis(5_000 + SILENT_MS));
    assert_eq!(table.tick(Millis(5_000 + FORGET_MS)), [Fate::Forgotten(A, Some(Incarnation(1)), 0)]);
    assert_eq!(table.present().count(), 0);
    assert!(news(table.hear(Millis(70_000), &hello(1), asked(1))).met, "after silence the same run is welcome");
}

#[test]
fn a_new_run_replaces_the_old_one_which_is_over() {
    let mut table = table();
    table.hear(Millis(0), &hello(1), asked(1));
    let anew = news(table.hear(Millis(1), &hello(2), By::Coming(Some(url(2)))));
    assert_eq!(anew.replaced, Some(Incarnation(1)));
    assert_eq!(table.get(A).map(|peer| peer.url.clone()), Some(url(2)), "a new run may be at a new address");
    assert!(!eligible(&table, 1), "it has not answered there yet");
    assert_eq!(table.hear(Millis(2), &hello(1), asked(1)), Heard::Over);
    assert_eq!(news(table.hear(Millis(3), &hello(2), asked(2))).replaced, None, "it is replaced once");
    assert!(eligible(&table, 3));
}

#[test]
fn after_goodbye_only_a_later_run_is_taken() {
    let mut table = table();
    table.hear(Millis(0), &hello(5), asked(1));
    assert!(!table.goodbye(Millis(1), A, Incarnation(4), 0), "an older run's goodbye says nothing of this one");
    assert!(table.goodbye(Millis(1), A, Incarnation(5), 0));
    assert!(!table.goodbye(Millis(1), A, Incarnation(5), 0), "once");
    assert_eq!(table.hear(Millis(2), &hello(5), asked(1)), Heard::Over, "a hello that was on its way");
    assert!(!table.hearsay(Millis(2), HubId(0), &[(A, Incarnation(5), url(1))]), "and what others had heard");
    assert!(table.hearsay(Millis(3), HubId(0), &[(A, Incarnation(6), url(1))]));
    assert!(news(table.hear(Millis(4), &hello(6), asked(1))).met);
}

#[test]
fn a_hub_that_others_told_of_is_waited_for_until_it_is_given_up() {
    let mut table = table();
    assert!(table.hearsay(Millis(0), HubId(0), &[(A, Incarnation(1), url(1)), (HubId(0), Incarnation(1), url(2))]));
    assert_eq!(table.present().map(|(hub, _)| hub).collect::<Vec<_>>(), [A], "and never itself");
    assert_eq!(table.acquaintances(), [], "what is only hearsay is not passed on");
    assert_eq!(table.tick(Millis(FORGET_MS)), [Fate::Forgotten(A, None, 0)]);
}

#[test]
fn an_address_that_works_is_kept_and_one_that_does_not_gives_way() {
    let mut table = table();
    table.hear(Millis(0), &hello(1), asked(1));
    table.hear(Millis(1), &hello(1), By::Coming(Some(url(2))));
    assert_eq!(table.get(A).map(|peer| peer.url.clone()), Some(url(1)));
    table.hear(Millis(SILENT_MS + 1), &hello(1), By::Coming(Some(url(2))));
    assert_eq!(table.get(A).map(|peer| peer.url.clone()), Some(url(2)), "the first one has not answered for 3 s");
    assert_eq!(Table::new(FORGET_MS, 3).hear(Millis(0), &hello(1), By::Coming(None)), Heard::NoWay);
}

#[test]
fn draining_full_or_too_new_hubs_take_nobody_and_how_a_hub_admits_is_what_it_says_itself() {
    for unfit in [
        Hello { state: HubState::WillDrain, ..hello(1) },
        Hello { room: false, ..hello(1) },
        Hello { versions: vec![SNAPSHOT_VERSION + 1], ..hello(1) },
    ] {
        let mut table = table();
        table.hear(Millis(0), &hello(1), asked(1));
        assert!(news(table.hear(Millis(1), &unfit, asked(1))).changed, "{unfit:?}");
        assert!(!eligible(&table, 1), "{unfit:?}");
    }
    let mut table = table();
    let said = |second| Some(Admission { second, welcomed: 40, p99_ms: 17, refused: 2 });
    table.hear(Millis(0), &Hello { admission: said(4), ..hello(1) }, asked(1));
    assert!(!news(table.hear(Millis(1), &Hello { admission: said(5), ..hello(1) }, asked(1))).changed, "no new plan");
    assert_eq!(table.successors(Millis(1))[0].admission, said(5));
}

#[test]
fn beyond_the_limit_hubs_are_ignored() {
    let mut table = table();
    for id in 1..=3 {
        news(table.hear(Millis(0), &Hello { from: HubId(id), ..hello(1) }, asked(id as u16)));
    }
    assert_eq!(table.hear(Millis(0), &hello(1), asked(9)), Heard::Full);
    assert!(!table.hearsay(Millis(0), HubId(0), &[(A, Incarnation(1), url(9))]));
    assert!(table.goodbye(Millis(1), HubId(1), Incarnation(1), 0));
    assert!(news(table.hear(Millis(2), &hello(1), asked(9))).met, "there is room again");
}

#[test]
fn room_is_as_told_and_a_hub_of_an_earlier_release_tells_none() {
    let mut table = Table::new(FORGET_MS, 9);
    let told = |places| Hello { places, ..hello(1) };
    for (at, places, expected) in
        [(1, None, (true, None)), (2, Some(3), (true, Some(3))), (3, Some(0), (false, Some(0)))]
    {
        table.hear(Millis(at), &told(places), asked(1));
        let successor = table.successors(Millis(at)).remove(0);
        assert_eq!((successor.eligible, successor.room.map(|room| room.places)), expected, "{places:?}");
    }
    let before = table.successors(Millis(3))[0].room;
    table.hear(Millis(4), &told(Some(0)), asked(1));
    assert_ne!(table.successors(Millis(4))[0].room, before, "the same number, but another word");
}

#[test]
fn sessions_on_the_disk_of_a_hub_that_ended_or_fell_silent_are_known_until_it_is_heard_again() {
    let mut table = Table::new(FORGET_MS, 9);
    let parked = |table: &Table| table.parked_and_gone().map(|(hub, _, parked, _)| (hub, parked)).collect::<Vec<_>>();
    let told = |run, parked| Hello { parked, ..hello(run) };
    table.hear(Millis(1), &told(1, 7), asked(1));
    assert_eq!(parked(&table), [], "it runs, and has them");
    table.tick(Millis(10_000));
    assert_eq!(parked(&table), [(A, 7)], "silent");
    table.goodbye(Millis(10_001), A, Incarnation(1), 9);
    assert_eq!(parked(&table), [(A, 9)], "as it said last");
    table.tick(Millis(10_002 + FORGET_MS));
    assert_eq!(parked(&table), [(A, 9)], "however long");
    table.hear(Millis(20_000 + FORGET_MS), &told(2, 0), asked(1));
    assert_eq!(parked(&table), [], "a process came back there, and took them up");
}
