//! Claims by themselves: each shape of a deployment, who renews, who undoes, what is bounded.

use super::*;
use crate::control::ClaimLife;

const RETURN_AFTER_MS: u64 = 600_000;
const SHOP: &str = "shop/blue";

/// The claims of one hub, and a clock.
struct Hub {
    claims: Claims,
    now: Millis,
    parked: bool,
}

impl Hub {
    fn new() -> Self {
        Self { claims: Claims::new(RETURN_AFTER_MS), now: Millis(0), parked: false }
    }

    fn tell(&mut self, event: ClaimEvent) -> Vec<ClaimAction> {
        self.claims.handle(event, self.now)
    }

    /// A run of the trigger in this event of this group's deployment.
    fn event(&mut self, group: &str, event: &str, deployment: &str) -> Vec<ClaimAction> {
        self.run(group, event, deployment, &format!("{group} {event} {deployment}"))
    }

    fn run(&mut self, group: &str, event: &str, deployment: &str, attempt: &str) -> Vec<ClaimAction> {
        let ask = Ask {
            claimant: Claimant::of(Some(group), Some(attempt)),
            attempt: Some(attempt.to_owned()),
            event: Some(event.to_owned()),
            deployment: Some(deployment.to_owned()),
            on_orphan: OnOrphan::Recall,
            lease_ms: 60_000,
        };
        self.tell(ClaimEvent::Asked(ask))
    }

    fn by_hand(&mut self, attempt: Option<&str>) -> Vec<ClaimAction> {
        let ask = Ask {
            claimant: Claimant::of(None, attempt),
            attempt: attempt.map(str::to_owned),
            event: None,
            deployment: None,
            on_orphan: OnOrphan::Continue,
            lease_ms: 60_000,
        };
        self.tell(ClaimEvent::Asked(ask))
    }

    fn released(&mut self, group: &str, event: &str, deployment: &str) -> Vec<ClaimAction> {
        let (event, deployment) = (Some(event.to_owned()), Some(deployment.to_owned()));
        self.tell(ClaimEvent::Released { claimant: group.to_owned(), event, deployment })
    }

    fn undone(&mut self, attempt: &str) -> Vec<ClaimAction> {
        self.tell(ClaimEvent::Undone { attempt: attempt.to_owned() })
    }

    fn drained(&mut self) {
        assert_eq!(self.tell(ClaimEvent::DrainOver), []);
    }

    fn looks(&mut self, look: AppLook) -> Vec<ClaimAction> {
        self.tell(ClaimEvent::AppLooked(look))
    }

    fn pass(&mut self, ms: u64) -> Vec<ClaimAction> {
        self.now = self.now.plus(ms);
        self.tell(ClaimEvent::Time { parked: self.parked })
    }

    fn lives(&self) -> Vec<(String, ClaimLife)> {
        self.claims.status(self.now).into_iter().map(|claim| (claim.claimant, claim.life)).collect()
    }

    fn life(&self) -> Option<ClaimLife> {
        self.lives().first().map(|(_, life)| *life)
    }
}

fn healthy(inode: u64) -> AppLook {
    AppLook::Healthy(Instance(vec![inode]))
}

/// Who brought the recall about, if there is one.
fn recall(actions: &[ClaimAction]) -> Option<&str> {
    actions.iter().find_map(|action| match action {
        ClaimAction::Recall { by } => Some(by.as_str()),
        _ => None,
    })
}

