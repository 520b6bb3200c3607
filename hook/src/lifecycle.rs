//! From the event that CodeDeploy names to what the trigger does. Nothing here acts.
//!
//! ```text
//!   BeforeBlockTraffic ─► drain           the instance is still in the load balancer and gets newcomers
//!   (BlockTraffic)                        the hub goes on handing over whoever still comes
//!   AfterBlockTraffic  ─► the rest now    push or park everybody who is left
//!   ApplicationStop    ─► drain           done already: ends at once. Without a load balancer: the only drain
//!   …                  ─► one line, 0     download, install, start, validate
//!   BeforeAllowTraffic ─► serve           undo: sessions are welcome here again
//! ```

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
    /// Undo a drain: the hub serves again.
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
            "BeforeAllowTraffic" => Task::Serve,
            other => Task::Nothing(other.to_owned()),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn on(event: &str) -> Deployment {
        Deployment { event: Some(event.to_owned()), ..Deployment::default() }
    }

    #[test]
    fn each_event_asks_for_what_the_contract_says() {
        assert_eq!(on("BeforeBlockTraffic").task(), Some(Task::Drain));
        assert_eq!(on("ApplicationStop").task(), Some(Task::Drain));
        assert_eq!(on("AfterBlockTraffic").task(), Some(Task::Rest));
        assert_eq!(on("BeforeAllowTraffic").task(), Some(Task::Serve));
        for quiet in
            ["BeforeInstall", "AfterInstall", "ApplicationStart", "ValidateService", "AfterAllowTraffic", "New"]
        {
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
