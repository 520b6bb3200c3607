//! What the kernel dropped or sent again, and whose processor time it was.

use std::fs;

/// Counters of the whole machine since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Connections that found a listener's queue full.
    pub(crate) listen_overflows: u64,
    /// Connections that a listener lost for any reason.
    pub(crate) listen_drops: u64,
    /// Segments sent again.
    pub(crate) retransmits: u64,
    /// Tail loss probes (RFC 8985) that mended nothing: one is sent when an ack is late by a few milliseconds, as
    /// when the host takes a processor away. Some carry new data and are no segment sent again, so a few real ones
    /// may hide behind them.
    pub(crate) loss_probes: u64,
    /// Segments dropped because a receive queue was full.
    pub(crate) receive_drops: u64,
    /// Ticks in which some processor worked.
    pub(crate) busy_ticks: u64,
    /// Ticks that the host took away.
    pub(crate) steal_ticks: u64,
    /// All ticks of all processors.
    pub(crate) all_ticks: u64,
}

impl Kernel {
    /// Reads all of them.
    ///
    /// # Errors
    /// In words: the file, and why it could not be read.
    pub(crate) fn read() -> Result<Self, String> {
        let text = |file: &str| fs::read_to_string(file).map_err(|error| format!("{file}: {error}"));
        let (netstat, snmp, stat) = (text("/proc/net/netstat")?, text("/proc/net/snmp")?, text("/proc/stat")?);
        let (busy_ticks, steal_ticks, all_ticks) = ticks_in(&stat).ok_or("/proc/stat has no line of all processors")?;
        Ok(Self {
            listen_overflows: counter(&netstat, "TcpExt:", "ListenOverflows"),
            listen_drops: counter(&netstat, "TcpExt:", "ListenDrops"),
            receive_drops: counter(&netstat, "TcpExt:", "TCPRcvQDrop"),
            retransmits: counter(&snmp, "Tcp:", "RetransSegs"),
            loss_probes: counter(&netstat, "TcpExt:", "TCPLossProbes").saturating_sub(counter(
                &netstat,
                "TcpExt:",
                "TCPLossProbeRecovery",
            )),
            busy_ticks,
            steal_ticks,
            all_ticks,
        })
    }

    /// Segments that were sent again because they were taken for lost.
    pub(crate) const fn taken_for_lost(&self) -> u64 {
        self.retransmits.saturating_sub(self.loss_probes)
    }

    /// What was added since an earlier reading.
    pub(crate) const fn since(&self, earlier: &Self) -> Self {
        Self {
            listen_overflows: self.listen_overflows.saturating_sub(earlier.listen_overflows),
            listen_drops: self.listen_drops.saturating_sub(earlier.listen_drops),
            retransmits: self.retransmits.saturating_sub(earlier.retransmits),
            loss_probes: self.loss_probes.saturating_sub(earlier.loss_probes),
            receive_drops: self.receive_drops.saturating_sub(earlier.receive_drops),
            busy_ticks: self.busy_ticks.saturating_sub(earlier.busy_ticks),
            steal_ticks: self.steal_ticks.saturating_sub(earlier.steal_ticks),
            all_ticks: self.all_ticks.saturating_sub(earlier.all_ticks),
        }
    }
}

/// A counter in a text that has a line of names and a line of values for each protocol. One that
/// this kernel does not have never counts.
fn counter(text: &str, protocol: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with(protocol));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let at = names.split(' ').position(|word| word == name);
    at.and_then(|at| values.split(' ').nth(at)?.parse().ok()).unwrap_or(0)
}

/// Busy, stolen and all ticks in a text of `/proc/stat`.
fn ticks_in(text: &str) -> Option<(u64, u64, u64)> {
    let line = text.lines().find(|line| line.starts_with("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).map(|word| word.parse().unwrap_or(0)).collect();
    let &[user, nice, system, idle, wait, irq, soft_irq, steal] = ticks.as_slice() else { return None };
    let busy = user + nice + system + irq + soft_irq;
    Some((busy, steal, busy + idle + wait + steal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_the_name_above_it() {
        let text = "TcpExt: A ListenOverflows B\nTcpExt: 1 22 3\nIpExt: A ListenOverflows\nIpExt: 9 9\n";
        assert_eq!(counter(text, "TcpExt:", "ListenOverflows"), 22);
        assert_eq!(counter(text, "TcpExt:", "TCPRcvQDrop"), 0, "this kernel does not have it");
    }

    #[test]
    fn a_probe_for_a_late_ack_is_no_loss() {
        let kernel = Kernel { retransmits: 5, loss_probes: 3, ..Kernel::default() };
        assert_eq!(kernel.taken_for_lost(), 2);
    }

    #[test]
    fn ticks_of_waiting_and_of_the_host_are_not_busy() {
        let text = "cpu  10 1 5 100 20 2 3 4 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(ticks_in(text), Some((21, 4, 145)));
        assert_eq!(ticks_in("cpu0 1 1 1 1 1 1 1 1"), None);
    }

    #[test]
    fn this_kernel_can_be_read_and_only_adds() {
        let before = Kernel::read().unwrap();
        let later = Kernel::read().unwrap();
        assert!(before.all_ticks > 0 && later.all_ticks >= before.all_ticks);
        assert!(later.retransmits >= before.retransmits);
    }
}
