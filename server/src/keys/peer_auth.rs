//! How hubs know each other: every call and every answer carries an HMAC over what it says.
//!
//! ```text
//!   request   tidegate-peer-time, -nonce, -to, -body = SHA-256 of the body,
//!             -mac = HMAC("request", method, path, to, time, nonce, body's hash)
//!   response  tidegate-peer-time, -mac = HMAC("response", status, time, nonce of the request, body)
//! ```
//!
//! The head of a call stands for its body, so that nothing of a body is read before its head is believed.
//!
//! A hub with two keys, as there are while the key is changed, gives one `-mac` for each: any that fits will do.
//!
//! A call is taken once, within a minute of its time, and by the hub it names (the first call to an
//! address, whose hub is not known yet, names none). An answer fits one call only.

use super::ClusterKeys;
use super::cluster::KEYS_MAX;
use super::replay_guard::{ReplayGuard, Stale};
use crate::world::World;
use aws_lc_rs::{digest, hkdf, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tidegate_protocol::id::HubId;

/// How far the clocks of two hubs may be apart.
pub const PEER_AUTH_WINDOW_MS: u64 = 60_000;
/// Nonces remembered, 32 bytes each: two minutes of a thousand calls a second. When full the oldest goes.
const NONCES_MAX: usize = 131_072;

const TIME: HeaderName = HeaderName::from_static("tidegate-peer-time");
const NONCE: HeaderName = HeaderName::from_static("tidegate-peer-nonce");
const TO: HeaderName = HeaderName::from_static("tidegate-peer-to");
const BODY: HeaderName = HeaderName::from_static("tidegate-peer-body");
const MAC: HeaderName = HeaderName::from_static("tidegate-peer-mac");

/// Names one call; its answer is bound to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PeerNonce(u128);

impl fmt::Debug for PeerNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerNonce({:032x})", self.0)
    }
}

/// The head of a call that is believed, and stands for one body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the body is not believed yet"]
pub struct Believed {
    /// For the signature of the answer.
    pub nonce: PeerNonce,
    body_hash: String,
}

impl Believed {
    /// Whether this is the body that the head stands for.
    pub fn fits(&self, body: &[u8]) -> Result<(), PeerAuthError> {
        if hash(body) == self.body_hash { Ok(()) } else { Err(PeerAuthError::Signature) }
    }
}

/// Why a call or an answer between hubs is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerAuthError {
    /// A header is missing or cannot be read.
    #[error("header {0} is missing or malformed: expected a call signed by a hub with the cluster key")]
    Header(&'static str),
    /// The clocks differ too much, or it is an old recording.
    #[error(
        "signed {off_ms} ms away from this hub's clock: expected at most {PEER_AUTH_WINDOW_MS} ms; check the clocks of both hubs"
    )]
    Clock {
        /// How far its time is from ours.
        off_ms: u64,
    },
    /// Signed with another key, or changed on the way.
    #[error("the signature does not fit: expected one made with a key of this hub's --cluster-key-file")]
    Signature,
    /// The same call came before, or one so old that this cannot be ruled out.
    #[error("this call was seen before")]
    Replay,
    /// It was meant for another hub.
    #[error("this call is for hub {0}; the address it came by belongs to another one now")]
    Addressee(HubId),
}

/// Signs and verifies calls between hubs. Clones share what they have seen.
#[derive(Clone)]
pub struct PeerAuth {
    own: HubId,
    /// All sign, each verifies.
    keys: Arc<[hmac::Key]>,
    guard: Arc<Mutex<ReplayGuard>>,
    world: World,
}

impl PeerAuth {
    /// For the hub `own`, over these keys.
    pub fn new(keys: &ClusterKeys, own: HubId) -> Self {
        let derive = |root: &hkdf::Prk| -> hmac::Key {
            root.expand(&[b"peer-auth"], hmac::HMAC_SHA256).expect("32 bytes are within what HKDF-SHA256 gives").into()
        };
        let derived = keys.roots().iter().map(derive).collect();
        let guard = Arc::new(Mutex::new(ReplayGuard::new(PEER_AUTH_WINDOW_MS, NONCES_MAX)));
        Self { own, keys: derived, guard, world: keys.world().clone() }
    }

