//! Whom the device trusts, in the terms of the image verifier.

use alloc::vec::Vec;

use boot_crypto::{Digest, equal};
use boot_info::RootSlots;
use hal::Storage;
use memory_map::Region;
use memory_map::qemu_virt::BOARD;
use sealed_image::{Es256AndPs256, Kind, Policy, Root, UntrustedImage, VerifiedImage};
use store::Cursor;

use crate::Error;

/// The owner roots and rollback floors that images are judged by.
pub(crate) struct Trust {
    roots: Vec<Root>,
    /// By role number.
    floors: [u32; 8],
}

/// An image in a storage: its metadata verified, its payload not read yet.
pub(crate) struct Found<'b> {
    /// The verified metadata.
    pub(crate) image: VerifiedImage<'b>,
    /// Where the payload lies.
    pub(crate) payload: Region,
}

impl Trust {
    /// Takes roots and floors as stage0 handed them over.
    pub(crate) fn new(slots: &RootSlots, floors: [u32; 8]) -> Self {
        let roots = (0..).zip(&slots.digests).filter_map(|(number, digest)| {
            let bit = 1_u8.checked_shl(number)?;
            let revoked = slots.revoked & bit != 0;
            (slots.valid & bit != 0 || revoked).then_some(Root { digest: *digest, revoked })
        });
        Self { roots: roots.collect(), floors }
    }

    /// The same roots with other floors: those of the closed device.
    pub(crate) fn with_floors(&self, floors: [u32; 8]) -> Self {
        Self { roots: self.roots.clone(), floors }
    }

    /// Returns the floors by role number.
    pub(crate) fn floors(&self) -> [u32; 8] {
        self.floors
    }

    /// Returns whom to trust with the authority's answers.
    pub(crate) fn authority(&self) -> factory_proto::Trust<'_> {
        factory_proto::Trust { board: BOARD, roots: &self.roots, refuse_test_keys: true }
    }

    fn policy(&self, kind: Kind) -> Policy<'_> {
        // A kind without a role is reserved: the verifier refuses it, whatever the floor.
        let role = kind.role().map_or(0, |role| usize::from(role.number()));
        Policy {
            board: BOARD,
            kind,
            roots: &self.roots,
            rollback_floor: self.floors.get(role).copied().unwrap_or(u32::MAX),
            refuse_test_keys: true,
        }
    }

    /// Reads the metadata of the next image into `buffer` and verifies it: an image of `kind`, and where `named` is
    /// given the very one with this manifest digest.
    pub(crate) fn read_next<'b>(
        &self,
        storage: &mut impl Storage,
        cursor: &mut Cursor,
        kind: Kind,
        named: Option<&Digest>,
        buffer: &'b mut [u8],
    ) -> Result<Found<'b>, Error> {
        let stored = cursor.read_next(storage, buffer).map_err(Error::Store)?;
        let image = UntrustedImage::parse(stored.untrusted_metadata)
            .and_then(|untrusted| untrusted.verify::<Es256AndPs256>(&self.policy(kind)))
            .map_err(|error| Error::Image { kind, error })?;
        if named.is_some_and(|named| !equal(image.manifest_digest(), named).accepts()) {
            return Err(Error::NotTheOneNamed { kind });
        }
        Ok(Found { image, payload: stored.payload })
    }
}
