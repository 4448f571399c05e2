//! From untrusted metadata to a verified image.

use crate::chain::{Root, Trust, Verifier, parse_grant};
use crate::cose::UntrustedSigned;
use crate::delegation::UntrustedDelegation;
use crate::sealing::Sealing;
use crate::table::{ENTRY_BYTES, Table};
use crate::{
    Algorithm, Error, Grant, HEADER_BYTES, Header, Kind, Manifest, Opened, Opener, Part, Tally, cbor,
};
use boot_crypto::{Digest, Key, Sha256, equal, sha256};

/// What an image must be to be taken: none of this comes from the image.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The board that this is.
    pub board: &'a str,
    /// The kind that belongs in this place.
    pub kind: Kind,
    /// The owner roots that the fuses hold; unused slots left out.
    pub roots: &'a [Root],
    /// The fused floor of the role that signs this kind.
    pub rollback_floor: u32,
    /// Whether published test keys are refused: everywhere but on a development die.
    pub refuse_test_keys: bool,
}

/// The metadata of an image, cut into its parts. Nothing is verified.
#[derive(Clone, Copy)]
pub struct UntrustedImage<'a> {
    header: Header,
    pub(crate) delegation: &'a [u8],
    pub(crate) manifest: &'a [u8],
    pub(crate) sealing: &'a [u8],
    table: Table<'a>,
}

impl<'a> UntrustedImage<'a> {
    /// Cuts the metadata of an image: exactly [`Header::metadata_len`] bytes, which the caller has copied out
    /// of the adversary's reach. The header is read from these bytes again.
    ///
    /// # Errors
    /// Whatever is wrong with the header, the lengths or the padding.
    pub fn parse(untrusted: &'a [u8]) -> Result<Self, Error> {
        let header = Header::parse(untrusted)?;
        let truncated = Error::Truncated { found: untrusted.len() as u32, expected: header.metadata_len() };
        if untrusted.len() != header.metadata_len() as usize {
            return Err(truncated);
        }
        let rest = untrusted.get(HEADER_BYTES..).ok_or(truncated)?;
        let (delegation, rest) = rest.split_at_checked(header.delegation_len as usize).ok_or(truncated)?;
        let (manifest, rest) = rest.split_at_checked(header.manifest_len as usize).ok_or(truncated)?;
        let (sealing, rest) = rest.split_at_checked(header.sealing_len as usize).ok_or(truncated)?;
        let table_len = (header.chunk_count as usize).checked_mul(ENTRY_BYTES).ok_or(truncated)?;
        let (table, padding) = rest.split_at_checked(table_len).ok_or(truncated)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(Error::Padding);
        }
        let table = Table(table);
        let expected = table.stored_sum();
        if header.payload_len != expected {
            return Err(Error::PayloadLength);
        }
        Ok(Self { header, delegation, manifest, sealing, table })
    }

    /// Verifies the chain from a fused root through the delegations to the manifest, and the manifest against
    /// the policy. `V` says which algorithms are linked.
    ///
    /// Signatures come first: what the delegations and the manifest say is decoded only once it is known who
    /// signed it. Every delegation certificate must have its signature on the manifest, in the same order,
    /// and all must hold.
    ///
    /// # Errors
    /// The first reason to refuse.
    pub fn verify<V: Verifier>(&self, policy: &Policy<'_>) -> Result<VerifiedImage<'a>, Error> {
        let delegation: UntrustedDelegation<'a> = cbor::parse_exact(self.delegation)
            .map_err(|offset| Error::Malformed { part: Part::Delegation, offset })?;
        let signed: UntrustedSigned<'a> = cbor::parse_exact(self.manifest)
            .map_err(|offset| Error::Malformed { part: Part::Manifest, offset })?;
        if !signed.is_manifest() {
            return Err(Error::Malformed { part: Part::Manifest, offset: 0 });
        }
        let trust = Trust { roots: policy.roots, refuse_test_keys: policy.refuse_test_keys };
        let trusted = trust.verify::<V>(&delegation, &signed)?;

        // From here on the bytes of the manifest and of the grants are the owner's.
        let manifest: Manifest<'a> = cbor::parse_exact(signed.payload)
            .map_err(|offset| Error::Malformed { part: Part::Manifest, offset })?;
        check_place(&manifest, policy)?;
        for certificate in delegation.certificates() {
            check_grant(&parse_grant(certificate)?, &manifest)?;
        }
        manifest.check()?;
        let expected = manifest.chunk_count();
        if u64::from(self.header.chunk_count) != expected {
            return Err(Error::ChunkCountWrong { found: self.header.chunk_count });
        }
        let list_signed = equal(&self.table.plain_digest(), manifest.plain_digest);
        if !list_signed.accepts() {
            return Err(Error::PlainDigest);
        }
        // Each decision has refused by itself where it had to; here they are looked at together once more.
        if !trusted.and(list_signed).accepts() || manifest.rollback_index < policy.rollback_floor {
            return Err(Error::Inconsistent);
        }
        Ok(VerifiedImage { image: *self, manifest, manifest_digest: sha256(signed.payload) })
    }
}

