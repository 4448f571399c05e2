//! The OTP bank of a device in QEMU, from outside.

use crate::{Error, files};
use hal::{BurnError, Otp, OtpBurn};
use lifecycle::WORDS;
use lifecycle::burn::is_locked;
use memory_map::qemu_virt::{FLASH0, OTP_WORDS};
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Returns where the fuse word of this index lies in the file of flash0, in bytes. There it is little-endian and
/// inverted.
pub fn fuse_word_offset(index: usize) -> u64 {
    OTP_WORDS.base - FLASH0.base + 4 * index as u64
}

/// The fuses in a file of flash0, as an external tool on the die's pins has them.
///
/// Bits go one way and locks hold, as the die's own driver keeps them; that is this code's promise, not the file's.
/// Each word is in the file when [`burn`](OtpBurn::burn) returns. The silicon secret, which a real die would not
/// show to a tool, reads as it is.
pub struct OtpFile {
    path: PathBuf,
    file: File,
    words: Vec<u32>,
}

impl OtpFile {
    /// Opens the bank in the file of flash0.
    ///
    /// # Errors
    /// A file that is too short, cannot be read or not be written.
    pub fn open(flash0: &Path) -> Result<Self, Error> {
        let bytes = files::read_at(flash0, fuse_word_offset(0), 4 * WORDS as u64)?;
        let words = bytes.as_chunks().0.iter().map(|word| !u32::from_le_bytes(*word)).collect();
        let path = flash0.to_path_buf();
        let file = OpenOptions::new().write(true).open(flash0);
        let file = file.map_err(|error| Error::Write { path: path.clone(), error })?;
        Ok(Self { path, file, words })
    }

    /// Returns once everything burned so far is durable.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|error| Error::Write { path: self.path.clone(), error })
    }
}

impl Otp for OtpFile {
    fn words(&self) -> usize {
        self.words.len()
    }

    fn read(&self, index: usize) -> Option<u32> {
        self.words.get(index).copied()
    }
}

impl OtpBurn for OtpFile {
    fn burn(&mut self, index: usize, bits: u32) -> Result<(), BurnError> {
        let old = self.read(index).ok_or(BurnError::NoSuchWord { index })?;
        let new = old | bits;
        if new == old {
            return Ok(());
        }
        if is_locked(self, index) {
            return Err(BurnError::Locked { index });
        }
        let written = self
            .file
            .seek(SeekFrom::Start(fuse_word_offset(index)))
            .and_then(|_| self.file.write_all(&(!new).to_le_bytes()));
        written.map_err(|_| BurnError::Failed { index })?;
        self.words[index] = new;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifecycle::{OtpImage, Row};
    use memory_map::qemu_virt::OTP;

    /// A file of flash0 that is as long as it has to be, with this bank.
    fn flash0(image: &OtpImage) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(FLASH0.size).unwrap();
        let block = image.to_flash(OTP.size as usize);
        files::write_at(file.path(), OTP.base - FLASH0.base, &block).unwrap();
        file
    }

    #[test]
    fn burned_bits_stay_and_are_in_the_file() {
        let file = flash0(&OtpImage::blank());
        let mut otp = OtpFile::open(file.path()).unwrap();
        assert_eq!((otp.words(), otp.read(0), otp.read(WORDS)), (WORDS, Some(0), None));
        otp.burn(0, 0x0000_00F0).unwrap();
        otp.burn(0, 0x0000_0F00).unwrap();
        assert_eq!(otp.read(0), Some(0x0000_0FF0));
        otp.sync().unwrap();
        assert_eq!(OtpFile::open(file.path()).unwrap().read(0), Some(0x0000_0FF0));
        assert_eq!(otp.burn(WORDS, 1), Err(BurnError::NoSuchWord { index: WORDS }));
    }

    #[test]
    fn a_locked_row_takes_no_more_bits() {
        let mut image = OtpImage::blank();
        image.record(Row::ChipId, &[0x11; 32]).lock(Row::ChipId);
        let file = flash0(&image);
        let mut otp = OtpFile::open(file.path()).unwrap();
        let held = otp.read(0).unwrap();
        assert_eq!(otp.burn(0, !held), Err(BurnError::Locked { index: 0 }));
        assert_eq!(otp.burn(0, held), Ok(()), "what is burned already costs nothing");
        assert_eq!(OtpFile::open(file.path()).unwrap().read(0), Some(held));
    }
}
