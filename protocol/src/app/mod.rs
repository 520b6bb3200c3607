//! The app behind the hub, as far as something has to be decided about it: which answer is final, when it is
//! dialled again and when it is given up, when it is quiet enough to be closed, and which paths it never sees.
//!
//! | part | decides |
//! |---|---|
//! | `answers` | whether the app refused a client for good: the same for newcomers and for those who are here |
//! | `redials` | whether a dial failed, when the next one is due, when and with which close the client is sent away |
//! | `quiet` | when the hub's Close goes to an app that finishes |
//! | `target` | which request paths are refused before anything is dialled |
//! | `user` | how a user's name travels in a header |

mod answers;
mod quiet;
mod redials;
mod target;
mod user;

pub use answers::{Answer, FINAL_BY_DEFAULT, FinalAnswers};
pub use quiet::{Finish, Finished, Quiet};
pub use redials::{GiveUp, Limits, Next, Redials, STABLE_MS};
pub use target::{PathFault, fault_of_path};
pub use user::header_value;
