//! `cargo xtask release`: a release of the demonstration product, from source.
//!
//! It builds the stages, gathers what `flash` boots, puts all of it with a `kiln.toml` into target/kiln/release-input,
//! and does there what `kiln release` does. So the same release can be made again, or another way, with `kiln` alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;
use release::{
    FolderKind, PayloadConfig, PayloadKind, ReleaseConfig, ReleasePlaces, UpdateKey, hex, make_release,
};

use crate::crates::CRATES;
use crate::exec;
use crate::firmware::{self, Firmware};
use crate::flash::package;
use crate::input::{self, Input, InputArgs, System};
use crate::local_authority::sealing_key;
use crate::progress::Step;
use crate::reproducible::{self, Reproduced};
use crate::workspace::{self, shown};

/// The configuration of the demonstration product.
const CONFIG: &str = "demo/kiln.toml";

/// Makes a release of the demonstration product: package, SBOM, provenance, one signed manifest of all of it.
///
/// Builds the stages, takes the same kernel, initramfs and device tree as `flash`, and the same owner. What it is made of
/// lies in target/kiln/release-input afterwards, with the kiln.toml that says so: `kiln release` makes the same of it. The
/// content key is sealed to the authority that `flash` starts, and made if there is none; the update key of the product lies
/// in the clear next to it.
#[derive(Args, Clone, Debug)]
pub struct Release {
    /// The folder for the release; it must not be there
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Write the content key to this file, in the clear, and do not seal it to the authority
    #[arg(long, value_name = "FILE")]
    content_key: Option<PathBuf>,
    /// The folder of the release before: the version must rise, the rollback index must not fall
    #[arg(long, value_name = "FOLDER")]
    previous: Option<PathBuf>,
    /// Build the firmware twice more first, from the commit, in other folders and ways: every byte has to be the same
    #[arg(long)]
    check_reproducible: bool,
    /// What the product boots
    #[command(flatten)]
    input: InputArgs,
}

impl Release {
    /// Runs the command.
    ///
    /// # Errors
    /// If something cannot be built, fetched, signed or written.
    pub fn run(&self) -> Result<bool> {
        let commit = self.check_reproducible.then(committed).transpose()?;
        let firmware = firmware::build()?;
        if let Some(commit) = commit {
            for Reproduced { file, sha256 } in reproducible::check(&workspace::build_dir(), &commit)? {
                eprintln!("  ok   {file} is the same three times: {sha256}");
            }
        }
        let factory = workspace::factory_dir();
        package::owner_keys(&factory)?;
        let token = package::token(&factory.join("owner/token"))?;
        let input = input::gather(&self.input, &firmware, &token)?;
        if let Some(remark) = &input.remark {
            eprintln!("  note {remark}");
        }
        let folder = workspace::kiln_dir().join("release-input");
        lay_out(&folder, &firmware, input, &factory, self.content_key.is_none())?;

        let config = ReleaseConfig::read(&folder.join("kiln.toml"))?;
        let step = Step::start("making the release");
        let places = ReleasePlaces {
            folder: &self.out,
            content_key: self.content_key.as_deref(),
            previous: self.previous.as_deref(),
        };
        let made = make_release(&config, &places)?;
        step.done(&format!("{} files", made.manifest.files.len() + 2));
        for check in &made.checks {
            eprintln!("  ok   {}: {}", check.name, check.detail);
        }
        let root = factory.join("owner").join(release::ROOT_PUBLIC);
        println!("{} {}", made.manifest.product, made.manifest.version);
        println!("  release      {}", shown(&self.out));
        println!("  package id   {}", hex(&made.package_id));
        match (&self.content_key, made.sealed_to) {
            (Some(file), _) => println!("  content key  {}, for the authority alone", shown(file)),
            (None, authority) => {
                println!("  content key  sealed to the authority {}", hex(&authority.unwrap_or_default()))
            }
        }
        println!("  verify it    kiln verify {} --root {}", shown(&self.out), shown(&root));
        Ok(true)
    }
}

