//! For the tests `fuzz_replay` of the crates that have fuzz targets: runs what fuzzing has found, and some thousand changes to it,
//! through the targets again. No libFuzzer needed.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

/// Takes what a fuzzer made up, panics if something does not hold.
type Target = fn(&[u8]);

/// How many changed inputs each target gets.
const CHANGED: usize = 2000;

pub(crate) fn corpora_and_regressions_pass(targets: &[(&str, Target)]) {
    for (name, target) in targets {
        let corpus = inputs(&folder("corpus").join(name));
        assert!(!corpus.is_empty(), "fuzz/corpus/{name} is empty");
        for (file, octets) in corpus.iter().chain(&inputs(&folder("regressions").join(name))) {
            run(*target, octets, || file.display().to_string());
        }
    }
}

pub(crate) fn changed_inputs_pass(targets: &[(&str, Target)]) {
    for (name, target) in targets {
        let corpus = inputs(&folder("corpus").join(name));
        let mut random = Random(1);
        for round in 0..CHANGED {
            let octets = random.changed(&corpus);
            run(*target, &octets, || {
                format!("{name}, change {round}: {}", hex(&octets))
            });
        }
    }
}

/// Says which input it was, if the target fails.
fn run(target: Target, octets: &[u8], input: impl Fn() -> String) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(octets))) {
        eprintln!("failed on {}", input());
        resume_unwind(panic);
    }
}

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(name)
}

/// The files of a folder; none if it does not exist. Folders in it are a fuzzer's own, and not committed.
fn inputs(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// SplitMix64: the same numbers every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let number = (u128::from(mixed ^ (mixed >> 31)) * end as u128) >> 64;
        usize::try_from(number).unwrap()
    }

    fn octet(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// One of the inputs with some octets changed, cut out or put in, or parts of two; now and then mere noise.
    fn changed(&mut self, inputs: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
        if self.below(8) == 0 {
            return (0..self.below(300)).map(|_| self.octet()).collect();
        }
        let mut octets = inputs[self.below(inputs.len())].1.clone();
        for _ in 0..=self.below(4) {
            let place = self.below(octets.len() + 1);
            match self.below(5) {
                0 => octets.truncate(place),
                1 => octets.insert(place, self.octet()),
                2 => drop(octets.drain(place..octets.len().min(place + 4))),
                3 => octets.extend(&inputs[self.below(inputs.len())].1),
                _ => octets
                    .iter_mut()
                    .skip(place)
                    .take(1)
                    .for_each(|octet| *octet = self.octet()),
            }
        }
        octets
    }
}
