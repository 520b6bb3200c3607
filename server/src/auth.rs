//! Who a client is: nobody in particular, or whom a signed JWT names.

use crate::config::{AuthConfig, JwtAlgorithm, JwtConfig, SettingError};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use std::fmt;
use std::path::Path;
use tidegate_protocol::session::credentials::{AUTH_LEEWAY_MS, Credentials, counts_until_unix_ms};

#[cfg(test)]
mod tests;

/// Longest JWT that is looked at; a header line can hold no more anyway.
const JWT_BYTES_MAX: usize = 16 << 10;
/// Longest user name and channel name, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// HMAC-SHA256 wants a secret as long as its digest.
const HS256_BYTES_WANTED: usize = 32;
/// Below that anybody who has one JWT finds the secret by trying.
const HS256_BYTES_MIN: usize = 16;

/// Whom a session belongs to, and what it may see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The claim `sub`; `None` for anonymous sessions.
    pub user: Option<String>,
    /// The claim `channels`: what the session is joined to at its start.
    pub channels: Vec<String>,
    /// The claim `exp`, in milliseconds since 1970; `None`: never.
    pub expires_unix_ms: Option<u64>,
}

impl Identity {
    /// The same as what a session keeps of it; none for nobody in particular.
    pub fn credentials(&self) -> Option<Credentials> {
        Some(Credentials {
            user: self.user.as_deref()?.into(),
            channels: self.channels.iter().map(|name| name.as_str().into()).collect(),
            expires_unix_ms: self.expires_unix_ms?,
        })
    }
}

/// Why a client is not let in. Says what is wrong and never shows the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token was given.
    #[error("a JWT is needed to connect: give it as `auth` in hello, or as a bearer token")]
    Missing,
    /// It cannot be read.
    #[error("the JWT cannot be read: {0}")]
    Malformed(String),
    /// The signature is wrong, or made in another way than this hub demands.
    #[error("the JWT is not signed as this hub demands: expected {0} with the key that this hub knows")]
    Signature(&'static str),
    /// A claim is missing or has a wrong value.
    #[error("the JWT's claim `{claim}` is not right: expected {expected}")]
    Claim {
        /// Which claim.
        claim: String,
        /// What would be right.
        expected: String,
    },
    /// It names more channels than a session may be in.
    #[error("the JWT's claim `channels` has {given} names: expected at most {limit} names (--limit-channels)")]
    TooManyChannels {
        /// How many it names.
        given: usize,
        /// How many a session may be in.
        limit: u64,
    },
    /// It has expired.
    #[error("the JWT expired {ago_ms} ms ago: get a fresh one and connect again")]
    Expired {
        /// How long ago, leeway not counted.
        ago_ms: u64,
    },
}

/// Decides who may connect.
#[derive(Clone)]
pub enum Auth {
    /// Everybody, anonymously.
    None,
    /// Who has a JWT that passes.
    Jwt(Box<JwtVerifier>),
}

impl Auth {
    /// Reads the key file, if there is one. `channels_max` is the limit of channels per session.
    ///
    /// Errors: the key file cannot be read, or does not fit the algorithm; names the option.
    pub fn new(config: &AuthConfig, channels_max: u64) -> Result<Self, SettingError> {
        match config {
            AuthConfig::None => Ok(Self::None),
            AuthConfig::Jwt(jwt) => Ok(Self::Jwt(Box::new(JwtVerifier::new(jwt, channels_max)?))),
        }
    }

    /// Who the client is. Without `--auth jwt` a token is not looked at.
    pub fn identify(&self, token: Option<&str>, now_unix_ms: u64) -> Result<Identity, AuthError> {
        match self {
            Self::None => Ok(Identity::default()),
            Self::Jwt(verifier) => verifier.verify(token.ok_or(AuthError::Missing)?, now_unix_ms),
        }
    }

    /// Whether clients must show a token.
    pub fn is_needed(&self) -> bool {
        matches!(self, Self::Jwt(_))
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_needed() { "Auth::Jwt(…)" } else { "Auth::None" })
    }
}

/// Checks JWTs against one key, one algorithm, and perhaps issuer and audience.
#[derive(Clone)]
pub struct JwtVerifier {
    key: DecodingKey,
    algorithm: JwtAlgorithm,
    validation: Validation,
    channels_max: u64,
}

