//! Memory of a process, as the kernel shares it out.

use std::time::Duration;
use tokio::time::sleep;

/// Memory counts as settled when it moved by less than this part between two looks.
const SETTLED_PART: u64 = 500;
/// … so often in a row: allocators give memory back by timers of their own, of a second or so.
const SETTLED_LOOKS: u32 = 3;

/// Between two looks, and how many looks at most.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS_MAX: u32 = 40;

/// The proportional set size in a text of `/proc/PID/smaps_rollup`, in bytes.
fn pss_in(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The proportional set size of these processes together now, in bytes.
///
/// # Errors
/// In words: the file, and why it could not be read.
pub(crate) fn pss_bytes(pids: &[u32]) -> Result<u64, String> {
    let mut sum = 0;
    for pid in pids {
        let file = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        sum += pss_in(&text).ok_or_else(|| format!("{file} has no line \"Pss: … kB\""))?;
    }
    Ok(sum)
}

/// Their memory after it has stopped moving, at the latest after some looks.
///
/// # Errors
/// As [`pss_bytes`].
pub(crate) async fn settled_pss(pids: &[u32]) -> Result<u64, String> {
    let (mut last, mut quiet) = (pss_bytes(pids)?, 0);
    for _ in 0..LOOKS_MAX {
        sleep(LOOK).await;
        let now = pss_bytes(pids)?;
        quiet = if now.abs_diff(last) <= last / SETTLED_PART { quiet + 1 } else { 0 };
        if quiet == SETTLED_LOOKS {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proportional_set_size_is_read_and_not_one_of_its_parts() {
        let text = "55 ---p 0 00:00 0 [rollup]\nRss:  900 kB\nPss:            812 kB\nPss_Anon:  700 kB\n";
        assert_eq!(pss_in(text), Some(812 * 1024));
        assert_eq!(pss_in("Rss: 900 kB\nPss_Anon: 700 kB\n"), None);
    }

    #[test]
    fn this_very_process_has_a_size_and_counts_as_often_as_it_is_named() {
        let me = std::process::id();
        let once = pss_bytes(&[me]).unwrap();
        assert!(once > 100_000, "{once}");
        assert!(pss_bytes(&[me, me]).is_ok_and(|twice| twice > once + once / 2));
    }
}
