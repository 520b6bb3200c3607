//! One clock for all processes of a run.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds of the machine's monotonic clock: the same for every process.
pub(crate) fn now_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Processor time of this process, in nanoseconds.
pub(crate) fn cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime))
}

fn nanoseconds(time: Timespec) -> u64 {
    // Neither clock is ever negative.
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_go_forward_and_processor_time_only_with_work() {
        let (now, cpu) = (now_ns(), cpu_ns());
        std::thread::sleep(std::time::Duration::from_millis(20));
        let slept = now_ns() - now;
        assert!(slept >= 20_000_000, "{slept} ns on the wall");
        assert!(cpu_ns() >= cpu);
    }
}
