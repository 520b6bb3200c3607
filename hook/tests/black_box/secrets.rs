use crate::agent::{Agent, Run};
use crate::hub::{Hub, problem, read_request, report, response, serving, status};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

const CA: &str = include_str!("tls/ca.pem");
const OTHER_CA: &str = include_str!("tls/other-ca.pem");

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let hub = Hub::scripted(|_| problem(403, "not for you"));
    let agent = Agent::event("BeforeBlockTraffic", &hub.url());
    let path = agent.file("token", "  s3cr3t-token \nsecond line\n");
    let run = agent.setting(&format!("token_file = \"{}\"", path.display())).run().expect(6);
    assert_eq!(hub.asked()[0].header("authorization"), Some("Bearer s3cr3t-token"));
    assert!(!format!("{run:?}").contains("s3cr3t"), "{run:#?}");
}

#[test]
fn a_token_file_that_is_missing_or_empty_exits_2_and_is_named() {
    let hub = Hub::endless();
    let run = Agent::event("BeforeBlockTraffic", &hub.url()).setting("token_file = \"/no/such/token\"").run().expect(2);
    assert!(run.stderr.contains("token file /no/such/token"), "{run:#?}");
    let agent = Agent::event("BeforeBlockTraffic", &hub.url());
    let path = agent.file("token", "\n");
    let run = agent.setting(&format!("token_file = \"{}\"", path.display())).run().expect(2);
    assert!(run.stderr.contains("its first line must be a token"), "{run:#?}");
    assert_eq!(hub.asked().len(), 0);
}

#[test]
fn the_environment_is_never_printed() {
    let hub = Hub::draining(vec![status("releasing", 1, 4), status("drained", 2, 0)], report("drained", 0));
    let agent = Agent::event("BeforeBlockTraffic", &hub.url());
    let run =
        agent.env("AWS_SECRET_ACCESS_KEY", "wJalr-secret").env("TIDEGATE_PRIVATE_TOKEN", "hub-secret").run().expect(0);
    let help = Agent::event("", &hub.url()).env("AWS_SECRET_ACCESS_KEY", "wJalr-secret").run().expect(2);
    for run in [run, help] {
        let all = format!("{}{}", run.stdout, run.stderr);
        assert!(!all.contains("secret"), "{all}");
    }
    let sent: String = hub.asked().iter().map(|asked| asked.body.clone()).collect();
    assert!(!sent.contains("secret") && !sent.contains("BUNDLE"), "{sent}");
}

/// A hub that answers one question over TLS, if the handshake succeeds.
fn ask_over_tls(ca: &str) -> Run {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let port = listener.local_addr().expect("a bound listener has an address").port();
    let certificate =
        CertificateDer::from_pem_slice(include_bytes!("tls/hub.pem")).expect("the test certificate is PEM");
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/hub-key.pem")).expect("the test key is PEM");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
        .expect("the test certificate fits its key");
    let answering = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the trigger connects");
        let connection = ServerConnection::new(Arc::new(config)).expect("the configuration is good");
        let mut tls = StreamOwned::new(connection, stream);
        if read_request(&mut tls).is_some() {
            let _ = tls.write_all(&response(200, &serving()));
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
    });
    let agent = Agent::shell(&["status"], &format!("https://localhost:{port}"));
    let path = agent.file("ca.pem", ca);
    let run = agent.setting(&format!("ca_file = \"{}\"", path.display())).run();
    // Wakes a hub that was never asked, so that the run's own output tells why.
    drop(TcpStream::connect(("127.0.0.1", port)));
    answering.join().expect("the TLS hub does not panic");
    run
}

#[test]
fn a_hub_whose_certificate_the_ca_file_vouches_for_is_asked_over_tls() {
    ask_over_tls(CA).expect(0).says(&["serving: no drain"]);
}

#[test]
fn a_hub_with_a_foreign_certificate_is_not_asked() {
    ask_over_tls(OTHER_CA).expect(5).says(&["no connection: invalid peer certificate"]);
}

#[test]
fn a_ca_file_without_a_certificate_exits_2() {
    let hub = Hub::endless();
    let agent = Agent::shell(&["status"], &hub.url());
    let path = agent.file("ca.pem", "nothing here");
    let run = agent.setting(&format!("ca_file = \"{}\"", path.display())).run().expect(2);
    assert!(run.stderr.contains("holds no certificate"), "{run:#?}");
}