#[test]
fn before_block_traffic_is_kept_for_ever_and_before_allow_traffic_of_any_deployment_releases_it() {
    let mut hub = Hub::new();
    assert_eq!(hub.event(SHOP, "BeforeBlockTraffic", "d-1"), [ClaimAction::Start]);
    assert_eq!(hub.life(), Some(ClaimLife::Draining));
    hub.drained();
    assert_eq!(hub.event(SHOP, "AfterBlockTraffic", "d-1"), [ClaimAction::Join]);
    assert_eq!(hub.event(SHOP, "ApplicationStop", "d-1"), [ClaimAction::Join]);
    assert_eq!((hub.life(), hub.claims.next_at(), hub.claims.wants_look()), (Some(ClaimLife::Kept), None, false));
    hub.parked = true;
    for look in [AppLook::Refused, healthy(2), healthy(2), healthy(2)] {
        assert_eq!(hub.looks(look), [], "the app of a blocked instance releases nothing");
    }
    assert_eq!(hub.pass(30 * 86_400_000), [], "nor does time");
    assert_eq!(recall(&hub.released(SHOP, "ValidateService", "d-1")), None, "BeforeAllowTraffic is to come");
    assert_eq!(
        hub.released(SHOP, "BeforeAllowTraffic", "d-2"),
        [
            ClaimAction::Dropped { claimant: SHOP.into(), why: Ended::Released },
            ClaimAction::Recall { by: "shop/blue (BeforeAllowTraffic of d-2)".into() }
        ]
    );
    assert_eq!(hub.lives(), []);
}

#[test]
fn without_a_load_balancer_validate_service_releases() {
    let mut hub = Hub::new();
    hub.event(SHOP, "ApplicationStop", "d-1");
    hub.drained();
    assert_eq!(hub.life(), Some(ClaimLife::Returning));
    assert_eq!(recall(&hub.released(SHOP, "ValidateService", "d-1")), Some("shop/blue (ValidateService of d-1)"));
}

#[test]
fn validate_service_looks_at_its_own_deployment() {
    let mut hub = Hub::new();
    hub.event(SHOP, "BeforeBlockTraffic", "d-1");
    hub.drained();
    hub.event(SHOP, "ApplicationStop", "d-2");
    assert_eq!(hub.life(), Some(ClaimLife::Kept), "d-1 blocked it and failed");
    assert!(recall(&hub.released(SHOP, "ValidateService", "d-2")).is_some(), "d-2 has no load balancer any more");
}

#[test]
fn a_deployment_that_ends_in_the_middle_gives_the_hub_back_when_the_app_is_back() {
    let mut hub = Hub::new();
    hub.event(SHOP, "ApplicationStop", "d-1");
    assert!(hub.claims.wants_look(), "who listens before it is over is worth knowing");
    hub.looks(healthy(7));
    assert!(!hub.claims.wants_look());
    hub.drained();
    assert!(hub.claims.wants_look());
    for look in [healthy(7), healthy(7), AppLook::Unclear, healthy(7)] {
        assert_eq!(hub.looks(look), [], "it is the old one, which is about to be stopped");
    }
    for look in [AppLook::Refused, healthy(8), AppLook::Refused, healthy(9), AppLook::Unclear, healthy(9)] {
        assert_eq!(hub.looks(look), [], "not twice in a row");
    }
    let back = hub.looks(healthy(9));
    assert_eq!(recall(&back), Some("the app is back: shop/blue (ApplicationStop of d-1)"), "{back:?}");
    assert_eq!(back[0], ClaimAction::Dropped { claimant: SHOP.into(), why: Ended::AppBack });
}

#[test]
fn an_app_that_was_gone_too_shortly_to_be_seen_gone_is_known_by_its_listener() {
    let mut hub = Hub::new();
    hub.event(SHOP, "ApplicationStop", "d-1");
    hub.looks(AppLook::Healthy(Instance(vec![7, 8])));
    hub.drained();
    assert_eq!(hub.looks(AppLook::Healthy(Instance(vec![8, 9]))), [], "one of several workers is new: no other app");
    assert_eq!(hub.looks(AppLook::Healthy(Instance(vec![20]))), []);
    assert!(recall(&hub.looks(AppLook::Healthy(Instance(vec![20])))).is_some());

    let mut unknown = Hub::new();
    unknown.event(SHOP, "ApplicationStop", "d-1");
    unknown.drained();
    for _ in 0..10 {
        assert_eq!(unknown.looks(AppLook::Healthy(Instance::default())), [], "who listens is not known: no proof");
    }
}

