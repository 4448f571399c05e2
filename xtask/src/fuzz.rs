//! `cargo xtask fuzz`: lets libFuzzer look for inputs that break what a parser promises.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::tools::{self, Tool};
use crate::{exec, workspace};

/// The version of cargo-fuzz that is installed where there is none.
const CARGO_FUZZ: &str = "0.13.2";
/// Longest input, in bytes: what is longer finds nothing that a short one does not, and makes corpora large.
const MAX_LEN: u32 = 16 * 1024;

/// Fuzzes a parser; without a name, lists the targets.
///
/// Starts from the corpus in `fuzz/corpus`, which the plain tests replay. What it learns is gathered in
/// target/kiln/fuzz; an input that breaks a promise is kept there and named. cargo-fuzz is built there too, if there is
/// none.
#[derive(Args, Debug)]
pub struct Fuzz {
    /// The target
    target: Option<String>,
    /// How long to look, in seconds
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
    /// Then add to the corpus what reaches code that its entries do not
    #[arg(long, requires = "target")]
    keep: bool,
    /// Run one input instead, for instance one that was kept
    #[arg(long, requires = "target", conflicts_with = "keep", value_name = "FILE")]
    input: Option<PathBuf>,
}

impl Fuzz {
    /// Runs the command; `Ok(false)` if an input breaks a promise.
    ///
    /// # Errors
    /// If there is no such target, or the target cannot be built.
    pub fn run(&self) -> Result<bool> {
        let targets = targets()?;
        let Some(name) = &self.target else {
            targets.iter().for_each(|name| println!("{name}"));
            return Ok(true);
        };
        find(name, &targets)?;
        tools::prepare(&[Tool::CxxCompiler])?;
        let cargo_fuzz = tools::from_crates_io("cargo-fuzz", &["fuzz", "--version"], CARGO_FUZZ)?;
        if let Some(input) = &self.input {
            return Ok(runs(&mut fuzz(&cargo_fuzz, name, &[std::path::absolute(input)?], &[])));
        }
        let (learnt, corpus) =
            (working_dir().join("corpus").join(name), fuzz_dir().join("corpus").join(name));
        let found = working_dir().join("found").join(name);
        for folder in [&learnt, &found] {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let common = [
            format!("-max_len={MAX_LEN}"),
            format!("-artifact_prefix={}/", found.display()),
            "-print_final_stats=1".into(),
        ];
        let time = [format!("-max_total_time={}", self.seconds)];
        let folders = [learnt.clone(), corpus.clone()];
        if !runs(&mut fuzz(&cargo_fuzz, name, &folders, &[&common[..], &time[..]].concat())) {
            eprintln!(
                "\nWhat was found lies in {}. Run one of its files again with\n  cargo xtask fuzz {name} --input FILE\n\
                 Once it is mended, put the file into fuzz/corpus/{name} under a name that says what it did.",
                workspace::shown(&found)
            );
            return Ok(false);
        }
        if self.keep {
            let merge = [&common[..], &["-merge=1".into()]].concat();
            return Ok(runs(&mut fuzz(&cargo_fuzz, name, &[corpus, learnt], &merge)));
        }
        Ok(true)
    }
}

/// Lists the targets: the programs in `fuzz/fuzz_targets`.
fn targets() -> Result<Vec<String>> {
    let folder = fuzz_dir().join("fuzz_targets");
    let files = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for file in files {
        let path = file?.path();
        if let (Some("rs"), Some(name)) = (path.extension().and_then(|it| it.to_str()), path.file_stem()) {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn find(name: &str, targets: &[String]) -> Result<()> {
    if targets.iter().any(|target| target == name) {
        return Ok(());
    }
    let like = |other: &&String| strsim::jaro_winkler(other, name) > 0.8;
    let near: Vec<&str> = targets.iter().filter(like).map(String::as_str).collect();
    let hint = if near.is_empty() { String::new() } else { format!(" Did you mean {}?", near.join(" or ")) };
    bail!("there is no fuzz target `{name}`.{hint} `cargo xtask fuzz` lists them")
}

/// The package of cargo-fuzz's programs.
fn fuzz_dir() -> PathBuf {
    workspace::root().join("fuzz")
}

/// What fuzzing makes: programs, what it has learnt, what it has found.
fn working_dir() -> PathBuf {
    workspace::kiln_dir().join("fuzz")
}

/// Makes the command that runs a target.
///
/// libFuzzer's instrumentation and the address sanitizer are options of the compiler that it lets only its own builds
/// use; this variable counts as one. The toolchain stays the pinned one.
fn fuzz(cargo_fuzz: &Path, name: &str, inputs: &[PathBuf], options: &[String]) -> Command {
    let mut command = Command::new(cargo_fuzz);
    command.current_dir(fuzz_dir()).env("RUSTC_BOOTSTRAP", "1");
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(name);
    }
    command.args(["fuzz", "run", "--target-dir"]).arg(working_dir().join("build")).arg(name).args(inputs);
    command.arg("--").args(options);
    command
}

/// Runs a command with its output passed through and tells whether it ended well.
fn runs(command: &mut Command) -> bool {
    exec::pass_through(command).inspect_err(|error| eprintln!("\n{error:#}")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_target_names_its_neighbours() {
        let targets = targets().unwrap();
        assert!(targets.len() >= 10, "{targets:?}");
        assert!(find("image", &targets).is_ok());
        let error = find("imag", &targets).unwrap_err().to_string();
        assert!(error.contains("Did you mean image?"), "{error}");
        let error = find("zzzz", &targets).unwrap_err().to_string();
        assert!(error.ends_with("no fuzz target `zzzz`. `cargo xtask fuzz` lists them"), "{error}");
    }
}
