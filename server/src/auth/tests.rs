//! Real keys, real signatures: what passes, and what each refusal says.

use super::*;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use std::path::PathBuf;

const NOW: u64 = 1_800_000_000_000;
const SECRET: &str = "a shared secret of more than 32 bytes";

struct Issuer {
    algorithm: Algorithm,
    key: EncodingKey,
    _dir: tempfile::TempDir,
    file: PathBuf,
}

impl Issuer {
    fn new(algorithm: Algorithm, key: EncodingKey, public: impl AsRef<[u8]>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("key");
        std::fs::write(&file, public).expect("a file to write");
        Self { algorithm, key, _dir: dir, file }
    }

    fn hs256() -> Self {
        Self::new(Algorithm::HS256, EncodingKey::from_secret(SECRET.as_bytes()), format!("{SECRET}\n"))
    }

    fn ed25519() -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let pkcs8 = pair.to_pkcs8v1().expect("its private form");
        let public = pair.public_key().as_der().expect("its public form");
        Self::new(Algorithm::EdDSA, EncodingKey::from_ed_der(pkcs8.as_ref()), pem("PUBLIC KEY", public.as_ref()))
    }

    fn es256() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let pkcs8 = pair.to_pkcs8v1().expect("its private form");
        let public = pair.public_key().as_der().expect("its public form");
        Self::new(Algorithm::ES256, EncodingKey::from_ec_der(pkcs8.as_ref()), pem("PUBLIC KEY", public.as_ref()))
    }

    fn rs256() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().expect("its private form");
        let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().expect("its public form");
        let key = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", pkcs8.as_ref()).as_bytes()).expect("a key");
        Self::new(Algorithm::RS256, key, pem("PUBLIC KEY", public.as_ref()))
    }

    fn sign(&self, claims: Value) -> String {
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, &self.key).expect("a token")
    }

    fn config(&self) -> JwtConfig {
        JwtConfig { key_file: self.file.clone(), algorithm: None, issuer: None, audience: None }
    }

    fn auth(&self) -> Auth {
        auth(self.config())
    }
}

fn auth(config: JwtConfig) -> Auth {
    Auth::new(&AuthConfig::Jwt(config), 3).expect("a key that can be read")
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

fn seconds(offset: i64) -> i64 {
    NOW as i64 / 1000 + offset
}

fn ann() -> Value {
    json!({"sub": "ann", "exp": seconds(600)})
}

fn refused(auth: &Auth, token: &str) -> String {
    auth.identify(Some(token), NOW).expect_err("this should be refused").to_string()
}

#[test]
fn each_algorithm_lets_its_own_tokens_in_and_finds_itself_by_the_key_file() {
    for issuer in [Issuer::hs256(), Issuer::ed25519(), Issuer::es256(), Issuer::rs256()] {
        let token = issuer.sign(json!({"sub": "ann", "exp": seconds(600), "channels": ["news", "team"]}));
        let expected = Identity {
            user: Some("ann".into()),
            channels: vec!["news".into(), "team".into()],
            expires_unix_ms: Some(NOW + 600_000),
        };
        assert_eq!(issuer.auth().identify(Some(&token), NOW), Ok(expected), "{:?}", issuer.algorithm);
    }
}

#[test]
fn without_auth_everybody_is_anonymous_whatever_they_show() {
    let auth = Auth::new(&AuthConfig::None, 3).unwrap();
    assert_eq!(auth.identify(Some("rubbish"), NOW), Ok(Identity::default()));
    assert!(!auth.is_needed());
}

#[test]
fn with_auth_a_token_is_needed() {
    assert_eq!(Issuer::hs256().auth().identify(None, NOW), Err(AuthError::Missing));
}

#[test]
fn a_token_by_another_key_or_in_another_way_is_refused() {
    let (one, other) = (Issuer::ed25519(), Issuer::ed25519());
    let told = refused(&one.auth(), &other.sign(ann()));
    assert!(told.contains("expected EdDSA"), "{told}");
    let told = refused(&one.auth(), &Issuer::hs256().sign(ann()));
    assert!(told.contains("expected EdDSA"), "{told}");
}

#[test]
fn the_public_key_taken_as_a_shared_secret_does_not_let_anybody_in() {
    let issuer = Issuer::es256();
    let public = std::fs::read(&issuer.file).expect("the public key");
    let key = EncodingKey::from_secret(&public);
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &ann(), &key).expect("a token");
    assert!(refused(&issuer.auth(), &token).contains("expected ES256"));
}

