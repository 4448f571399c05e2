//! Mutation testing: every small change that `cargo-mutants` knows to make to the code that decides, and whether a test
//! turns red.
//!
//! [`crate::mutants`] takes away what somebody has put into a list; this finds what nobody has thought of. A change that
//! no test notices has to stand in xtask/survivors.toml, with the reason why it changes nothing that matters.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use figures::Figure;
use serde::Deserialize;

use crate::{exec, tools, workspace};

/// The version of cargo-mutants that is installed where there is none.
const VERSION: &str = "27.1.0";
/// The name of the rig.
pub(crate) const RIG: &str = "mutation testing";
/// Changes that have to be tried at least: fewer are a list of files that fits no sources.
const LEAST: u64 = 300;
/// Of a hundred changes, those that have to be noticed.
const KILLED: u64 = 95;

/// Code and the tests that have to notice when it is changed.
struct Set {
    /// Files, from the root of the workspace.
    files: &'static [&'static str],
    /// What `cargo test` is told besides the package.
    tests: &'static [&'static str],
}

/// What verifies, keeps from rolling back, moves the lifecycle, and decides about tickets and the quota.
const SETS: &[Set] = &[
    Set {
        files: &[
            "crates/boot-crypto/src/decision.rs",
            "crates/boot-select/src/*.rs",
            "crates/factory-proto/src/authority/*.rs",
            "crates/factory-proto/src/device.rs",
            "crates/factory-proto/src/signed.rs",
            "crates/lifecycle/src/burn.rs",
            "crates/lifecycle/src/plan.rs",
            "crates/lifecycle/src/policy.rs",
            "crates/lifecycle/src/reader.rs",
            "crates/sealed-image/src/chain.rs",
            "crates/sealed-image/src/image.rs",
            "crates/sealed-image/src/opener.rs",
        ],
        tests: &[],
    },
    // The storms of clients and the damaged books take minutes each, and are about storage.
    Set {
        files: &["crates/authority/src/policy.rs", "crates/authority/src/policy/*.rs"],
        tests: &["--lib", "--test", "suite", "--", "--skip", "fire::", "--skip", "faults::"],
    },
];

/// The list of survivors, as it lies in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Survivors {
    #[serde(default)]
    survivor: Vec<Survivor>,
}

/// A change that no test can notice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Survivor {
    /// The change, as cargo-mutants names it, without line and column.
    change: String,
    /// Why it changes nothing that matters.
    why: String,
}

/// What cargo-mutants writes of a run.
#[derive(Deserialize)]
struct Outcomes {
    outcomes: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    scenario: Scenario,
    summary: Summary,
}

