//! `cargo xtask test --mutants`: takes each protection away, and shows the test that notices.
//!
//! A test that is green says little about what it would have seen. So xtask/protections.toml names pieces of code that
//! protect something, what each looks like when it is taken away, and the test that has to turn red then. A copy of the
//! sources is changed in one place at a time; the sources themselves never are, and neither is what is built from them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;
use std::{fs, str};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::progress::{self, Step};
use crate::{exec, firmware, verification, workspace};

/// The least number of protections that the list holds.
const LEAST: usize = 30;

/// The list, as it lies in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    protection: Vec<Protection>,
}

/// A piece of code that protects something.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Protection {
    /// What happens without it.
    against: String,
    /// The file that it lies in, from the root of the workspace.
    file: PathBuf,
    /// The code, which occurs once in the file.
    code: String,
    /// What stands in its place when it is taken away.
    without: String,
    /// The package whose tests notice.
    package: String,
    /// The test program of the package; without one, the unit tests of its library.
    program: Option<String>,
    /// The test that turns red.
    test: String,
}

impl Protection {
    /// Tells whether its row of the table has one of these words, or there are none.
    fn has_one_of(&self, words: &[String]) -> bool {
        words.is_empty() || words.iter().any(|word| self.row().contains(word))
    }

    /// Its row of the table, in Markdown.
    fn row(&self) -> String {
        let Self { against, file, code, package, program, test, .. } = self;
        let line = code.trim().lines().next().unwrap_or_default().replace('|', "\\|");
        let program = program.as_deref().map(|program| format!(", `{program}`")).unwrap_or_default();
        let file = file.display();
        format!("| {against} | `{file}`: `{line}` | `{package}`{program}: `{test}` |\n")
    }
}

/// What became of the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It failed: the protection is one, and is tested.
    Red,
    /// It passed.
    Green,
    /// It did not run: there is none of this name.
    Absent,
    /// The changed code does not compile.
    NotCompiled,
}

/// Takes every protection away in turn, or those with one of these words in their rows; `Ok(false)` if a test does not notice. With
/// `record`, writes the list into docs/verification.md.
///
/// # Errors
/// If the list does not fit the sources, no row has any of the words, a test is red before anything was taken away, or cargo cannot be run.
pub(crate) fn run(words: &[String], record: bool) -> Result<bool> {
    let start = Instant::now();
    let mut protections = list()?;
    check(&protections)?;
    protections.retain(|protection| protection.has_one_of(words));
    if protections.is_empty() {
        bail!(
            "no protection of xtask/protections.toml has {} in its row of docs/verification.md",
            words.join(" or ")
        );
    }
    // Some tests judge on the host, with the stages of the sources as they are for what is to be booted.
    firmware::build()?;
    let tree = Tree::copy()?;
    let step = Step::start("running the tests with every protection in place");
    for ((package, program), names) in by_program(&protections) {
        step.at(package);
        let output = tree.test(package, program, &names)?;
        for name in names {
            let found = outcome(&output, name)?;
            if found != Outcome::Green {
                bail!(
                    "{}",
                    last_words(&output, &format!("{package}: {name} is {found:?} with all in place"))
                );
            }
        }
    }
    step.done(&format!("{} protections", protections.len()));
    let mut survivors = 0;
    for protection in &protections {
        let step = Step::start(format!("without: {}", protection.against));
        let output = tree.without(protection, || {
            tree.test(
                &protection.package,
                protection.program.as_deref(),
                &BTreeSet::from([&*protection.test]),
            )
        })?;
        match outcome(&output, &protection.test)? {
            Outcome::Red => step.done(&format!("{} turns red", protection.test)),
            Outcome::NotCompiled => {
                bail!("{}", last_words(&output, "what stands in its place does not compile"))
            }
            other => {
                survivors += 1;
                step.done(&format!("NOT NOTICED: {} is {other:?}", protection.test));
            }
        }
    }
    println!("\n{}", table(&protections));
    let took = progress::seconds(start.elapsed());
    println!("{} protections taken away, {survivors} not noticed, in {took}", protections.len());
    if record && survivors == 0 {
        verification::record(&table(&protections), "protections")?;
    }
    Ok(survivors == 0)
}