/// Checks a signed manifest against what belongs in this place.
fn check_place(manifest: &Manifest<'_>, policy: &Policy<'_>) -> Result<(), Error> {
    let kind = manifest.kind;
    if kind.role().is_none() {
        return Err(Error::KindReserved { kind });
    }
    if kind != policy.kind {
        return Err(Error::KindWrong { found: kind, expected: policy.kind });
    }
    if manifest.board != policy.board {
        return Err(Error::BoardWrong);
    }
    if manifest.rollback_index < policy.rollback_floor {
        return Err(Error::RolledBack { index: manifest.rollback_index, floor: policy.rollback_floor });
    }
    Ok(())
}

/// Checks a signed manifest against what its signer may sign.
fn check_grant(grant: &Grant<'_>, manifest: &Manifest<'_>) -> Result<(), Error> {
    let kind = manifest.kind;
    if kind.role() != Some(grant.role) {
        return Err(Error::RoleWrong { role: grant.role, kind });
    }
    if !grant.kinds.contains(kind) {
        return Err(Error::KindNotDelegated { kind });
    }
    if !grant.boards().any(|board| board == manifest.board) {
        return Err(Error::BoardNotDelegated);
    }
    if manifest.version < grant.min_version || manifest.version > grant.max_version {
        return Err(Error::VersionNotDelegated);
    }
    let algorithm = grant.key.algorithm();
    if kind.stage() && algorithm != Algorithm::Es256 {
        return Err(Error::Algorithm { algorithm });
    }
    Ok(())
}

/// An image whose metadata is the owner's, meant for this place. Its payload is still untrusted: [`Opener`].
#[derive(Clone, Copy)]
pub struct VerifiedImage<'a> {
    image: UntrustedImage<'a>,
    manifest: Manifest<'a>,
    manifest_digest: Digest,
}

impl<'a> VerifiedImage<'a> {
    /// Returns the signed facts.
    pub const fn manifest(&self) -> &Manifest<'a> {
        &self.manifest
    }

    /// Returns the SHA-256 of the manifest: what is measured, and what a bundle names an object by.
    pub const fn manifest_digest(&self) -> &Digest {
        &self.manifest_digest
    }

    /// Returns the header.
    pub const fn header(&self) -> &Header {
        &self.image.header
    }

    /// Returns the delegation part.
    pub(crate) const fn delegation(&self) -> &'a [u8] {
        self.image.delegation
    }

    /// Returns the manifest with its signatures.
    pub(crate) const fn signed_manifest(&self) -> &'a [u8] {
        self.image.manifest
    }

    /// Judges once more what [`Opener::finish`] has judged.
    ///
    /// # Errors
    /// A chunk was left out, opened twice, or let through by a fault.
    pub fn accounts_for(&self, tally: &Tally) -> Result<Opened, Error> {
        tally.judge(self.image.table, self.image.header.chunk_count)
    }

    /// Unwraps the data key of this copy with the key-encryption key of the place where it lies.
    ///
    /// # Errors
    /// A malformed sealing record, a key that does not unwrap, stored lengths that do not fit the sealing.
    pub fn unwrap_key(&self, kek: &Key) -> Result<Opener<'a>, Error> {
        let sealing = Sealing::parse(self.image.sealing)?;
        let mut binding = Sha256::new();
        binding.update(self.image.manifest);
        binding.update(self.image.sealing);
        let key = sealing.unwrap_key(kek, &self.manifest_digest)?;
        Opener::new(key, binding.finish(), sealing.compression, &self.manifest, self.image.table)
    }
}
