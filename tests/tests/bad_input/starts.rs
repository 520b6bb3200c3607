//! Settings that stop the start: exit 2, the option, the value, and what would be right.

use tidegate_tests::{Setup, Signal};

async fn refused(what: &str, setup: Setup, words: &[&str]) {
    let exit = setup.launch().exit().await;
    let said = exit.stderr.join("\n");
    assert_eq!(exit.code, Some(2), "{what} stops the start with 2; it said:\n{said}");
    assert_eq!(exit.stdout, Vec::<String>::new(), "{what}: nothing on stdout");
    for word in words {
        assert!(said.contains(word), "{what}: expected \"{word}\" in:\n{said}");
    }
}

#[tokio::test]
async fn each_bad_flag_stops_the_start_and_says_what_would_be_right() {
    let hub = || Setup::new("A");
    let table = [
        ("a duration without a unit", hub().flag("--session-ttl", "5"), ["--session-ttl", "5", "15s"]),
        ("a time to live of nothing", hub().flag("--session-ttl", "0s"), ["--session-ttl", "0ms", "1000ms"]),
        ("an app over http", hub().flag("--app", "http://127.0.0.1:3000"), ["--app", "http://127.0.0.1:3000", "ws://"]),
        ("an unknown level", hub().flag("--log-level", "loud"), ["--log-level", "loud", "info"]),
        ("an unknown auth", hub().flag("--auth", "magic"), ["--auth", "magic", "jwt"]),
        ("jwt without a key", hub().flag("--auth", "jwt"), ["--auth", "jwt", "--jwt-key-file"]),
        ("a key without jwt", hub().flag("--jwt-key-file", "k.pem"), ["--jwt-key-file", "k.pem", "--auth jwt"]),
        ("a limit out of range", hub().flag("--limit-hello-time", "1ms"), ["--limit-hello-time", "1ms", "100ms"]),
        ("half of a TLS pair", hub().flag("--tls-cert", "c.pem"), ["--tls-cert", "c.pem", "--tls-key"]),
        (
            "an origin with a path",
            hub().flag("--allowed-origin", "https://a.b/c"),
            ["--allowed-origin", "https://a.b/c", "https://"],
        ),
        (
            "a peer without a key",
            hub().flag("--peer", "http://10.0.0.1:8081"),
            ["--peer", "10.0.0.1", "--cluster-key-file"],
        ),
        ("a flag that is misspelt", hub().flag("--sesion-ttl", "5s"), ["--sesion-ttl", "--session-ttl", ""]),
        ("a file without a name", hub().flag("--peers-file", ""), ["--peers-file", "empty", "expected a value"]),
        ("an environment value", hub().env("TIDEGATE_SESSION_TTL", "soon"), ["TIDEGATE_SESSION_TTL", "soon", "15s"]),
    ];
    for (what, setup, words) in table {
        refused(what, setup, &words).await;
    }
}

#[tokio::test]
async fn each_bad_file_stops_the_start_and_says_what_would_be_right() {
    let with_file = |flag: &str, text: &str| {
        let setup = Setup::new("A");
        let path = setup.file("settings", text);
        setup.flag(flag, path.display())
    };
    refused(
        "a config with a typo",
        with_file("--config", "sesion-ttl = \"2m\"\n"),
        &["sesion-ttl", "session-ttl", "2m"],
    )
    .await;
    refused(
        "a config with a bad value",
        with_file("--config", "session-ttl = \"soon\"\n"),
        &["session-ttl", "soon", "15s"],
    )
    .await;
    refused("a config that is no TOML", with_file("--config", "session-ttl 2m\n"), &["--config", "TOML"]).await;
    refused("a key that is too short", with_file("--cluster-key-file", "short\n"), &["--cluster-key-file", "32"]).await;
    refused(
        "a token file with nothing in it",
        with_file("--private-token-file", "\n"),
        &["--private-token-file", "first line"],
    )
    .await;
    let absent = Setup::new("A").flag("--config", "no/such/file.toml");
    refused("a config that is not there", absent, &["--config", "no/such/file.toml"]).await;
    let open = Setup::new("A").at("127.0.0.1:0".parse().expect("an address"), "0.0.0.0:0".parse().expect("an address"));
    refused("a private listener off loopback without a token", open, &["--private", "0.0.0.0", "--private-token-file"])
        .await;
}

#[tokio::test]
async fn an_address_in_use_is_no_wrong_setting_but_a_failure_that_names_it() {
    let hub = Setup::new("A").start().await;
    let exit = Setup::new("B").at(hub.public, "127.0.0.1:0".parse().expect("an address")).launch().exit().await;
    let said = exit.stderr.join("\n");
    assert_eq!(exit.code, Some(1), "{said}");
    assert!(said.contains(&hub.public.to_string()) && said.contains("--public"), "{said}");
}

#[tokio::test]
async fn flags_win_over_the_environment_and_that_over_the_file() {
    let setup = Setup::new("A");
    let config = setup.file("config.toml", "limit-channels = 3\nlimit-state-bytes = 300\nlimit-peers = 30\n");
    let hub = setup
        .flag("--config", config.display())
        .env("TIDEGATE_LIMIT_CHANNELS", "4")
        .env("TIDEGATE_LIMIT_STATE_BYTES", "400")
        .flag("--limit-channels", "5")
        .start()
        .await;
    let limits = hub.api.get("/v1/hub").await.expect(200)["limits"].clone();
    let got = ["channels_per_session", "state_bytes", "peers"].map(|name| limits[name].as_u64());
    assert_eq!(got, [Some(5), Some(400), Some(30)], "flag, environment, file: {limits}");
    hub.signal(Signal::Term);
    assert_eq!(hub.exit().await.code, Some(0));
}
