//! From what a person types to a `Config`, or to the sentence that helps.

use super::*;
use std::collections::BTreeMap;

fn read(flags: &[&str], env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let argv: Vec<OsString> = ["tidegate", "serve"].iter().chain(flags).map(OsString::from).collect();
    let env: BTreeMap<&str, &str> = env.iter().copied().collect();
    Config::read(&argv, &|name| env.get(name).map(OsString::from))
}

fn refused(flags: &[&str], env: &[(&str, &str)]) -> String {
    let error = read(flags, env).expect_err("this should be refused");
    assert_eq!(error.exit_code(), 2, "{error}");
    error.to_string()
}

fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("hub.toml");
    std::fs::write(&path, text).expect("a file to write");
    let path = path.to_str().expect("UTF-8").to_owned();
    (dir, path)
}

#[test]
fn without_any_setting_the_contract_defaults_hold() {
    let config = read(&[], &[]).unwrap();
    assert_eq!(config.public.to_string(), "0.0.0.0:8080");
    assert_eq!(config.private.to_string(), "127.0.0.1:8081");
    assert_eq!(config.data_dir, PathBuf::from("./tidegate-data"));
    assert_eq!(config.session_ttl_ms, 120_000);
    assert_eq!(config.orphan_after_ms, 30_000);
    assert_eq!(config.stop_deadline_ms, 25_000);
    assert_eq!(config.peer_forget_after_ms, 600_000);
    assert_eq!(config.auth, AuthConfig::None);
    assert_eq!(config.limits, Limits::default());
    assert!(!config.has_peers());
}

#[test]
fn a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default() {
    let (_dir, path) = file("public = \"127.0.0.1:1\"\nsession-ttl = \"1s\"\norphan-after = \"1s\"\n");
    let env = [("TIDEGATE_SESSION_TTL", "2s"), ("TIDEGATE_ORPHAN_AFTER", "2s")];
    let config = read(&["--config", &path, "--orphan-after", "3s"], &env).unwrap();
    assert_eq!(config.orphan_after_ms, 3_000, "the flag");
    assert_eq!(config.session_ttl_ms, 2_000, "the environment");
    assert_eq!(config.public.to_string(), "127.0.0.1:1", "the file");
    assert_eq!(config.stop_deadline_ms, 25_000, "the default");
}

#[test]
fn the_environment_may_name_the_file_and_an_empty_variable_is_none() {
    let (_dir, path) = file("app = \"ws://127.0.0.1:3000\"\nlimit-sessions = 5\nunready-when-draining = true\n");
    let config = read(&[], &[("TIDEGATE_CONFIG", &path), ("TIDEGATE_APP", "")]).unwrap();
    assert_eq!(config.app.unwrap().to_string(), "ws://127.0.0.1:3000/");
    assert_eq!(config.limits.sessions, 5);
    assert!(config.unready_when_draining);
}

#[test]
fn lists_come_by_repetition_by_comma_and_as_arrays_and_one_layer_gives_them_whole() {
    let (_dir, path) = file("allowed-origin = [\"https://a.example\", \"https://b.example\"]\n");
    let origins = |flags: &[&str], env: &[(&str, &str)]| read(flags, env).unwrap().allowed_origins;
    assert_eq!(origins(&["--config", &path], &[]), ["https://a.example", "https://b.example"]);
    let env = [("TIDEGATE_ALLOWED_ORIGIN", "https://c.example, https://d.example")];
    assert_eq!(origins(&["--config", &path], &env), ["https://c.example", "https://d.example"]);
    let flags = ["--config", &path, "--allowed-origin", "https://e.example", "--allowed-origin=http://f.example"];
    assert_eq!(origins(&flags, &env), ["https://e.example", "http://f.example"]);
}

