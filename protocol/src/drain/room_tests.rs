use super::*;
use crate::control::{DrainRequest, HubState};
use crate::drain::{Facts, Plan, Room};
use crate::id::{HubId, SessionId};
use crate::position::Millis;

fn hub(id: u64, places: Option<u64>) -> Successor {
    Successor {
        hub: HubId(id),
        url: None,
        eligible: places != Some(0),
        state: Some(HubState::Serving),
        sessions: Some(0),
        room: places.map(|places| Room { places, told_at: Millis(1) }),
        admission: None,
    }
}

fn policy(json: &str) -> Policy {
    serde_json::from_str::<DrainRequest>(json).unwrap().resolve().unwrap()
}

fn plan(json: &str, sessions: u64, hubs: &[Successor]) -> Plan {
    let facts = Facts { connected: true, ..Facts::default() };
    Plan::new(policy(json), (0..sessions).map(|n| (SessionId(u128::from(n)), facts)), hubs, 7)
}

#[test]
fn forty_sessions_do_not_fit_into_five_places() {
    let answer = plan("{}", 40, &[hub(1, Some(2)), hub(2, Some(3))]).answer();
    assert!(!answer.fits && answer.needs_consent, "{answer:?}");
    let parks = answer.parks.expect("who finds no place is parked");
    assert_eq!((parks.sessions, parks.at_ms), (35, 300_000 - answer.push_reserve_ms), "in time before the deadline");
    let shares: Vec<_> = answer.successors.iter().map(|share| (share.sessions, share.room)).collect();
    assert_eq!(shares, [(2, Some(2)), (3, Some(3))]);
    let said = "the other hubs have room for 5 of 40 sessions: 35 sessions would be parked in the data directory";
    assert!(answer.blockers.contains(&said.to_owned()), "{:?}", answer.blockers);
    assert_eq!(answer.stages.iter().map(|stage| stage.count).sum::<u64>(), 40, "the timetable stays: room may come");
}

#[test]
fn who_agrees_to_parking_has_a_plan_that_fits_and_says_when_it_parks() {
    let answer = plan(r#"{"allow_park":true}"#, 40, &[hub(1, Some(10))]).answer();
    assert!(answer.fits && !answer.needs_consent, "{answer:?}");
    let parks = answer.parks.expect("who finds no place is parked");
    // The notice, a quarter of the window, and the wait for room.
    assert_eq!((parks.sessions, parks.at_ms), (30, 15_000 + 15_000 + 10_000));
}

#[test]
fn a_hub_that_tells_no_room_counts_as_having_enough_and_the_plan_says_so() {
    let answer = plan("{}", 40, &[hub(1, Some(2)), hub(2, None)]).answer();
    assert_eq!((answer.fits, answer.parks, answer.blockers.len()), (true, None, 0));
    assert_eq!(answer.notes, ["hub 0000000000000002 does not tell its room: it counts as having enough"]);
    let shares: Vec<_> = answer.successors.iter().map(|share| (share.sessions, share.room)).collect();
    assert_eq!(shares, [(2, Some(2)), (38, None)]);
}

#[test]
fn shares_are_as_level_as_room_allows() {
    let given = |sessions: u64, hubs: &[(u64, Option<u64>)]| -> Vec<u64> {
        let hubs: Vec<_> = (hubs.iter().zip(1..))
            .map(|((held, places), id)| Successor { sessions: Some(*held), eligible: true, ..hub(id, *places) })
            .collect();
        shares(sessions, &hubs).iter().map(|share| share.sessions).collect()
    };
    assert_eq!(given(12, &[(0, Some(2)), (0, None), (0, None)]), [2, 5, 5]);
    assert_eq!(given(12, &[(0, Some(2)), (9, Some(100)), (0, Some(4))]), [2, 6, 4]);
    assert_eq!(given(12, &[(0, Some(2)), (0, Some(3))]), [2, 3], "and never above it");
    assert_eq!(given(3, &[(0, Some(0)), (5, None)]), [0, 3]);
    assert_eq!(given(u64::MAX, &[(u64::MAX, None), (0, Some(7))]), [u64::MAX - 7, 7], "whatever a hub says of itself");
}

#[test]
fn parking_needs_consent_where_other_hubs_are_known_and_nowhere_else() {
    let draining = Successor { eligible: false, state: Some(HubState::Draining), ..hub(3, Some(9)) };
    let silent = Successor { eligible: false, state: None, ..hub(3, None) };
    let asks = |json: &str, sessions: u64, hubs: &[Successor], unheard: u64| {
        Consent::needed(&policy(json), sessions, hubs, unheard).map(|consent| (consent.room, consent.parks))
    };
    assert_eq!(asks("{}", 40, &[hub(1, Some(5))], 0), Some((Some(5), 35)));
    assert_eq!(asks("{}", 40, std::slice::from_ref(&draining), 0), Some((Some(0), 40)), "all at once");
    assert_eq!(asks("{}", 40, std::slice::from_ref(&silent), 0), Some((Some(0), 40)));
    assert_eq!(asks("{}", 40, &[hub(1, Some(0))], 0), Some((Some(0), 40)));
    assert_eq!(asks("{}", 40, &[], 1), Some((Some(0), 40)), "nobody knows what is there");
    assert_eq!(asks("{}", 40, &[], 0), None, "a hub that is alone parks");
    assert_eq!(asks("{}", 0, std::slice::from_ref(&draining), 0), None, "nobody is here");
    assert_eq!(asks("{}", 40, &[hub(1, Some(40))], 0), None);
    assert_eq!(asks("{}", 40, &[hub(1, Some(5)), hub(2, None)], 0), None, "one does not tell");
    assert_eq!(asks(r#"{"allow_park":true}"#, 40, &[draining, silent], 1), None);
}

#[test]
fn a_refusal_names_the_facts_and_the_way_on() {
    let consent = Consent::needed(&policy("{}"), 40, &[hub(1, Some(5))], 0).expect("35 have no place");
    let problem = consent.problem();
    assert_eq!((problem.status, problem.kind.as_str()), (409, "/problems/needs-consent"));
    assert_eq!(
        problem.detail,
        "the other hubs have room for 5 of 40 sessions: 35 of 40 sessions would be parked in the data directory of this hub. \
         Make room, or agree to that with \"allow_park\": true (tidegate-hook: --allow-park)"
    );
    assert_eq!((&problem.extensions["sessions"], &problem.extensions["room"]), (&40.into(), &5.into()));
    assert_eq!(problem.extensions["parks"], 35);
}
