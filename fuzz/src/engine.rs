//! Mutations without coverage: a small generator of its own, so that a seed means the same run for ever.

use crate::meter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One input may take so long before it counts as a hang, on a machine however busy.
const HANG: Duration = Duration::from_secs(60);
/// The longest input that mutations make.
const INPUT_BYTES_MAX: usize = 80 * 1024;

/// Something that is attacked.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its corpus and of its libFuzzer program.
    pub name: &'static str,
    /// The attack.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that are worth inserting.
    pub words: &'static [&'static str],
    /// How much memory one input may hold at its worst, in bytes.
    pub bytes_max: i64,
}

/// Chance, by splitmix64.
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// Any number below this one.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }
}

const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "1",
    "255",
    "256",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "9007199254740991",
    "9007199254740992",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
];
const BYTES: [u8; 12] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'}', b'[', b'\\', b'\n', b'='];

/// One input made of others.
pub fn mutate(corpus: &[Vec<u8>], words: &[&str], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = corpus[chance.below(corpus.len())].clone();
    for _ in 0..=chance.below(6) {
        let at = chance.below(bytes.len() + 1);
        let end = (at + 1 + chance.below(16)).min(bytes.len());
        match chance.below(11) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 if at < bytes.len() => bytes[at] = BYTES[chance.below(BYTES.len())],
            2 => bytes.insert(at, BYTES[chance.below(BYTES.len())]),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.truncate(at),
            5 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            6 => {
                let other = &corpus[chance.below(corpus.len())];
                let from = chance.below(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
            7 if !words.is_empty() => {
                let word = words[chance.below(words.len())].bytes();
                bytes.splice(at..at, word);
            }
            8 => replace_number(&mut bytes, at, chance),
            9 => {
                let times = 1 << chance.below(10);
                let copy = bytes[at..end].repeat(times);
                bytes.splice(at..at, copy);
            }
            _ => bytes.push(chance.below(256) as u8),
        }
        bytes.truncate(INPUT_BYTES_MAX);
    }
    bytes
}

/// Puts another number in the place of the first one from here on.
fn replace_number(bytes: &mut Vec<u8>, from: usize, chance: &mut Chance) {
    let Some(begin) = bytes[from..].iter().position(u8::is_ascii_digit).map(|at| from + at) else { return };
    let digits = bytes[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.splice(begin..begin + digits, NUMBERS[chance.below(NUMBERS.len())].bytes());
}

/// The committed corpus of a target, in the order of its names.
pub fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let Ok(entries) = std::fs::read_dir(&directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort_unstable();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(&path).expect("a corpus file can be read"))).collect()
}

/// The input under way, for whoever asks what it was.
#[derive(Default)]
struct Current {
    input: Mutex<(Option<Instant>, Vec<u8>)>,
}

/// Ends the program when one input takes too long; a hang could not be told otherwise.
fn watch(name: &'static str, current: &Arc<Current>) {
    let current = Arc::downgrade(current);
    std::thread::spawn(move || {
        while let Some(current) = current.upgrade() {
            let (since, input) = current.input.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if since.is_some_and(|since| since.elapsed() > HANG) {
                eprintln!("{name} hangs on this input (base64): {}", STANDARD.encode(input));
                std::process::abort();
            }
            drop(current);
            std::thread::sleep(Duration::from_secs(1));
        }
    });
}

/// Attacks a target with its corpus and then with mutations, until the budget is used up. Says how many inputs
/// were tried.
///
/// # Panics
/// When the target breaks: with the seed, and the input in base64.
pub fn attack(target: &Target, budget: Duration, seed: u64) -> u64 {
    let current = Arc::new(Current::default());
    watch(target.name, &current);
    let begun = Instant::now();
    let mut inputs: Vec<Vec<u8>> = (target.seeds)();
    inputs.extend(corpus(target.name).into_iter().map(|(_, bytes)| bytes));
    assert!(!inputs.is_empty(), "{} has nothing to begin with", target.name);
    let mut chance = Chance(seed);
    let mut tried = 0;
    let fixed = inputs.len() as u64;
    while tried < fixed || begun.elapsed() < budget {
        let input = match inputs.get(tried as usize) {
            Some(input) => input.clone(),
            None => mutate(&inputs, target.words, &mut chance),
        };
        tried += 1;
        *current.input.lock().unwrap_or_else(PoisonError::into_inner) = (Some(Instant::now()), input.clone());
        let mut ended = Ok(());
        let peak = meter::peak_bytes(|| {
            ended = std::panic::catch_unwind(|| crate::targets::run(target.name, &input)).map_err(drop);
        });
        let shown = || STANDARD.encode(&input);
        assert!(ended.is_ok(), "{} breaks: seed {seed}, input {tried}, in base64: {}", target.name, shown());
        assert!(
            peak <= target.bytes_max,
            "{} held {peak} bytes, more than {}: seed {seed}, input {tried}, in base64: {}",
            target.name,
            target.bytes_max,
            shown()
        );
    }
    tried
}
