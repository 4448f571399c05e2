//! What has to be in memory when the kernel is entered.

use boot_crypto::{Decision, Digest, equal};
use memory_map::Region;
use sealed_image::plain_digest;

/// The chunk size of what is hashed in one piece.
pub(crate) const WHOLE: u32 = u32::MAX;

/// Bytes that are known by their digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Where they lie.
    pub place: Region,
    /// How many bytes of them are hashed in one piece: see [`sealed_image::Manifest::plain_digest`].
    pub chunk_size: u32,
    /// Their digest.
    pub digest: Digest,
}

impl Held {
    /// Tells whether `memory`, which starts at `window`'s base, holds them.
    #[inline(never)]
    pub fn is_in(&self, memory: &[u8], window: Region) -> Decision {
        let start = self.place.base.checked_sub(window.base).and_then(|start| usize::try_from(start).ok());
        let bytes = start
            .and_then(|start| memory.get(start..))
            .and_then(|rest| rest.get(..usize::try_from(self.place.size).ok()?));
        bytes.map_or(Decision::REFUSE, |bytes| equal(&plain_digest(bytes, self.chunk_size), &self.digest))
    }
}
