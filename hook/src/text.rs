//! Words for people: spans of time, and lines that fit where the agent keeps them.

use std::time::Duration;

/// Longest line, in characters. The agent keeps whole lines from the end while they sum to less than
/// 2,048, and one longer line empties its log, so lines stay far below that.
pub(crate) const LINE_MAX_CHARS: usize = 118;

/// The text as one line that fits: control characters become spaces, and what is too long ends in `…`.
/// For whatever came from outside (the hub's words, the environment's values).
pub(crate) fn fit(text: &str) -> String {
    clip(text, LINE_MAX_CHARS)
}

/// Like [`fit`], with a limit of one's own.
pub(crate) fn clip(text: &str, max_chars: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= max_chars {
        return text.chars().map(clean).collect();
    }
    let mut cut: String = text.chars().take(max_chars.saturating_sub(1)).map(clean).collect();
    cut.push('…');
    cut
}

/// The text in lines that fit, broken between words; at most `max_lines`, the last one clipped.
pub(crate) fn wrap(text: &str, max_lines: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let full = lines.len() == max_lines;
        match lines.last_mut() {
            Some(line) if full || line.chars().count() + 1 + word.chars().count() <= LINE_MAX_CHARS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| fit(line)).collect()
}

/// A span for people: `850 ms`, `4.2 s`, `42 s`, `3m 20s`, `1h 2m`.
pub(crate) fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 if !ms.is_multiple_of(1_000) => {
            format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
        }
        1_000..60_000 => format!("{} s", ms / 1_000),
        60_000..3_600_000 if (ms / 1_000).is_multiple_of(60) => format!("{}m", ms / 60_000),
        60_000..3_600_000 => format!("{}m {}s", ms / 60_000, ms / 1_000 % 60),
        _ => format!("{}h {}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// `1 session`, `2 sessions`.
pub(crate) fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Whole milliseconds of a duration; more than five hundred million years saturate.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_from_outside_loses_its_control_characters_and_what_is_too_long() {
        assert_eq!(fit("a\nb\x1b[31m\rc"), "a b [31m c");
        let long = fit(&"é".repeat(500));
        assert_eq!(long.chars().count(), LINE_MAX_CHARS);
        assert!(long.ends_with('…'), "{long}");
    }

    #[test]
    fn long_sentences_are_broken_between_words_and_stay_within_the_lines_allowed() {
        let text = "word ".repeat(100);
        let lines = wrap(&text, 3);
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.chars().count() <= LINE_MAX_CHARS), "{lines:?}");
        assert!(lines[2].ends_with('…'), "the rest is cut and said so: {lines:?}");
        assert_eq!(wrap("short", 3), ["short"]);
    }

    #[test]
    fn spans_read_as_people_say_them() {
        let read = [0, 850, 1_000, 4_250, 42_900, 60_000, 200_000, 3_720_000].map(span);
        assert_eq!(read, ["0 ms", "850 ms", "1 s", "4.2 s", "42 s", "1m", "3m 20s", "1h 2m"]);
    }
}
