//! A user's name as the value of a header.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The name as `Tidegate-User` carries it: each byte of its UTF-8 that is no visible ASCII character, and the
/// percent sign, as `%XX` (upper case). So any name can travel, ends where it ends, and no two look the same;
/// what decodes percent-encoding (`decodeURIComponent`, `urllib.parse.unquote`) gives it back.
pub fn header_value(user: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'%';
    if user.bytes().all(is_plain) {
        return Cow::Borrowed(user);
    }
    let mut value = String::with_capacity(user.len() * 3);
    for byte in user.bytes() {
        if is_plain(byte) {
            value.push(char::from(byte));
        } else {
            // Writing to a text does not fail.
            let _ = write!(value, "%{byte:02X}");
        }
    }
    Cow::Owned(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_stays_and_any_other_is_safe_in_a_header() {
        assert_eq!(header_value("ann@example.com|7+x"), "ann@example.com|7+x");
        assert_eq!(header_value("Zoë"), "Zo%C3%AB");
        assert_eq!(header_value("100%"), "100%25");
        assert_eq!(header_value(" ann "), "%20ann%20");
        assert_eq!(header_value("a\r\nx: y\0"), "a%0D%0Ax:%20y%00");
    }
}