    /// Signs a call: puts the headers in, and answers with the nonce that the answer must fit.
    /// `path` is path and query as sent. `to` is the hub it is meant for, once that is known.
    pub fn sign_request(
        &self,
        method: &Method,
        path: &str,
        to: Option<HubId>,
        body: &[u8],
        now_unix_ms: u64,
        headers: &mut HeaderMap,
    ) -> PeerNonce {
        let mut random = [0; 16];
        self.world.fill_random(&mut random);
        let nonce = PeerNonce(u128::from_be_bytes(random));
        let body_hash = hash(body);
        let parts = request_parts(method, path, to, now_unix_ms, nonce);
        headers.insert(BODY, ascii(&body_hash));
        headers.insert(TIME, HeaderValue::from(now_unix_ms));
        headers.insert(NONCE, ascii(&format!("{:032x}", nonce.0)));
        if let Some(to) = to {
            headers.insert(TO, ascii(&to.to_string()));
        }
        self.sign(&parts, body_hash.as_bytes(), headers);
        nonce
    }

    /// Whether a call may be believed by its head; takes it once. Its body must fit then, see [`Believed::fits`].
    pub fn verify_request(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        now_unix_ms: u64,
    ) -> Result<Believed, PeerAuthError> {
        let time: u64 = parsed(headers, &TIME, "tidegate-peer-time")?;
        let nonce = text(headers, &NONCE, "tidegate-peer-nonce")?;
        let nonce = u128::from_str_radix(nonce, 16).map_err(|_| PeerAuthError::Header("tidegate-peer-nonce"))?;
        let to: Option<HubId> = match headers.contains_key(TO) {
            true => Some(parsed(headers, &TO, "tidegate-peer-to")?),
            false => None,
        };
        let nonce = PeerNonce(nonce);
        let body_hash = text(headers, &BODY, "tidegate-peer-body")?.to_owned();
        self.verify(&request_parts(method, path, to, time, nonce), headers, body_hash.as_bytes())?;
        if let Some(to) = to.filter(|to| *to != self.own) {
            return Err(PeerAuthError::Addressee(to));
        }
        // Only calls that are signed get into the table, so that nobody else can fill it.
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        match guard.take(nonce.0, time, now_unix_ms) {
            Ok(()) => Ok(Believed { nonce, body_hash }),
            Err(Stale::Clock) => Err(PeerAuthError::Clock { off_ms: time.abs_diff(now_unix_ms) }),
            Err(Stale::Seen | Stale::Forgotten) => Err(PeerAuthError::Replay),
        }
    }

    /// Signs the answer to the call `nonce`.
    pub fn sign_response(
        &self,
        nonce: PeerNonce,
        status: StatusCode,
        body: &[u8],
        now_unix_ms: u64,
        headers: &mut HeaderMap,
    ) {
        let parts = response_parts(status, now_unix_ms, nonce);
        headers.insert(TIME, HeaderValue::from(now_unix_ms));
        self.sign(&parts, body, headers);
    }

    /// Whether an answer to our own call `nonce` may be believed.
    pub fn verify_response(
        &self,
        nonce: PeerNonce,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        now_unix_ms: u64,
    ) -> Result<(), PeerAuthError> {
        let time: u64 = parsed(headers, &TIME, "tidegate-peer-time")?;
        self.verify(&response_parts(status, time, nonce), headers, body)?;
        match time.abs_diff(now_unix_ms) {
            off_ms if off_ms > PEER_AUTH_WINDOW_MS => Err(PeerAuthError::Clock { off_ms }),
            _ => Ok(()),
        }
    }

    fn sign(&self, parts: &str, body: &[u8], headers: &mut HeaderMap) {
        headers.remove(MAC);
        for key in self.keys.iter() {
            headers.append(MAC, ascii(&URL_SAFE_NO_PAD.encode(context(key, parts, body).sign())));
        }
    }

    fn verify(&self, parts: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), PeerAuthError> {
        let malformed = || PeerAuthError::Header("tidegate-peer-mac");
        let given = headers.get_all(MAC).iter().take(KEYS_MAX).map(|mac| URL_SAFE_NO_PAD.decode(mac.as_bytes()));
        let given: Vec<Vec<u8>> = given.collect::<Result<_, _>>().map_err(|_| malformed())?;
        if given.is_empty() {
            return Err(malformed());
        }
        let fits = |key: &hmac::Key| {
            let made = context(key, parts, body).sign();
            let is_it = |mac: &Vec<u8>| aws_lc_rs::constant_time::verify_slices_are_equal(made.as_ref(), mac).is_ok();
            given.iter().any(is_it)
        };
        if self.keys.iter().any(fits) { Ok(()) } else { Err(PeerAuthError::Signature) }
    }
}