#[derive(Deserialize)]
struct Claims {
    // Text, as RFC 7519 has it, or the number that many issuers write.
    sub: Option<serde_json::Value>,
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(default)]
    channels: Vec<String>,
}

impl JwtVerifier {
    fn new(config: &JwtConfig, channels_max: u64) -> Result<Self, SettingError> {
        let (algorithm, key) = read_key(&config.key_file, config.algorithm)?;
        let mut validation = Validation::new(library_name(algorithm));
        // Times are judged here, by the clock that is handed in; the library would take the system's.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        // Of `exp` the library would say that it is missing when it is no time, of `sub` when it is no text.
        let mut required = vec![];
        match &config.issuer {
            Some(issuer) => {
                validation.set_issuer(&[issuer]);
                required.push("iss");
            }
            None => validation.iss = None,
        }
        match &config.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        Ok(Self { key, algorithm, validation, channels_max })
    }

    fn verify(&self, token: &str, now_unix_ms: u64) -> Result<Identity, AuthError> {
        if token.len() > JWT_BYTES_MAX {
            return Err(AuthError::Malformed(format!("it is longer than {JWT_BYTES_MAX} bytes")));
        }
        let TokenData { header, claims } = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation)
            .map_err(|error| self.explain(error.kind()))?;
        // RFC 7515, 4.1.11: whoever does not know an extension that is critical must not take the token.
        if header.crit.is_some() {
            return Err(AuthError::Malformed("its header has `crit`; this hub knows no extensions".into()));
        }
        let exp = claims.exp.ok_or_else(|| wrong("exp", "it to be there"))?;
        let expires_unix_ms = unix_ms("exp", exp)?;
        if now_unix_ms > counts_until_unix_ms(expires_unix_ms) {
            return Err(AuthError::Expired { ago_ms: now_unix_ms - expires_unix_ms });
        }
        if let Some(nbf) = claims.nbf
            && unix_ms("nbf", nbf)? > now_unix_ms.saturating_add(AUTH_LEEWAY_MS)
        {
            return Err(wrong("nbf", "a time that has come"));
        }
        let user = user_of(claims.sub)?;
        check_name(&user).map_err(|expected| wrong("sub", expected))?;
        for channel in &claims.channels {
            check_name(channel).map_err(|expected| wrong("channels", expected))?;
        }
        if claims.channels.len() as u64 > self.channels_max {
            return Err(AuthError::TooManyChannels { given: claims.channels.len(), limit: self.channels_max });
        }
        Ok(Identity { user: Some(user), channels: claims.channels, expires_unix_ms: Some(expires_unix_ms) })
    }

    fn explain(&self, kind: &ErrorKind) -> AuthError {
        match kind {
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
                AuthError::Signature(name_of(self.algorithm))
            }
            ErrorKind::MissingRequiredClaim(claim) => wrong(claim, "it to be there"),
            ErrorKind::InvalidIssuer => wrong("iss", "the issuer that this hub was told (--jwt-issuer)"),
            ErrorKind::InvalidAudience => wrong("aud", "the audience that this hub was told (--jwt-audience)"),
            ErrorKind::InvalidClaimFormat(claim) => wrong(claim, "a value of the right kind"),
            ErrorKind::Json(error) if error.is_data() => AuthError::Malformed(
                "expected the claims `sub` (text or a whole number), `exp` (number) and perhaps `channels` (list of texts)".into(),
            ),
            // The text of other errors could hold parts of the token.
            _ => AuthError::Malformed(
                "expected three parts of base64url, separated by dots, as an issuer makes them".into(),
            ),
        }
    }
}

fn wrong(claim: &str, expected: impl Into<String>) -> AuthError {
    AuthError::Claim { claim: claim.to_owned(), expected: expected.into() }
}

fn unix_ms(claim: &str, seconds: f64) -> Result<u64, AuthError> {
    // Past the year 9999 a number is no time but a slip of the unit.
    if (0.0..253_402_300_800.0).contains(&seconds) {
        Ok((seconds * 1000.0) as u64)
    } else {
        Err(wrong(claim, "seconds since 1970"))
    }
}

