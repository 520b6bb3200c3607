//! The cluster key: read from its file, or made in the data directory for a hub that is alone.

use crate::config::{Config, SettingError};
use crate::store::{DataDir, DataDirError};
use crate::world::{self, World};
use aws_lc_rs::hkdf;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fmt;
use std::path::Path;

/// Bytes that a key must have at least.
const KEY_BYTES_MIN: usize = 32;
/// Keys that a file may hold: the one in use, and the next or the last one.
pub(super) const KEYS_MAX: usize = 2;
/// Bytes of a key file at most; a key is a few dozen.
const FILE_BYTES_MAX: u64 = 16 << 10;
/// Name of the generated key in the data directory.
const GENERATED_NAME: &str = "cluster.key";
/// Separates our keys from those that others may derive from the same secret.
const SALT: &[u8] = b"tidegate cluster key 1";

const BASE64: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// One or two root keys, ready to derive from. Shows nothing in `Debug`; the secrets themselves are not kept.
#[derive(Clone)]
pub struct ClusterKeys {
    /// One, or two while the key is changed: all seal, each opens. Never empty.
    roots: Vec<hkdf::Prk>,
    /// Where nonces and salts come from.
    world: World,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum ClusterKeysError {
    /// The file named by `--cluster-key-file` is not right; the start ends with exit 2.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The data directory refuses; the start ends with exit 1.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
}

impl ClusterKeys {
    /// The keys of `--cluster-key-file`, or else the one in the data directory, made at random if there is none.
    pub fn for_hub(config: &Config, data_dir: &DataDir) -> Result<Self, ClusterKeysError> {
        match &config.cluster_key_file {
            Some(file) => Ok(Self::from_file(file)?),
            None => {
                let random = &mut |buffer: &mut [u8]| super::fill_random(buffer);
                let secret = data_dir.read_or_create_secret(GENERATED_NAME, KEY_BYTES_MIN, random)?;
                Ok(Self::from_secrets([secret]))
            }
        }
    }

    /// Reads a key file: one key a line, at most two, each at least 32 bytes as hex, base64 or plain text.
    /// The error names `--cluster-key-file` and never shows a key.
    pub fn from_file(path: &Path) -> Result<Self, SettingError> {
        let wrong = |expected: String| SettingError::new("--cluster-key-file", path.display(), expected);
        let text = read_secret_file(path).map_err(&wrong)?;
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() || lines.len() > KEYS_MAX {
            return Err(wrong(format!(
                "expected one key, or two on two lines while it is changed, but it has {} lines. {HOW_TO_MAKE_ONE}",
                lines.len()
            )));
        }
        let secrets: Vec<Vec<u8>> = lines.iter().map(|line| decode(line)).collect();
        if let Some((line, short)) = secrets.iter().enumerate().find(|(_, secret)| secret.len() < KEY_BYTES_MIN) {
            return Err(wrong(format!(
                "expected at least {KEY_BYTES_MIN} bytes a key as hex, base64 or plain text, but the key on line {} has {}. {HOW_TO_MAKE_ONE}",
                line + 1,
                short.len()
            )));
        }
        for (line, secret) in secrets.iter().enumerate() {
            if let Some(why) = super::weakness(secret) {
                return Err(wrong(format!(
                    "expected keys that cannot be guessed, but of the one on line {} {why}. {HOW_TO_MAKE_ONE}",
                    line + 1
                )));
            }
        }
        if secrets.len() == 2 && secrets[0] == secrets[1] {
            return Err(wrong("expected two different keys, but both lines hold the same".into()));
        }
        Ok(Self::from_secrets(secrets))
    }

    /// Keys from bytes that are secret and random already.
    pub fn from_secrets(secrets: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT);
        let roots: Vec<hkdf::Prk> = secrets.into_iter().map(|secret| salt.extract(&secret)).collect();
        assert!(!roots.is_empty(), "at least one cluster key");
        Self { roots, world: world::system() }
    }

    /// The same keys; what is random in their use comes from this world.
    pub fn in_world(self, world: &World) -> Self {
        Self { world: world.clone(), ..self }
    }

    /// Where their nonces come from.
    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// Random bytes for a nonce.
    pub(super) fn fill_random(&self, buffer: &mut [u8]) {
        self.world.fill_random(buffer);
    }

    /// All root keys.
    pub(super) fn roots(&self) -> &[hkdf::Prk] {
        &self.roots
    }
}

impl fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterKeys({})", self.roots.len())
    }
}

const HOW_TO_MAKE_ONE: &str = "Make one with: head -c 32 /dev/urandom | base64";

/// Reads a small file of text that holds a secret. The error is a clause for [`SettingError`] and shows none of it.
pub(super) fn read_secret_file(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let refused = |error: std::io::Error| format!("expected a file to read, but {error}");
    let file = std::fs::File::open(path).map_err(refused)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("expected a file of at most {FILE_BYTES_MAX} bytes"));
    }
    warn_if_others_have_it(path);
    String::from_utf8(bytes).map_err(|_| format!("expected text, but the file is binary. {HOW_TO_MAKE_ONE}"))
}

