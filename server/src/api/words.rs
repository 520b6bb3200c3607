//! Faults of a JSON body in the words of the API: the reader's own name types of the program, not of the call.

use super::input::shown;

/// A fault as `serde_json` words it, with the field at which it stopped, for whoever wrote the body.
pub(super) fn plain(error: &str, field: Option<&str>) -> String {
    let (fault, place) = match error.rfind(" at line ") {
        Some(at) => (&error[..at], error[at..].replace(" column", ", column").replacen(" at ", " (", 1) + ")"),
        None => (error, String::new()),
    };
    let field = field.map_or_else(|| "the body".to_owned(), |field| format!("`{}`", shown(field)));
    let kinds = ["invalid type: ", "invalid value: ", "invalid length "];
    let said = kinds.iter().find_map(|kind| fault.strip_prefix(kind)).and_then(|rest| rest.rsplit_once(", expected "));
    if let Some((found, wanted)) = said {
        return format!("{field} is {}: give {}{place}", found_in_words(found), wanted_in_words(wanted));
    }
    if let Some((word, words)) = fault.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected "))
    {
        return format!("{field} is {}: give {}{place}", shown(word), words.trim_start_matches("one of "));
    }
    match fault {
        // What the reader says of a number or a list where it takes one of some words.
        "expected value" => {
            format!("{field} has no value that can be read: give JSON of the kind that it takes{place}")
        }
        fault => format!("{fault}{}{place}", if fault.contains('`') { String::new() } else { format!(", in {field}") }),
    }
}

fn found_in_words(found: &str) -> String {
    match found.split_once(' ') {
        Some(("integer" | "floating", rest)) => {
            format!("the number {}", rest.trim_start_matches("point ").trim_matches('`'))
        }
        Some(("boolean", rest)) => rest.trim_matches('`').to_owned(),
        Some(("string", rest)) => format!("the string {}", shown(rest)),
        _ => match found {
            "map" => "an object".to_owned(),
            "sequence" => "a list".to_owned(),
            other => shown(other),
        },
    }
}

fn wanted_in_words(wanted: &str) -> &str {
    match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not below 0",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a map" => "an object",
        "a sequence" => "a list",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_protocol::control::{DrainRequest, PublishRequest};

    fn publish(body: &str) -> String {
        plain(&serde_json::from_str::<PublishRequest>(body).expect_err("refused").to_string(), Some("f"))
    }

    fn drain(body: &str) -> String {
        plain(&serde_json::from_str::<DrainRequest>(body).expect_err("refused").to_string(), Some("f"))
    }

    #[test]
    fn each_fault_names_field_value_and_what_is_right_and_no_type_of_the_program() {
        let to = r#""to":{"all":true}"#;
        let table = [
            (
                publish("5"),
                "`f` is the number 5: give an object with `to` and exactly one of text, json, base64 (line 1",
            ),
            (publish("\"hi\""), "is the string \"hi\": give an object with `to`"),
            (publish(&format!("{{{to},\"text\":5}}")), "`f` is the number 5: give a string (line 1, column"),
            (publish(&format!("{{{to},\"text\":{{}}}}")), "`f` is an object: give a string"),
            (
                publish(r#"{"to":7,"text":"a"}"#),
                "`f` is the number 7: give an object with exactly one of all, session, user, channel",
            ),
            (
                publish(r#"{"to":[true,null,null,null],"text":"a"}"#),
                "`f` is a list: give an object with exactly one of all",
            ),
            (publish(r#"{"to":{"all":"yes"},"text":"a"}"#), "`f` is the string \"yes\": give true or false"),
            (publish(r#"{"to":{"session":5},"text":"a"}"#), "`f` is the number 5: give "),
            (publish(&format!("{{{to},\"text\":\"a\",\"scope\":\"world\"}}")), "`f` is `world`: give `fleet` or `hub`"),
            (publish(&format!("{{{to},\"text\":\"a\",\"scope\":5}}")), "`f` "),
            (publish(r#"{"text":"a"}"#), "missing field `to`"),
            (drain("5"), "`f` is the number 5: give an object of policy fields"),
            (drain(r#"{"notice_ms":"5s"}"#), "`f` is the string \"5s\": give a whole number, not below 0"),
            (drain(r#"{"notice_ms":-5}"#), "`f` is the number -5: give a whole number, not below 0"),
            (drain(r#"{"notice_ms":1.5}"#), "`f` is the number 1.5: give a whole number, not below 0"),
            (drain(r#"{"gate":[1,2]}"#), "`f` is a list: give an object with back_min_percent and wait_max_ms"),
            (drain(r#"{"stages":{}}"#), "`f` is an object: give a list"),
            (drain(r#"{"texts":[]}"#), "`f` is a list: give an object"),
            (drain(r#"{"on_orphan":"wait"}"#), "`f` is `wait`: give `continue` or `recall`"),
            (drain(r#"{"on_orphan":5}"#), "`f` "),
            (drain(r#"{"trigger":"me"}"#), "`f` is the string \"me\": give an object"),
            (drain(r#"{"notice":5}"#), "unknown field `notice`"),
            (drain("{"), "EOF while parsing an object, in `f` (line 1, column 1)"),
        ];
        for (said, expected) in table {
            assert!(said.contains(expected), "expected \"{expected}\" in \"{said}\"");
            for inner in ["struct", "Raw", "enum", "u64", "Option", "map", "sequence", "tuple", "variant", "visitor"] {
                assert!(!said.contains(inner), "\"{inner}\" is a word of the program: {said}");
            }
        }
    }

    #[test]
    fn a_long_value_is_shown_by_its_beginning() {
        let said = drain(&format!("{{\"notice_ms\":\"{}\"}}", "x".repeat(10_000)));
        assert!(said.len() < 300, "{} bytes", said.len());
    }
}
