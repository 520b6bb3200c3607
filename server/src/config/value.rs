//! How one value is read from text. Each reader answers with a typed value, or with a sentence that
//! says what would have been right; the caller adds the option and the value that was given.

use http::Uri;
use std::net::SocketAddr;

/// The longest span any option takes: 30 days. Longer ones are a slip of the unit.
const DURATION_MAX_MS: u64 = 30 * 24 * 3600 * 1000;

/// What a reader answers: the value, or what would have been right.
pub(crate) type Read<T> = Result<T, String>;

/// An address to listen on: `IP:PORT`, port 0 for any free one.
pub(crate) fn addr(text: &str) -> Read<SocketAddr> {
    text.parse()
        .map_err(|_| "expected an IP address and a port, such as 0.0.0.0:8080, 127.0.0.1:0 or [::1]:8081".into())
}

/// A span of time in milliseconds: `500ms`, `15s`, `1m30s`. A bare number has no unit and is refused.
pub(crate) fn duration_ms(text: &str) -> Read<u64> {
    let expected = || "expected a duration with its unit, such as 500ms, 15s or 1m30s".to_owned();
    let bare = text.is_empty() || text.bytes().all(|b| b.is_ascii_digit());
    if bare {
        return Err(expected());
    }
    let ms = humantime::parse_duration(text).map_err(|_| expected())?.as_millis();
    match u64::try_from(ms) {
        Ok(ms) if ms <= DURATION_MAX_MS => Ok(ms),
        _ => Err("expected a duration of at most 30 days".into()),
    }
}

/// A number of bytes: `65536`, `64KiB`, `1MiB`, or with powers of ten `64kB`, `1MB`.
pub(crate) fn size_bytes(text: &str) -> Read<u64> {
    let expected = || "expected a size, such as 65536, 64KiB or 1MiB".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(expected()),
    };
    number.checked_mul(factor).ok_or_else(expected)
}

/// A whole number.
pub(crate) fn count(text: &str) -> Read<u64> {
    text.parse().map_err(|_| "expected a whole number, such as 1024".into())
}

/// An HTTP status that is a refusal, or `none` (0, which is no status).
pub(crate) fn final_status(text: &str) -> Read<u16> {
    match text.parse() {
        Ok(status @ 300..=599) => Ok(status),
        _ if text == "none" => Ok(0),
        _ => Err("expected an HTTP status from 300 to 599, such as 401, or none".into()),
    }
}

/// Yes or no, for switches that come from the environment or the file.
pub(crate) fn switch(text: &str) -> Read<bool> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

/// A WebSocket URL: `ws://` or `wss://` with a host; path and query are kept.
pub(crate) fn ws_url(text: &str) -> Read<Uri> {
    url(text, &["ws", "wss"])
        .ok_or_else(|| "expected a WebSocket URL, such as ws://127.0.0.1:3000/ or wss://app.internal".into())
}

/// The URL of a call: `http://` or `https://` with a host; path and query are kept.
pub(crate) fn http_url(text: &str) -> Read<Uri> {
    url(text, &["http", "https"]).ok_or_else(|| "expected an HTTP URL, such as http://127.0.0.1:3000/events".into())
}

/// The base URL of a hub's private API: `http://` or `https://`, a host, no path and no query.
pub(crate) fn base_url(text: &str) -> Read<Uri> {
    url(text, &["http", "https"]).filter(|uri| matches!(uri.path(), "" | "/") && uri.query().is_none()).ok_or_else(
        || "expected the base URL of a hub's private API, without a path, such as http://10.0.0.12:8081".into(),
    )
}

/// A web origin as browsers send it: scheme, host and perhaps a port, in lower case.
pub(crate) fn origin(text: &str) -> Read<String> {
    let expected = || {
        "expected an origin as browsers send it, such as https://app.example.com or http://localhost:5173 (no path)"
            .to_owned()
    };
    let uri: Uri = text.parse().map_err(|_| expected())?;
    let bare = uri.query().is_none() && matches!(uri.path(), "" | "/") && !text.ends_with('/');
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) if bare && !authority.as_str().contains('@') => {
            Ok(format!("{scheme}://{authority}").to_ascii_lowercase())
        }
        _ => Err(expected()),
    }
}

