//! `SHA256SUMS`, as coreutils writes and `sha256sum -c` reads it.
//!
//! It is for people who have no Kiln. It is not signed; what is signed is the release manifest, which says the same.

use super::manifest::{ReleaseFile, is_name};
use crate::{hex, unhex};

/// The file of the sums.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// Writes the sums.
pub(crate) fn write<'a>(files: impl IntoIterator<Item = &'a ReleaseFile>) -> String {
    files.into_iter().map(|file| format!("{}  {}\n", hex(&file.digest), file.name)).collect()
}

/// Reads names and sums; `None` for anything but lines of a digest, two spaces and a name that stays in the folder.
pub(crate) fn read(text: &str) -> Option<Vec<(&str, [u8; 32])>> {
    let body = text.strip_suffix('\n')?;
    body.split('\n')
        .map(|line| {
            let (digest, name) = line.split_once("  ")?;
            Some((name, unhex(digest)?)).filter(|(name, _)| is_name(name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_read_as_they_are_written_and_no_other_way() {
        let files = [ReleaseFile::new("a", b"abc"), ReleaseFile::new("b/c", b"")];
        let text = write(&files);
        assert!(text.starts_with("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n"));
        assert_eq!(read(&text), Some(vec![("a", files[0].digest), ("b/c", files[1].digest)]));
        for (from, to) in
            [("  a", " *a"), ("  a", "  ../a"), ("  a", "  /a"), ("ba78", "BA78"), ("  a\n", "  a\r\n")]
        {
            assert_eq!(read(&text.replacen(from, to, 1)), None, "{to:?}");
        }
        assert_eq!(read(text.trim_end()), None);
        assert_eq!(read(""), None);
    }
}
