//! Where things lie: the workspace itself and everything that `cargo xtask` keeps under `target/kiln`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exec;

/// The rustc target of everything that runs on a device.
pub const FIRMWARE_TARGET: &str = "aarch64-unknown-none";
/// The cargo profile of everything that runs on a device.
pub const FIRMWARE_PROFILE: &str = "firmware";
/// The device that `run` and `flash` take when none is named.
pub const DEFAULT_DEVICE: &str = "default";

/// Returns the root of the workspace.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Returns the folder that holds all that `cargo xtask` makes and fetches, but for what cargo compiles: `target/kiln`, or
/// what `KILN_DIR` names.
/// Deleting it loses nothing that cannot be made again, except devices and the keys of the demonstration factory.
pub fn kiln_dir() -> PathBuf {
    let named = std::env::var_os("KILN_DIR").and_then(|named| std::path::absolute(named).ok());
    named.unwrap_or_else(|| root().join("target/kiln"))
}

/// Returns the folder of the built firmware: ELF files, flat binaries, the device tree.
pub fn build_dir() -> PathBuf {
    kiln_dir().join("build")
}

/// Returns the folder of the demonstration factory: owner, vendor, packages, authority.
pub fn factory_dir() -> PathBuf {
    kiln_dir().join("factory")
}

/// Names the commit that the sources are of, with `-dirty` behind it if they have been changed since.
pub fn commit() -> String {
    let mut git = Command::new("git");
    git.current_dir(root()).args(["describe", "--always", "--dirty", "--exclude=*", "--abbrev=7"]);
    exec::first_line(&mut git).unwrap_or_else(|| "an unknown commit".into())
}

/// Returns the folder of the device `name`.
pub fn device_dir(name: &str) -> PathBuf {
    kiln_dir().join("devices").join(name)
}

/// Shows `path` relative to the current folder where that is shorter.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