/// A log level, or levels by module: `info`, `warn,tidegate=debug`.
pub(crate) fn log_level(text: &str) -> Read<String> {
    let level = |word: &str| matches!(word, "off" | "error" | "warn" | "info" | "debug" | "trace");
    let part = |part: &str| match part.split_once('=') {
        None => level(part),
        Some((module, word)) => !module.is_empty() && !module.contains(char::is_whitespace) && level(word),
    };
    if text.split(',').all(part) {
        Ok(text.to_owned())
    } else {
        Err("expected off, error, warn, info, debug or trace, or levels by module such as warn,tidegate=debug".into())
    }
}

fn url(text: &str, schemes: &[&str]) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let scheme_fits = schemes.contains(&uri.scheme_str()?);
    let authority = uri.authority()?;
    let plain = !authority.host().is_empty() && !authority.as_str().contains('@');
    (scheme_fits && plain).then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_compose() {
        assert_eq!(duration_ms("500ms"), Ok(500));
        assert_eq!(duration_ms("15s"), Ok(15_000));
        assert_eq!(duration_ms("1m30s"), Ok(90_000));
        assert_eq!(duration_ms("0s"), Ok(0));
        for wrong in ["15", "0", "", "fast", "15 sec onds", "-3s", "90d"] {
            assert!(duration_ms(wrong).is_err(), "{wrong:?} should be refused");
        }
    }

    #[test]
    fn sizes_take_binary_and_decimal_units() {
        assert_eq!(size_bytes("65536"), Ok(65_536));
        assert_eq!(size_bytes("64KiB"), Ok(65_536));
        assert_eq!(size_bytes("1 MiB"), Ok(1 << 20));
        assert_eq!(size_bytes("2MB"), Ok(2_000_000));
        for wrong in ["", "KiB", "1.5MiB", "1mib", "-1", "99999999999GiB"] {
            assert!(size_bytes(wrong).is_err(), "{wrong:?} should be refused");
        }
    }

    #[test]
    fn a_final_status_is_one_that_refuses() {
        assert_eq!((final_status("403"), final_status("none")), (Ok(403), Ok(0)));
        for wrong in ["200", "101", "0", "600", "forbidden", ""] {
            assert!(final_status(wrong).is_err(), "{wrong:?} should be refused");
        }
    }

    #[test]
    fn urls_are_checked_for_scheme_host_and_path() {
        assert!(ws_url("ws://127.0.0.1:3000/chat?x=1").is_ok());
        assert!(ws_url("http://127.0.0.1:3000").is_err());
        assert!(ws_url("ws://").is_err());
        assert!(http_url("https://app.internal/events").is_ok());
        assert!(base_url("http://hub-b:8081").is_ok());
        assert!(base_url("http://hub-b:8081/v1").is_err());
        assert!(base_url("hub-b:8081").is_err());
        assert!(base_url("http://user:secret@hub-b:8081").is_err());
    }

    #[test]
    fn origins_are_lower_case_and_have_no_path() {
        assert_eq!(origin("https://App.Example.com"), Ok("https://app.example.com".into()));
        assert_eq!(origin("http://localhost:5173"), Ok("http://localhost:5173".into()));
        for wrong in ["app.example.com", "https://app.example.com/", "https://a/b", "null", "*"] {
            assert!(origin(wrong).is_err(), "{wrong:?} should be refused");
        }
    }

    #[test]
    fn a_mistyped_level_is_not_taken_for_a_module_name() {
        assert!(log_level("info").is_ok());
        assert!(log_level("warn,tidegate::drain=trace").is_ok());
        assert!(log_level("inof").is_err());
        assert!(log_level("info,").is_err());
    }
}
