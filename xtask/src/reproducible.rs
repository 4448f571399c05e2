//! Building the firmware twice more, elsewhere and in other ways, to see whether it comes out the same.
//!
//! What a signature says of a release anybody can check; that the stages in it are made of the source that it names, only
//! who builds them again and compares. That works if nothing of the machine, the folder, the clock or the person gets into them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::crates::CRATES;
use crate::firmware::{PAYLOAD, STAGE0, STAGE1, STAGE2};
use crate::progress::Step;
use crate::{digest, exec, firmware, workspace};

/// A way to build.
struct Way {
    /// The folder that the source is unpacked in, below a new one.
    folder: &'static str,
    umask: &'static str,
    locale: &'static str,
    /// Between the two it is another day at any time.
    zone: &'static str,
    /// How many days the clock is put forward.
    days_ahead: u32,
    jobs: &'static str,
}

const WAYS: [Way; 2] = [
    Way { folder: "a", umask: "022", locale: "C", zone: "Pacific/Pago_Pago", days_ahead: 0, jobs: "2" },
    Way {
        folder: "another/and-longer/path",
        umask: "077",
        locale: "C.UTF-8",
        zone: "Pacific/Kiritimati",
        days_ahead: 400,
        jobs: "3",
    },
];

/// The source of the library that puts a clock forward.
const LATER: &str = include_str!("later.c");

/// A built file, by its name, and its SHA-256 in hex.
pub(crate) struct Reproduced {
    pub(crate) file: String,
    pub(crate) sha256: String,
}

/// Builds `source`, a commit or a tree of it, in each way from `git archive`, with empty target folders, and compares every
/// stage, its ELF file with it, the payload, the device tree and the list of crates with those that lie in `built`.
///
/// # Errors
/// If a build fails, or one byte differs. Both files are kept then.
pub(crate) fn check(built: &Path, source: &str) -> Result<Vec<Reproduced>> {
    check_ways(built, source, &WAYS)
}

fn check_ways(built: &Path, source: &str, ways: &[Way]) -> Result<Vec<Reproduced>> {
    let folder =
        tempfile::Builder::new().prefix("kiln-reproducible-").tempdir().context("no folder for builds")?;
    for way in ways {
        let root = folder.path().join(way.folder);
        let clock = way.clock(folder.path())?;
        let step = Step::start(format!(
            "building again: umask {}, locale {}, zone {}, {} days ahead, {} jobs",
            way.umask, way.locale, way.zone, way.days_ahead, way.jobs
        ));
        way.build(&root, source, clock.as_deref())?;
        step.done(&format!("in a folder of {} characters", root.as_os_str().len()));
        for name in files() {
            if let Err(error) = same(&built.join(&name), &root.join("target/kiln/build").join(&name)) {
                let kept = folder.keep();
                return Err(
                    error.context(format!("the build is not reproducible; {} is kept", kept.display()))
                );
            }
        }
    }
    files()
        .map(|file| {
            let path = built.join(&file);
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Reproduced { file, sha256: digest::sha256_hex(&bytes) })
        })
        .collect()
}

/// Lists the files of a build.
fn files() -> impl Iterator<Item = String> {
    let programs = [STAGE0, STAGE1, STAGE2, PAYLOAD];
    let of_program = |name| [format!("{name}.elf"), format!("{name}.bin")];
    programs.into_iter().flat_map(of_program).chain([firmware::DTB, CRATES].map(String::from))
}

impl Way {
    /// Unpacks the source at `root` and builds it there.
    fn build(&self, root: &Path, source: &str, clock: Option<&Path>) -> Result<()> {
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        let archive = root.with_extension("tar");
        exec::capture(git().args(["archive", "--output"]).arg(&archive).arg(source))?;
        // The files get the modes that the umask leaves them, and the time at which they are unpacked.
        let unpack = ["tar", "--no-same-permissions", "--touch", "-xf"].map(OsStr::new);
        let words = unpack.into_iter().chain([archive.as_ref(), "-C".as_ref(), root.as_ref()]);
        exec::capture(&mut self.shell(clock, words))?;
        // xtask as well is built there: it takes the folder that it was built in for the workspace.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let run = ["run", "--quiet", "--locked", "--package", "xtask", "--", "build"].map(OsStr::new);
        let mut build = self.shell(clock, [cargo.as_os_str()].into_iter().chain(run));
        for (name, _) in std::env::vars_os().filter(|(name, _)| alters_builds(name)) {
            build.env_remove(name);
        }
        build
            .current_dir(root)
            .env("CARGO_BUILD_JOBS", self.jobs)
            // All crates are there since the first build, and no certificate holds at any time of the clock.
            .env("CARGO_NET_OFFLINE", "true")
            // xtask runs once, and briefly.
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_DEV_DEBUG", "none");
        exec::capture(&mut build)?;
        Ok(())
    }

    /// Compiles what puts the clock of this way forward, into a folder; nothing does where it is the clock of the machine.
    fn clock(&self, folder: &Path) -> Result<Option<PathBuf>> {
        if self.days_ahead == 0 {
            return Ok(None);
        }
        let [source, library] = ["later.c", "later.so"].map(|name| folder.join(name));
        fs::write(&source, LATER).with_context(|| format!("cannot write {}", source.display()))?;
        let seconds = u64::from(self.days_ahead) * 24 * 60 * 60;
        let mut compile = Command::new("cc");
        compile
            .args(["-shared", "-fPIC", "-O1"])
            .arg(format!("-DFORWARD={seconds}"))
            .arg("-o")
            .arg(&library)
            .arg(source);
        exec::capture(&mut compile)?;
        Ok(Some(library))
    }

