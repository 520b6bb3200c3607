//! Who the users are: JWTs that every simulated hub believes.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use std::io::Write;
use std::sync::LazyLock;
use tempfile::NamedTempFile;

const SECRET: &[u8] = b"a secret of the simulation's issuer, long enough";

/// The one real file of a simulation: hubs read their key once, at their start.
static KEY: LazyLock<NamedTempFile> = LazyLock::new(|| {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(SECRET).expect("a few bytes");
    file
});

/// A token for a user that outlasts every simulation.
pub(crate) fn token(user: &str) -> String {
    let claims = json!({ "sub": user, "exp": 1_900_000_000 });
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET)).expect("plain claims")
}

/// What a hub must be told.
pub(crate) fn arguments() -> Vec<String> {
    let key = format!("--jwt-key-file={}", KEY.path().display());
    ["--auth=jwt".to_owned(), "--jwt-algorithm=HS256".to_owned(), key].to_vec()
}
