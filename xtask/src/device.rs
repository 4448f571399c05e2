//! A device: a folder with the files of its flash banks and its disk, and what is known of them.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use emulator::{Expectation, MachineConfig, Outcome};
use lifecycle::{Fuses, Lifecycle, OtpImage, Row};
use memory_map::qemu_virt as board;
use release::DeviceFiles;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::input::System;
use crate::workspace;

/// The form of `device.json` that this release writes and reads.
pub const FORMAT: u32 = 1;

/// What `device.json` holds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Facts {
    /// The form of this file: [`FORMAT`].
    pub format: u32,
    /// The board's name.
    pub board: String,
    /// The lifecycle of the die, when this was written.
    pub lifecycle: String,
    /// The die's id, in hex.
    pub chip_id: String,
    /// What it boots.
    pub system: System,
    /// Where that comes from.
    pub origin: String,
    /// What the system prints to prove that it was reached; on the device it is encrypted.
    pub token: String,
    /// The signed kernel command line.
    pub cmdline: String,
    /// DRAM in MiB.
    pub memory_mib: u32,
    /// Number of cores.
    pub cores: u32,
    /// The package that a factory made it from; a development device is made from none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
}

impl Facts {
    fn write(&self, folder: &Path) -> Result<()> {
        let file = folder.join("device.json");
        fs::write(&file, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

/// A device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its folder.
    pub folder: PathBuf,
    /// What is known of it.
    pub facts: Facts,
}

/// The content of a device's storage; the second flash bank is erased.
#[derive(Debug)]
pub struct Storage {
    /// The whole secure flash bank.
    pub flash0: Vec<u8>,
    /// The first OS slot on the disk.
    pub os_slot_a: Vec<u8>,
    /// The second one.
    pub os_slot_b: Vec<u8>,
}

impl Device {
    /// Opens the device `name`; `None` if there is none.
    ///
    /// # Errors
    /// If its folder is there but not whole.
    pub fn open(name: &str) -> Result<Option<Self>> {
        let folder = workspace::device_dir(checked(name)?);
        let file = folder.join("device.json");
        if !file.exists() {
            return Ok(None);
        }
        let cure = || {
            format!("{} cannot be used; `cargo xtask flash --device {name}` makes it anew", file.display())
        };
        let facts: Facts = serde_json::from_slice(&fs::read(&file)?).with_context(cure)?;
        if facts.format != FORMAT {
            bail!("{}: its format is {}, this release reads {FORMAT}", cure(), facts.format);
        }
        Ok(Some(Self { folder, facts }))
    }

    /// Writes the device `name` with this storage.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write(name: &str, storage: &Storage, facts: Facts) -> Result<Self> {
        Self::create(name, facts, |folder, _| {
            fs::write(folder.join("flash0.img"), &storage.flash0)?;
            fs::write(folder.join("flash1.img"), vec![0xFF; board::FLASH1.size as usize])?;
            let (slot_a, slot_b) = (&storage.os_slot_a, &storage.os_slot_b);
            Ok(release::write_disk(&folder.join("disk.img"), Some(slot_a), Some(slot_b))?)
        })
    }

    /// Makes the device `name` as a whole: a reader sees the old one or the new one, never a mixture, and never
    /// none where the file system can exchange names. `make` puts its files into a folder, and may add to what is known
    /// of it.
    ///
    /// # Errors
    /// If `make` fails or the folder cannot be written; the old device is then as it was.
    pub fn create(
        name: &str,
        mut facts: Facts,
        make: impl FnOnce(&Path, &mut Facts) -> Result<()>,
    ) -> Result<Self> {
        let folder = workspace::device_dir(checked(name)?);
        let parent = folder.parent().context("a device lies in a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let new = tempfile::Builder::new().prefix(".new-").tempdir_in(parent)?;
        make(new.path(), &mut facts)?;
        facts.write(new.path())?;
        put(new.path(), &folder).with_context(|| format!("cannot put a device at {}", folder.display()))?;
        Ok(Self { folder, facts })
    }

    /// Tells whether its die is a development die, as it was when the device was made.
    pub fn is_development(&self) -> bool {
        self.facts.lifecycle == Lifecycle::Development.name()
    }

    /// Returns its name.
    pub fn name(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Returns the lifecycle that is fused now.
    ///
    /// # Errors
    /// If the fuses cannot be read.
    pub fn fused_lifecycle(&self) -> Result<Lifecycle> {
        Fuses::read_lifecycle(&self.otp()?).map_err(|error| anyhow!("the device's fuses: {}", error.code()))
    }

    /// Counts the fuse rows in which anything is burned, apart from those that the vendor burns.
    ///
    /// # Errors
    /// If the fuses cannot be read.
    pub fn fuse_rows_burned(&self) -> Result<usize> {
        let otp = self.otp()?;
        let burned =
            |row: &&Row| otp.words().get(row.words()).is_some_and(|words| words.iter().any(|it| *it != 0));
        let rows = Row::ALL.iter().filter(|row| !matches!(row, Row::ChipId | Row::SiliconSecret));
        Ok(rows.filter(burned).count())
    }

    /// Names the file that keeps the certificate request which the device made last, in PEM.
    pub fn csr(&self) -> PathBuf {
        self.folder.join("csr.pem")
    }

    /// Returns the certificate request that the device made last, in PEM; `None` before it made any.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn csr_pem(&self) -> Result<Option<String>> {
        match fs::read_to_string(self.csr()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            pem => Ok(Some(pem.with_context(|| format!("cannot read {}", self.csr().display()))?)),
        }
    }

    /// Remembers the lifecycle.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_lifecycle(&self, lifecycle: Lifecycle) -> Result<()> {
        Facts { lifecycle: lifecycle.name().into(), ..self.facts.clone() }.write(&self.folder)
    }

    /// Names its files.
    pub fn files(&self) -> DeviceFiles {
        DeviceFiles::new(&self.folder)
    }

    /// Reads its fuses.
    ///
    /// # Errors
    /// If the file of its flash is too short.
    pub fn otp(&self) -> Result<OtpImage> {
        let bank = self.read_flash0(board::OTP.base - board::FLASH0.base, board::OTP.size)?;
        Ok(OtpImage::from_flash(&bank))
    }

    /// Returns the machine that this device is.
    pub fn machine(&self) -> MachineConfig {
        MachineConfig::device(&self.folder).memory_mib(self.facts.memory_mib).cores(self.facts.cores)
    }

    /// Returns what its boot has to show.
    pub fn expectation(&self) -> Expectation {
        Expectation::token(self.facts.token.clone()).console_log(self.folder.join("console.log"))
    }

    /// Returns how its boot is to end.
    pub fn outcome(&self) -> Outcome {
        match self.facts.system {
            System::Linux => Outcome::LinuxUserspace,
            System::Payload => Outcome::Payload,
        }
    }

    /// Reads `size` bytes of the secure flash bank at `offset`.
    ///
    /// # Errors
    /// If the file is too short.
    pub fn read_flash0(&self, offset: u64, size: u64) -> Result<Vec<u8>> {
        read_at(&self.folder.join("flash0.img"), offset, size)
    }

    /// Reads `size` bytes of the disk at `offset`.
    ///
    /// # Errors
    /// If the file is too short.
    pub fn read_disk(&self, offset: u64, size: u64) -> Result<Vec<u8>> {
        read_at(&self.folder.join("disk.img"), offset, size)
    }
}

/// Puts a folder where another may be, which then lies where the new one was.
fn put(new: &Path, place: &Path) -> io::Result<()> {
    if fs::symlink_metadata(place).is_err() {
        return fs::rename(new, place);
    }
    match renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE) {
        // Not every file system exchanges names: then there is a moment without a device.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            let old = new.with_extension("old");
            fs::rename(place, &old)?;
            fs::rename(new, place)?;
            fs::rename(&old, new)
        }
        exchanged => Ok(exchanged?),
    }
}

