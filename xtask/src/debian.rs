//! Real input by default: Debian's arm64 kernel and busybox, fetched with the ordinary apt client, which checks
//! Debian's signatures. They are cached; delete `target/kiln/debian` to fetch newer ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::apt::{Apt, Architecture};
use crate::progress::{self, Step};
use crate::tools::{self, Tool};
use crate::{digest, exec, kernel_image, workspace};

/// The package that depends on Debian's current arm64 kernel.
const KERNEL_META: &str = "linux-image-arm64";
/// The package of the statically linked busybox.
const BUSYBOX: &str = "busybox-static";

/// What was fetched.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DebianInput {
    /// The kernel, an uncompressed arm64 Image.
    pub kernel: PathBuf,
    /// SHA-256 of it, in hex.
    pub kernel_sha256: String,
    /// Its package and version.
    pub kernel_package: String,
    /// The statically linked busybox.
    pub busybox: PathBuf,
    /// SHA-256 of it, in hex.
    pub busybox_sha256: String,
    /// Its package and version.
    pub busybox_package: String,
}

/// Returns Debian's kernel and busybox, from the cache or from the mirror that this machine uses.
///
/// # Errors
/// If they cannot be had; the caller then boots the workspace's own payload and says so.
pub fn fetch() -> Result<DebianInput> {
    let folder = workspace::kiln_dir().join("debian");
    let index = folder.join("input.json");
    if let Some(input) = cached(&index) {
        return Ok(input);
    }
    tools::prepare(&[Tool::DpkgDeb])?;
    let step = Step::start("finding Debian's arm64 kernel");
    let apt = Apt::prepare(&folder.join("apt"), Architecture::Arm64)?;
    apt.update()?;
    let kernel = kernel_package(&apt)?;
    let busybox_version = candidate(&apt, BUSYBOX)?;
    let kernel_version = candidate(&apt, &kernel)?;
    step.done(&format!("{kernel} {kernel_version}"));

    let step = Step::start("downloading kernel and busybox");
    let debs = folder.join("debs");
    if debs.exists() {
        fs::remove_dir_all(&debs)?;
    }
    fs::create_dir_all(&debs)?;
    exec::capture(apt.command("apt-get").args(["download", &kernel, BUSYBOX]).current_dir(&debs))?;
    let kernel_deb = deb(&debs, &kernel)?;
    let busybox_deb = deb(&debs, BUSYBOX)?;
    step.done(&progress::bytes(fs::metadata(&kernel_deb)?.len() + fs::metadata(&busybox_deb)?.len()));

    let step = Step::start("unpacking them");
    let image = kernel_image::uncompressed(&extract(&kernel_deb, "./boot/vmlinuz-*")?)
        .with_context(|| format!("the kernel in {kernel} cannot be used"))?;
    let busybox = extract(&busybox_deb, "./*bin/busybox")?;
    let input = DebianInput {
        kernel: folder.join("Image"),
        kernel_sha256: digest::sha256_hex(&image),
        kernel_package: format!("{kernel} {kernel_version}"),
        busybox: folder.join("busybox"),
        busybox_sha256: digest::sha256_hex(&busybox),
        busybox_package: format!("{BUSYBOX} {busybox_version}"),
    };
    fs::write(&input.kernel, image)?;
    fs::write(&input.busybox, busybox)?;
    fs::write(&index, serde_json::to_vec_pretty(&input)?)?;
    fs::remove_dir_all(&debs)?;
    step.done("");
    Ok(input)
}

/// Reads the index of the cache; `None` unless every file is what the index says.
fn cached(index: &Path) -> Option<DebianInput> {
    let input: DebianInput = serde_json::from_slice(&fs::read(index).ok()?).ok()?;
    let same =
        |path: &Path, sha256: &str| fs::read(path).is_ok_and(|data| digest::sha256_hex(&data) == sha256);
    let whole = same(&input.kernel, &input.kernel_sha256) && same(&input.busybox, &input.busybox_sha256);
    whole.then_some(input)
}

fn kernel_package(apt: &Apt) -> Result<String> {
    let text = exec::capture(apt.command("apt-cache").args(["show", "--no-all-versions", KERNEL_META]))
        .with_context(|| format!("the configured mirror has no {KERNEL_META} for arm64"))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    match dependency(&text, "linux-image-") {
        Some(name) => Ok(name),
        None => bail!("{KERNEL_META} depends on no kernel package"),
    }
}

/// Finds the first dependency that starts with `prefix` in a package record.
fn dependency(record: &str, prefix: &str) -> Option<String> {
    let depends = record.lines().find_map(|line| line.strip_prefix("Depends:"))?;
    let name = depends.split([',', '|']).map(str::trim).find(|name| name.starts_with(prefix))?;
    Some(name.split([' ', '(', ':']).next()?.to_owned())
}

fn candidate(apt: &Apt, package: &str) -> Result<String> {
    apt.candidate(package).with_context(|| format!("the configured mirror has no {package} for arm64"))
}

fn deb(folder: &Path, package: &str) -> Result<PathBuf> {
    let prefix = format!("{package}_");
    let found =
        fs::read_dir(folder)?.flatten().find(|e| e.file_name().to_string_lossy().starts_with(&prefix));
    found.map(|entry| entry.path()).with_context(|| format!("apt-get downloaded no {package}"))
}

/// Returns the one file of a package whose path matches `pattern`.
fn extract(deb: &Path, pattern: &str) -> Result<Vec<u8>> {
    let mut unpack =
        Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb).stdout(Stdio::piped()).spawn()?;
    let tar = unpack.stdout.take().context("dpkg-deb has no output")?;
    let output = Command::new("tar")
        .args(["--extract", "--to-stdout", "--wildcards", pattern])
        .stdin(tar)
        .output()
        .context("cannot start tar")?;
    unpack.wait()?;
    if !output.status.success() || output.stdout.is_empty() {
        bail!("{} holds no {pattern}", deb.display());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_package_is_read_from_the_meta_package() {
        let record = "Package: linux-image-arm64\nVersion: 6.1.192-2\n\
                      Depends: linux-image-6.1.0-56-arm64 (= 6.1.192-2), other | more\n";
        assert_eq!(dependency(record, "linux-image-").as_deref(), Some("linux-image-6.1.0-56-arm64"));
        assert_eq!(dependency("Package: x\n", "linux-image-"), None);
    }

    #[test]
    fn a_cache_whose_files_changed_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let (kernel, busybox) = (folder.path().join("k"), folder.path().join("b"));
        fs::write(&kernel, "kernel").unwrap();
        fs::write(&busybox, "busybox").unwrap();
        let index = folder.path().join("input.json");
        let input = DebianInput {
            kernel_sha256: digest::sha256_hex(b"kernel"),
            busybox_sha256: digest::sha256_hex(b"busybox"),
            kernel_package: String::new(),
            busybox_package: String::new(),
            kernel: kernel.clone(),
            busybox,
        };
        fs::write(&index, serde_json::to_vec(&input).unwrap()).unwrap();
        assert!(cached(&index).is_some());
        fs::write(&kernel, "kernal").unwrap();
        assert!(cached(&index).is_none());
    }
}
