//! Real files, real handshakes in memory.

use super::*;
use rustls::{ClientConnection, ServerConnection};
use std::path::PathBuf;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tls/testdata").join(name)
}

fn files(name: &str) -> TlsFiles {
    TlsFiles { cert: testdata(&format!("{name}.cert.pem")), key: testdata(&format!("{name}.key.pem")) }
}

/// Lets a client that trusts the test authority greet a server by a name.
fn greet(server: Arc<ServerConfig>, name: &'static str) -> Result<(), rustls::Error> {
    let trusting = client_config(Some(&testdata("ca.pem"))).expect("the test authority");
    let name = ServerName::try_from(name).expect("a name");
    let mut client = ClientConnection::new(trusting, name)?;
    let mut server = ServerConnection::new(server)?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("a vector takes everything");
        server.read_tls(&mut wire.as_slice()).expect("a slice gives everything");
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).expect("a vector takes everything");
        client.read_tls(&mut wire.as_slice()).expect("a slice gives everything");
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn a_listener_shows_its_certificate_to_those_who_trust_its_authority() {
    let tls = TlsReloader::load(TlsListener::Public, &files("one")).unwrap();
    assert_eq!(greet(tls.current(), "one.test"), Ok(()));
    assert!(greet(tls.current(), "two.test").is_err(), "a certificate for another name");
}

#[test]
fn after_a_reload_new_connections_see_the_new_certificate_and_a_broken_file_changes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let here = TlsFiles { cert: dir.path().join("cert"), key: dir.path().join("key") };
    let put = |name: &str| {
        let from = files(name);
        std::fs::copy(from.cert, &here.cert).expect("a copy");
        std::fs::copy(from.key, &here.key).expect("a copy");
    };
    put("one");
    let tls = TlsReloader::load(TlsListener::Private, &here).unwrap();
    put("two");
    assert_eq!(greet(tls.current(), "one.test"), Ok(()), "not reread yet");
    tls.reload().unwrap();
    assert_eq!(greet(tls.current(), "two.test"), Ok(()));
    std::fs::write(&here.key, "nonsense").expect("a file to write");
    let told = tls.reload().unwrap_err().to_string();
    assert!(told.starts_with("--private-tls-key = ") && told.contains("the file holds none"), "{told}");
    assert_eq!(greet(tls.current(), "two.test"), Ok(()), "the last good one stays");
}

#[test]
fn each_wrong_file_is_named_with_its_option() {
    let told = |files: TlsFiles| TlsReloader::load(TlsListener::Public, &files).unwrap_err().to_string();
    let (one, two) = (files("one"), files("two"));
    let missing = told(TlsFiles { cert: "/nonexistent.pem".into(), ..one.clone() });
    assert!(missing.starts_with("--tls-cert = \"/nonexistent.pem\": expected certificates as PEM, but"), "{missing}");
    let swapped = told(TlsFiles { cert: one.key.clone(), key: one.cert.clone() });
    assert!(swapped.starts_with("--tls-cert = ") && swapped.contains("the file holds none"), "{swapped}");
    let mixed = told(TlsFiles { cert: one.cert, key: two.key });
    assert!(mixed.starts_with("--tls-cert = ") && mixed.contains("--tls-key"), "{mixed}");
}

#[test]
fn an_authority_that_is_none_is_refused_and_the_system_s_are_taken_without_one() {
    let told = client_config(Some(&testdata("one.key.pem"))).unwrap_err().to_string();
    assert!(told.starts_with("--peer-ca-file = ") && told.contains("the file holds none"), "{told}");
    assert!(client_config(None).is_ok());
}

#[test]
fn a_certificate_is_checked_for_the_name_that_an_address_was_found_by() {
    let names = PeerNames::default();
    let uri: http::Uri = "https://10.0.0.12:8081/x".parse().expect("a URL");
    let name = |names: &PeerNames, uri: &http::Uri| ByName(names.clone()).resolve(uri).expect("a name");
    assert_eq!(name(&names, &uri), ServerName::try_from("10.0.0.12").unwrap());
    names.learn("10.0.0.12:8081", "hubs.internal");
    assert_eq!(name(&names, &uri), ServerName::try_from("hubs.internal").unwrap());
    let v6 = "https://[::1]:8081/".parse().expect("a URL");
    assert_eq!(name(&names, &v6), ServerName::try_from("::1").unwrap());
}
