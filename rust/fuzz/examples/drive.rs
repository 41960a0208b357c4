//! Runs the targets without coverage: the corpus first, then mutations of it from a seed, for some seconds each.
//!
//! `drive [--seconds N] [--seed N] [--corpus DIR] [--unpack DIR] [TARGET ...]`. A failure prints the input, and is in the corpus folder as `crash-TARGET`.
//! `--unpack DIR` writes the corpus as files instead, for cargo-fuzz.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, clippy::disallowed_macros)] // The driver has a clock, files and a terminal; the core has none.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, panic, process};

use fabrik_fuzz::{TARGETS, Target};

struct Options {
    seconds: u64,
    seed: u64,
    corpus: PathBuf,
    unpack: Option<PathBuf>,
    only: Vec<String>,
}

fn options() -> Options {
    let mut options = Options { seconds: 5, seed: 1, corpus: Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus"), unpack: None, only: Vec::new() };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| usage());
        match word.as_str() {
            "--seconds" => options.seconds = number(),
            "--seed" => options.seed = number(),
            "--corpus" => options.corpus = words.next().map_or_else(|| usage(), PathBuf::from),
            "--unpack" => options.unpack = Some(words.next().map_or_else(|| usage(), PathBuf::from)),
            name if TARGETS.iter().any(|target| target.0 == name) => options.only.push(word),
            _ => usage(),
        }
    }
    options
}

fn usage() -> ! {
    eprintln!("drive [--seconds N] [--seed N] [--corpus DIR] [--unpack DIR] [TARGET ...]   targets: {}", TARGETS.map_names());
    process::exit(2)
}

trait Names {
    fn map_names(&self) -> String;
}

impl Names for [Target] {
    fn map_names(&self) -> String {
        self.iter().map(|target| target.0).collect::<Vec<_>>().join(" ")
    }
}

fn main() {
    let options = options();
    for target in TARGETS.iter().filter(|target| options.only.is_empty() || options.only.iter().any(|name| name == target.0)) {
        match &options.unpack {
            Some(folder) => unpack(*target, &options, folder),
            None => run(*target, &options),
        }
    }
}

fn run(target: Target, options: &Options) {
    let mut corpus = read(&options.corpus.join(format!("{}.hex", target.0)));
    let start = Instant::now();
    corpus.iter().for_each(|input| attempt(target, input, &options.corpus));
    let mut runs = corpus.len();
    corpus.push(Vec::new());
    let mut chance = Chance(options.seed ^ 0x9e37_79b9_7f4a_7c15);
    while start.elapsed() < Duration::from_secs(options.seconds) {
        for _ in 0..64 {
            let input = mutate(&corpus, &mut chance);
            attempt(target, &input, &options.corpus);
            runs += 1;
        }
    }
    println!("fuzz {}: {runs} inputs in {:.1} s, seed {}", target.0, start.elapsed().as_secs_f64(), options.seed);
}

fn attempt(target: Target, input: &[u8], corpus: &Path) {
    if panic::catch_unwind(|| (target.1)(input)).is_err() {
        let place = corpus.join(format!("crash-{}", target.0));
        let kept = fs::write(&place, input).map_or_else(|error| error.to_string(), |()| place.display().to_string());
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("fuzz {}: broken by {hex} ({kept})", target.0);
        process::exit(1);
    }
}

/// The inputs of a corpus file: one on each line, in hex.
fn read(file: &Path) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.lines().map(|line| unhex(line).unwrap_or_else(|| panic!("{}: {line:?} is not hex", file.display()))).collect()
}

fn unhex(line: &str) -> Option<Vec<u8>> {
    let digits: Vec<_> = line.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| u8::try_from(pair.iter().fold(0, |byte, digit| byte * 16 + digit)).ok().filter(|_| pair.len() == 2)).collect()
}

/// Writes each input to a file of its own, as cargo-fuzz wants them.
fn unpack(target: Target, options: &Options, folder: &Path) {
    let folder = folder.join(target.0);
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for (number, input) in read(&options.corpus.join(format!("{}.hex", target.0))).iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), input).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    }
}

/// One of the corpus, changed in some places, or joined with another, or bytes from nowhere.
fn mutate(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut input = corpus[chance.below(corpus.len())].clone();
    if chance.below(8) == 0 || input.is_empty() {
        input = (0..chance.below(400)).map(|_| chance.byte()).collect();
    }
    if chance.below(8) == 0 {
        let other = &corpus[chance.below(corpus.len())];
        input.truncate(chance.below(input.len() + 1));
        input.extend_from_slice(&other[chance.below(other.len() + 1)..]);
    }
    for _ in 0..chance.below(6) {
        let place = chance.below(input.len() + 1);
        match chance.below(5) {
            0 => input.insert(place, chance.byte()),
            1 if place < input.len() => input[place] ^= 1 << chance.below(8),
            2 if place < input.len() => input[place] = [0, 1, 0x17, 0x18, 0x19, 0x1b, 0x20, 0x40, 0x58, 0x7f, 0x80, 0xa0, 0xf6, 0xff][chance.below(14)],
            3 if place < input.len() => {
                input.remove(place);
            }
            _ => {
                let end = place + chance.below(input.len() - place + 1).min(16);
                let part = input[place..end].to_vec();
                let at = chance.below(input.len() + 1);
                input.splice(at..at, part);
            }
        }
    }
    input
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014): `SplitMix64`.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}
