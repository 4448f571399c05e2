//! What stage0 says about the stage that it enters, signed with the die key.

use boot_crypto::{DIGEST_BYTES, Digest, EcKey, Sha256, es256_verify};

/// COSE_Sign1 up to the payload: tag 18, array of four, protected header, empty unprotected header.
const HEAD: &[u8] = b"\xD2\x84\x58\x25\xA2\x01\x26\x03\x78\x1Fapplication/kiln-statement+cbor\xA0";
/// The protected header within it: ES256 and the content type, as a byte string.
const PROTECTED: core::ops::Range<usize> = 2..HEAD.len() - 1;
/// Sig_structure (RFC 9052 section 4.4) up to the protected header.
const SIG_STRUCTURE: &[u8] = b"\x84\x6ASignature1";
/// Sig_structure between protected header and payload: no external data.
const NO_EXTERNAL: &[u8] = b"\x40";

// The payload, as it is encoded between its values.
const PAYLOAD_STAGE_KEY: &[u8] = b"\x58\x90\xA4\x01\x1A";
const PAYLOAD_CLOSED: &[u8] = b"\x58\x70\xA4\x01\x1A";
const MEASUREMENT: &[u8] = b"\x02\x58\x20";
const FUSE_DIGEST: &[u8] = b"\x03\x58\x20";
const STAGE_KEY: &[u8] = b"\x04\x58\x40";
const CLOSED: &[u8] = b"\x05\x58\x20";
/// Before the signature.
const SIGNATURE: &[u8] = b"\x58\x40";
/// Length of a signature: r followed by s.
const SIGNATURE_BYTES: usize = 64;

/// Least lifecycle whose encoding is the four bytes that a statement has room for; every codeword is above.
const MIN_LIFECYCLE: u32 = 0x1_0000;

/// Whom or what a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// In `Secured` and `Closing`: the public half of the stage's alias key, x followed by y.
    StageKey([u8; 64]),
    /// In `Production`: what this boot proves closed, as [`boot_crypto::closing_digest`] of the install and of the identity
    /// that follows from the fuses.
    Closed(Digest),
}

/// The facts that stage0 vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Lifecycle codeword, as fused.
    pub lifecycle: u32,
    /// Measurement of the stage that stage0 entered: the digest of its manifest.
    pub measurement: Digest,
    /// Digest of the fuse facts, which cover every row that is not chip-specific.
    pub fuse_digest: Digest,
    /// Whom or what the statement is for.
    pub subject: Subject,
}

/// Why a statement is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementError {
    /// The bytes are not the one encoding of a statement.
    Malformed,
    /// The signature is not the die key's over these facts.
    Signature,
}

/// A signed statement, as COSE_Sign1 (RFC 9052 section 4.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SignedStatement {
    bytes: [u8; SignedStatement::MAX_BYTES],
    len: usize,
}

impl SignedStatement {
    /// Length of the longest statement, one for a stage key.
    pub const MAX_BYTES: usize = 254;
    /// Length of a statement for a closed device.
    const CLOSED_BYTES: usize = Self::MAX_BYTES - 32;

    /// Takes a statement as it came, nothing of it checked; `None` if it is longer than any statement.
    pub fn from_untrusted(untrusted: &[u8]) -> Option<Self> {
        let mut statement = Self::new();
        statement.put(untrusted);
        (untrusted.len() <= Self::MAX_BYTES).then_some(statement)
    }

    /// Returns the COSE_Sign1.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn new() -> Self {
        Self { bytes: [0; Self::MAX_BYTES], len: 0 }
    }

    /// Appends what there is room for; the room is that of the longest statement.
    #[inline(never)]
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        let room = self.bytes.iter_mut().skip(self.len);
        room.zip(bytes).for_each(|(to, from)| *to = *from);
        self.len = self.len.saturating_add(bytes.len()).min(Self::MAX_BYTES);
        self
    }

    /// The digest that is signed, once the payload is the last thing put.
    fn digest_to_sign(&self) -> Digest {
        let (head, payload) = self.as_bytes().split_at_checked(HEAD.len()).unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(SIG_STRUCTURE);
        hash.update(head.get(PROTECTED).unwrap_or_default());
        hash.update(NO_EXTERNAL);
        hash.update(payload);
        hash.finish()
    }
}