/// Reads the list.
fn list() -> Result<Vec<Protection>> {
    let path = workspace::root().join("xtask/protections.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let list: List = toml::from_str(&text).with_context(|| format!("{} is no list", path.display()))?;
    Ok(list.protection)
}

/// Checks that each piece of code is where the list says, once.
fn check(protections: &[Protection]) -> Result<()> {
    for Protection { against, file, code, without, .. } in protections {
        let path = workspace::root().join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let found = text.matches(code.as_str()).count();
        if found != 1 || code == without {
            bail!(
                "xtask/protections.toml, \"{against}\": {} holds its code {found} times, which has to be 1. If the \
                 code changed, change it in the list, and let `cargo xtask test --mutants` show that its test still \
                 turns red\n{code}",
                file.display()
            );
        }
    }
    if protections.len() < LEAST {
        bail!("xtask/protections.toml holds {} protections: {LEAST} are due", protections.len());
    }
    Ok(())
}

/// The tests of each package and program: what one run of cargo covers.
fn by_program(protections: &[Protection]) -> BTreeMap<(&str, Option<&str>), BTreeSet<&str>> {
    let mut programs = BTreeMap::<_, BTreeSet<_>>::new();
    for Protection { package, program, test, .. } in protections {
        programs.entry((&**package, program.as_deref())).or_default().insert(&**test);
    }
    programs
}

/// The list as a table in Markdown.
fn table(protections: &[Protection]) -> String {
    let mut table = String::from("| without it | code | test that turns red |\n|---|---|---|\n");
    protections.iter().for_each(|protection| table.push_str(&protection.row()));
    table
}

/// Tells from the output of cargo what became of a test.
fn outcome(output: &Output, name: &str) -> Result<Outcome> {
    let text = str::from_utf8(&output.stdout).context("the tests print no UTF-8")?;
    let result =
        |line: &str| line.strip_prefix("test ")?.strip_prefix(name)?.strip_prefix(" ... ").map(str::to_owned);
    Ok(match text.lines().find_map(result).as_deref() {
        Some("FAILED") => Outcome::Red,
        Some("ok") => Outcome::Green,
        _ if String::from_utf8_lossy(&output.stderr).contains("error: could not compile") => {
            Outcome::NotCompiled
        }
        _ => Outcome::Absent,
    })
}

fn last_words(output: &Output, what: &str) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].map(|bytes| String::from_utf8_lossy(bytes)).concat();
    let lines: Vec<&str> = text.lines().collect();
    format!("{what}\n{}", lines[lines.len().saturating_sub(40)..].join("\n"))
}

