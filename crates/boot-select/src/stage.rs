//! Finding the stage in a slot, and opening it.

use boot_crypto::{Decision, Digest, Key, equal};
use boot_info::ImageRecord;
use fail_code::FailCode;
use hal::Storage;
use memory_map::Region;
use memory_map::qemu_virt::{BOOT_SLOT_A, BOOT_SLOT_B};
use sealed_image::{Es256, Opened, Tally, UntrustedImage, VerifiedImage, plain_digest};
use store::{Cursor, Slots};

use crate::Selection;

/// Where the boot slots lie in flash0.
pub const BOOT_SLOTS: Slots = Slots::new(BOOT_SLOT_A, BOOT_SLOT_B);

/// Most bytes of metadata of a stage image: the room that [`Selection::find`] needs.
pub const METADATA_ROOM: usize = 16 * 1024;

/// A stage that may boot. Its metadata is verified, its payload still lies in flash.
pub struct Found<'b> {
    image: VerifiedImage<'b>,
    stored_bytes: u64,
    payload: Region,
}

/// A stage in memory, every byte of which is what was signed.
pub struct Stage {
    /// Absolute address of its first instruction.
    pub entry: u64,
    /// What the handoff says of it.
    pub record: ImageRecord,
    /// The evidence that it was opened whole.
    pub opened: Opened,
    chunk_size: u32,
}

impl Stage {
    /// Tells whether `run`, which it was opened into, holds what was signed.
    pub fn is_in(&self, run: &[u8]) -> Decision {
        let Some(plain) = run.get(..self.record.plain_bytes as usize) else { return Decision::REFUSE };
        equal(&plain_digest(plain, self.chunk_size), &self.record.plain_digest)
    }
}

impl Selection {
    /// Reads and verifies the metadata of the image in `slot`, a place in `flash`. `code` is where the stage will
    /// execute: it must be made for the base of that, and fit.
    ///
    /// # Errors
    /// The code of the first reason to refuse; [`FailCode::NotClosingImage`] for an image that would be right but for
    /// the closing measurement.
    #[inline(never)]
    pub fn find<'b>(
        &self,
        flash: &mut impl Storage,
        slot: Region,
        code: Region,
        buffer: &'b mut [u8; METADATA_ROOM],
    ) -> Result<Found<'b>, FailCode> {
        let stored = Cursor::new(slot).read_next(flash, buffer).map_err(|error| error.code())?;
        let image = UntrustedImage::parse(stored.untrusted_metadata)
            .and_then(|untrusted| untrusted.verify::<Es256>(&self.policy()))
            .map_err(|error| error.code())?;
        if self.named().is_some_and(|named| !equal(image.manifest_digest(), named).accepts()) {
            return Err(FailCode::NotClosingImage);
        }
        let manifest = image.manifest();
        let fits = manifest.load_address == code.base && manifest.plain_size <= code.size;
        if !fits || !code.contains(manifest.entry, 4) {
            return Err(FailCode::LoadAddress);
        }
        let stored_bytes = stored.header.image_len().unwrap_or_default();
        Ok(Found { image, stored_bytes, payload: stored.payload })
    }
}

impl Found<'_> {
    /// Returns the measurement of the stage: the digest of its manifest.
    pub const fn measurement(&self) -> &Digest {
        self.image.manifest_digest()
    }

    /// Returns the length of the stage in memory, in bytes.
    pub const fn plain_size(&self) -> u64 {
        self.image.manifest().plain_size
    }

    /// Reads the payload into the start of `run` and decrypts it there; `key` is the slots' ([`stage_key`](crate::stage_key)).
    ///
    /// # Errors
    /// The code of the first reason to refuse. What is in `run` then is to be wiped.
    #[inline(never)]
    pub fn open(&self, flash: &mut impl Storage, key: &Key, run: &mut [u8]) -> Result<Stage, FailCode> {
        let opener = self.image.unwrap_key(key).map_err(|error| error.code())?;
        if !opener.in_place() {
            return Err(FailCode::CompressionUnsupported);
        }
        let mut tally = Tally::default();
        for chunk in opener.chunks() {
            let start = usize::try_from(chunk.plain_offset).map_err(|_| FailCode::LoadAddress)?;
            let place = run.get_mut(start..).and_then(|rest| rest.get_mut(..chunk.plain_len as usize));
            let place = place.ok_or(FailCode::LoadAddress)?;
            let at = self.payload.base.saturating_add(chunk.stored_offset);
            flash.read(at, place).map_err(|_| FailCode::DiskRead)?;
            tally.add(&opener.open_chunk(chunk.index, place).map_err(|error| error.code())?);
        }
        let opened = opener.finish(&tally).map_err(|error| error.code())?;
        let manifest = self.image.manifest();
        let record = ImageRecord {
            kind: manifest.kind.number(),
            version: manifest.version.0,
            stored_bytes: self.stored_bytes,
            plain_bytes: manifest.plain_size,
            plain_digest: *manifest.plain_digest,
            measurement: *self.measurement(),
        };
        Ok(Stage { entry: manifest.entry, record, opened, chunk_size: manifest.chunk_size })
    }
}
