//! Processes that are killed, stopped and slowed at every named step of a drain, a handover and parking,
//! with traffic all the time; full disks, damaged logs, no descriptors, a link that garbles. Each case says
//! what may be lost, and shows that the clients were told, and that nothing else is lost, doubled or out of
//! order. The steps are those of `server/src/fault.rs`.

mod around;
mod away;
mod builds;
mod disk;
mod link;
mod parking;
mod scarce;
mod scene;
mod steps;
