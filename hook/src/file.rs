//! The settings file, and the small files that it names.

use crate::settings::{BadSetting, Given, KEYS};
use std::io::{ErrorKind, Read};
use std::path::Path;
use toml::{Table, Value};

/// Largest file that is read; all of them are a few lines.
const FILE_MAX_BYTES: u64 = 256 * 1024;

/// Reads the settings file. One that nobody named may be absent.
pub(crate) fn read_settings(path: &Path, named: bool) -> Result<Given, BadSetting> {
    match read_small(path) {
        Ok(text) => parse(&text, path),
        Err(error) if error.kind() == ErrorKind::NotFound && !named => Ok(Given::new()),
        Err(error) => Err(BadSetting(format!("settings file {}: {error}", path.display()))),
    }
}

/// Reads the bearer token: the first line, as the hub reads the same file, without the space around it.
pub(crate) fn read_token(path: &Path) -> Result<String, BadSetting> {
    let bad = |what: &str| BadSetting(format!("token file {}: {what}", path.display()));
    let text = read_small(path).map_err(|error| bad(&error.to_string()))?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("its first line must be a token of visible ASCII characters"));
    }
    Ok(token.to_owned())
}

/// A regular file's text. Pipes and devices are refused, for they may never end.
pub(crate) fn read_small(path: &Path) -> std::io::Result<String> {
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    if meta.len() > FILE_MAX_BYTES {
        return Err(std::io::Error::new(ErrorKind::InvalidData, format!("larger than {FILE_MAX_BYTES} bytes")));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Settings out of TOML. A name that is none of ours is an error, with the nearest that is.
fn parse(text: &str, path: &Path) -> Result<Given, BadSetting> {
    let place = path.display();
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count()) + 1;
        BadSetting(format!("settings file {place}, line {line}: not TOML: {}", error.message()))
    })?;
    let mut given = Given::new();
    for (key, value) in &table {
        // As in the hub's own file, `give-up-after` and `give_up_after` are the same name.
        let plain = key.replace('-', "_");
        let Some(known) = KEYS.into_iter().find(|known| *known == plain) else {
            return Err(BadSetting(format!("settings file {place}: unknown setting \"{key}\"; {}", hint(key))));
        };
        let Some(text) = as_text(value) else {
            let kind = value.type_str();
            return Err(BadSetting(format!("settings file {place}: {known} is a TOML {kind}; write {known} = \"…\"")));
        };
        given.insert(known, text);
    }
    Ok(given)
}

/// In which line of the file this setting stands, counted from 1.
pub(crate) fn line_of(path: &Path, key: &str) -> Option<usize> {
    let text = read_small(path).ok()?;
    let names = |line: &str| line.split_once('=').is_some_and(|(name, _)| name.trim().replace('-', "_") == key);
    text.lines().position(names).map(|before| before + 1)
}

/// A TOML value as it would be typed on the command line.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Array(parts) => parts.iter().map(as_text).collect::<Option<Vec<_>>>().map(|parts| parts.join(",")),
        Value::Table(table) => serde_json::to_string(table).ok(),
        Value::Float(_) | Value::Datetime(_) => None,
    }
}

/// What the writer of an unknown name may have meant.
fn hint(key: &str) -> String {
    let plain = key.to_lowercase().replace('-', "_");
    let nearest =
        KEYS.into_iter().min_by_key(|known| distance(known, &plain)).filter(|known| distance(known, &plain) <= 3);
    match nearest {
        Some(known) => format!("did you mean \"{}\"?", known.replace('_', "-")),
        None => format!("there are: {}", KEYS.join(", ").replace('_', "-")),
    }
}

/// In how many letters two words differ (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Given, String> {
        parse(text, Path::new("hook.toml")).map_err(|bad| bad.0)
    }

    #[test]
    fn values_of_every_kind_become_what_one_would_type() {
        let given = read(
            "hub = \"http://h:1\"\nmax_in_flight = 12\nstrict = true\nstages = [10, 90]\n[texts]\nde = \"Pause\"\n",
        );
        let given = given.unwrap();
        assert_eq!(given["max_in_flight"], "12");
        assert_eq!(given["strict"], "true");
        assert_eq!(given["stages"], "10,90");
        assert_eq!(given["texts"], r#"{"de":"Pause"}"#);
    }

    #[test]
    fn a_typo_is_named_with_what_was_probably_meant() {
        assert_eq!(
            read("deadlin = \"5m\"").unwrap_err(),
            "settings file hook.toml: unknown setting \"deadlin\"; did you mean \"deadline\"?"
        );
        assert_eq!(
            read("Give-Up-Afer = \"5m\"").unwrap_err(),
            "settings file hook.toml: unknown setting \"Give-Up-Afer\"; did you mean \"give-up-after\"?"
        );
        let lost = read("completely_else = 1").unwrap_err();
        assert!(lost.contains("there are: hub, token-file"), "{lost}");
    }

    #[test]
    fn a_name_may_be_written_as_its_flag_or_as_its_variable() {
        assert_eq!(read("give-up-after = \"5m\"").unwrap(), read("give_up_after = \"5m\"").unwrap());
    }

    #[test]
    fn broken_toml_is_named_with_its_line() {
        let error = read("hub = \"http://h:1\"\nnotice = 5s\n").unwrap_err();
        assert!(error.starts_with("settings file hook.toml, line 2: not TOML:"), "{error}");
    }

    #[test]
    fn a_value_of_no_use_is_named() {
        assert_eq!(
            read("notice = 1.5").unwrap_err(),
            "settings file hook.toml: notice is a TOML float; write notice = \"…\""
        );
    }

    #[test]
    fn only_a_file_that_somebody_named_must_exist() {
        let missing = Path::new("no/such/hook.toml");
        assert_eq!(read_settings(missing, false), Ok(Given::new()));
        assert!(read_settings(missing, true).is_err());
    }

    #[test]
    fn pipes_and_devices_are_not_read() {
        assert!(read_small(Path::new("/dev/zero")).is_err());
    }
}