#[test]
fn a_token_with_an_extension_that_nobody_here_knows_is_refused() {
    let issuer = Issuer::hs256();
    let header = Header { crit: Some(vec!["exp2".into()]), ..Header::new(Algorithm::HS256) };
    let token = jsonwebtoken::encode(&header, &ann(), &issuer.key).expect("a token");
    assert!(refused(&issuer.auth(), &token).contains("`crit`"));
}

#[test]
fn an_unsigned_token_is_refused() {
    let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let token = format!("{}.{}.", base64.encode("{\"alg\":\"none\"}"), base64.encode(ann().to_string()));
    assert!(Issuer::hs256().auth().identify(Some(&token), NOW).is_err());
}

#[test]
fn time_is_the_time_that_is_handed_in() {
    let issuer = Issuer::hs256();
    let auth = issuer.auth();
    let token = issuer.sign(json!({"sub": "ann", "exp": seconds(0), "nbf": seconds(-100)}));
    assert!(auth.identify(Some(&token), NOW + 60_000).is_ok(), "within the leeway");
    assert_eq!(auth.identify(Some(&token), NOW + 60_001), Err(AuthError::Expired { ago_ms: 60_001 }));
    let told = auth.identify(Some(&token), NOW - 160_001).unwrap_err().to_string();
    assert!(told.contains("`nbf`") && told.contains("a time that has come"), "{told}");
}

#[test]
fn a_user_may_be_a_number_which_stands_for_its_digits() {
    let issuer = Issuer::hs256();
    for (sub, user) in
        [(json!(42), "42"), (json!("42"), "42"), (json!(-7), "-7"), (json!(u64::MAX), "18446744073709551615")]
    {
        let identity = issuer.auth().identify(Some(&issuer.sign(json!({"sub": sub, "exp": seconds(600)}))), NOW);
        assert_eq!(identity.map(|identity| identity.user), Ok(Some(user.to_owned())), "{sub}");
    }
}

#[test]
fn a_secret_that_can_be_guessed_stops_the_start() {
    let issuer = Issuer::hs256();
    for (secret, right) in [
        ("short", "at least 16 bytes, better 32, but it has 5"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "cannot be guessed, but it has only 1 different bytes in 36"),
        ("changeme-changeme-changeme-changeme-", "it is a piece of 9 bytes that repeats"),
    ] {
        std::fs::write(&issuer.file, secret).expect("a file to write");
        let told = Auth::new(&AuthConfig::Jwt(issuer.config()), 3).unwrap_err().to_string();
        assert!(told.starts_with("--jwt-key-file") && told.contains(right) && !told.contains(secret), "{told}");
    }
}

#[test]
fn issuer_and_audience_are_checked_when_asked_for() {
    let issuer = Issuer::hs256();
    let strict = auth(JwtConfig { issuer: Some("id".into()), audience: Some("chat".into()), ..issuer.config() });
    let good = json!({"sub": "ann", "exp": seconds(600), "iss": "id", "aud": ["other", "chat"]});
    assert!(strict.identify(Some(&issuer.sign(good.clone())), NOW).is_ok());
    for (claim, value) in [("iss", json!("evil")), ("iss", Value::Null), ("aud", json!("mail")), ("aud", Value::Null)] {
        let mut claims = good.clone();
        match value {
            Value::Null => claims.as_object_mut().expect("claims").remove(claim),
            value => claims.as_object_mut().expect("claims").insert(claim.into(), value),
        };
        let told = refused(&strict, &issuer.sign(claims));
        assert!(told.contains(&format!("`{claim}`")), "{claim}: {told}");
    }
    assert!(issuer.auth().identify(Some(&issuer.sign(good)), NOW).is_ok(), "not asked for, not looked at");
}

