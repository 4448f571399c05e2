//! The forms in which distributions ship an arm64 kernel, and the one that Kiln boots: the plain Image.

use std::io::Read as _;

use anyhow::{Context as _, Result, bail};
use flate2::read::GzDecoder;

/// Longest kernel that is unpacked, in bytes.
const LONGEST: u64 = 256 << 20;

/// Returns the plain arm64 Image in `file`: a plain Image, one in gzip, or a compressed EFI image with gzip in it.
///
/// # Errors
/// If it is none of these.
pub fn uncompressed(file: &[u8]) -> Result<Vec<u8>> {
    if is_image(file) {
        return Ok(file.to_vec());
    }
    let packed = if file.get(4..8) == Some(b"zimg") {
        let word = |at: usize| -> Option<usize> {
            Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?) as usize)
        };
        let (start, len) = word(8).zip(word(12)).context("the compressed EFI image is cut off")?;
        file.get(start..).and_then(|rest| rest.get(..len)).context("the compressed EFI image is cut off")?
    } else {
        file
    };
    if !packed.starts_with(&[0x1F, 0x8B]) {
        bail!("it is neither a plain arm64 Image nor one compressed with gzip");
    }
    let mut image = Vec::new();
    GzDecoder::new(packed).take(LONGEST).read_to_end(&mut image).context("its gzip data is damaged")?;
    if !is_image(&image) {
        bail!("what is compressed in it is not an arm64 Image");
    }
    Ok(image)
}

/// Tells whether `file` starts like an uncompressed arm64 Image.
pub fn is_image(file: &[u8]) -> bool {
    file.get(56..60) == Some(b"ARM\x64")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn image() -> Vec<u8> {
        let mut image = vec![7; 4096];
        image[56..60].copy_from_slice(b"ARM\x64");
        image
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_gzip_and_efi_images_come_out_the_same() {
        let packed = gzip(&image());
        let mut zimg = b"MZ\0\0zimg".to_vec();
        zimg.extend(64u32.to_le_bytes());
        zimg.extend((packed.len() as u32).to_le_bytes());
        zimg.resize(64, 0);
        zimg.extend(&packed);
        for file in [image(), packed, zimg] {
            assert_eq!(uncompressed(&file).unwrap(), image());
        }
    }

    #[test]
    fn other_files_are_refused_with_a_reason() {
        for file in [b"".to_vec(), b"#!/bin/sh".to_vec(), gzip(b"text"), b"MZ\0\0zimg".to_vec()] {
            assert!(uncompressed(&file).is_err());
        }
    }
}
