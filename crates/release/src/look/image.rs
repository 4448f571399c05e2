//! Sealed images.

use super::grant;
use crate::{Error, ImageInfo, hex, inspect_slot};
use sealed_image::Compression;
use sealed_image::host::Inspected;
use serde_json::{Value, json};

/// Describes the images that lie one after the other.
pub(super) fn images(untrusted: &[u8]) -> Result<Vec<Value>, Error> {
    let described = |info: &ImageInfo| {
        let offset = info.offset;
        let bytes = untrusted.get(offset as usize..).ok_or(Error::SlotTruncated { offset })?;
        let image = Inspected::of(bytes).map_err(|error| Error::Image { offset, error })?;
        let manifest = &image.manifest;
        Ok(json!({
            "kind": manifest.kind.name(),
            "version": manifest.version.to_string(),
            "board": manifest.board,
            "rollback index": manifest.rollback_index,
            "offset": format!("{offset:#x}"),
            "bytes stored": image.image_len,
            "bytes in the clear": manifest.plain_size,
            "load address": format!("{:#x}", manifest.load_address),
            "entry": format!("{:#x}", manifest.entry),
            "chunks": manifest.chunk_count(),
            "wrapped data key": format!("{} bytes, sealed", image.wrapped_key_bytes),
            "compression": if image.compression == Compression::None { "none" } else { "lz4" },
            "manifest": hex(&image.manifest_digest),
            "plain digest": hex(manifest.plain_digest),
            "owner root": hex(&image.root),
            "delegations": image.grants.iter().map(grant).collect::<Vec<_>>(),
        }))
    };
    inspect_slot(untrusted)?.iter().map(described).collect()
}
