//! Building the firmware twice more, elsewhere and in other ways, to see whether it comes out the same.
//!
//! What a signature says of a release anybody can check; that the stages in it are made of the source that it names, only
//! who builds them again and compares. That works if nothing of the machine, the folder or the person gets into them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::firmware::{Firmware, Program};
use crate::progress::Step;
use crate::{digest, exec, workspace};

/// A way to build.
struct Way {
    /// The folder that the source is unpacked in, below a new one.
    folder: &'static str,
    umask: &'static str,
    locale: &'static str,
    /// Between the two it is another day at any time.
    zone: &'static str,
    jobs: &'static str,
}

const WAYS: [Way; 2] = [
    Way { folder: "a", umask: "022", locale: "C", zone: "Pacific/Pago_Pago", jobs: "2" },
    Way {
        folder: "another/and-longer/path",
        umask: "077",
        locale: "C.UTF-8",
        zone: "Pacific/Kiritimati",
        jobs: "3",
    },
];

/// A built file, by its name, and its SHA-256 in hex.
pub(crate) struct Reproduced {
    pub(crate) file: String,
    pub(crate) sha256: String,
}

/// Builds `commit`, which `firmware` was built from, in each way from `git archive`, with empty target folders, and compares every
/// stage, its ELF file with it, the payload and the device tree.
///
/// # Errors
/// If a build fails, or one byte differs. Both files are kept then.
pub(crate) fn check(firmware: &Firmware, commit: &str) -> Result<Vec<Reproduced>> {
    let files = built(firmware);
    let folder =
        tempfile::Builder::new().prefix("kiln-reproducible-").tempdir().context("no folder for builds")?;
    for way in &WAYS {
        let root = folder.path().join(way.folder);
        let step = Step::start(format!(
            "building again: umask {}, locale {}, zone {}, {} jobs",
            way.umask, way.locale, way.zone, way.jobs
        ));
        way.build(&root, commit)?;
        step.done(&format!("in a folder of {} characters", root.as_os_str().len()));
        for file in &files {
            let again = root.join("target/kiln/build").join(file.file_name().unwrap_or_default());
            if let Err(error) = same(file, &again) {
                let kept = folder.keep();
                return Err(
                    error.context(format!("the build is not reproducible; {} is kept", kept.display()))
                );
            }
        }
    }
    files
        .iter()
        .map(|file| {
            let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Reproduced { file: name, sha256: digest::sha256_hex(&bytes) })
        })
        .collect()
}

/// Lists the files of a build.
fn built(firmware: &Firmware) -> Vec<PathBuf> {
    let programs = [&firmware.stage0, &firmware.stage1, &firmware.stage2, &firmware.payload];
    let of_program = |Program { elf, bin, .. }: &Program| [elf.clone(), bin.clone()];
    programs.into_iter().flat_map(of_program).chain([firmware.dtb.clone()]).collect()
}

impl Way {
    /// Unpacks the source at `root` and builds it there.
    fn build(&self, root: &Path, commit: &str) -> Result<()> {
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        let archive = root.with_extension("tar");
        let mut git = Command::new("git");
        git.current_dir(workspace::root()).args(["archive", "--output"]).arg(&archive).arg(commit);
        exec::capture(&mut git)?;
        // The files get the modes that the umask leaves them, and the time at which they are unpacked.
        let unpack = ["tar", "--no-same-permissions", "--touch", "-xf"].map(OsStr::new);
        let words = unpack.into_iter().chain([archive.as_ref(), "-C".as_ref(), root.as_ref()]);
        exec::capture(&mut self.shell(words))?;
        // xtask as well is built there: it takes the folder that it was built in for the workspace.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let run = ["run", "--quiet", "--locked", "--package", "xtask", "--", "build"].map(OsStr::new);
        let mut build = self.shell([cargo.as_os_str()].into_iter().chain(run));
        for (name, _) in std::env::vars_os().filter(|(name, _)| alters_builds(name)) {
            build.env_remove(name);
        }
        build
            .current_dir(root)
            .env("LC_ALL", self.locale)
            .env("TZ", self.zone)
            .env("CARGO_BUILD_JOBS", self.jobs);
        exec::capture(&mut build)?;
        Ok(())
    }

    /// Makes a command that runs with this umask.
    fn shell<'a>(&self, words: impl IntoIterator<Item = &'a OsStr>) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {}; exec \"$@\"", self.umask), "sh"]).args(words);
        shell
    }
}

/// Tells whether a variable of the environment would have a say in a build, or in where it goes.
fn alters_builds(name: &OsStr) -> bool {
    const PREFIXES: [&str; 7] =
        ["RUSTC", "RUSTFLAGS", "CARGO_BUILD", "CARGO_ENCODED", "CARGO_PROFILE", "CARGO_TARGET", "KILN"];
    let name = name.to_string_lossy();
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || name == "CARGO_INCREMENTAL"
}

/// Compares two files.
fn same(file: &Path, again: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let (first, second) = (read(file)?, read(again)?);
    if first == second {
        return Ok(());
    }
    let at = first.iter().zip(&second).take_while(|(one, other)| one == other).count();
    bail!(
        "{} and {} differ from byte {at} on ({} and {} bytes). Something of a folder, a clock or a machine is in one of \
         them: `diffoscope` shows what",
        file.display(),
        again.display(),
        first.len(),
        second.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_the_same_or_differ_from_a_byte_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let [one, equal] = [file("one", b"abcd"), file("equal", b"abcd")];
        same(&one, &equal).unwrap();
        for (name, bytes, at) in [("other", &b"abXd"[..], 2), ("shorter", b"abc", 3), ("longer", b"abcde", 4)]
        {
            let error = same(&one, &file(name, bytes)).unwrap_err().to_string();
            assert!(error.contains(&format!("differ from byte {at} on")), "{name}: {error}");
        }
        assert!(same(&one, &folder.path().join("none")).is_err());
    }

    #[test]
    fn flags_and_folders_of_the_environment_have_no_say() {
        let altering =
            ["RUSTC_WRAPPER", "RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_PROFILE_FIRMWARE_LTO", "KILN_DIR"];
        assert!(altering.iter().all(|name| alters_builds(OsStr::new(name))));
        assert!(
            !["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME"].iter().any(|name| alters_builds(OsStr::new(name)))
        );
    }

    #[test]
    fn a_way_has_its_own_umask() {
        for way in &WAYS {
            let said = exec::capture(&mut way.shell(["sh", "-c", "umask"].map(OsStr::new))).unwrap();
            assert_eq!(
                String::from_utf8_lossy(&said).trim().trim_start_matches('0'),
                way.umask.trim_start_matches('0')
            );
        }
    }
}