#[test]
fn at_the_latest_it_ends_after_a_while_and_a_later_event_of_the_group_begins_that_again() {
    let mut hub = Hub::new();
    hub.event(SHOP, "ApplicationStop", "d-1");
    hub.pass(50_000);
    hub.drained();
    assert_eq!(hub.pass(RETURN_AFTER_MS - 1_000), []);
    hub.looks(AppLook::Refused);
    hub.looks(healthy(3));
    assert_eq!(hub.event(SHOP, "ApplicationStop", "d-2"), [ClaimAction::Join]);
    assert_eq!(hub.looks(healthy(3)), [], "that app is the one which d-2 is going to replace");
    assert_eq!(hub.pass(RETURN_AFTER_MS - 1), []);
    assert_eq!(hub.claims.next_at(), Some(hub.now.plus(1)));
    let over = hub.pass(1);
    assert_eq!(
        over[0],
        ClaimAction::Dropped { claimant: SHOP.into(), why: Ended::TimeOver { after_ms: RETURN_AFTER_MS } }
    );
    assert_eq!(recall(&over), Some("nothing ended it for 600000 ms: shop/blue (ApplicationStop of d-2)"));
}

#[test]
fn a_second_group_neither_ends_the_first_ones_drain_nor_lets_it_be_ended() {
    const OTHER: &str = "shop/green";
    let mut hub = Hub::new();
    hub.event(SHOP, "BeforeBlockTraffic", "d-1");
    assert_eq!(hub.event(OTHER, "BeforeBlockTraffic", "d-9"), [ClaimAction::Join]);
    hub.drained();
    let kept = vec!["shop/blue (BeforeBlockTraffic of d-1)".to_owned()];
    assert_eq!(
        hub.released(OTHER, "BeforeAllowTraffic", "d-9"),
        [
            ClaimAction::Dropped { claimant: OTHER.into(), why: Ended::Released },
            ClaimAction::Kept { still_for: kept.clone() }
        ]
    );
    assert_eq!(hub.released(OTHER, "BeforeAllowTraffic", "d-9"), [ClaimAction::Kept { still_for: kept }]);
    assert!(recall(&hub.released(SHOP, "BeforeAllowTraffic", "d-1")).is_some());
}

#[test]
fn a_run_that_only_joined_undoes_only_what_it_added() {
    let mut hub = Hub::new();
    hub.run(SHOP, "BeforeBlockTraffic", "d-1", "a");
    hub.run("shop/green", "BeforeBlockTraffic", "d-9", "b");
    assert_eq!(recall(&hub.undone("b")), None);
    assert_eq!(hub.lives(), [(SHOP.to_owned(), ClaimLife::Draining)]);
    hub.drained();
    for (event, attempt) in [("AfterBlockTraffic", "c"), ("ApplicationStop", "d")] {
        hub.run(SHOP, event, "d-1", attempt);
        assert_eq!(recall(&hub.undone(attempt)), None, "a failing {event} leaves BeforeBlockTraffic's");
        assert_eq!(hub.life(), Some(ClaimLife::Kept));
    }
    assert_eq!(recall(&hub.undone("nobody's")), None);
    assert_eq!(recall(&hub.undone("a")), Some("shop/blue (BeforeBlockTraffic of d-1), which gave up"));
}

#[test]
fn what_is_left_after_an_undoing_is_judged_by_what_it_is_for() {
    let mut hub = Hub::new();
    hub.run(SHOP, "ApplicationStop", "d-1", "a");
    hub.drained();
    hub.run(SHOP, "BeforeBlockTraffic", "d-2", "b");
    assert_eq!(hub.life(), Some(ClaimLife::Kept));
    hub.undone("b");
    assert_eq!(hub.life(), Some(ClaimLife::Returning), "nothing blocks it any more");
}

#[test]
fn a_start_that_is_heard_after_its_own_undoing_is_refused() {
    let mut hub = Hub::new();
    hub.undone("a");
    assert_eq!(
        hub.run(SHOP, "BeforeBlockTraffic", "d-1", "a"),
        [ClaimAction::Refuse(Refused::CalledOff("a".to_owned()))]
    );
    assert_eq!(hub.lives(), []);
    for n in 0..CALLED_OFF_MAX {
        hub.undone(&n.to_string());
    }
    assert_eq!(hub.run(SHOP, "BeforeBlockTraffic", "d-1", "a"), [ClaimAction::Start], "the oldest is forgotten");
}

