//! From the event that CodeDeploy names to what the trigger does. Nothing here acts.
//!
//! ```text
//!   BeforeBlockTraffic ─► drain           the instance is still in the load balancer and gets newcomers
//!   (BlockTraffic)                        the hub goes on handing over whoever still comes
//!   AfterBlockTraffic  ─► the rest now    push or park everybody who is left
//!   ApplicationStop    ─► drain           done already: ends at once. Without a load balancer: the only drain
//!   …                  ─► one line, 0     download, install, start
//!   ValidateService    ─► give back       without a load balancer nothing comes after it; else the hub keeps on
//!   BeforeAllowTraffic ─► give back       sessions are welcome here again, unless another group claims the hub
//! ```
//!
//! What a deployment began ends with it, and the hub decides when: each call says whose it is (the application and the
//! deployment group, for a rollback has another id), in which event, and of which deployment.

use crate::text::clip;
use tidegate_protocol::control::Trigger;

/// What CodeDeploy tells a script about the deployment. Nothing else of the environment is read for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deployment {
    /// `LIFECYCLE_EVENT`; absent outside CodeDeploy.
    pub(crate) event: Option<String>,
    /// `DEPLOYMENT_ID`.
    pub(crate) id: Option<String>,
    /// `APPLICATION_NAME`.
    pub(crate) application: Option<String>,
    /// `DEPLOYMENT_GROUP_NAME`.
    pub(crate) group: Option<String>,
}

/// What one run of the trigger is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Empty the hub by the policy and wait for the end.
    Drain,
    /// Push or park everybody who is left, now.
    Rest,
    /// Give the hub back, as far as this deployment group claims it.
    Serve,
    /// Show what a drain would do.
    Plan,
    /// Show where the hub stands.
    Status,
    /// Show how the last drain ended.
    Report,
    /// Call the drain off.
    Cancel,
    /// Let a drain go on that a gate holds.
    Continue,
    /// An event that asks nothing of us; its name.
    Nothing(String),
}

impl Deployment {
    /// Reads the four variables through `var`; an empty value counts as absent.
    pub(crate) fn read(var: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| var(name).filter(|value| !value.is_empty()).map(|value| clip(&value, 256));
        Self {
            event: get("LIFECYCLE_EVENT"),
            id: get("DEPLOYMENT_ID"),
            application: get("APPLICATION_NAME"),
            group: get("DEPLOYMENT_GROUP_NAME"),
        }
    }

    /// What the event asks for; `None` outside CodeDeploy.
    pub(crate) fn task(&self) -> Option<Task> {
        Some(match self.event.as_deref()? {
            "BeforeBlockTraffic" | "ApplicationStop" => Task::Drain,
            "AfterBlockTraffic" => Task::Rest,
            "BeforeAllowTraffic" | "ValidateService" => Task::Serve,
            other => Task::Nothing(other.to_owned()),
        })
    }

    /// In whose name the hub is claimed: application and group. None outside CodeDeploy.
    pub(crate) fn claimant(&self) -> Option<String> {
        self.event.as_ref()?;
        let part = |value: &Option<String>| value.as_deref().map(|value| header_text(value, true));
        Some(match (part(&self.application), part(&self.group)) {
            (Some(application), Some(group)) => fit_header(format!("{application}/{group}")),
            (Some(one), None) | (None, Some(one)) => fit_header(one),
            (None, None) => "codedeploy".to_owned(),
        })
    }

    /// The event, as a header carries it.
    pub(crate) fn event_header(&self) -> Option<String> {
        self.event.as_deref().map(|event| fit_header(header_text(event, false)))
    }

    /// The deployment's id, as a header carries it.
    pub(crate) fn id_header(&self) -> Option<String> {
        self.event.as_ref()?;
        self.id.as_deref().map(|id| fit_header(header_text(id, false)))
    }

    /// Whether a script of a deployment runs us.
    pub(crate) fn is_codedeploy(&self) -> bool {
        self.event.is_some()
    }

    /// Whether a drain that fails is undone by default: where the instance stays in service then.
    /// After BlockTraffic it is out of the load balancer, and whoever is left is better handed on.
    pub(crate) fn recalls(&self) -> bool {
        self.event.as_deref().is_some_and(|event| event != "AfterBlockTraffic")
    }