/// Lists the names of all devices.
pub fn names() -> Vec<String> {
    let entries = fs::read_dir(workspace::device_dir("")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join("device.json").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// Accepts a device name that is one plain folder name.
fn checked(name: &str) -> Result<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        bail!("`{name}` is no name for a device: use letters, digits, `-`, `_` and `.`");
    }
    Ok(name)
}

fn read_at(file: &Path, offset: u64, size: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; size as usize];
    let mut file = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_are_plain() {
        for good in ["default", "a-1_b.c"] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", ".new-1", "a b"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_takes_the_place_of_another_or_of_none() {
        let parent = tempfile::tempdir().unwrap();
        let [new, place] = ["new", "place"].map(|name| parent.path().join(name));
        for number in ["1", "2"] {
            fs::create_dir_all(&new).unwrap();
            fs::write(new.join("file"), number).unwrap();
            put(&new, &place).unwrap();
            assert_eq!(fs::read_to_string(place.join("file")).unwrap(), number);
        }
        assert_eq!(fs::read_to_string(new.join("file")).unwrap(), "1");
    }

    #[test]
    fn files_are_read_where_asked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bank");
        fs::write(&file, [1, 2, 3, 4]).unwrap();
        assert_eq!(read_at(&file, 1, 2).unwrap(), [2, 3]);
        assert!(read_at(&file, 3, 2).is_err());
    }
}