#[test]
fn only_the_run_that_asked_renews_its_lease() {
    let renew = |hub: &mut Hub, attempt: Option<&str>, claimant: Option<&str>| {
        let (attempt, claimant) = (attempt.map(str::to_owned), claimant.map(str::to_owned));
        assert_eq!(hub.tell(ClaimEvent::Renewed { attempt, claimant }), []);
    };
    for (attempt, claimant, renews) in
        [(Some("a"), None, true), (Some("b"), None, false), (None, None, false), (None, Some(SHOP), false)]
    {
        let mut hub = Hub::new();
        hub.run(SHOP, "BeforeBlockTraffic", "d-1", "a");
        hub.pass(59_999);
        renew(&mut hub, attempt, claimant);
        let over = hub.pass(1);
        assert_eq!(recall(&over).is_none(), renews, "{attempt:?} {claimant:?}: {over:?}");
        if !renews {
            assert_eq!(
                recall(&over),
                Some("orphaned: shop/blue (BeforeBlockTraffic of d-1) has not asked for the status for 60000 ms")
            );
        }
    }
}

#[test]
fn who_said_nothing_of_itself_is_renewed_by_any_question_without_an_attempt() {
    let ask = |claimant: Claimant| Ask {
        claimant,
        attempt: None,
        event: None,
        deployment: None,
        on_orphan: OnOrphan::Recall,
        lease_ms: 1_000,
    };
    for (claimant, named) in [(Claimant::Anonymous, None), (Claimant::Named("ops".to_owned()), Some("ops"))] {
        let mut hub = Hub::new();
        hub.tell(ClaimEvent::Asked(ask(claimant)));
        hub.pass(999);
        hub.tell(ClaimEvent::Renewed { attempt: Some("x".to_owned()), claimant: None });
        hub.tell(ClaimEvent::Renewed { attempt: None, claimant: named.map(str::to_owned) });
        assert_eq!(hub.pass(999), []);
        assert!(recall(&hub.pass(1)).is_some());
    }
}

#[test]
fn an_orphaned_run_goes_alone_continue_is_kept_and_leases_stop_when_the_drain_is_over() {
    let mut hub = Hub::new();
    hub.run(SHOP, "BeforeBlockTraffic", "d-1", "a");
    hub.by_hand(Some("hand"));
    let over = hub.pass(60_000);
    assert_eq!(
        over,
        [ClaimAction::Dropped { claimant: SHOP.into(), why: Ended::Orphaned { lease_ms: 60_000 } }],
        "the other one asked for continue"
    );
    assert_eq!(hub.pass(86_400_000), []);

    let mut hub = Hub::new();
    hub.run(SHOP, "BeforeBlockTraffic", "d-1", "a");
    hub.pass(59_000);
    hub.drained();
    assert_eq!(hub.pass(86_400_000), []);

    let mut hub = Hub::new();
    hub.run(SHOP, "BeforeBlockTraffic", "d-1", "a");
    hub.pass(30_000);
    hub.run(SHOP, "ApplicationStop", "d-2", "b");
    assert_eq!(hub.pass(30_000), [], "a is orphaned, b is not");
    hub.drained();
    assert_eq!(hub.life(), Some(ClaimLife::Returning), "what blocked it went with its run");
}

#[test]
fn what_was_parked_by_hand_comes_back_after_ten_minutes_unless_the_instance_is_blocked() {
    let mut hub = Hub::new();
    hub.by_hand(None);
    hub.drained();
    assert_eq!(hub.pass(PARKED_LEASE_MS * 2), [], "nobody is parked");
    hub.parked = true;
    let over = hub.pass(0);
    assert_eq!(recall(&over), Some("nothing ended it for 600000 ms: anonymous"), "{over:?}");
}