#[derive(Deserialize)]
enum Scenario {
    Baseline,
    Mutant { name: String },
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
enum Summary {
    Success,
    CaughtMutant,
    MissedMutant,
    Unviable,
    Timeout,
    Failure,
}

/// How many changes of a file there were, and what became of them.
#[derive(Default)]
struct Counts {
    caught: u64,
    missed: u64,
    unviable: u64,
}

/// What a run found.
#[derive(Default)]
struct Found {
    files: BTreeMap<String, Counts>,
    survivors: Vec<String>,
}

/// Makes every change and returns the figure and the section of docs/verification.md.
///
/// # Errors
/// If cargo-mutants cannot be had or run, or a test is red before anything was changed.
pub(crate) fn run(python: &Path) -> Result<(Figure, String)> {
    let commit = workspace::commit();
    let program = tools::from_crates_io("cargo-mutants", &["mutants", "--version"], VERSION)?;
    let mut found = Found::default();
    // What an earlier run has left must not be taken for this one's.
    let folder = workspace::kiln_dir().join("mutation");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    for (number, set) in SETS.iter().enumerate() {
        found.add(&outcomes(&program, set, &folder.join(number.to_string()), python)?)?;
    }
    let explained = explained()?;
    Ok((found.figure(&explained), found.section(&explained, &commit)))
}

/// Runs one set.
fn outcomes(program: &Path, set: &Set, folder: &Path, python: &Path) -> Result<Outcomes> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut command = Command::new(program);
    command.current_dir(workspace::root()).env("KILN_PYTHON", python).env("CARGO_INCREMENTAL", "1");
    command.env_remove(figures::LONG).env_remove(figures::FOLDER);
    command.args([
        "mutants",
        "--no-shuffle",
        "--jobs",
        "2",
        "--minimum-test-timeout",
        "120",
        "--colors",
        "never",
        "--output",
    ]);
    command.arg(folder);
    for file in set.files {
        command.args(["--file", file]);
    }
    command.arg("--").args(set.tests);
    let status = command.status().with_context(|| format!("cannot start `{}`", exec::show(&command)))?;
    // Changes that were not noticed or ran too long, and a test that was red before, are read from what it wrote; with any other code
    // it has not tried all.
    if !matches!(status.code(), Some(0 | 2 | 3 | 4)) {
        bail!("cargo-mutants ended with {status}: see {}", folder.join("mutants.out/log").display());
    }
    let path = folder.join("mutants.out/outcomes.json");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cargo-mutants ended with {status} and left no {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not what cargo-mutants writes", path.display()))
}

/// Reads the list of survivors.
fn explained() -> Result<Vec<Survivor>> {
    let path = workspace::root().join("xtask/survivors.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let list: Survivors = toml::from_str(&text).with_context(|| format!("{} is no list", path.display()))?;
    Ok(list.survivor)
}

/// Splits the name of a change into its file and the rest, without line and column.
fn split(name: &str) -> Option<(&str, &str)> {
    let (place, change) = name.split_once(": ")?;
    Some((place.split(':').next()?, change))
}

impl Found {
    fn add(&mut self, outcomes: &Outcomes) -> Result<()> {
        for Outcome { scenario, summary } in &outcomes.outcomes {
            let Scenario::Mutant { name } = scenario else {
                if *summary != Summary::Success {
                    bail!("a test is red before anything was changed: see the logs in target/kiln/mutation");
                }
                continue;
            };
            let (file, change) = split(name).with_context(|| format!("`{name}` is no name of a change"))?;
            let counts = self.files.entry(file.into()).or_default();
            match summary {
                // A test that does not end is noticed by whoever waits for it.
                Summary::CaughtMutant | Summary::Timeout => counts.caught += 1,
                Summary::MissedMutant => {
                    counts.missed += 1;
                    self.survivors.push(format!("{file}: {change}"));
                }
                Summary::Unviable => counts.unviable += 1,
                Summary::Success | Summary::Failure => bail!("cargo-mutants could not try `{name}`"),
            }
        }
        Ok(())
    }

    /// Counts the changes that were tried; a survivor without a reason, and too many survivors, are violations.
    fn figure(&self, explained: &[Survivor]) -> Figure {
        let sum = |of: fn(&Counts) -> u64| self.files.values().map(of).sum::<u64>();
        let (caught, missed, unviable) = (sum(|it| it.caught), sum(|it| it.missed), sum(|it| it.unviable));
        let mut violations: Vec<String> = self
            .survivors
            .iter()
            .filter(|change| explained.iter().all(|survivor| survivor.change != **change))
            .map(|change| format!("no test notices, and xtask/survivors.toml does not say why: {change}"))
            .collect();
        let tried = caught + missed;
        if caught * 100 < tried * KILLED {
            violations
                .push(format!("{caught} of {tried} changes were noticed: {KILLED} of a hundred are due"));
        }
        let note = format!("{caught} noticed, {missed} explained one by one; {unviable} more do not compile");
        Figure::new(RIG, "changes", LEAST).ran(tried).violations(&violations).note(note)
    }

    fn section(&self, explained: &[Survivor], commit: &str) -> String {
        let mut text = format!(
            "Made from {commit}.\n\n| file | noticed | survived | do not compile |\n|---|---:|---:|---:|\n"
        );
        for (file, Counts { caught, missed, unviable }) in &self.files {
            writeln!(text, "| `{file}` | {caught} | {missed} | {unviable} |").expect("a string takes it");
        }
        text += "\n| survivor | why |\n|---|---|\n";
        for change in &self.survivors {
            let why = explained.iter().find(|survivor| survivor.change == *change);
            let why = why.map_or("**not explained**", |survivor| &survivor.why);
            writeln!(text, "| `{}` | {why} |", change.replace('|', "\\|")).expect("a string takes it");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTCOMES: &str = r#"{"outcomes": [
        {"scenario": "Baseline", "summary": "Success"},
        {"scenario": {"Mutant": {"name": "a/b.rs:1:2: replace f -> bool with true", "package": "a"}}, "summary": "CaughtMutant"},
        {"scenario": {"Mutant": {"name": "a/b.rs:9:2: replace || with && in f"}}, "summary": "MissedMutant"},
        {"scenario": {"Mutant": {"name": "a/c.rs:9:2: replace < with <= in g"}}, "summary": "Unviable"}
    ], "missed": 1}"#;

    fn found() -> Found {
        let mut found = Found::default();
        found.add(&serde_json::from_str(OUTCOMES).unwrap()).unwrap();
        found
    }

    #[test]
    fn a_survivor_without_a_reason_and_too_many_of_them_are_violations() {
        let figure = found().figure(&[]);
        assert_eq!((figure.ran, figure.violations), (2, 2));
        let why =
            || Survivor { change: "a/b.rs: replace || with && in f".into(), why: "both are the same".into() };
        assert_eq!(found().figure(&[why()]).violations, 1);
        let section = found().section(&[why()], "c0ffee");
        assert!(
            section.contains("| `a/b.rs` | 1 | 1 | 0 |")
                && section.contains("\\|\\| with && in f` | both are the same |")
        );
        assert!(found().section(&[], "c0ffee").contains("**not explained**"));
    }

    #[test]
    fn a_red_test_before_any_change_is_an_error() {
        let red = OUTCOMES.replace("Success", "Failure");
        assert!(Found::default().add(&serde_json::from_str(&red).unwrap()).is_err());
    }

    #[test]
    fn every_file_that_is_named_is_there_and_every_survivor_is_in_one_of_them() {
        let files: Vec<&str> = SETS.iter().flat_map(|set| set.files).copied().collect();
        for file in &files {
            let path = workspace::root().join(file.replace("*.rs", ""));
            assert!(path.exists(), "{file}");
        }
        for Survivor { change, why } in explained().unwrap() {
            let file = change.split(": ").next().unwrap();
            let folder = file.rsplit_once('/').unwrap().0;
            assert!(files.iter().any(|it| *it == file || *it == format!("{folder}/*.rs")), "{change}");
            assert!(!why.is_empty());
        }
    }
}