#[test]
fn a_bad_value_names_the_option_the_value_and_what_would_be_right() {
    assert_eq!(
        refused(&["--public", "localhost"], &[]),
        "--public = \"localhost\": expected an IP address and a port, such as 0.0.0.0:8080, 127.0.0.1:0 or [::1]:8081"
    );
    for (flag, given, right) in [
        ("--private", "8081", "an IP address and a port"),
        ("--app", "http://127.0.0.1:3000", "a WebSocket URL"),
        ("--app-events", "ws://127.0.0.1:3000", "an HTTP URL"),
        ("--public-url", "hub-a", "a WebSocket URL"),
        ("--peer", "hub-b:8081", "the base URL of a hub's private API"),
        ("--peer-url", "http://hub-b:8081/v1", "without a path"),
        ("--peer-forget-after", "10", "a duration with its unit"),
        ("--session-ttl", "2 minutes and a bit", "a duration with its unit"),
        ("--session-ttl", "1ms", "1000ms or more"),
        ("--stop-deadline", "-1s", "a duration with its unit"),
        ("--auth", "basic", "none or jwt"),
        ("--jwt-algorithm", "none", "HS256 or RS256 or ES256 or EdDSA"),
        ("--allowed-origin", "https://app.example.com/path", "an origin as browsers send it"),
        ("--log-format", "xml", "text or json"),
        ("--log-level", "loud", "off, error, warn, info, debug or trace"),
        ("--insecure-private", "perhaps", "true or false"),
        ("--limit-message-bytes", "1 meg", "a size, such as"),
        ("--limit-message-bytes", "0", "1 bytes to 67108864 bytes"),
        ("--limit-channels", "many", "a whole number"),
        ("--limit-hello-time", "1h", "100ms to 60000ms"),
    ] {
        let told = refused(&[&format!("{flag}={given}")], &[]);
        assert!(told.starts_with(flag) && told.contains(right), "{flag}={given} told: {told}");
        let first_word = given.split(' ').next().unwrap_or_default();
        assert!(told.contains(first_word) || flag.starts_with("--limit"), "{flag}={given} told: {told}");
    }
}

#[test]
fn a_bad_value_in_the_environment_or_the_file_says_where_it_stands() {
    let told = refused(&[], &[("TIDEGATE_SESSION_TTL", "120")]);
    assert!(told.starts_with("--session-ttl = \"120\": expected a duration"), "{told}");
    assert!(told.ends_with("(from TIDEGATE_SESSION_TTL)"), "{told}");
    let (_dir, path) = file("public = 8080\n");
    let told = refused(&["--config", &path], &[]);
    assert!(told.starts_with("--public = \"8080\": expected an IP address"), "{told}");
    assert!(told.ends_with(&format!("(in {path})")), "{told}");
}

#[test]
fn a_typo_in_the_file_stops_the_start_and_suggests_the_right_name() {
    for (line, meant) in [
        ("sesion-ttl = \"2m\"", "did you mean \"session-ttl\"?"),
        ("session_ttl = \"2m\"", "did you mean \"session-ttl\"?"),
        ("peers = [\"http://hub-b:8081\"]", "did you mean \"peer\"?"),
        ("colour = \"red\"", "`tidegate serve --help` lists them all"),
        ("config = \"other.toml\"", "there is no such setting"),
        ("[limits]\nsessions = 4", "there is no such setting"),
    ] {
        let (_dir, path) = file(line);
        let told = refused(&["--config", &path], &[]);
        assert!(told.contains(meant), "{line} told: {told}");
    }
}

#[test]
fn a_file_that_is_no_toml_or_has_the_wrong_kind_of_value_is_refused() {
    for (text, right) in [
        ("public = ", "expected TOML, but"),
        ("public = [\"127.0.0.1:1\"]", "expected one value, not a list"),
        ("session-ttl = 1.5", "expected a text, a whole number, true or false"),
        ("peer = [[\"x\"]]", "expected a text, a whole number, true or false"),
    ] {
        let (_dir, path) = file(text);
        let told = refused(&["--config", &path], &[]);
        assert!(told.contains(right), "{text} told: {told}");
    }
    assert!(refused(&["--config", "/nonexistent.toml"], &[]).contains("expected a file to read"));
}

