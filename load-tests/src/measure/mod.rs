//! Reading the machine, and judging whether what was read may be told.
//!
//! ```text
//! cpu ────── processor time of a process          memory ─── proportional set size
//! kernel ─── what the network dropped, steal      slope ──── the line through points, its confidence; pure
//! gates ──── may this run be told? pure           ratio ──── paired runs, bootstrap; pure
//! listening  whether a process is the one that was meant
//! ```

mod cpu;
mod gates;
mod kernel;
mod listening;
mod memory;
mod ratio;
mod slope;

pub(crate) use cpu::{Cpu, Used, cpu_of};
pub(crate) use gates::{About, Gates, Watch};
pub(crate) use listening::listens;
pub(crate) use memory::settled_pss;
pub(crate) use ratio::{median, paired};
pub(crate) use slope::{Line, Point, steps};