#[test]
fn an_operator_ends_all_claims_but_that_of_a_process_that_stops() {
    let by = || ClaimEvent::AllCalledOff { by: "an operator from 127.0.0.1".to_owned() };
    let mut hub = Hub::new();
    hub.event(SHOP, "BeforeBlockTraffic", "d-1");
    hub.by_hand(Some("hand"));
    let gone = hub.tell(by());
    assert_eq!(gone.len(), 3, "{gone:?}");
    assert_eq!(recall(&gone), Some("an operator from 127.0.0.1"));

    let mut hub = Hub::new();
    hub.event(SHOP, "BeforeBlockTraffic", "d-1");
    let stop = Ask {
        claimant: Claimant::Process,
        attempt: None,
        event: None,
        deployment: None,
        on_orphan: OnOrphan::Continue,
        lease_ms: 60_000,
    };
    hub.tell(ClaimEvent::Asked(stop));
    assert_eq!(recall(&hub.tell(by())), None);
    hub.parked = true;
    hub.drained();
    assert_eq!(recall(&hub.pass(86_400_000)), None);
}

#[test]
fn claims_end_with_a_drain_that_recalled_itself() {
    let mut hub = Hub::new();
    hub.event(SHOP, "BeforeBlockTraffic", "d-1");
    assert_eq!(
        hub.tell(ClaimEvent::DrainGone),
        [ClaimAction::Dropped { claimant: SHOP.into(), why: Ended::DrainGone }]
    );
    assert_eq!(hub.event(SHOP, "BeforeBlockTraffic", "d-2"), [ClaimAction::Start]);
    assert_eq!(hub.claims.asked_by().len(), 1, "who asked for the one before is not named for this one");
}

#[test]
fn there_is_a_bound_for_claims_and_for_runs_and_it_says_who_goes() {
    let mut hub = Hub::new();
    hub.event(SHOP, "BeforeBlockTraffic", "d-1");
    for n in 1..CLAIMS_MAX {
        hub.by_hand(Some(&format!("hand {n}")));
    }
    assert_eq!(hub.by_hand(Some("one more")), [ClaimAction::Refuse(Refused::TooMany)]);
    hub.drained();
    let taken = hub.by_hand(Some("one more"));
    assert_eq!(taken[0], ClaimAction::Dropped { claimant: "run hand 1".into(), why: Ended::Displaced });
    assert_eq!((hub.lives().len(), hub.claims.asked_by().len()), (CLAIMS_MAX, ASKED_MAX));

    for n in 0..RUNS_MAX * 2 {
        hub.run(SHOP, "ApplicationStop", "d-1", &format!("stop {n}"));
    }
    assert_eq!(hub.claims.claims[0].runs.len(), RUNS_MAX);
    assert_eq!(hub.life(), Some(ClaimLife::Kept), "the block event is not forgotten");
}

#[test]
fn a_run_whose_lease_is_over_goes_in_time_although_its_claim_stays_for_another() {
    let mut hub = Hub::new();
    let stays = Ask { on_orphan: OnOrphan::Continue, ..ask_of("stays", "ApplicationStop") };
    hub.tell(ClaimEvent::Asked(stays));
    hub.run(SHOP, "BeforeBlockTraffic", "d-1", "goes");
    assert_eq!(hub.claims.next_at(), Some(Millis(60_000)), "when its lease is over");
    // The drain's end comes before anybody looked at the time.
    hub.now = Millis(60_000);
    assert_eq!(hub.tell(ClaimEvent::DrainOver), []);
    let status = hub.claims.status(hub.now);
    assert_eq!(status[0].event.as_deref(), Some("ApplicationStop"), "the orphan keeps nothing: {status:?}");
    assert_eq!(status[0].life, ClaimLife::Returning);
}

#[test]
fn an_attempt_that_asked_in_two_events_undoes_both() {
    let mut hub = Hub::new();
    hub.run(SHOP, "ApplicationStop", "d-1", "one");
    hub.run(SHOP, "BeforeBlockTraffic", "d-1", "one");
    let actions = hub.undone("one");
    assert!(matches!(actions.last(), Some(ClaimAction::Recall { .. })), "{actions:?}");
}

fn ask_of(attempt: &str, event: &str) -> Ask {
    Ask {
        claimant: Claimant::of(Some(SHOP), Some(attempt)),
        attempt: Some(attempt.to_owned()),
        event: Some(event.to_owned()),
        deployment: Some("d-1".to_owned()),
        on_orphan: OnOrphan::Recall,
        lease_ms: 60_000,
    }
}
