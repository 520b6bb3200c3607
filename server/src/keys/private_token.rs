//! The bearer token of the private API.

use super::cluster::read_secret_file;
use crate::config::SettingError;
use aws_lc_rs::{constant_time, digest};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::fmt;
use std::path::Path;

/// Characters that a token must have at least: 16 hexadecimal digits are 64 bits, more than anybody tries.
const TOKEN_BYTES_MIN: usize = 16;
const HOW_TO_MAKE_ONE: &str = "Make one with: head -c 32 /dev/urandom | base64";

/// What a caller of the private API must show. Only its digest is kept.
#[derive(Clone)]
pub struct PrivateToken {
    digest: digest::Digest,
}

impl PrivateToken {
    /// Reads the first line of `--private-token-file`. The error names the option and never shows the token.
    pub fn from_file(path: &Path) -> Result<Self, SettingError> {
        let wrong = |expected: String| SettingError::new("--private-token-file", path.display(), expected);
        let text = read_secret_file(path).map_err(wrong)?;
        let token = text.lines().next().unwrap_or_default().trim();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(wrong("expected a first line of visible ASCII characters without spaces".into()));
        }
        if token.len() < TOKEN_BYTES_MIN {
            let has = token.len();
            return Err(wrong(format!(
                "expected at least {TOKEN_BYTES_MIN} characters, but it has {has}. {HOW_TO_MAKE_ONE}"
            )));
        }
        if let Some(why) = super::weakness(token.as_bytes()) {
            return Err(wrong(format!("expected a token that cannot be guessed, but {why}. {HOW_TO_MAKE_ONE}")));
        }
        Ok(Self::new(token))
    }

    /// A token known already.
    pub fn new(token: &str) -> Self {
        Self { digest: digest::digest(&digest::SHA256, token.as_bytes()) }
    }

    /// Whether a request carries the token as `Authorization: Bearer …`. Takes the same time for any wrong one.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let bearer = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.as_bytes().split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
        });
        let given = digest::digest(&digest::SHA256, bearer.unwrap_or_default());
        constant_time::verify_slices_are_equal(given.as_ref(), self.digest.as_ref()).is_ok()
    }
}

impl fmt::Debug for PrivateToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn accepts(authorization: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static(authorization));
        PrivateToken::new("a-token").is_in(&headers)
    }

    #[test]
    fn the_token_is_accepted_as_bearer_only() {
        assert!(accepts("Bearer a-token"));
        assert!(accepts("bearer  a-token"));
        assert!(!accepts("Basic a-token"));
        assert!(!accepts("a-token"));
        assert!(!accepts("Bearer a-token-"));
        assert!(!accepts("Bearer "));
        assert!(!PrivateToken::new("a-token").is_in(&HeaderMap::new()));
    }

    #[test]
    fn the_first_line_of_the_file_counts_and_an_empty_one_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("token");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("a file to write");
            PrivateToken::from_file(&path).map_err(|error| error.to_string())
        };
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer a-token-of-the-tests"));
        assert!(read("a-token-of-the-tests\n# a comment").unwrap().is_in(&headers));
        for (text, right) in
            [("a-short-token", "at least 16 characters, but it has 13"), ("aaaaaaaaaaaaaaaaaaaa", "cannot be guessed")]
        {
            let told = read(text).unwrap_err();
            assert!(told.contains("--private-token-file") && told.contains(right) && !told.contains(text), "{told}");
        }
        for text in ["", "\na-token", "two words"] {
            let told = read(text).unwrap_err();
            assert!(told.contains("--private-token-file") && told.contains("visible ASCII"), "{told}");
            assert!(!told.contains("words"), "an error must not show a token: {told}");
        }
    }
}
