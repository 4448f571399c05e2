//! A list of vectors in bytes.
//!
//! ```text
//!  0     8   magic "KILNVEC1"
//!  then, for each vector:
//!        1   group
//!        1   operation
//!        1   number of fields
//!            for each field: its length (u32, little-endian), then its bytes
//!  end:  1   0xFF
//! ```

use alloc::vec::Vec;

const MAGIC: &[u8; 8] = b"KILNVEC1";
const END: u8 = 0xFF;

/// What a vector is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Group {
    /// SHA-256.
    Sha256 = 0,
    /// HMAC-SHA256, which is the extraction of HKDF.
    Hmac = 1,
    /// HKDF-SHA256.
    Hkdf = 2,
    /// AES-256-GCM.
    AesGcm = 3,
    /// Verification of ECDSA over P-256.
    Es256 = 4,
    /// The same from signatures in DER: certificate requests have them.
    Es256Der = 5,
    /// Signing with ECDSA over P-256.
    Es256Sign = 6,
    /// Public keys on P-256.
    EcKey = 7,
    /// ECDH over P-256.
    Ecdh = 8,
    /// RSASSA-PSS.
    Ps256 = 9,
    /// HMAC_DRBG.
    Drbg = 10,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 11] = [
        Self::Sha256,
        Self::Hmac,
        Self::Hkdf,
        Self::AesGcm,
        Self::Es256,
        Self::Es256Der,
        Self::Es256Sign,
        Self::EcKey,
        Self::Ecdh,
        Self::Ps256,
        Self::Drbg,
    ];

    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Hmac => "HMAC-SHA256",
            Self::Hkdf => "HKDF-SHA256",
            Self::AesGcm => "AES-256-GCM",
            Self::Es256 => "ES256",
            Self::Es256Der => "ES256 in DER",
            Self::Es256Sign => "ES256 signing",
            Self::EcKey => "P-256 keys",
            Self::Ecdh => "ECDH P-256",
            Self::Ps256 => "PS256",
            Self::Drbg => "HMAC_DRBG",
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// What is done with a vector's fields; the last one or two say what has to come out. `yes` is a byte: 1 or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Operation {
    /// message → digest.
    Digest = 0,
    /// seed → digest, by the 1,000 digests of a checkpoint of SHAVS section 6.4.
    DigestChain = 1,
    /// salt, input key material, info → output key material; yes, or another output.
    Hkdf = 2,
    /// key, nonce, associated data, ciphertext, tag → plaintext; yes, or refused.
    GcmOpen = 3,
    /// key, nonce, associated data, plaintext → ciphertext, the first bytes of the tag.
    GcmSeal = 4,
    /// public key, message, signature → yes.
    Verify = 5,
    /// public key, digest, signature → yes.
    VerifyDigest = 6,
    /// public key, digest, signature in DER → yes.
    VerifyDer = 7,
    /// private scalar, digest → signature.
    Sign = 8,
    /// private scalar → public key.
    Public = 9,
    /// private scalar, public key → shared secret; yes, or refused.
    Agree = 10,
    /// modulus, message, signature → yes.
    Ps256 = 11,
    /// entropy, nonce, personalization string, fresh entropy (empty: no reseeding) → the second output.
    Drbg = 12,
}

impl Operation {
    const ALL: [Self; 13] = [
        Self::Digest,
        Self::DigestChain,
        Self::Hkdf,
        Self::GcmOpen,
        Self::GcmSeal,
        Self::Verify,
        Self::VerifyDigest,
        Self::VerifyDer,
        Self::Sign,
        Self::Public,
        Self::Agree,
        Self::Ps256,
        Self::Drbg,
    ];
}

/// A vector as it lies in a list.
#[derive(Clone, Debug)]
pub struct Vector<'a> {
    /// What it is counted under.
    pub group: Group,
    /// What is done with its fields.
    pub operation: Operation,
    /// The fields.
    pub fields: Vec<&'a [u8]>,
}

/// A list is cut off, or holds what this release does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Where in the list.
    pub offset: usize,
}

/// Reads a list; ends after the first error.
pub struct List<'a> {
    bytes: &'a [u8],
    at: usize,
    ended: bool,
}

impl<'a> List<'a> {
    /// Starts to read. What lies behind the end of the list is not looked at.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, ended: false }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// Returns the next vector; `Some(None)` at the end, `None` if there is neither.
    fn read(&mut self) -> Option<Option<Vector<'a>>> {
        if self.at == 0 && self.take(MAGIC.len())? != MAGIC {
            return None;
        }
        let group = self.byte()?;
        if group == END {
            return Some(None);
        }
        let group = Group::from_number(group)?;
        let operation = Operation::ALL.get(usize::from(self.byte()?)).copied()?;
        let mut fields = Vec::new();
        for _ in 0..self.byte()? {
            let len = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
            fields.push(self.take(len as usize)?);
        }
        Some(Some(Vector { group, operation, fields }))
    }
}

impl<'a> Iterator for List<'a> {
    type Item = Result<Vector<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.read() {
            Some(Some(vector)) => Some(Ok(vector)),
            Some(None) => {
                self.ended = true;
                None
            }
            None => {
                self.ended = true;
                Some(Err(Malformed { offset: self.at }))
            }
        }
    }
}

/// The parts of a vector that [`encode`] takes.
pub type Parts<'a> = (Group, Operation, &'a [Vec<u8>]);

/// Writes a list.
///
/// # Panics
/// If a field is 4 GiB long, or a vector has more than 255.
pub fn encode<'a>(vectors: impl IntoIterator<Item = Parts<'a>>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for (group, operation, fields) in vectors {
        let count = u8::try_from(fields.len()).expect("a few fields");
        bytes.extend([group as u8, operation as u8, count]);
        for field in fields {
            bytes.extend(u32::try_from(field.len()).expect("a short field").to_le_bytes());
            bytes.extend(field);
        }
    }
    bytes.push(END);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_list_is_read_as_it_was_written_and_a_cut_one_is_noticed() {
        let fields = [vec![1, 2, 3], vec![], vec![4; 300]];
        let bytes = encode([
            (Group::Hkdf, Operation::GcmSeal, &fields[..]),
            (Group::Drbg, Operation::Drbg, &fields[..1]),
        ]);
        let read: Vec<_> = List::new(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].group, read[0].operation), (Group::Hkdf, Operation::GcmSeal));
        assert_eq!(read[0].fields, fields.each_ref().map(|field| &field[..]));
        assert_eq!(read[1].fields, [&[1, 2, 3][..]]);
        for end in 0..bytes.len() {
            assert!(List::new(&bytes[..end]).any(|vector| vector.is_err()), "{end}");
        }
        for (at, wrong) in [(0, 0), (8, 11), (9, 13)] {
            let mut other = bytes.clone();
            other[at] = wrong;
            assert!(List::new(&other).next().unwrap().is_err(), "{at}");
        }
    }

    #[test]
    fn numbers_are_places_in_the_tables() {
        assert!(Group::ALL.iter().enumerate().all(|(place, group)| *group as usize == place));
        assert!(Operation::ALL.iter().enumerate().all(|(place, operation)| *operation as usize == place));
    }
}
