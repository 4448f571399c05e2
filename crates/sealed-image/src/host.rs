//! Making images: certificates, signatures, sealings.
//!
//! A payload is signed once ([`SignedPayload`]) and sealed as often as there are copies: every sealing draws
//! its own salt and data key, so no two copies share ciphertext. Nothing here judges whether an image makes
//! sense for a device; the `release` crate does that, and tests make images that do not.

mod apart;
mod cose;
mod inspect;

pub use apart::{verify_certificate, verify_manifest};
pub use cose::{certify, delegation, encode_key, sign_manifest, sign_message, sign1_message};
pub use inspect::{Inspected, InspectedCertificate, InspectedManifest, InspectedMessage};

use crate::cbor;
use crate::cose::MAX_SIGNATURES;
use crate::header::{HEADER_BYTES, Header, MAX_METADATA, PAYLOAD_ALIGN};
use crate::opener::{chunk_aad, chunk_nonce};
use crate::sealing::seal_record;
use crate::table::ENTRY_BYTES;
use crate::{Compression, Error, Grant, Kind, Manifest, PublicKey, Version, plain_digest};
use boot_crypto::host::{Es256Key, Ps256Key, random};
use boot_crypto::{Digest, GcmKey, Key, Sha256, sha256};
use core::fmt;
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

/// Whatever a signer fails with: a hardware module has errors of its own.
pub type SignerError = Box<dyn core::error::Error + Send + Sync>;

/// A private key, wherever it is kept.
pub trait Signer {
    /// Returns the public half.
    fn public_key(&self) -> PublicKey<'_>;

    /// Signs a SHA-256 digest with the algorithm of the key; for P-256 the result is r followed by s.
    ///
    /// # Errors
    /// The signer's own.
    fn sign(&self, digest: &Digest) -> Result<Vec<u8>, SignerError>;
}

impl Signer for Es256Key {
    fn public_key(&self) -> PublicKey<'_> {
        PublicKey::P256(self.public())
    }

    fn sign(&self, digest: &Digest) -> Result<Vec<u8>, SignerError> {
        Ok(self.sign(digest).to_vec())
    }
}

impl Signer for Ps256Key {
    fn public_key(&self) -> PublicKey<'_> {
        PublicKey::Rsa(self.modulus())
    }

    fn sign(&self, digest: &Digest) -> Result<Vec<u8>, SignerError> {
        Ok(self.sign(digest))
    }
}

/// Why an image could not be made.
#[derive(Debug)]
pub enum SealError {
    /// A signer failed.
    Signer(SignerError),
    /// There is no signer, or there are more than the format holds.
    SignerCount {
        /// Signers given.
        found: usize,
    },
    /// A root key is P-256; this one is not.
    RootAlgorithm,
    /// A device would refuse the manifest.
    Manifest(Error),
    /// Header, signatures and chunk table together exceed what a reader takes: choose larger chunks.
    MetadataTooLong {
        /// Their length, in bytes.
        found: usize,
    },
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signer(error) => write!(f, "the signer failed: {error}"),
            Self::SignerCount { found } => {
                write!(f, "an image has 1 to {MAX_SIGNATURES} signers, not {found}")
            }
            Self::RootAlgorithm => f.write_str("an owner root signs with ES256"),
            Self::Manifest(error) => write!(f, "a device would refuse the manifest: {error}"),
            Self::MetadataTooLong { found } => {
                write!(f, "metadata of {found} bytes, at most {MAX_METADATA}: choose larger chunks")
            }
        }
    }
}

impl core::error::Error for SealError {}

impl From<Error> for SealError {
    fn from(error: Error) -> Self {
        Self::Manifest(error)
    }
}

/// Encodes what a delegation certificate says.
pub fn encode_grant(grant: &Grant<'_>) -> Vec<u8> {
    grant.encode()
}

/// What a manifest says, but for the sizes and the digest, which follow from the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What the payload is.
    pub kind: Kind,
    /// The board that it is for.
    pub board: String,
    /// Its version.
    pub version: Version,
    /// Compared with the fused floor of the role.
    pub rollback_index: u32,
    /// Physical address where the payload goes; 0 where the reader chooses.
    pub load_address: u64,
    /// Physical address of the first instruction; 0 for what is not code.
    pub entry: u64,
    /// Length of a chunk in bytes: a power of two from 4 KiB to 1 MiB.
    pub chunk_size: u32,
}

impl Facts {
    /// Encodes the manifest of `plain`.
    ///
    /// # Errors
    /// What a device would refuse in it.
    pub fn manifest(&self, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let manifest = Manifest {
            kind: self.kind,
            board: &self.board,
            version: self.version,
            rollback_index: self.rollback_index,
            load_address: self.load_address,
            entry: self.entry,
            plain_size: plain.len() as u64,
            chunk_size: self.chunk_size,
            plain_digest: &[0; 32],
        };
        manifest.check()?;
        let encoded = Manifest { plain_digest: &plain_digest(plain, self.chunk_size), ..manifest }.encode();
        // The names of boards are checked where they are read: a manifest that does not parse is never
        // signed.
        match cbor::parse_exact::<Manifest<'_>>(&encoded) {
            Ok(_) => Ok(encoded),
            Err(offset) => Err(Error::Malformed { part: crate::Part::Manifest, offset }.into()),
        }
    }
}

