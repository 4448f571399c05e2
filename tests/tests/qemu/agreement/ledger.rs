//! What was judged, by whom, and what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use fail_code::FailCode;
use figures::Figure;
use release::{Means, verify_artefact};
use tests::verdict::text;

/// Taken, or refused with this code, and what else is known that must be the same.
pub(crate) type Verdict = Result<String, String>;

/// Classes of which at least one artefact has to be judged.
const CLASSES: [&str; 26] = [
    "good",
    "flipped byte",
    "flipped fuse bits",
    "truncated",
    "wrong board",
    "wrong version",
    "wrong role",
    "wrong root",
    "revoked root",
    "below the floor",
    "test key",
    "swapped delegation",
    "wrong kind",
    "signed again by another owner",
    "limits of the delegation",
    "wrong algorithm",
    "another key",
    "wrong place in memory",
    "mixed up",
    "malformed and signed",
    "answer of a wrong role",
    "answer of a wrong type",
    "answer to another question",
    "wrong fuses",
    "good slot A, bad slot B",
    "bad slot A, good slot B",
];

/// Who the device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// The shipped stages in QEMU.
    Stages,
    /// The libraries that they are made of.
    Libraries,
}

/// All that was judged.
#[derive(Default)]
pub(crate) struct Ledger {
    classes: BTreeMap<&'static str, u64>,
    codes: BTreeMap<String, u64>,
    by: BTreeMap<By, u64>,
    good: u64,
    bad: u64,
    pub(crate) differing: Vec<String>,
}

impl Ledger {
    /// Enters an artefact with what the device does and what `kiln verify` says.
    pub(crate) fn enter(
        &mut self,
        by: By,
        class: &'static str,
        name: &str,
        device: &Verdict,
        verify: &Verdict,
    ) {
        assert!(CLASSES.contains(&class), "{class} is not among the classes");
        *self.classes.entry(class).or_default() += 1;
        *self.by.entry(by).or_default() += 1;
        match device {
            Ok(_) => self.good += 1,
            Err(code) => {
                self.bad += 1;
                let code = code.split_whitespace().next().unwrap_or_default();
                *self.codes.entry(code.into()).or_default() += 1;
            }
        }
        if device != verify {
            self.differing.push(format!("{class}: {name}: the device {device:?}, kiln verify {verify:?}"));
        }
    }

    fn of(&self, by: By) -> u64 {
        self.by.get(&by).copied().unwrap_or_default()
    }

    /// Prints what was judged, and fails if it is too little or differs.
    pub(crate) fn close(&self) {
        let all = self.good + self.bad;
        eprintln!("{all} artefacts judged: {} good, {} bad", self.good, self.bad);
        self.classes.iter().for_each(|(class, count)| eprintln!("  {count:>4}  {class}"));
        self.codes.iter().for_each(|(code, count)| {
            let name = FailCode::parse(code).map_or("", FailCode::name);
            eprintln!("  {count:>4}  {code} {name}");
        });
        let judged: BTreeSet<_> = self.classes.keys().copied().collect();
        let missing: Vec<_> = CLASSES.into_iter().filter(|class| !judged.contains(class)).collect();
        assert!(missing.is_empty(), "nothing was judged of {missing:?}");
        assert!(
            self.good >= 20 && self.bad >= 150,
            "{} good and {} bad are too one-sided",
            self.good,
            self.bad
        );
        let note = |by| {
            format!("{} in all: {} good, {} bad with {} codes", all, self.good, self.bad, self.codes.len())
                + by
        };
        let stages = Figure::new("kiln verify, against stages in QEMU", "artefacts", 40);
        stages.ran(self.of(By::Stages)).violations(&self.differing).note(note("")).report();
        let everything = Figure::new("kiln verify, against devices", "artefacts", 200);
        everything.ran(all).violations(&self.differing).note(note("")).report();
    }
}

/// Has `kiln verify`'s library judge a file.
pub(crate) fn verify(bytes: &[u8], means: &Means) -> Verdict {
    let mut file = tempfile::NamedTempFile::new().expect("a file for the artefact");
    file.write_all(bytes).expect("the artefact can be written");
    match verify_artefact(file.path(), means, &mut Vec::new()) {
        Ok(_) => Ok(String::new()),
        Err(error) => Err(error.code().map_or_else(|| format!("no code: {error}"), text)),
    }
}

/// Makes a verdict of what a library says.
pub(crate) fn of<T>(result: Result<T, FailCode>) -> Verdict {
    result.map(|_| String::new()).map_err(text)
}
