//! What a slot holds, without keys and without trust.

use crate::Error;
use boot_crypto::Digest;
use sealed_image::host::Inspected;
use sealed_image::{Compression, Kind, PAYLOAD_ALIGN, Version};

/// What an image says about itself. Nothing here is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Where it starts in its slot, in bytes.
    pub offset: u64,
    /// Its kind.
    pub kind: Kind,
    /// The board that it is for.
    pub board: String,
    /// Its version.
    pub version: Version,
    /// Its rollback index.
    pub rollback_index: u32,
    /// Bytes that it takes in the slot.
    pub stored_bytes: u64,
    /// Bytes of its payload in the clear.
    pub plain_bytes: u64,
    /// SHA-256 of its manifest: what is measured, and what a bundle names.
    pub digest: Digest,
    /// How its payload is compressed.
    pub compression: Compression,
    /// Thumbprint of the owner root.
    pub root: Digest,
    /// Thumbprints of the keys that signed.
    pub signers: Vec<Digest>,
}

/// Lists the images that lie one after the other in a slot, up to the first place where none starts.
///
/// # Errors
/// [`Error::SlotEmpty`], or whatever makes an image unreadable, with its offset.
pub fn inspect_slot(slot: &[u8]) -> Result<Vec<ImageInfo>, Error> {
    let mut images = Vec::new();
    let mut rest = slot;
    while rest.first().is_some_and(|byte| !matches!(byte, 0 | 0xFF)) {
        let offset = (slot.len() - rest.len()) as u64;
        let image = inspect(rest, offset)?;
        let next = image.stored_bytes.next_multiple_of(u64::from(PAYLOAD_ALIGN)) as usize;
        images.push(image);
        rest = rest.get(next..).unwrap_or_default();
    }
    if images.is_empty() { Err(Error::SlotEmpty) } else { Ok(images) }
}

fn inspect(bytes: &[u8], offset: u64) -> Result<ImageInfo, Error> {
    let info = describe(bytes, offset).map_err(|error| Error::Image { offset, error })?;
    if info.stored_bytes > bytes.len() as u64 {
        return Err(Error::SlotTruncated { offset });
    }
    Ok(info)
}

/// Describes the image whose metadata these bytes begin with; it starts at `offset` in its slot.
pub(crate) fn describe(untrusted: &[u8], offset: u64) -> Result<ImageInfo, sealed_image::Error> {
    let Inspected { manifest, manifest_digest, compression, root, signers, image_len, .. } =
        Inspected::of(untrusted)?;
    Ok(ImageInfo {
        offset,
        kind: manifest.kind,
        board: manifest.board.into(),
        version: manifest.version,
        rollback_index: manifest.rollback_index,
        stored_bytes: image_len,
        plain_bytes: manifest.plain_size,
        digest: manifest_digest,
        compression,
        root,
        signers,
    })
}
