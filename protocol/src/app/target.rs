//! Paths that never reach an app: they would leave the path under which it stands, or mean one thing here and
//! another there.

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathFault {
    /// A segment `.` or `..`, as it is or percent-encoded.
    Dots,
    /// A backslash, which some take for a slash.
    Backslash,
    /// A NUL.
    Nul,
    /// A percent-encoded slash, where the app stands under a path of its own.
    Slash,
}

impl PathFault {
    /// The sentence for whoever asked.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Dots => {
                "the path has a segment \".\" or \"..\" (or the same percent-encoded): send the path that is meant"
            }
            Self::Backslash => "the path has a backslash (or %5C): separate segments by \"/\"",
            Self::Nul => "the path has a NUL (%00)",
            Self::Slash => {
                "the path has an encoded slash (%2F), which is not passed on to an app under a path of its own"
            }
        }
    }
}

/// Looks at a request's path as it came. `under_path`: the app stands under a path, which must not be left.
pub fn fault_of_path(path: &str, under_path: bool) -> Option<PathFault> {
    let bytes = path.as_bytes();
    if bytes.contains(&0) || has_encoded(bytes, *b"00") {
        return Some(PathFault::Nul);
    }
    if bytes.contains(&b'\\') || has_encoded(bytes, *b"5c") {
        return Some(PathFault::Backslash);
    }
    // An encoded slash separates segments for whoever decodes before it splits.
    let is_dots = path.split('/').flat_map(|segment| split_encoded_slash(segment.as_bytes())).any(is_dots);
    if is_dots {
        return Some(PathFault::Dots);
    }
    (under_path && has_encoded(bytes, *b"2f")).then_some(PathFault::Slash)
}

fn has_encoded(bytes: &[u8], hex: [u8; 2]) -> bool {
    bytes.windows(3).any(|three| is_encoded(three, hex))
}

fn is_encoded(three: &[u8], hex: [u8; 2]) -> bool {
    three.len() >= 3 && three[0] == b'%' && three[1..3].eq_ignore_ascii_case(&hex)
}

fn split_encoded_slash(segment: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut begin, mut at) = (Vec::new(), 0, 0);
    while at < segment.len() {
        if is_encoded(&segment[at..], *b"2f") {
            parts.push(&segment[begin..at]);
            begin = at + 3;
            at = begin;
        } else {
            at += 1;
        }
    }
    parts.push(&segment[begin..]);
    parts
}

/// Some servers drop what stands behind a semicolon before they look at a segment.
fn is_dots(segment: &[u8]) -> bool {
    let (mut dots, mut at) = (0, 0);
    while at < segment.len() {
        match segment[at] {
            b'.' => at += 1,
            b'%' if is_encoded(&segment[at..], *b"2e") => at += 3,
            b';' => break,
            b'%' if is_encoded(&segment[at..], *b"3b") => break,
            _ => return false,
        }
        dots += 1;
    }
    matches!(dots, 1 | 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_told_apart_from_those_that_only_look_odd() {
        for dots in [
            "/../../admin",
            "/a/..",
            "/.",
            "/a/./b",
            "/%2e%2E/x",
            "/.%2e",
            "/%2e",
            "/..;a=b/x",
            "/..%3b/x",
            "/a%2f..%2fb",
        ] {
            assert_eq!(fault_of_path(dots, false), Some(PathFault::Dots), "{dots}");
        }
        for back in ["/a\\b", "/..\\x", "/a%5cb", "/a%5C"] {
            assert_eq!(fault_of_path(back, false), Some(PathFault::Backslash), "{back}");
        }
        assert_eq!(fault_of_path("/a%00b", false), Some(PathFault::Nul));
        for fine in [
            "/",
            "/connect",
            "/a.b/..c/d..",
            "/...",
            "/.well-known/x",
            "/a;b/c",
            "/%2ea",
            "/caf%C3%A9",
            "/100%",
            "/a%2",
            "//x",
        ] {
            assert_eq!(fault_of_path(fine, true), None, "{fine}");
        }
        assert_eq!(fault_of_path("/a%2Fb", false), None, "some apps have slashes in their names");
        assert_eq!(fault_of_path("/a%2Fb", true), Some(PathFault::Slash));
    }
}