/// The name of a user: the text, or the decimal text of a whole number, so that 42 and "42" are one user.
fn user_of(sub: Option<serde_json::Value>) -> Result<String, AuthError> {
    use serde_json::Value;
    match sub {
        None | Some(Value::Null) => Err(wrong("sub", "it to be there")),
        Some(Value::String(text)) => Ok(text),
        Some(Value::Number(number)) if number.is_u64() || number.is_i64() => Ok(number.to_string()),
        Some(_) => Err(wrong("sub", "a text, or a whole number of at most 64 bits")),
    }
}

/// Whether a text will do as the name of a user or a channel: not empty, at most 256 bytes, no control
/// characters, and no white space at either end: headers and forms lose that on their way, and " ann" and "ann"
/// would be two users here and one to the app. The error is a clause that says so.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err("names of 1 to 256 bytes without control characters");
    }
    if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        return Err("names without white space at either end");
    }
    Ok(())
}

fn library_name(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

fn name_of(algorithm: JwtAlgorithm) -> &'static str {
    match algorithm {
        JwtAlgorithm::Hs256 => "HS256",
        JwtAlgorithm::Rs256 => "RS256",
        JwtAlgorithm::Es256 => "ES256",
        JwtAlgorithm::EdDsa => "EdDSA",
    }
}

fn read_key(path: &Path, asked: Option<JwtAlgorithm>) -> Result<(JwtAlgorithm, DecodingKey), SettingError> {
    let wrong = |expected: String| SettingError::new("--jwt-key-file", path.display(), expected);
    let bytes = std::fs::read(path).map_err(|error| wrong(format!("expected a file to read, but {error}")))?;
    let fits =
        if bytes.starts_with(b"-----BEGIN") { algorithm_of_pem(&bytes).map_err(&wrong)? } else { JwtAlgorithm::Hs256 };
    if let Some(asked) = asked.filter(|asked| *asked != fits) {
        return Err(wrong(format!(
            "expected a key for --jwt-algorithm {}, but it holds one for {}",
            name_of(asked),
            name_of(fits)
        )));
    }
    let unreadable = |_| wrong(format!("expected a public key for {} as PEM", name_of(fits)));
    let key = match fits {
        JwtAlgorithm::Rs256 => DecodingKey::from_rsa_pem(&bytes).map_err(unreadable)?,
        JwtAlgorithm::Es256 => DecodingKey::from_ec_pem(&bytes).map_err(unreadable)?,
        JwtAlgorithm::EdDsa => DecodingKey::from_ed_pem(&bytes).map_err(unreadable)?,
        JwtAlgorithm::Hs256 => {
            let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
            if secret.is_empty() {
                return Err(wrong("expected a shared secret, or a public key as PEM, but the file is empty".into()));
            }
            if secret.len() < HS256_BYTES_MIN {
                return Err(wrong(format!(
                    "expected a secret of at least {HS256_BYTES_MIN} bytes, better {HS256_BYTES_WANTED}, but it has {}",
                    secret.len()
                )));
            }
            if let Some(why) = crate::keys::weakness(secret) {
                return Err(wrong(format!("expected a secret that cannot be guessed, but {why}")));
            }
            if secret.len() < HS256_BYTES_WANTED {
                tracing::warn!(
                    bytes = secret.len(),
                    "the secret of --jwt-key-file is short enough to be guessed: HS256 wants 32 bytes"
                );
            }
            DecodingKey::from_secret(secret)
        }
    };
    Ok((fits, key))
}

/// What a public key is for, by the object identifiers in it (RFC 3279, 5480, 8410).
fn algorithm_of_pem(pem: &[u8]) -> Result<JwtAlgorithm, String> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
    let expected = || "expected a public key as PEM (BEGIN PUBLIC KEY): RSA, EC on P-256 or Ed25519".to_owned();
    if pem.starts_with(b"-----BEGIN RSA PUBLIC KEY-----") {
        return Ok(JwtAlgorithm::Rs256);
    }
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| expected())?;
    // The identifiers stand at the front; the key's own bytes after it are not looked at.
    let front = &der.as_ref()[..der.as_ref().len().min(32)];
    let has = |oid: &[u8]| front.windows(oid.len()).any(|window| window == oid);
    match () {
        () if has(RSA) => Ok(JwtAlgorithm::Rs256),
        () if has(P256) => Ok(JwtAlgorithm::Es256),
        () if has(ED25519) => Ok(JwtAlgorithm::EdDsa),
        () => Err(expected()),
    }
}