impl fmt::Debug for PeerAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerAuth({})", self.own)
    }
}

/// The parts stand on a line each; none of them can hold a line break, and the body, or its hash, comes last.
fn request_parts(method: &Method, path: &str, to: Option<HubId>, time: u64, nonce: PeerNonce) -> String {
    let to = to.map_or_else(String::new, |to| to.to_string());
    format!("request\n{method}\n{path}\n{to}\n{time}\n{:032x}\n", nonce.0)
}

fn response_parts(status: StatusCode, time: u64, nonce: PeerNonce) -> String {
    format!("response\n{}\n{time}\n{:032x}\n", status.as_u16(), nonce.0)
}

fn context(key: &hmac::Key, parts: &str, body: &[u8]) -> hmac::Context {
    let mut context = hmac::Context::with_key(key);
    context.update(parts.as_bytes());
    context.update(body);
    context
}

fn hash(body: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, body))
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("hex and base64 are fit for a header")
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName, shown: &'static str) -> Result<&'a str, PeerAuthError> {
    headers.get(name).and_then(|value| value.to_str().ok()).ok_or(PeerAuthError::Header(shown))
}

fn parsed<T: std::str::FromStr>(
    headers: &HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<T, PeerAuthError> {
    text(headers, name, shown)?.parse().map_err(|_| PeerAuthError::Header(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: HubId = HubId(0xa);
    const B: HubId = HubId(0xb);
    const NOW: u64 = 1_800_000_000_000;

    fn auth(letters: &[u8], own: HubId) -> PeerAuth {
        PeerAuth::new(&ClusterKeys::from_secrets(letters.iter().map(|letter| vec![*letter; 32])), own)
    }

    fn signed(by: &PeerAuth, to: Option<HubId>, body: &[u8]) -> (HeaderMap, PeerNonce) {
        let mut headers = HeaderMap::new();
        let nonce = by.sign_request(&Method::POST, "/peer/claim?x=1", to, body, NOW, &mut headers);
        (headers, nonce)
    }

    fn taken(by: &PeerAuth, headers: &HeaderMap, body: &[u8], now: u64) -> Result<PeerNonce, PeerAuthError> {
        let believed = by.verify_request(&Method::POST, "/peer/claim?x=1", headers, now)?;
        believed.fits(body).map(|()| believed.nonce)
    }

    #[test]
    fn a_call_and_its_answer_are_believed() {
        let (a, b) = (auth(b"k", A), auth(b"k", B));
        let (headers, nonce) = signed(&a, Some(B), b"claim");
        assert_eq!(taken(&b, &headers, b"claim", NOW + 5), Ok(nonce));
        let mut answer = HeaderMap::new();
        b.sign_response(nonce, StatusCode::OK, b"granted", NOW + 5, &mut answer);
        assert_eq!(a.verify_response(nonce, StatusCode::OK, &answer, b"granted", NOW + 10), Ok(()));
    }

    #[test]
    fn a_change_of_body_path_method_time_or_addressee_is_noticed() {
        let (a, b) = (auth(b"k", A), auth(b"k", B));
        let (headers, _) = signed(&a, Some(B), b"claim");
        let forged = Err::<PeerNonce, _>(PeerAuthError::Signature);
        assert_eq!(taken(&b, &signed(&a, Some(B), b"claim").0, b"other", NOW), forged);
        assert_eq!(
            b.verify_request(&Method::POST, "/peer/claim?x=2", &headers, NOW).err(),
            Some(PeerAuthError::Signature)
        );
        assert_eq!(
            b.verify_request(&Method::PUT, "/peer/claim?x=1", &headers, NOW).err(),
            Some(PeerAuthError::Signature)
        );
        for name in ["tidegate-peer-time", "tidegate-peer-nonce", "tidegate-peer-to", "tidegate-peer-body"] {
            let mut changed = headers.clone();
            changed.insert(name, HeaderValue::from_static("1800000000001000"));
            assert_eq!(taken(&b, &changed, b"claim", NOW), forged, "{name}");
        }
        let mut without = headers.clone();
        without.remove(TO);
        assert_eq!(taken(&b, &without, b"claim", NOW), forged);
        assert!(taken(&b, &headers, b"claim", NOW).is_ok(), "refused tries must not use up the call");
    }

    #[test]
    fn a_call_is_taken_once_even_by_a_clone() {
        let (a, b) = (auth(b"k", A), auth(b"k", B));
        let (headers, _) = signed(&a, None, b"");
        assert!(taken(&b, &headers, b"", NOW).is_ok());
        assert_eq!(taken(&b.clone(), &headers, b"", NOW + 1), Err(PeerAuthError::Replay));
    }

    #[test]
    fn a_call_for_another_hub_is_refused_and_names_it() {
        let (headers, _) = signed(&auth(b"k", A), Some(B), b"");
        assert_eq!(taken(&auth(b"k", A), &headers, b"", NOW), Err(PeerAuthError::Addressee(B)));
    }

    #[test]
    fn a_call_from_too_far_a_clock_says_how_far() {
        let (headers, _) = signed(&auth(b"k", A), None, b"");
        let b = auth(b"k", B);
        assert_eq!(taken(&b, &headers, b"", NOW + 60_001), Err(PeerAuthError::Clock { off_ms: 60_001 }));
        assert_eq!(taken(&b, &headers, b"", NOW - 60_001), Err(PeerAuthError::Clock { off_ms: 60_001 }));
        assert!(taken(&b, &headers, b"", NOW - 60_000).is_ok());
    }

    #[test]
    fn an_answer_to_another_call_or_with_another_status_is_refused() {
        let (a, b) = (auth(b"k", A), auth(b"k", B));
        let (_, first) = signed(&a, None, b"");
        let (_, second) = signed(&a, None, b"");
        let mut answer = HeaderMap::new();
        b.sign_response(first, StatusCode::OK, b"yes", NOW, &mut answer);
        let forged = Err(PeerAuthError::Signature);
        assert_eq!(a.verify_response(second, StatusCode::OK, &answer, b"yes", NOW), forged);
        assert_eq!(a.verify_response(first, StatusCode::CONFLICT, &answer, b"yes", NOW), forged);
        assert_eq!(a.verify_response(first, StatusCode::OK, &answer, b"no", NOW), forged);
    }

    #[test]
    fn a_call_cannot_be_sent_back_as_its_own_answer() {
        let a = auth(b"k", A);
        let (headers, nonce) = signed(&a, None, b"");
        let told = a.verify_response(nonce, StatusCode::OK, &headers, b"", NOW);
        assert_eq!(told, Err(PeerAuthError::Signature));
    }

    #[test]
    fn a_missing_header_is_named() {
        let b = auth(b"k", B);
        assert_eq!(taken(&b, &HeaderMap::new(), b"", NOW), Err(PeerAuthError::Header("tidegate-peer-time")));
        let (mut headers, _) = signed(&auth(b"k", A), None, b"");
        headers.remove(MAC);
        assert_eq!(taken(&b, &headers, b"", NOW), Err(PeerAuthError::Header("tidegate-peer-mac")));
    }

    #[test]
    fn while_a_key_is_changed_each_hub_believes_every_other_in_whatever_order_the_file_has_them() {
        for (here, there) in [("o", "on"), ("o", "no"), ("on", "no"), ("on", "n"), ("no", "n")] {
            for (from, to) in [(here, there), (there, here)] {
                let (a, b) = (auth(from.as_bytes(), A), auth(to.as_bytes(), B));
                let (headers, nonce) = signed(&a, Some(B), b"claim");
                assert_eq!(taken(&b, &headers, b"claim", NOW), Ok(nonce), "{from} to {to}");
                let mut answer = HeaderMap::new();
                b.sign_response(nonce, StatusCode::OK, b"yes", NOW, &mut answer);
                let believed = a.verify_response(nonce, StatusCode::OK, &answer, b"yes", NOW);
                assert_eq!(believed, Ok(()), "the answer of {to} to {from}");
            }
        }
        let (headers, _) = signed(&auth(b"on", A), None, b"");
        assert_eq!(taken(&auth(b"xy", B), &headers, b"", NOW), Err(PeerAuthError::Signature));
    }
}