impl core::fmt::Debug for SignedStatement {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SignedStatement({} bytes)", self.len)
    }
}

impl Statement {
    /// Signs the statement.
    pub fn sign(&self, die_key: &EcKey) -> SignedStatement {
        let mut signed = self.unsigned();
        let signature = die_key.sign(&signed.digest_to_sign());
        signed.put(SIGNATURE).put(&signature);
        signed
    }

    /// Verifies a statement and returns its facts. `die_key` is the public half of the die key, x followed by y,
    /// from a certificate that the caller has verified.
    ///
    /// # Errors
    /// See [`StatementError`].
    pub fn verify(untrusted: &[u8], die_key: &[u8; 64]) -> Result<Self, StatementError> {
        let (untrusted_body, signature) =
            untrusted.split_last_chunk::<SIGNATURE_BYTES>().ok_or(StatementError::Malformed)?;
        let statement = Self::parse(untrusted).ok_or(StatementError::Malformed)?;
        let mut again = statement.unsigned();
        let digest = again.digest_to_sign();
        if again.put(SIGNATURE).as_bytes() != untrusted_body {
            return Err(StatementError::Malformed);
        }
        if es256_verify(die_key, &digest, signature).accepts() {
            Ok(statement)
        } else {
            Err(StatementError::Signature)
        }
    }

    /// Everything before the signature.
    fn unsigned(&self) -> SignedStatement {
        let mut signed = SignedStatement::new();
        let payload = match self.subject {
            Subject::StageKey(_) => PAYLOAD_STAGE_KEY,
            Subject::Closed(_) => PAYLOAD_CLOSED,
        };
        signed.put(HEAD).put(payload).put(&self.lifecycle.to_be_bytes());
        signed.put(MEASUREMENT).put(&self.measurement).put(FUSE_DIGEST).put(&self.fuse_digest);
        match &self.subject {
            Subject::StageKey(key) => signed.put(STAGE_KEY).put(key),
            Subject::Closed(digest) => signed.put(CLOSED).put(digest),
        };
        signed
    }

