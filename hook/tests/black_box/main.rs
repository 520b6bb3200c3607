//! The built trigger as a child process, run as the CodeDeploy agent runs it: no terminal, stdin
//! closed, stdout a pipe, and an environment of PATH, HOME, USER and the CodeDeploy variables.
//!
//! The hubs here are scripted, for most of them are broken on purpose. The trigger against real
//! hubs is tested in the workspace's `tests` crate.

mod agent;
mod agent_dies;
mod broken_hubs;
mod commands;
mod drains;
mod hub;
mod json;
mod lifecycle;
mod secrets;
mod signals_and_pipes;
mod terminal;
