//! Processor time of processes, from procfs.

use std::collections::BTreeMap;
use std::fs;

/// Clock ticks per second in `/proc/PID/stat`: the same on every Linux of today.
const TICKS_PER_S: u64 = 100;

/// Processor time that some processes have used until now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu {
    /// By thread, in nanoseconds: exact, but a thread that ended is not there any more.
    threads: BTreeMap<(u32, u32), u64>,
    /// Of whole processes, ended threads included, in ticks.
    user_ticks: u64,
    kernel_ticks: u64,
}

/// A difference of two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Used {
    /// Both together, in nanoseconds.
    pub(crate) ns: u64,
    /// The part in the kernel, from 0 to 1; counted by ticks, so only good for long runs.
    pub(crate) kernel_part: f64,
}

/// Reads the time of these processes and all their threads.
///
/// # Errors
/// In words: the file, and why it could not be read.
pub(crate) fn cpu_of(pids: &[u32]) -> Result<Cpu, String> {
    let mut cpu = Cpu::default();
    for pid in pids {
        let stat = read(&format!("/proc/{pid}/stat"))?;
        let (user, kernel) = ticks_in(&stat).ok_or_else(|| format!("/proc/{pid}/stat has no times"))?;
        cpu.user_ticks += user;
        cpu.kernel_ticks += kernel;
        let tasks = format!("/proc/{pid}/task");
        for task in fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?.flatten() {
            let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A thread may end between the two looks; ticks still have its time.
            if let Ok(text) = fs::read_to_string(task.path().join("schedstat"))
                && let Some(ns) = text.split(' ').next().and_then(|word| word.parse().ok())
            {
                cpu.threads.insert((*pid, tid), ns);
            }
        }
    }
    Ok(cpu)
}

impl Cpu {
    /// What was used since an earlier reading.
    pub(crate) fn since(&self, earlier: &Self) -> Used {
        let exact: u64 = self
            .threads
            .iter()
            .map(|(thread, ns)| ns.saturating_sub(earlier.threads.get(thread).copied().unwrap_or(0)))
            .sum();
        let user = self.user_ticks.saturating_sub(earlier.user_ticks);
        let kernel = self.kernel_ticks.saturating_sub(earlier.kernel_ticks);
        let tick_ns = 1_000_000_000 / TICKS_PER_S;
        // Ticks see threads that ended meanwhile; each of the two counts may be cut off by one.
        let by_ticks = (user + kernel).saturating_sub(2) * tick_ns;
        let kernel_part = if user + kernel == 0 { 0.0 } else { kernel as f64 / (user + kernel) as f64 };
        Used { ns: exact.max(by_ticks), kernel_part }
    }
}

impl Used {
    /// Microseconds for each of `count` operations.
    pub(crate) fn us_each(&self, count: u64) -> Option<f64> {
        (count > 0).then(|| self.ns as f64 / 1e3 / count as f64)
    }
}

fn read(file: &str) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))
}

/// User and kernel ticks in a text of `/proc/PID/stat`. The name in it may hold anything, so
/// counting begins behind its last parenthesis.
fn ticks_in(text: &str) -> Option<(u64, u64)> {
    let mut words = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_a_name_that_looks_like_more() {
        let text = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 111 222 13 14";
        assert_eq!(ticks_in(text), Some((111, 222)));
        assert_eq!(ticks_in("12 (x) S 1"), None);
    }

    #[test]
    fn work_of_this_process_shows_and_a_new_thread_counts_from_its_beginning() {
        let me = [std::process::id()];
        let before = cpu_of(&me).unwrap();
        let worked = std::thread::spawn(|| (0..30_000_000_u64).fold(0, |sum, n| sum ^ n.wrapping_mul(sum | 1)));
        assert_ne!(worked.join().unwrap(), 1);
        let used = cpu_of(&me).unwrap().since(&before);
        assert!(used.ns > 1_000_000, "{used:?}");
        assert!(used.us_each(1_000).is_some_and(|us| us > 1.0));
        assert_eq!(used.us_each(0), None);
    }

    #[test]
    fn threads_that_ended_are_counted_by_ticks() {
        let reading = |threads: &[(u32, u64)], user_ticks, kernel_ticks| Cpu {
            threads: threads.iter().map(|(tid, ns)| ((1, *tid), *ns)).collect(),
            user_ticks,
            kernel_ticks,
        };
        let before = reading(&[(1, 5_000_000), (2, 900_000_000)], 50, 40);
        assert_eq!(reading(&[(1, 7_500_000)], 50, 40).since(&before).ns, 2_500_000);
        let used = reading(&[(1, 7_500_000)], 80, 60).since(&before);
        assert_eq!((used.ns, used.kernel_part), (480_000_000, 0.4));
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        assert!(cpu_of(&[u32::MAX]).is_err_and(|why| why.contains("/proc/4294967295/stat")));
    }
}