/// A file that the settings name is where they say, be it a link (as Kubernetes mounts secrets) or somebody else's.
fn warn_if_others_have_it(path: &Path) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let Ok(meta) = std::fs::metadata(path) else { return };
    if meta.permissions().mode() & 0o007 != 0 {
        tracing::warn!(file = %path.display(), "everybody on this machine may read or change this secret: chmod 600 it");
    }
    let (owner, own) = (meta.uid(), rustix::process::geteuid().as_raw());
    if owner != 0 && owner != own {
        tracing::warn!(file = %path.display(), owner, "this secret belongs to another user, who may change it: chown it to root, or to this hub's user");
    }
}

/// Hex if all of it is, else base64 (either alphabet) of a full-sized key, else the text itself.
fn decode(line: &str) -> Vec<u8> {
    let hex: Option<Vec<u8>> = line
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok())
        .collect();
    if let Some(bytes) = hex.filter(|bytes| bytes.len() >= KEY_BYTES_MIN) {
        return bytes;
    }
    let alphabets = [alphabet::STANDARD, alphabet::URL_SAFE];
    let base64 = alphabets.iter().find_map(|alphabet| GeneralPurpose::new(alphabet, BASE64).decode(line).ok());
    match base64.filter(|bytes| bytes.len() >= KEY_BYTES_MIN) {
        Some(bytes) => bytes,
        None => line.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Sealer;

    fn keys_in(text: impl AsRef<[u8]>) -> Result<ClusterKeys, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("cluster.key");
        std::fs::write(&path, text).expect("a file to write");
        ClusterKeys::from_file(&path).map_err(|error| error.to_string())
    }

    fn same(a: &ClusterKeys, b: &ClusterKeys) -> bool {
        Sealer::new(b).open("test", &Sealer::new(a).seal("test", b"x")).is_some()
    }

    #[test]
    fn a_key_is_the_same_as_hex_and_as_base64_of_either_alphabet() {
        let bytes: Vec<u8> = (0..32_u8).map(|n| (n + 17).wrapping_mul(n.wrapping_mul(7) | 1)).collect();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let from_bytes = ClusterKeys::from_secrets([bytes.clone()]);
        let standard = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes);
        for text in [hex.clone(), hex.to_uppercase() + "\n", standard, format!("  {url}\r\n\n")] {
            assert!(same(&from_bytes, &keys_in(&text).unwrap()), "{text}");
        }
    }

    #[test]
    fn a_long_plain_text_is_a_key_and_a_short_one_is_not() {
        let text = "a horse, a staple, a battery, and some more words";
        assert!(same(&ClusterKeys::from_secrets([text.into()]), &keys_in(text).unwrap()));
        let told = keys_in("correct horse").unwrap_err();
        assert!(told.starts_with("--cluster-key-file = "), "{told}");
        assert!(told.contains("expected at least 32 bytes") && told.contains("line 1 has 13"), "{told}");
        assert!(told.contains("head -c 32 /dev/urandom | base64"), "{told}");
        assert!(!told.contains("horse"), "an error must not show a key: {told}");
    }

    #[test]
    fn none_three_equal_or_binary_keys_are_refused() {
        let key = |letter: char| format!("{letter} is how a key of the tests begins, and no other");
        assert!(keys_in("\n").unwrap_err().contains("0 lines"));
        let three = [key('!'), key('?'), key('-')].join("\n");
        assert!(keys_in(three).unwrap_err().contains("3 lines"));
        assert!(keys_in(format!("{0}\n{0}\n", key('!'))).unwrap_err().contains("two different keys"));
        let told = keys_in(format!("{}\n{}\n", key('!'), "k".repeat(40))).unwrap_err();
        assert!(told.contains("of the one on line 2 it has only 1 different bytes in 40"), "{told}");
        assert!(keys_in([0xff; 40]).unwrap_err().contains("the file is binary"));
        assert!(keys_in([b'a'; 20_000]).unwrap_err().contains("at most 16384 bytes"));
    }

    #[test]
    fn a_missing_file_names_the_option_and_the_file() {
        let told = ClusterKeys::from_file(Path::new("/nonexistent/key")).unwrap_err().to_string();
        assert!(told.contains("--cluster-key-file = \"/nonexistent/key\": expected a file to read"), "{told}");
    }

    #[test]
    fn the_debug_text_shows_no_key() {
        let text = format!("{:?}", ClusterKeys::from_secrets([b"k".repeat(32)]));
        assert_eq!(text, "ClusterKeys(1)");
    }

    #[tokio::test]
    async fn a_hub_alone_makes_a_key_once_and_finds_it_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("data");
        let argv = ["tidegate", "serve"].map(Into::into);
        let config = Config::read(&argv, &|_| None).expect("defaults");
        let open = async || {
            let random = &mut |buffer: &mut [u8]| crate::keys::fill_random(buffer);
            let data_dir = DataDir::open(&path, std::time::Duration::ZERO, 1, random).await.expect("a data directory");
            ClusterKeys::for_hub(&config, &data_dir).expect("a key")
        };
        let (first, second) = (open().await, open().await);
        assert!(same(&first, &second));
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path.join(GENERATED_NAME)).expect("the key file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
