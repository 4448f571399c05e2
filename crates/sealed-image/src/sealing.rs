//! How one copy of an image is encrypted.

use crate::cbor::{self, Decode, Reader};
use crate::{Error, Part};
use boot_crypto::{AES_GCM_TAG_BYTES, Digest, GcmKey, Key, wrap_key};
use zeroize::Zeroize;

/// AES-256-GCM, the only cipher so far.
const CIPHER_AES_256_GCM: u8 = 1;
/// A wrapping key wraps one data key only, so its nonce may be constant.
const WRAP_NONCE: [u8; 12] = [0; 12];
/// A data key and its tag.
pub(crate) const WRAPPED_BYTES: usize = 32 + AES_GCM_TAG_BYTES;
/// Length of a sealing record: every field has a fixed length.
pub(crate) const SEALING_BYTES: usize = 8 + 32 + 3 + WRAPPED_BYTES;

/// How the payload was compressed before it was encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Compression {
    /// Not at all: chunks are stored in their plain length.
    None = 0,
    /// Each chunk by itself as one LZ4 block, where that makes it shorter.
    Lz4 = 1,
}

/// The sealing record.
pub(crate) struct Sealing<'a> {
    pub(crate) compression: Compression,
    salt: &'a [u8; 32],
    wrapped: &'a [u8; WRAPPED_BYTES],
}

impl<'a> Sealing<'a> {
    pub(crate) fn parse(untrusted: &'a [u8]) -> Result<Self, Error> {
        cbor::parse_exact(untrusted).map_err(|offset| Error::Malformed { part: Part::Sealing, offset })
    }

    /// Unwraps the data key, which works only for the manifest that it was wrapped for.
    pub(crate) fn unwrap_key(&self, kek: &Key, manifest: &Digest) -> Result<GcmKey, Error> {
        let (wrapped, tag) = self.wrapped.split_first_chunk::<32>().ok_or(Error::KeyUnwrap)?;
        let tag = tag.first_chunk().ok_or(Error::KeyUnwrap)?;
        let mut data_key = *wrapped;
        GcmKey::new(&wrap_key(kek, self.salt))
            .open(&WRAP_NONCE, manifest, &mut data_key, tag)
            .map_err(|_| Error::KeyUnwrap)?;
        let key = Key::new(data_key);
        data_key.zeroize();
        Ok(GcmKey::new(&key))
    }
}

/// Encodes the record of a new sealing: on a device as on a host, and so without a heap.
pub(crate) fn seal_record(
    compression: Compression,
    salt: &[u8; 32],
    data_key: &Key,
    kek: &Key,
    manifest: &Digest,
) -> [u8; SEALING_BYTES] {
    let mut wrapped = *data_key.expose();
    let sealed = GcmKey::new(&wrap_key(kek, salt)).seal(&WRAP_NONCE, manifest, &mut wrapped);
    // Fails for what is longer than 64 GiB only; such a record would hold no key.
    let tag = sealed.unwrap_or_else(|| {
        wrapped.zeroize();
        [0; AES_GCM_TAG_BYTES]
    });
    let parts: [&[u8]; 6] = [
        &[0xA4, 1, CIPHER_AES_256_GCM, 2, compression as u8, 3, 0x58, 32],
        salt,
        &[4, 0x58],
        &[WRAPPED_BYTES as u8],
        &wrapped,
        &tag,
    ];
    let mut record = [0; SEALING_BYTES];
    record.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
    record
}

impl<'b> Decode<'b> for Sealing<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(4)?;
        r.key(1)?;
        r.key(CIPHER_AES_256_GCM)?;
        r.key(2)?;
        let compression = match r.uint::<u8>()? {
            0 => Compression::None,
            1 => Compression::Lz4,
            _ => return None,
        };
        r.key(3)?;
        let salt = r.fixed()?;
        r.key(4)?;
        Some(Self { compression, salt, wrapped: r.fixed()? })
    }
}
