//! Clients that mean harm, or are broken enough to do some. Each attack runs beside one ordinary client,
//! whose echoes are timed before and during it, and the hub's memory is watched all the time.
//!
//! The bounds: an ordinary client's p99 stays within three times its quiet one, three times that of a client
//! of another hub at the same time, or 50 ms, whichever is most (machines that run tests are noisy, and
//! attacker, hubs and clients share the cores), in the best of three rounds; memory (PSS) grows by no more
//! than each attack states.

mod calm;
mod floods;
mod frames;
mod half_open;
mod slow;
mod tokens;
