//! The limit of re-keying: what a program that does nothing else takes for the same bytes on the same machine.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use emulator::Machine;
use memory_map::qemu_virt as board;
use release::{Compression, FlashLayout, FlatImage, Identity, test_keys, write_disk};
use serde::Serialize;

use super::boot::PATIENCE;
use crate::device::Device;
use crate::firmware::Firmware;
use crate::images::DevelopmentDie;
use crate::workspace;

/// What the order of the program begins with; the program has the same.
const MAGIC: [u8; 8] = *b"KILNLIM1";
/// Bytes of a chunk of the operating system's objects, as packages have them.
const CHUNK: u64 = 128 * 1024;
/// What the line of the program begins with.
const MARK: &str = "LIMIT ";

/// What the program took, in milliseconds of the machine's own counter.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Limit {
    /// Cores that shared the cryptography.
    pub(super) cores: u64,
    /// Bytes that were encrypted and written.
    pub(super) bytes: u64,
    /// Reading the source from the disk.
    pub(super) read_ms: f64,
    /// Decrypting and digesting it, and encrypting it for each copy.
    pub(super) convert_ms: f64,
    /// Writing the copies to disk and flash, erasing and flushing.
    pub(super) write_ms: f64,
    /// Reading the copies.
    pub(super) read_again_ms: f64,
    /// Decrypting and digesting them.
    pub(super) verify_ms: f64,
}

impl Limit {
    /// Returns the sum.
    pub(super) fn total_ms(&self) -> f64 {
        self.read_ms + self.convert_ms + self.write_ms + self.read_again_ms + self.verify_ms
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.strip_prefix(MARK)?.split_whitespace();
        let mut field = |name: &str| -> Option<u64> {
            fields.next()?.strip_prefix(name)?.strip_prefix('=')?.parse().ok()
        };
        let (cores, bytes) = (field("cores")?, field("bytes")?);
        let mut ms = |name| field(name).map(|us| us as f64 / 1e3);
        Some(Self {
            cores,
            bytes,
            read_ms: ms("read_us")?,
            convert_ms: ms("convert_us")?,
            write_ms: ms("write_us")?,
            read_again_ms: ms("read_again_us")?,
            verify_ms: ms("verify_us")?,
        })
    }
}

/// The program, and a die that starts it.
pub(super) struct Program {
    program: FlatImage,
    die: DevelopmentDie,
}

impl Program {
    /// Takes the program; it runs in the place of stage2 on a development die.
    pub(super) fn new(program: FlatImage) -> Result<Self> {
        Ok(Self { program, die: DevelopmentDie::new([0x11; 16])? })
    }

    /// Runs it on the machine of `device`: `os` bytes go to two places on the disk, `flash` bytes to two in flash.
    pub(super) fn measure(&self, firmware: &Firmware, device: &Device, os: u64, flash: u64) -> Result<Limit> {
        let folder = tempfile::Builder::new().prefix(".limit-").tempdir_in(workspace::kiln_dir())?;
        self.write(folder.path(), &firmware.stage0.flat.bytes, os, flash)?;
        let file = |name: &str| folder.path().join(name);
        let config = device.machine().flash0(file("flash0.img")).disk(file("disk.img"));
        let mut machine = Machine::start(&config.lifetime(Some(PATIENCE)))?;
        let line = machine.console.wait_for_line(MARK, 0, PATIENCE);
        machine.kill();
        let (_, line) = line.context("the program that measures the limit says nothing")?;
        match Limit::parse(&line) {
            Some(limit) => Ok(limit),
            None => bail!("the program that measures the limit says: {line}"),
        }
    }

    fn write(&self, folder: &Path, stage0: &[u8], os: u64, flash: u64) -> Result<()> {
        let owner = test_keys::owner()?;
        let version = env!("CARGO_PKG_VERSION").parse().ok().context("a release version")?;
        let identity = Identity { board: board::BOARD.into(), version, rollback_index: 0.into() };
        let key = test_keys::die(self.die.chip_id)?.boot_key();
        let slot_a = owner.sign_stage2(&identity, self.program.clone())?.seal(&key, Compression::None)?;
        let otp = self.die.otp_bank();
        let layout = FlashLayout { stage0, slot_a: Some(&slot_a), slot_b: None, otp: &otp };
        layout.write(&folder.join("flash0.img"))?;
        let disk = folder.join("disk.img");
        write_disk(&disk, None, None)?;
        let mut disk: File = OpenOptions::new().write(true).open(disk)?;
        disk.seek(SeekFrom::Start(board::PACKAGE.base))?;
        let words = [CHUNK, os, flash].map(u64::to_le_bytes);
        Ok(disk.write_all(&[MAGIC].iter().chain(&words).flatten().copied().collect::<Vec<_>>())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_read_whole_or_not_at_all() {
        let line = "LIMIT cores=2 bytes=100 read_us=1000 convert_us=2000 write_us=3000 read_again_us=4000 verify_us=5500";
        let limit = Limit::parse(line).unwrap();
        assert_eq!((limit.cores, limit.bytes, limit.total_ms()), (2, 100, 15.5));
        for end in [10, 40, line.len() - 14] {
            assert!(Limit::parse(&line[..end]).is_none(), "{}", &line[..end]);
        }
        assert!(Limit::parse("LIMIT failed").is_none());
    }
}
