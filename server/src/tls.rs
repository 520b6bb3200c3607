//! TLS: what our listeners show, reread on demand, and what we believe of those we call.

use crate::config::{SettingError, TlsFiles};
use crate::peer_list::PeerNames;
use crate::public::stream::Stream;
use crate::world::{Way, World};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, ResolveServerName};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Which listener a certificate is for; decides the option that errors name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsListener {
    /// Clients.
    Public,
    /// Apps, the trigger, peers.
    Private,
}

impl TlsListener {
    fn options(self) -> [&'static str; 2] {
        match self {
            Self::Public => ["--tls-cert", "--tls-key"],
            Self::Private => ["--private-tls-cert", "--private-tls-key"],
        }
    }
}

/// The TLS side of one listener. Connections take what is current when they begin, so that a
/// reload touches none that is open. Clones share what is current.
#[derive(Clone, Debug)]
pub struct TlsReloader {
    listener: TlsListener,
    files: TlsFiles,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl TlsReloader {
    /// Reads certificate and key.
    ///
    /// Errors: a file cannot be read, holds something else, or the two do not belong together; names the option and the file.
    pub fn load(listener: TlsListener, files: &TlsFiles) -> Result<Self, SettingError> {
        let current = Arc::new(RwLock::new(server_config(listener, files)?));
        Ok(Self { listener, files: files.clone(), current })
    }

    /// What a connection that begins now should use.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again. On an error the last good ones stay in use.
    pub fn reload(&self) -> Result<(), SettingError> {
        let fresh = server_config(self.listener, &self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

/// What we believe of those we call: the authorities in `ca_file` (`--peer-ca-file`), or else those of the system.
///
/// Errors: the file cannot be read or holds no certificate. A system without authorities is no error,
/// for plain calls need none; https calls then fail, and the log says why.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, SettingError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3");
    let config = match ca_file {
        Some(path) => builder.with_root_certificates(authorities(path)?),
        None => match builder.clone().with_native_roots() {
            Ok(builder) => builder,
            Err(error) => {
                tracing::warn!(%error, "this system trusts no certificate authority: https calls need --peer-ca-file");
                builder.with_root_certificates(RootCertStore::empty())
            }
        },
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

/// Connects to http and https URLs.
pub type Connector = HttpsConnector<Way>;

/// A connector for calls to peers and to the app's events. `names` says by which name an address was
/// found, so that its certificate is checked for that name.
pub fn connector(world: World, config: Arc<ClientConfig>, names: PeerNames, connect_timeout_ms: u64) -> Connector {
    HttpsConnector::new(Way::new(world, connect_timeout_ms), config, false, Arc::new(ByName(names)))
}

/// What a listener does with a connection that it accepted: nothing without `tls`, else the handshake,
/// within so many milliseconds.
///
/// # Errors
/// `TimedOut`: it took too long. Else what broke.
pub async fn accept(stream: Stream, tls: Option<&TlsReloader>, within_ms: u64) -> io::Result<Stream> {
    let (tcp, tls) = match (stream, tls) {
        (stream, None) => return Ok(stream),
        (Stream::Tcp(tcp), Some(tls)) => (tcp, tls),
        (Stream::Tls(_) | Stream::Other(_), Some(_)) => {
            return Err(io::Error::other("TLS is spoken over TCP alone"));
        }
    };
    let handshake = tokio_rustls::TlsAcceptor::from(tls.current()).accept(tcp);
    match tokio::time::timeout(Duration::from_millis(within_ms), handshake).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream?))),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Checks a certificate for the name that the peer list knows an address by, else for the host in the URL.
struct ByName(PeerNames);

impl ResolveServerName for ByName {
    fn resolve(&self, uri: &http::Uri) -> Result<ServerName<'static>, Box<dyn std::error::Error + Sync + Send>> {
        let host = self.0.name_of(uri).or_else(|| uri.host().map(str::to_owned)).unwrap_or_default();
        Ok(ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn server_config(listener: TlsListener, files: &TlsFiles) -> Result<Arc<ServerConfig>, SettingError> {
    let [cert_option, key_option] = listener.options();
    let chain = certificates(cert_option, &files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| {
        let expected = format!("expected a private key as PEM, but {}", clause(error));
        SettingError::new(key_option, files.key.display(), expected)
    })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| {
            let expected =
                format!("expected the certificate that {key_option} {} belongs to, but {error}", files.key.display());
            SettingError::new(cert_option, files.cert.display(), expected)
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Tickets that the client keeps: a storm of returning clients costs no full handshakes and no memory here.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| {
        SettingError::new(cert_option, files.cert.display(), format!("expected random bytes, but {error}"))
    })?;
    Ok(Arc::new(config))
}

fn authorities(path: &Path) -> Result<RootCertStore, SettingError> {
    const OPTION: &str = "--peer-ca-file";
    let mut store = RootCertStore::empty();
    for certificate in certificates(OPTION, path)? {
        store.add(certificate).map_err(|error| {
            SettingError::new(OPTION, path.display(), format!("expected certificates of authorities, but {error}"))
        })?;
    }
    Ok(store)
}

fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, SettingError> {
    let wrong = |error: rustls::pki_types::pem::Error| {
        SettingError::new(option, path.display(), format!("expected certificates as PEM, but {}", clause(error)))
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)?;
    if chain.is_empty() {
        return Err(wrong(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(chain)
}

fn clause(error: rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::NoItemsFound => "the file holds none".into(),
        Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