#[test]
fn an_unknown_flag_is_a_usage_error_and_help_is_none() {
    assert!(refused(&["--publik", "127.0.0.1:1"], &[]).contains("--publik"));
    let help = read(&["--help"], &[]).expect_err("help is not a config");
    assert_eq!(help.exit_code(), 0);
    let text = help.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    for taught in
        ["--peer-forget-after", "TIDEGATE_<NAME>", "[default: 2m]", "tidegate serve --app", "[default: 19000]"]
    {
        assert!(text.contains(taught), "the help should teach {taught}");
    }
}

#[test]
fn a_private_listener_off_loopback_needs_a_token_file_unless_told_otherwise() {
    let told = refused(&["--private", "10.0.0.11:8081"], &[]);
    assert!(told.contains("--private = \"10.0.0.11:8081\"") && told.contains("--private-token-file"), "{told}");
    assert!(read(&["--private", "10.0.0.11:8081", "--private-token-file", "t"], &[]).is_ok());
    assert!(read(&["--private", "10.0.0.11:8081", "--insecure-private"], &[]).is_ok());
    assert!(read(&["--private", "10.0.0.11:8081", "--insecure-private=false"], &[]).is_err());
    assert!(read(&["--private", "[::1]:8081"], &[]).is_ok());
}

#[test]
fn a_peer_needs_a_cluster_key_and_a_way_back() {
    let peer = "--peer=http://10.0.0.12:8081";
    let told = refused(&[peer], &[]);
    assert!(told.contains("--peer = \"http://10.0.0.12:8081/\"") && told.contains("--cluster-key-file"), "{told}");
    let told = refused(&[peer, "--cluster-key-file=k"], &[]);
    assert!(told.contains("--peer-url") && told.contains("127.0.0.1:8081"), "{told}");
    assert!(read(&[peer, "--cluster-key-file=k", "--peer-url=http://10.0.0.11:8081"], &[]).is_ok());
    let off_loopback = [peer, "--cluster-key-file=k", "--private=10.0.0.11:8081", "--insecure-private"];
    assert!(read(&off_loopback, &[]).is_ok());
    assert!(refused(&["--peers-file=p"], &[]).contains("--peers-file"));
}

#[test]
fn certificate_and_key_belong_together() {
    assert!(refused(&["--tls-cert=c"], &[]).contains("expected --tls-key FILE beside it"));
    assert!(refused(&["--private-tls-key=k"], &[]).contains("expected --private-tls-cert FILE beside it"));
    let config = read(&["--tls-cert=c", "--tls-key=k"], &[]).unwrap();
    assert_eq!(config.public_tls, Some(TlsFiles { cert: "c".into(), key: "k".into() }));
}

#[test]
fn jwt_needs_a_key_file_and_jwt_settings_need_jwt() {
    assert!(refused(&["--auth=jwt"], &[]).contains("expected --jwt-key-file FILE beside it"));
    assert!(refused(&["--jwt-issuer=https://id.example"], &[]).contains("expected --auth jwt beside it"));
    let config = read(&["--auth=jwt", "--jwt-key-file=k", "--jwt-algorithm=eddsa"], &[]).unwrap();
    let AuthConfig::Jwt(jwt) = config.auth else { panic!("jwt was asked for") };
    assert_eq!(jwt.algorithm, Some(JwtAlgorithm::EdDsa));
}

#[test]
fn the_two_listeners_must_differ() {
    let told = refused(&["--public=127.0.0.1:9", "--private=127.0.0.1:9"], &[]);
    assert!(told.contains("expected another address than --public"), "{told}");
    assert!(read(&["--public=127.0.0.1:0", "--private=127.0.0.1:0"], &[]).is_ok());
}

#[test]
fn the_start_says_what_nobody_should_learn_late() {
    let notes = read(&[], &[]).unwrap().notes();
    assert!(notes.iter().any(|note| note.starts_with("no --app")), "{notes:?}");
    assert!(notes.iter().any(|note| note.starts_with("no --peer")), "{notes:?}");
}