    /// Makes a command that runs with this umask, locale, zone and clock.
    fn shell<'a>(&self, clock: Option<&Path>, words: impl IntoIterator<Item = &'a OsStr>) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {}; exec \"$@\"", self.umask), "sh"]).args(words);
        shell.env("LC_ALL", self.locale).env("TZ", self.zone);
        shell.envs(clock.map(|clock| ("LD_PRELOAD", clock)));
        shell
    }
}

/// Makes a git command on the workspace, whoever owns its files: what lies there is compiled and run anyway.
fn git() -> Command {
    let mut git = Command::new("git");
    git.current_dir(workspace::root()).args(["-c", "safe.directory=*"]);
    git
}

/// Tells whether a variable of the environment would have a say in a build, or in where it goes.
fn alters_builds(name: &OsStr) -> bool {
    const PREFIXES: [&str; 9] = [
        "SOURCE_DATE_EPOCH",
        "CFLAGS",
        "RUSTC",
        "RUSTFLAGS",
        "CARGO_BUILD",
        "CARGO_ENCODED",
        "CARGO_PROFILE",
        "CARGO_TARGET",
        "KILN",
    ];
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
    fn a_way_has_its_own_umask_zone_and_clock() {
        let folder = tempfile::tempdir().unwrap();
        let said = |way: &Way, words: &[&str]| {
            let clock = way.clock(folder.path()).unwrap();
            let said = exec::capture(&mut way.shell(clock.as_deref(), words.iter().map(OsStr::new))).unwrap();
            String::from_utf8(said).unwrap().trim().trim_start_matches('0').to_owned()
        };
        for way in &WAYS {
            assert_eq!(said(way, &["sh", "-c", "umask"]), way.umask.trim_start_matches('0'));
        }
        let [one, other] = WAYS.each_ref().map(|way| said(way, &["date", "+%z"]));
        assert!(one.starts_with('-') && other.starts_with('+'), "{one} {other}");
        let [one, other] = WAYS.each_ref().map(|way| said(way, &["date", "+%s"]).parse::<i64>().unwrap());
        assert!((other - one).abs() > 399 * 24 * 3600, "{one} {other}");
    }

    /// A compiler that writes the date or the folder into what it makes has to be found.
    #[test]
    fn a_date_or_a_folder_in_a_build_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let compiled = |way: &Way, place: &str, says: &str| {
            let at = folder.path().join(place);
            fs::create_dir_all(&at).unwrap();
            let [source, object] = ["x.c", "x.o"].map(|name| at.join(name));
            fs::write(&source, format!("const char said[] = {says};\n")).unwrap();
            let words = ["cc", "-c"].map(OsStr::new).into_iter();
            let words = words.chain([source.as_ref(), "-o".as_ref(), object.as_ref()]);
            let clock = way.clock(folder.path()).unwrap();
            exec::capture(&mut way.shell(clock.as_deref(), words)).unwrap();
            let kept = folder.path().join(format!("{}.o", fs::read_dir(folder.path()).unwrap().count()));
            fs::rename(&object, &kept).unwrap();
            kept
        };
        let [one, other] = &WAYS;
        for (says, place_of_other, found) in
            [("\"nothing\"", "b", false), ("__DATE__", "a", true), ("__FILE__", "b", true)]
        {
            let result = same(&compiled(one, "a", says), &compiled(other, place_of_other, says));
            assert_eq!(result.is_err(), found, "{says}: {result:?}");
        }
    }

    /// Runs on what `cargo xtask test` built, in the way that differs most, or in each of them.
    #[test]
    fn the_firmware_is_the_same_when_it_is_built_again_elsewhere_at_another_time() {
        let built = std::env::var_os("KILN_BUILD_DIR")
            .expect("KILN_BUILD_DIR names the built firmware: run `cargo xtask test`, which builds it");
        let ways = figures::scaled(&WAYS[1..], &WAYS[..]);
        let due = (files().count() * ways.len()) as u64;
        let result = check_ways(Path::new(&built), &tree(), ways);
        let violations: Vec<_> = result.as_ref().err().map(|why| format!("{why:#}")).into_iter().collect();
        let digests = result.unwrap_or_default();
        let stage0 = digests.iter().find(|one| one.file == "stage0.bin").map(|one| &one.sha256[..16]);
        figures::Figure::new("firmware built again", "files", due)
            .ran((digests.len() * ways.len()) as u64)
            .violations(&violations)
            .note(format!("{} builds; SHA-256 of stage0.bin {}…", ways.len(), stage0.unwrap_or("unknown")))
            .report();
    }

    /// Returns the tree of the workspace as it is, committed or not. In the repository it is a few objects that nothing refers to.
    fn tree() -> String {
        let folder = tempfile::tempdir().unwrap();
        let git = |words: &[&str]| {
            let said = exec::capture(git().args(words).env("GIT_INDEX_FILE", folder.path().join("index")));
            String::from_utf8(said.unwrap()).unwrap().trim().to_owned()
        };
        git(&["add", "--all"]);
        git(&["write-tree"])
    }
}
