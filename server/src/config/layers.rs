//! Flags over environment over file. All three are read by the same command-line definition, so a
//! name or a value means the same wherever it stands, and an error is told in the same words.

use super::args::{Cli, Command, ServeArgs};
use super::{ConfigError, SettingError, Source};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, Parser};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// One option of `tidegate serve`, as the environment and the file see it.
struct Known {
    name: String,
    list: bool,
}

fn known() -> Vec<Known> {
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve").expect("the command `serve` is defined in args.rs");
    let options = serve.get_arguments().filter_map(|arg| {
        let name = arg.get_long()?.to_owned();
        let list = matches!(arg.get_action(), ArgAction::Append);
        (name != "help" && name != "version").then_some(Known { name, list })
    });
    options.collect()
}

/// Reads the command line.
pub(crate) fn from_flags(argv: &[OsString]) -> Result<ServeArgs, ConfigError> {
    let cli = Cli::try_parse_from(argv).map_err(|error| {
        setting_error(&error, Source::Flag).map_or_else(|| ConfigError::Usage(Box::new(error)), ConfigError::Setting)
    })?;
    let Command::Serve(args) = cli.command;
    Ok(*args)
}

/// Reads `TIDEGATE_<NAME>` for each option; `lookup` answers with the value of a variable. An empty
/// variable is as good as none. Variables with other names are none of ours: Kubernetes, for one,
/// sets `TIDEGATE_PORT` and the like for a service of that name.
pub(crate) fn from_env(lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<ServeArgs, SettingError> {
    let mut typed = Vec::new();
    for option in known() {
        let variable = env_name(&option.name);
        let Some(value) = lookup(&variable).filter(|value| !value.is_empty()) else {
            continue;
        };
        match value.to_str() {
            Some(text) if option.list => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                typed.extend(items.map(|item| format!("--{}={item}", option.name)));
            }
            Some(text) => typed.push(format!("--{}={text}", option.name)),
            None => {
                return Err(SettingError {
                    option: format!("--{}", option.name),
                    given: value.to_string_lossy().into_owned(),
                    source: Source::Env(variable),
                    expected: "expected text in UTF-8".into(),
                });
            }
        }
    }
    parse(typed, |option| Source::Env(env_name(option)))
}

/// Reads the text of a config file; `path` is for the errors.
pub(crate) fn from_file(path: &Path, text: &str) -> Result<ServeArgs, SettingError> {
    let source = || Source::File(path.to_owned());
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| SettingError {
        option: "--config".into(),
        given: path.display().to_string(),
        source: Source::Flag,
        expected: format!("expected TOML, but {}", error.to_string().trim_end()),
    })?;
    let known = known();
    let mut typed = Vec::new();
    for (key, value) in &table {
        let option = known.iter().find(|option| option.name == *key && key != "config");
        let wrong = |expected: String| SettingError {
            option: option.map_or_else(|| key.clone(), |_| format!("--{key}")),
            given: value.to_string(),
            source: source(),
            expected,
        };
        let Some(option) = option else {
            return Err(wrong(format!("there is no such setting; {}", nearest(key, &known))));
        };
        let values = match value {
            toml::Value::Array(items) if option.list => items.iter().map(plain).collect(),
            toml::Value::Array(_) => return Err(wrong("expected one value, not a list".into())),
            single => plain(single).map(|text| vec![text]),
        };
        let values = values.ok_or_else(|| wrong("expected a text, a whole number, true or false".into()))?;
        typed.extend(values.into_iter().map(|text| format!("--{key}={text}")));
    }
    parse(typed, |_| source())
}

/// The file that `--config` names, wherever it was named.
pub(crate) fn file_named(flags: &ServeArgs, env: &ServeArgs) -> Option<PathBuf> {
    flags.config.clone().or_else(|| env.config.clone())
}

/// `session-ttl` is `TIDEGATE_SESSION_TTL`.
fn env_name(option: &str) -> String {
    format!("TIDEGATE_{}", option.to_ascii_uppercase().replace('-', "_"))
}

fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

fn parse(typed: Vec<String>, source: impl Fn(&str) -> Source) -> Result<ServeArgs, SettingError> {
    let argv = ["tidegate".to_owned(), "serve".to_owned()].into_iter().chain(typed);
    match Cli::try_parse_from(argv) {
        Ok(Cli { command: Command::Serve(args) }) => Ok(*args),
        Err(error) => {
            let option = option_of(&error).unwrap_or_default();
            let source = source(option.trim_start_matches("--"));
            Err(setting_error(&error, source.clone()).unwrap_or_else(|| SettingError {
                option,
                given: String::new(),
                source,
                expected: error.kind().to_string(),
            }))
        }
    }
}

/// The option that an error of the command line is about, without its value name.
fn option_of(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(text) => Some(text.split([' ', '=', '[']).next().unwrap_or_default().to_owned()),
        _ => None,
    }
}

/// A bad value in our own words; `None` for other errors of the command line (unknown flag, help).
fn setting_error(error: &clap::Error, source: Source) -> Option<SettingError> {
    let bad_value = matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue);
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidValue) else {
        return None;
    };
    let option = option_of(error).filter(|_| bad_value)?;
    let expected = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(valid)) if !valid.is_empty() => format!("expected {}", valid.join(" or ")),
        _ if given.is_empty() => "it is empty: expected a value, or no such setting at all".into(),
        _ => std::error::Error::source(error).map_or_else(|| "expected a value".into(), ToString::to_string),
    };
    Some(SettingError { option, given: given.clone(), source, expected })
}

fn nearest(key: &str, known: &[Known]) -> String {
    let spelled = key.to_ascii_lowercase().replace('_', "-");
    let best = known.iter().map(|option| (distance(&spelled, &option.name), &option.name)).min();
    match best {
        Some((steps, name)) if steps <= name.len().div_ceil(3) => {
            format!("did you mean \"{name}\"?")
        }
        _ => "`tidegate serve --help` lists them all".into(),
    }
}

/// How many letters must be put in, left out or changed to make one word the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_single_letter_edits() {
        assert_eq!(distance("peer", "peer"), 0);
        assert_eq!(distance("peers", "peer"), 1);
        assert_eq!(distance("sesion-tlt", "session-ttl"), 3);
    }

    #[test]
    fn every_option_has_a_variable_and_none_is_called_like_what_kubernetes_sets() {
        let names: Vec<String> = known().iter().map(|option| env_name(&option.name)).collect();
        assert!(names.contains(&"TIDEGATE_ALLOWED_ORIGIN".to_owned()));
        assert!(names.contains(&"TIDEGATE_LIMIT_MESSAGE_BYTES".to_owned()));
        for taken in ["TIDEGATE_PORT", "TIDEGATE_SERVICE_HOST", "TIDEGATE_SERVICE_PORT"] {
            assert!(!names.contains(&taken.to_owned()));
        }
    }
}
