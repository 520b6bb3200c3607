//! One hub alone, its app and its clients, as processes: connecting, messages, calls, parking, crashes.

mod acks;
mod app_away;
mod app_door;
mod apps;
mod auth;
mod calls;
mod connecting;
mod crashes;
mod ends;
mod moments;
mod parking;
mod readiness;
mod rights;