/// A copy of the sources.
struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Copies what git knows of or would take. Files that are as they were keep their time, so that cargo does not
    /// compile them again.
    fn copy() -> Result<Self> {
        let folder = workspace::kiln_dir().join("mutants");
        let tree = Self { root: folder.join("tree"), target: folder.join("target") };
        let step = Step::start("copying the sources");
        let mut git = Command::new("git");
        git.current_dir(workspace::root());
        let listed =
            exec::capture(git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
        let listed = String::from_utf8(listed).context("a file name is no UTF-8")?;
        let files: BTreeSet<&Path> = listed
            .split_terminator('\0')
            .map(Path::new)
            .filter(|file| workspace::root().join(file).is_file())
            .collect();
        let before = fs::read_to_string(folder.join("files")).unwrap_or_default();
        for gone in before.split_terminator('\0').filter(|file| !files.contains(Path::new(file))) {
            fs::remove_file(tree.root.join(gone))
                .with_context(|| format!("cannot remove the copy of {gone}"))?;
        }
        for file in &files {
            let bytes = fs::read(workspace::root().join(file))
                .with_context(|| format!("cannot read {}", file.display()))?;
            tree.write(file, &bytes)?;
        }
        fs::write(folder.join("files"), &listed).context("cannot write the list of files")?;
        step.done(&format!("{} files", files.len()));
        Ok(tree)
    }

    /// Writes a file, if it is not there as it should be.
    fn write(&self, file: &Path, bytes: &[u8]) -> Result<()> {
        let path = self.root.join(file);
        if fs::read(&path).is_ok_and(|found| found == bytes) {
            return Ok(());
        }
        fs::create_dir_all(path.parent().unwrap_or(&self.root))
            .and_then(|()| fs::write(&path, bytes))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Does something while a protection is taken away.
    fn without<T>(&self, protection: &Protection, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let path = self.root.join(&protection.file);
        let sound = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        self.write(&protection.file, sound.replace(&protection.code, &protection.without).as_bytes())?;
        let done = work();
        self.write(&protection.file, sound.as_bytes())?;
        done
    }

    /// Runs tests by their names.
    fn test(&self, package: &str, program: Option<&str>, names: &BTreeSet<&str>) -> Result<Output> {
        let mut cargo = exec::cargo();
        cargo.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target).env("RUST_BACKTRACE", "0");
        cargo.env("KILN_BUILD_DIR", workspace::build_dir());
        cargo.args(["test", "--package", package]);
        match program {
            Some(program) => cargo.args(["--test", program]),
            None => cargo.arg("--lib"),
        };
        cargo.args(["--", "--exact"]).args(names).stdin(Stdio::null());
        let shown = exec::show(&cargo);
        cargo.output().with_context(|| format!("cannot start `{shown}`"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn the_list_fits_the_sources() {
        check(&list().unwrap()).unwrap();
    }

    #[test]
    fn the_page_lists_every_protection() {
        let page = fs::read_to_string(workspace::root().join("docs/verification.md")).unwrap();
        let table = table(&list().unwrap());
        assert!(
            page.contains(&table),
            "docs/verification.md shows another list: `cargo xtask test --mutants --record` writes this one\n{table}"
        );
    }

    #[test]
    fn words_choose_rows_that_have_one_of_them() {
        let (protections, words) =
            (list().unwrap(), |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>());
        let chosen = |words: &[String]| protections.iter().filter(|it| it.has_one_of(words)).count();
        assert_eq!(chosen(&words(&[])), protections.len());
        let (one, other) = (chosen(&words(&["crates/store/"])), chosen(&words(&["crates/lifecycle/"])));
        assert!(one > 0 && other > 0);
        assert_eq!(chosen(&words(&["crates/store/", "crates/lifecycle/"])), one + other);
        assert_eq!(chosen(&words(&["no row has this"])), 0);
    }

    #[test]
    fn no_protection_is_listed_twice() {
        let protections = list().unwrap();
        let places: BTreeSet<_> = protections.iter().map(|it| (&it.file, &it.code)).collect();
        assert_eq!(places.len(), protections.len());
    }

    #[test]
    fn an_outcome_is_that_of_the_very_test() {
        let output = |stdout: &str, stderr: &str| Output {
            status: std::process::ExitStatus::from_raw(0),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let told = "running 2 tests\ntest a::b ... ok\ntest a::bc ... FAILED\n";
        assert_eq!(outcome(&output(told, ""), "a::b").unwrap(), Outcome::Green);
        assert_eq!(outcome(&output(told, ""), "a::bc").unwrap(), Outcome::Red);
        assert_eq!(outcome(&output(told, ""), "a").unwrap(), Outcome::Absent);
        assert_eq!(outcome(&output("", "error: could not compile `x`"), "a").unwrap(), Outcome::NotCompiled);
    }
}