/// A payload and what was signed about it: what the release pipeline keeps, and seals for each place anew.
#[derive(Clone, Debug)]
pub struct SignedPayload {
    /// The delegation part.
    pub delegation: Vec<u8>,
    /// The signed manifest (COSE_Sign).
    pub manifest: Vec<u8>,
    /// SHA-256 of the manifest itself: its name in bundles and measurements.
    pub manifest_digest: Digest,
    /// Length of a chunk in bytes.
    pub chunk_size: u32,
    /// The payload in the clear.
    pub plain: Vec<u8>,
}

impl SignedPayload {
    /// Signs a payload. `delegation` holds a certificate for each signer, in the same order.
    ///
    /// # Errors
    /// The signers', and facts that every device would refuse.
    pub fn sign(
        facts: &Facts,
        plain: Vec<u8>,
        delegation: &[u8],
        signers: &[&dyn Signer],
    ) -> Result<Self, SealError> {
        let manifest = facts.manifest(&plain)?;
        Self::sign_encoded(&manifest, facts.chunk_size, plain, delegation, signers)
    }

    /// Signs an encoded manifest as it is: tests sign what no device takes.
    ///
    /// # Errors
    /// The signers'.
    pub fn sign_encoded(
        manifest: &[u8],
        chunk_size: u32,
        plain: Vec<u8>,
        delegation: &[u8],
        signers: &[&dyn Signer],
    ) -> Result<Self, SealError> {
        Ok(Self {
            delegation: delegation.to_vec(),
            manifest: sign_manifest(manifest, signers)?,
            manifest_digest: sha256(manifest),
            chunk_size,
            plain,
        })
    }

    /// Makes a sealed image for the place whose key-encryption key is `kek`, with a fresh salt and data key.
    ///
    /// # Errors
    /// [`SealError::MetadataTooLong`].
    pub fn seal(&self, kek: &Key, compression: Compression) -> Result<Vec<u8>, SealError> {
        let data_key = Key::new(random());
        let sealing = seal_record(compression, &random(), &data_key, kek, &self.manifest_digest);
        let mut binding = Sha256::new();
        binding.update(&self.manifest);
        binding.update(&sealing);
        let chunks = self.seal_chunks(&GcmKey::new(&data_key), &binding.finish(), compression);

        let table_end = HEADER_BYTES
            + self.delegation.len()
            + self.manifest.len()
            + sealing.len()
            + chunks.len() * ENTRY_BYTES;
        let payload_offset = table_end.next_multiple_of(PAYLOAD_ALIGN as usize);
        if payload_offset > MAX_METADATA as usize {
            return Err(SealError::MetadataTooLong { found: table_end });
        }
        let payload_len: usize = chunks.iter().map(|chunk| chunk.stored.len()).sum();
        let header = Header {
            delegation_len: self.delegation.len() as u32,
            manifest_len: self.manifest.len() as u32,
            sealing_len: sealing.len() as u32,
            chunk_count: chunks.len() as u32,
            payload_offset: payload_offset as u32,
            payload_len: payload_len as u64,
        };
        let mut image = Vec::with_capacity(payload_offset + payload_len);
        image.extend(header.encode());
        image.extend(&self.delegation);
        image.extend(&self.manifest);
        image.extend(&sealing);
        for chunk in &chunks {
            image.extend(chunk.tag);
            image.extend(chunk.digest);
            image.extend((chunk.stored.len() as u32).to_le_bytes());
        }
        image.resize(payload_offset, 0);
        chunks.iter().for_each(|chunk| image.extend(&chunk.stored));
        Ok(image)
    }

    /// Compresses and encrypts all chunks, on as many threads as there are cores.
    fn seal_chunks(&self, key: &GcmKey, binding: &Digest, compression: Compression) -> Vec<SealedChunk> {
        let chunks: Vec<(u32, &[u8])> = (0..).zip(self.plain.chunks(self.chunk_size as usize)).collect();
        let count = chunks.len() as u32;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let seal = move |(index, plain): &(u32, &[u8])| {
                SealedChunk::seal(plain, key, *index, count, binding, compression)
            };
            let workers: Vec<_> = chunks
                .chunks(chunks.len().div_ceil(threads).max(1))
                .map(|part| scope.spawn(move || part.iter().map(seal).collect::<Vec<_>>()))
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("sealing does not panic")).collect()
        })
    }
}

/// A chunk ready to be stored.
struct SealedChunk {
    tag: [u8; 16],
    digest: Digest,
    stored: Vec<u8>,
}

impl SealedChunk {
    fn seal(
        plain: &[u8],
        key: &GcmKey,
        index: u32,
        count: u32,
        binding: &Digest,
        compression: Compression,
    ) -> Self {
        let mut stored = match compression {
            Compression::None => plain.to_vec(),
            Compression::Lz4 => compress(plain).unwrap_or_else(|| plain.to_vec()),
        };
        let tag = key
            .seal(&chunk_nonce(index), &chunk_aad(index, count, binding), &mut stored)
            .expect("a chunk is not too long");
        Self { tag, digest: sha256(plain), stored }
    }
}

/// Compresses a chunk; `None` where that does not make it shorter.
fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    let mut block = std::vec![0; lz4_flex::block::get_maximum_output_size(plain.len())];
    let length = lz4_flex::block::compress_into(plain, &mut block).ok()?;
    block.truncate(length);
    (length < plain.len()).then_some(block)
}