    /// Takes the values from their places. What lies between them is compared once the statement is encoded again.
    fn parse(untrusted: &[u8]) -> Option<Self> {
        let rest = untrusted.get(HEAD.len() + PAYLOAD_CLOSED.len()..)?;
        let (lifecycle, rest) = rest.split_first_chunk()?;
        let (measurement, rest) = rest.get(MEASUREMENT.len()..)?.split_first_chunk::<DIGEST_BYTES>()?;
        let (fuse_digest, rest) = rest.get(FUSE_DIGEST.len()..)?.split_first_chunk::<DIGEST_BYTES>()?;
        let rest = rest.get(STAGE_KEY.len()..)?;
        let subject = match untrusted.len() {
            SignedStatement::MAX_BYTES => Subject::StageKey(*rest.first_chunk()?),
            SignedStatement::CLOSED_BYTES => Subject::Closed(*rest.first_chunk()?),
            _ => return None,
        };
        let lifecycle = u32::from_be_bytes(*lifecycle);
        (lifecycle >= MIN_LIFECYCLE).then_some(Self {
            lifecycle,
            measurement: *measurement,
            fuse_digest: *fuse_digest,
            subject,
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use minicbor::data::Tag;
    use minicbor::{Decoder, Encoder};
    use std::vec::Vec;

    fn die_key() -> EcKey {
        EcKey::from_scalar(&[0x51; 32]).unwrap()
    }

    fn both() -> [Statement; 2] {
        [Subject::StageKey([4; 64]), Subject::Closed([5; 32])].map(|subject| Statement {
            lifecycle: 0x8123_4567,
            measurement: [2; 32],
            fuse_digest: [3; 32],
            subject,
        })
    }

    fn verify(bytes: &[u8]) -> Result<Statement, StatementError> {
        Statement::verify(bytes, &die_key().public())
    }

    #[test]
    fn what_was_signed_is_verified_and_only_under_the_die_key() {
        for statement in both() {
            let signed = statement.sign(&die_key());
            assert_eq!(verify(signed.as_bytes()), Ok(statement));
            let other = EcKey::from_scalar(&[0x52; 32]).unwrap().public();
            let got = Statement::verify(signed.as_bytes(), &other);
            assert_eq!(got, Err(StatementError::Signature));
            assert_eq!(SignedStatement::from_untrusted(signed.as_bytes()), Some(signed));
        }
        assert_eq!(SignedStatement::from_untrusted(&[0; 255]), None);
    }

    /// Another library reads what this module writes, and finds the shape that RFC 9052 asks for.
    #[test]
    fn an_independent_decoder_finds_cose_sign1() {
        for statement in both() {
            let signed = statement.sign(&die_key());
            let mut d = Decoder::new(signed.as_bytes());
            assert_eq!(d.tag().unwrap(), Tag::new(18));
            assert_eq!(d.array().unwrap(), Some(4));
            let protected = d.bytes().unwrap();
            assert_eq!(d.map().unwrap(), Some(0));
            assert_eq!(d.bytes().unwrap(), payload(&statement));
            let signature = d.bytes().unwrap().try_into().unwrap();
            assert_eq!(d.position(), signed.as_bytes().len());

            let mut p = Decoder::new(protected);
            assert_eq!(p.map().unwrap(), Some(2));
            assert_eq!((p.u8().unwrap(), p.i8().unwrap()), (1, -7));
            assert_eq!((p.u8().unwrap(), p.str().unwrap()), (3, "application/kiln-statement+cbor"));
            assert_eq!(p.position(), protected.len());

            let mut e = Encoder::new(Vec::new());
            e.array(4).unwrap().str("Signature1").unwrap().bytes(protected).unwrap();
            e.bytes(&[]).unwrap().bytes(&payload(&statement)).unwrap();
            let digest = boot_crypto::sha256(&e.into_writer());
            assert!(es256_verify(&die_key().public(), &digest, signature).accepts());
        }
    }

    fn payload(statement: &Statement) -> Vec<u8> {
        let mut e = Encoder::new(Vec::new());
        e.map(4).unwrap().u8(1).unwrap().u32(statement.lifecycle).unwrap();
        e.u8(2).unwrap().bytes(&statement.measurement).unwrap();
        e.u8(3).unwrap().bytes(&statement.fuse_digest).unwrap();
        match statement.subject {
            Subject::StageKey(key) => e.u8(4).unwrap().bytes(&key).unwrap(),
            Subject::Closed(digest) => e.u8(5).unwrap().bytes(&digest).unwrap(),
        };
        e.into_writer()
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_refused() {
        for statement in both() {
            let signed = statement.sign(&die_key());
            let bytes = signed.as_bytes();
            let mut refused = 0;
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.to_vec();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(verify(&bad).is_err(), "bit {bit}");
                refused += 1;
            }
            for len in 0..bytes.len() {
                assert_eq!(verify(&bytes[..len]), Err(StatementError::Malformed), "{len} bytes");
                refused += 1;
            }
            for extra in [1, 32, 64] {
                let longer = [bytes, &[0; 64][..extra]].concat();
                assert_eq!(verify(&longer), Err(StatementError::Malformed), "{extra} more");
                refused += 1;
            }
            assert_eq!(refused, bytes.len() * 9 + 3);
        }
    }

    /// A statement of one kind is never taken for one of the other, and a small lifecycle would have a second
    /// encoding; both are signed rightly here.
    #[test]
    fn what_is_signed_but_not_the_one_encoding_is_refused() {
        let small = Statement { lifecycle: 0xFFFF, ..both()[0] };
        assert_eq!(verify(small.sign(&die_key()).as_bytes()), Err(StatementError::Malformed));

        let mut key_named_install = both()[0].unsigned();
        let at = key_named_install.len - 64 - CLOSED.len();
        assert_eq!(key_named_install.bytes[at], 4);
        key_named_install.bytes[at] = 5;
        let signature = die_key().sign(&key_named_install.digest_to_sign());
        key_named_install.put(SIGNATURE).put(&signature);
        assert_eq!(verify(key_named_install.as_bytes()), Err(StatementError::Malformed));
    }
}
