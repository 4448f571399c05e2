//! The initramfs of development devices: busybox, and an init that proves that user space was reached.
//!
//! Its proof is a random token, which the host wrote into it. On the device the initramfs lies encrypted, so
//! only a boot that decrypted and ran it can print the token.

use std::io;

use anyhow::{Context as _, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

/// What init prints before the facts; a line of the console that starts with this is the proof.
pub const USERSPACE_MARK: &str = "KILN-USERSPACE";
/// What init prints after it has taken a core off-line and on-line again.
pub const HOTPLUG_MARK: &str = "KILN-HOTPLUG";

const INIT: &str = include_str!("initramfs-init.sh");

/// Builds the archive (newc) from a statically linked arm64 busybox and a token.
///
/// # Errors
/// If busybox is too large for the format.
pub fn build(busybox: &[u8], token: &str) -> Result<Vec<u8>> {
    let mut archive = Archive { out: Vec::new(), inode: 0 };
    for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        archive.add(Builder::new(folder).mode(0o755).set_mode_file_type(ModeFileType::Directory), &[])?;
    }
    // The kernel opens /dev/console for init before anything is mounted.
    let console = Builder::new("dev/console").mode(0o600).rdev_major(5).rdev_minor(1);
    archive.add(console.set_mode_file_type(ModeFileType::Char), &[])?;
    for (name, mode, data) in [
        ("bin/busybox", 0o755, busybox),
        ("init", 0o755, INIT.as_bytes()),
        ("etc/kiln-token", 0o400, token.as_bytes()),
        ("etc/profile", 0o644, b"alias poweroff='poweroff -f' reboot='reboot -f'\n".as_slice()),
    ] {
        archive.add(Builder::new(name).mode(mode).set_mode_file_type(ModeFileType::Regular), data)?;
    }
    Ok(trailer(archive.out)?)
}

/// Puts the token in front of somebody's own initramfs, as the file `/etc/kiln-token`. The kernel unpacks one
/// archive after the other; what follows may be compressed.
///
/// # Errors
/// Does not fail for a token of sensible length.
pub fn with_token(initramfs: &[u8], token: &str) -> Result<Vec<u8>> {
    let mut archive = Archive { out: Vec::new(), inode: 0 };
    archive.add(Builder::new("etc").mode(0o755).set_mode_file_type(ModeFileType::Directory), &[])?;
    let file = Builder::new("etc/kiln-token").mode(0o400).set_mode_file_type(ModeFileType::Regular);
    archive.add(file, token.as_bytes())?;
    let mut out = trailer(archive.out)?;
    out.resize(out.len().next_multiple_of(512), 0);
    out.extend_from_slice(initramfs);
    Ok(out)
}

struct Archive {
    out: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, entry: Builder, data: &[u8]) -> Result<()> {
        self.inode += 1;
        let size = data.len().try_into().context("busybox is larger than an initramfs can hold")?;
        let mut writer = entry.ino(self.inode).nlink(1).write(&mut self.out, size);
        io::copy(&mut &data[..], &mut writer)?;
        writer.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cpio::newc::Reader;

    use super::*;

    #[test]
    fn a_token_goes_in_front_of_an_own_initramfs() {
        let both = with_token(b"\x1f\x8bown", "00ff").unwrap();
        assert_eq!(both.len() % 512, 5);
        assert!(both.ends_with(b"\x1f\x8bown"));
        assert!(
            both.windows(14).any(|part| part == b"etc/kiln-token")
                && both.windows(4).any(|part| part == b"00ff")
        );
    }

    #[test]
    fn the_archive_holds_what_a_boot_needs() {
        let token = "00112233445566778899aabbccddeeff";
        let archive = build(b"busybox!", token).unwrap();
        let mut rest = archive.as_slice();
        let mut found = Vec::new();
        loop {
            let mut reader = Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut data = Vec::new();
            io::Read::read_to_end(&mut reader, &mut data).unwrap();
            if name == "dev/console" {
                assert_eq!((reader.entry().rdev_major(), reader.entry().rdev_minor()), (5, 1));
            }
            found.push((name, mode, data));
            rest = reader.finish().unwrap();
        }
        let get = |name: &str| found.iter().find(|entry| entry.0 == name).unwrap();
        assert_eq!(get("bin/busybox").2, b"busybox!");
        assert_eq!(get("etc/kiln-token").2, token.as_bytes());
        assert_eq!(get("dev/console").1, 0o020_600);
        assert_eq!(get("init").1, 0o100_755);
        assert_eq!(get("bin").1, 0o040_755);
        assert!(INIT.contains(USERSPACE_MARK) && INIT.contains(HOTPLUG_MARK));
    }
}