/// Puts everything that the release is made of into a folder, with a kiln.toml that names it; `seals` says whether that names the
/// authority of the factory as well, to which the content key is sealed.
fn lay_out(folder: &Path, firmware: &Firmware, input: Input, factory: &Path, seals: bool) -> Result<()> {
    let step = Step::start("gathering what the release is made of");
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let put = |name: &str, bytes: &[u8]| {
        fs::write(folder.join(name), bytes).with_context(|| format!("cannot write {name}"))
    };
    for stage in [&firmware.stage1, &firmware.stage2] {
        put(&format!("{}.elf", stage.name), &fs::read(&stage.elf)?)?;
    }
    put("Image", &input.kernel)?;
    put("board.dtb", &input.dtb)?;
    put(CRATES, &fs::read(workspace::build_dir().join(CRATES)).context("no list of crates was built")?)?;

    let path = workspace::root().join(CONFIG);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut config = ReleaseConfig::parse(&text, &path)?;
    config.owner.keys = factory.join("owner");
    if seals {
        let authority = sealing_key(&factory.join("authority"), Some(&factory.join("authority.anchor")))?;
        put("authority.pub.pem", authority.to_text()?.as_bytes())?;
        config.authority_key = Some("authority.pub.pem".into());
    }
    if let Some(update) = &mut config.update {
        // It has to outlive the folder, and every release: devices have it.
        update.key = factory.join("update.key");
        UpdateKey::read_or_make(&update.key, &config.product)?;
    }
    config.stages.commit = commit();
    config.bundle.cmdline.clone_from(&input.cmdline);
    match &input.initramfs {
        Some(initramfs) => put("initramfs.cpio", initramfs)?,
        None => config.payloads.retain(|payload| payload.kind != PayloadKind::Initramfs),
    }
    name_origins(&mut config.payloads, &input);
    put("kiln.toml", config.to_toml()?.as_bytes())?;
    step.done(&format!("{} crates, {}", firmware.crates, input.origin));
    Ok(())
}

/// Says in the SBOM what the payloads are, where that is known.
fn name_origins(payloads: &mut [PayloadConfig], input: &Input) {
    for payload in payloads {
        let (known, own) = match payload.kind {
            PayloadKind::Kernel => (&input.known.kernel, input.system == System::Payload),
            PayloadKind::Initramfs => (&input.known.initramfs, false),
            PayloadKind::DeviceTree if input.known.dtb => continue,
            PayloadKind::DeviceTree => (&None, false),
            PayloadKind::Secret => continue,
        };
        let package = known.as_deref().and_then(|package| package.split_once(' '));
        payload.name = match package {
            Some((name, _)) => Some(name.into()),
            None => own.then(|| firmware::PAYLOAD.into()),
        };
        payload.version = package.map(|(_, version)| version.into());
        if package.is_none() {
            // Nothing is known of a file that somebody named.
            payload.license = None;
        }
    }
}

/// Returns the commit that the workspace is at; `None` if it is altered, or nobody knows.
fn commit() -> Option<String> {
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        exec::capture(command.args(words).current_dir(workspace::root())).ok()
    };
    let changes = String::from_utf8(git(&["status", "--porcelain"])?).ok()?;
    // Nothing is built from a release that was made here before.
    let release = |line: &str| {
        let folder = line.strip_prefix("?? ").map(|path| workspace::root().join(path));
        folder.is_some_and(|folder| matches!(FolderKind::of(&folder), Ok(Some(FolderKind::Release))))
    };
    let commit = String::from_utf8(git(&["rev-parse", "HEAD"])?).ok()?;
    changes.lines().all(release).then(|| commit.trim().to_owned())
}

/// As [`commit`], where there has to be one.
fn committed() -> Result<String> {
    commit().context(
        "the workspace is not as a commit has it, so nobody else can build what is built here: commit what `git status` \
         lists, or put it away",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Known;

    #[test]
    fn the_bill_names_only_what_is_known_of_payloads() {
        let path = workspace::root().join(CONFIG);
        let config = || ReleaseConfig::parse(&fs::read_to_string(&path).unwrap(), &path).unwrap();
        let input = |known| Input {
            system: System::Linux,
            origin: String::new(),
            remark: None,
            kernel: Vec::new(),
            initramfs: Some(Vec::new()),
            dtb: Vec::new(),
            cmdline: String::new(),
            known,
        };
        let named = |known| {
            let mut payloads = config().payloads;
            name_origins(&mut payloads, &input(known));
            payloads.into_iter().map(|one| (one.name, one.version, one.license)).collect::<Vec<_>>()
        };
        // A kernel out of a FIT is not Debian's, nor is its licence known.
        assert_eq!(named(Known::default()), vec![(None, None, None); 3]);
        let debian = Known {
            kernel: Some("linux-image-6.1 6.1.2-1".into()),
            initramfs: Some("busybox-static 1.35".into()),
            dtb: true,
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            named(debian),
            [
                (text("linux-image-6.1"), text("6.1.2-1"), text("GPL-2.0-only")),
                (text("qemu-virt.dtb"), None, None),
                (text("busybox-static"), text("1.35"), text("GPL-2.0-only")),
            ]
        );
    }

    #[test]
    fn the_configuration_of_the_demonstration_is_sound() {
        let path = workspace::root().join(CONFIG);
        let config = ReleaseConfig::parse(&fs::read_to_string(&path).unwrap(), &path).unwrap();
        assert_eq!(config.version.to_string(), env!("CARGO_PKG_VERSION"));
        assert_eq!(config.bundle.cmdline, input::CMDLINE);
    }
}