    /// The `trigger` object of the policy, echoed in the report: the variables under their own names.
    pub(crate) fn trigger(&self) -> Option<Trigger> {
        let named = [
            ("LIFECYCLE_EVENT", &self.event),
            ("DEPLOYMENT_ID", &self.id),
            ("APPLICATION_NAME", &self.application),
            ("DEPLOYMENT_GROUP_NAME", &self.group),
        ];
        let trigger: Trigger =
            named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into()))).collect();
        (!trigger.is_empty()).then_some(trigger)
    }

    /// For the first line: `BeforeBlockTraffic of d-ABC (shop/blue): `, or nothing.
    pub(crate) fn prefix(&self) -> String {
        let Some(event) = &self.event else {
            return String::new();
        };
        let id = self.id.as_ref().map(|id| format!(" of {id}")).unwrap_or_default();
        let place = match (&self.application, &self.group) {
            (Some(application), Some(group)) => format!(" ({application}/{group})"),
            (Some(one), None) | (None, Some(one)) => format!(" ({one})"),
            (None, None) => String::new(),
        };
        format!("{event}{id}{place}: ")
    }
}

/// Longest name that the hub takes in a header.
const HEADER_MAX_BYTES: usize = 256;

/// What no header may carry, as `%XX`; in a part of a name the separator, too.
fn header_text(value: &str, part: bool) -> String {
    let plain = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && byte != b'%' && !(part && byte == b'/');
    let mut text = String::new();
    for byte in value.trim().bytes() {
        match plain(byte) {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// A name that is too long keeps its beginning, and a sum of the whole, so that two such stay two.
fn fit_header(text: String) -> String {
    if text.len() <= HEADER_MAX_BYTES {
        return text;
    }
    let sum = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{}~{sum:016x}", &text[..HEADER_MAX_BYTES - 17])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claimant_is_application_and_group_and_fits_a_header_whatever_they_are() {
        let named = |application: &str, group: &str| {
            let (application, group) = (Some(application.to_owned()), Some(group.to_owned()));
            Deployment { application, group, ..on("BeforeBlockTraffic") }.claimant().unwrap()
        };
        assert_eq!(named("shop", "blue"), "shop/blue");
        assert_eq!(named("sh/op", "b%e grün"), "sh%2Fop/b%25e gr%C3%BCn");
        let long = named(&"ü".repeat(100), &"x".repeat(100));
        assert!(long.len() == HEADER_MAX_BYTES && long != named(&"ü".repeat(100), &"x".repeat(99)), "{long}");
        assert_eq!(on("BeforeBlockTraffic").claimant().as_deref(), Some("codedeploy"));
        assert_eq!(Deployment::default().claimant(), None, "by hand nobody's");
    }

    fn on(event: &str) -> Deployment {
        Deployment { event: Some(event.to_owned()), ..Deployment::default() }
    }

    #[test]
    fn each_event_asks_for_what_the_contract_says() {
        assert_eq!(on("BeforeBlockTraffic").task(), Some(Task::Drain));
        assert_eq!(on("ApplicationStop").task(), Some(Task::Drain));
        assert_eq!(on("AfterBlockTraffic").task(), Some(Task::Rest));
        assert_eq!(on("BeforeAllowTraffic").task(), Some(Task::Serve));
        assert_eq!(on("ValidateService").task(), Some(Task::Serve));
        for quiet in ["BeforeInstall", "AfterInstall", "ApplicationStart", "AfterAllowTraffic", "New"] {
            assert_eq!(on(quiet).task(), Some(Task::Nothing(quiet.to_owned())));
        }
        assert_eq!(Deployment::default().task(), None);
    }

    #[test]
    fn an_empty_event_is_no_event() {
        let deployment = Deployment::read(|name| (name == "LIFECYCLE_EVENT").then(String::new));
        assert_eq!(deployment, Deployment::default());
    }

    #[test]
    fn only_the_four_variables_are_read_and_they_reach_the_trigger_object() {
        let asked = std::cell::RefCell::new(Vec::new());
        let deployment = Deployment::read(|name| {
            asked.borrow_mut().push(name.to_owned());
            Some(format!("<{name}>"))
        });
        assert_eq!(*asked.borrow(), ["LIFECYCLE_EVENT", "DEPLOYMENT_ID", "APPLICATION_NAME", "DEPLOYMENT_GROUP_NAME"]);
        let trigger = deployment.trigger().unwrap();
        assert_eq!(trigger.len(), 4);
        assert_eq!(trigger["DEPLOYMENT_ID"], "<DEPLOYMENT_ID>");
        assert_eq!(Deployment::default().trigger(), None);
    }

    #[test]
    fn a_failed_drain_is_undone_where_the_instance_stays_in_the_load_balancer() {
        assert!(on("BeforeBlockTraffic").recalls());
        assert!(on("ApplicationStop").recalls());
        assert!(!on("AfterBlockTraffic").recalls());
        assert!(!Deployment::default().recalls());
    }
}