#[test]
fn each_wrong_claim_is_named_and_the_token_is_not_shown() {
    let issuer = Issuer::hs256();
    for (claims, right) in [
        (json!({"exp": seconds(600)}), "`sub`"),
        (json!({"sub": "ann"}), "`exp`"),
        (json!({"sub": null, "exp": seconds(600)}), "`sub`"),
        (json!({"sub": true, "exp": seconds(600)}), "a text, or a whole number"),
        (json!({"sub": 1.5, "exp": seconds(600)}), "a text, or a whole number"),
        (json!({"sub": " ann", "exp": seconds(600)}), "without white space at either end"),
        (json!({"sub": "ann\u{3000}", "exp": seconds(600)}), "without white space at either end"),
        (
            json!({"sub": "ann", "exp": seconds(600), "channels": ["desk", "news "]}),
            "without white space at either end",
        ),
        (json!({"sub": "", "exp": seconds(600)}), "1 to 256 bytes"),
        (json!({"sub": "a".repeat(257), "exp": seconds(600)}), "1 to 256 bytes"),
        (json!({"sub": "ann", "exp": NOW}), "seconds since 1970"),
        (json!({"sub": "ann", "exp": -1}), "seconds since 1970"),
        (json!({"sub": "ann", "exp": 1e300}), "seconds since 1970"),
        (json!({"sub": "ann", "exp": seconds(600), "channels": ["a", "b", "c", "d"]}), "at most 3 names"),
        (json!({"sub": "ann", "exp": seconds(600), "channels": ["a\nb"]}), "without control characters"),
        (json!({"sub": "ann", "exp": seconds(600), "channels": "news"}), "list of texts"),
    ] {
        let token = issuer.sign(claims.clone());
        let told = refused(&issuer.auth(), &token);
        assert!(told.contains(right), "{claims} told: {told}");
        assert!(!token.split('.').any(|part| told.contains(part)), "the token must not show: {told}");
    }
}

#[test]
fn what_is_no_token_is_refused_in_plain_words() {
    let auth = Issuer::hs256().auth();
    for text in ["", "rubbish", "a.b.c", "ä.ö.ü"] {
        assert!(refused(&auth, text).contains("three parts of base64url"), "{text}");
    }
    assert!(refused(&auth, &"a".repeat(20_000)).contains("longer than 16384 bytes"));
}

#[test]
fn a_key_file_that_does_not_fit_names_the_option_and_what_would_be_right() {
    let config = |issuer: &Issuer| JwtConfig { algorithm: Some(JwtAlgorithm::Rs256), ..issuer.config() };
    let told = |config: JwtConfig| Auth::new(&AuthConfig::Jwt(config), 3).unwrap_err().to_string();
    let es256 = Issuer::es256();
    assert!(told(config(&es256)).contains("expected a key for --jwt-algorithm RS256, but it holds one for ES256"));
    let missing = JwtConfig { key_file: "/nonexistent".into(), ..es256.config() };
    assert!(told(missing).starts_with("--jwt-key-file = \"/nonexistent\": expected a file to read"));
    for (text, right) in [
        (String::new(), "the file is empty"),
        (pem("PRIVATE KEY", b"secret"), "expected a public key as PEM"),
        (pem("PUBLIC KEY", b"nonsense"), "expected a public key as PEM"),
    ] {
        std::fs::write(&es256.file, text).expect("a file to write");
        let told = told(es256.config());
        assert!(told.contains(right), "{told}");
    }
}
