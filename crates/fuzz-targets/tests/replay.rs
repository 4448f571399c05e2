//! Every entry of every corpus, and mutations of them, through the functions that libFuzzer calls.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use figures::{Figure, scaled};
use fuzz_targets::{TARGETS, Target, Verdict};

/// Most bytes of all corpora together.
const MOST: u64 = 1 << 20;
/// How many times as many mutations a long run tries.
const LONG: u32 = 20;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The entries of a corpus, by name.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target.name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut entries: Vec<(String, Vec<u8>)> = files
        .map(|file| {
            let file = file.unwrap();
            (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())
        })
        .collect();
    entries.sort();
    entries
}

/// Marsaglia's xorshift: the same mutations in every run.
struct Random(u64);

impl Random {
    fn new(name: &str, round: u64) -> Self {
        let seed = name
            .bytes()
            .fold(round + 1, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
        Self(seed | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// One to four changes to an entry, some of them with bytes of another one.
    fn mutated(&mut self, entries: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = entries[self.below(entries.len())].1.clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let length = self.below(24).min(bytes.len() - at);
            match self.below(8) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = self.below(256) as u8,
                2 if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_add([1, 255, 2, 254][self.below(4)]),
                3 => bytes.truncate(at),
                4 => drop(bytes.drain(at..at + length)),
                5 => {
                    let copy = bytes[at..at + length].to_vec();
                    let to = self.below(bytes.len() + 1);
                    bytes.splice(to..to, copy);
                }
                6 => {
                    let other = &entries[self.below(entries.len())].1;
                    let from = self.below(other.len());
                    let part = &other[from..(from + 32).min(other.len())];
                    bytes.splice(at..at + length, part.iter().copied());
                }
                _ => {
                    let word = [0, 1, 0x7FFF_FFFF, u32::MAX, 0x8000_0000, 0xFFFF, 4096][self.below(7)];
                    let word = if self.below(2) == 0 { word.to_le_bytes() } else { word.to_be_bytes() };
                    bytes.iter_mut().skip(at).zip(word).for_each(|(to, from)| *to = from);
                }
            }
        }
        bytes
    }
}

/// Runs a target, and tells with which input it broke a promise.
fn broken(target: &Target, input: &[u8]) -> Result<Verdict, String> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|_| {
        let file = std::env::temp_dir().join(format!("kiln-{}-{:016x}", target.name, digest(input)));
        let kept = std::fs::write(&file, input).map(|()| file.display().to_string());
        format!("{}: {} bytes, kept as {}", target.name, input.len(), kept.unwrap_or_else(|e| e.to_string()))
    })
}

fn digest(input: &[u8]) -> u64 {
    input
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

#[test]
fn corpora_and_mutations_of_them_break_no_promise() {
    let (mut entries, mut mutations, mut found) = (0, 0, Vec::new());
    let work = Mutex::new(TARGETS.iter());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(target) = work.lock().unwrap().next() else { break };
                    let one = replayed(target);
                    done.lock().unwrap().push(one);
                }
            });
        }
    });
    for (count, mutated, broken) in done.into_inner().unwrap() {
        entries += count;
        mutations += mutated;
        found.extend(broken);
    }
    Figure::new("fuzz corpora replayed", "inputs", scaled(1_000_000, 20_000_000))
        .ran(entries + mutations)
        .violations(&found)
        .note(format!("{} targets; {entries} entries, {mutations} mutations of them", TARGETS.len()))
        .report();
}

/// Replays the corpus of a target, then mutates it: returns how many entries there are, how many mutations, and what was
/// found.
fn replayed(target: &Target) -> (u64, u64, Vec<String>) {
    let entries = corpus(target);
    assert!(!entries.is_empty(), "the corpus of {} is empty", target.name);
    let mut found = Vec::new();
    let mut taken = 0;
    for (name, input) in &entries {
        match broken(target, input) {
            Ok(verdict) => taken += u32::from(verdict == Verdict::Taken),
            Err(what) => found.push(format!("{name}: {what}")),
        }
    }
    assert!(taken > 0, "no entry of {} is taken: it does not get far", target.name);
    let mut random = Random::new(target.name, 0);
    let mutations = target.mutations * scaled(1, LONG);
    for _ in 0..mutations {
        let input = random.mutated(&entries);
        found.extend(broken(target, &input).err());
        if found.len() > 10 {
            break;
        }
    }
    (entries.len() as u64, u64::from(mutations), found)
}

#[test]
fn what_the_makers_make_is_taken() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty());
        let taken = seeds.iter().filter(|seed| (target.run)(seed) == Verdict::Taken).count();
        assert!(taken > 0, "{}", target.name);
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus_and_there_is_none_without_a_target() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len());
    for (folder, suffix) in [("corpus", ""), ("fuzz_targets", ".rs")] {
        let found: BTreeSet<String> = std::fs::read_dir(fuzz().join(folder))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .map(|name| name.strip_suffix(suffix).expect("nothing else lies here").to_owned())
            .collect();
        assert_eq!(found, names, "{folder}");
    }
    for name in &names {
        let program = std::fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("(\"{name}\", ")), "the program {name} runs something else");
        assert!(
            std::fs::read_to_string(fuzz().join("Cargo.toml"))
                .unwrap()
                .contains(&format!("name = \"{name}\""))
        );
    }
}

#[test]
fn the_corpora_stay_small() {
    let sizes = TARGETS.iter().flat_map(corpus).map(|(_, bytes)| bytes.len() as u64);
    let all: u64 = sizes.sum();
    assert!(all < MOST, "{all} bytes: keep the small ones");
}
