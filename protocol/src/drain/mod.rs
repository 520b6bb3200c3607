//! Emptying a hub: policy to plan, plan to actions, and the account at the end.
