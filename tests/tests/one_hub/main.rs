//! One hub alone, its app and its clients, as processes: connecting, messages, calls, parking, crashes.

mod acks;
mod apps;
mod auth;
mod calls;
mod connecting;
mod crashes;
mod moments;
mod parking;
mod readiness;
