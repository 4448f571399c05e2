//! COSE (RFC 9052): keys, COSE_Sign1 and COSE_Sign, in the one shape that Kiln writes.

use crate::cbor::{self, Decode, Reader, hash_bytes};
use boot_crypto::{Decision, Digest, Sha256, es256_verify};

/// Most delegation certificates, and so most signatures, of an image.
pub const MAX_SIGNATURES: usize = 4;

// Everything about these structures that is constant, as it is encoded.

/// COSE_Key up to x: key type EC2, curve P-256.
const P256_X: &[u8] = b"\xA4\x01\x02\x20\x01\x21\x58\x20";
/// Between x and y.
const P256_Y: &[u8] = b"\x22\x58\x20";
/// COSE_Key up to the modulus: key type RSA.
const RSA_MODULUS: &[u8] = b"\xA3\x01\x03\x20";
/// After the modulus: public exponent 65537.
const RSA_EXPONENT: &[u8] = b"\x21\x43\x01\x00\x01";
/// Tag COSE_Sign1, array of four.
const SIGN1: &[u8] = b"\xD2\x84";
/// Protected header of a certificate up to the key id: ES256, content type.
const SIGN1_PROTECTED: &[u8] = b"\xA3\x01\x26\x03\x78\x20application/kiln-delegation+cbor\x04\x58\x20";
/// Tag COSE_Sign, array of four.
const SIGN: &[u8] = b"\xD8\x62\x84";
/// Protected header of a message's COSE_Sign up to the content type.
const MESSAGE_PROTECTED: &[u8] = b"\xA1\x03";
/// Protected header of a message's COSE_Sign1 up to the content type: ES256.
const SIGN1_MESSAGE_PROTECTED: &[u8] = b"\xA2\x01\x26\x03";
/// Protected header of a manifest's COSE_Sign: content type.
const SIGN_PROTECTED: &[u8] = b"\xA1\x03\x78\x1Eapplication/kiln-manifest+cbor";
/// Protected header of a COSE_Signature up to the algorithm.
const SIGNER_ALGORITHM: &[u8] = b"\xA2\x01";
/// After the algorithm, up to the key id.
const SIGNER_KID: &[u8] = b"\x04\x58\x20";
/// Empty unprotected header.
const UNPROTECTED: &[u8] = b"\xA0";
/// No external associated data.
const NO_EXTERNAL: &[u8] = b"\x40";

/// A signature algorithm, by its number in the COSE registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Algorithm {
    /// ECDSA over P-256 with SHA-256.
    Es256 = -7,
    /// RSASSA-PSS with SHA-256, MGF1-SHA-256 and a salt of 32 bytes.
    Ps256 = -37,
}

impl<'b> Decode<'b> for Algorithm {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        match r.negative()? {
            6 => Some(Self::Es256),
            36 => Some(Self::Ps256),
            _ => None,
        }
    }
}

/// A public key: the required members of a COSE_Key and no others, so that the hash of its encoding is its RFC
/// 9679 thumbprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKey<'a> {
    /// P-256: x followed by y, 32 bytes each.
    P256([u8; 64]),
    /// RSA with the public exponent 65537: the modulus, big-endian, of 3072 or 4096 bits.
    Rsa(&'a [u8]),
}

impl PublicKey<'_> {
    /// Returns the SHA-256 of the key's COSE_Key encoding: its name everywhere in Kiln, fuses included.
    pub fn thumbprint(&self) -> Digest {
        let mut hash = Sha256::new();
        match self {
            Self::P256(key) => {
                let (x, y) = key.split_at(32);
                [P256_X, x, P256_Y, y].into_iter().for_each(|part| hash.update(part));
            }
            Self::Rsa(modulus) => {
                hash.update(RSA_MODULUS);
                hash_bytes(&mut hash, modulus);
                hash.update(RSA_EXPONENT);
            }
        }
        hash.finish()
    }

    /// Returns the one algorithm that the key is used with.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::P256(_) => Algorithm::Es256,
            Self::Rsa(_) => Algorithm::Ps256,
        }
    }
}

impl<'b> Decode<'b> for PublicKey<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        if r.literal(P256_X).is_some() {
            let x = r.raw::<32>()?;
            r.literal(P256_Y)?;
            let y = r.raw::<32>()?;
            let mut key = [0; 64];
            key.iter_mut().zip(x.iter().chain(y)).for_each(|(to, from)| *to = *from);
            return Some(Self::P256(key));
        }
        r.literal(RSA_MODULUS)?;
        let modulus = r.bytes()?;
        r.literal(RSA_EXPONENT)?;
        let full_length = modulus.first().is_some_and(|byte| byte & 0x80 != 0);
        (matches!(modulus.len(), 384 | 512) && full_length).then_some(Self::Rsa(modulus))
    }
}

/// One COSE_Signature: who claims to have signed, and the signature.
#[derive(Clone, Copy)]
pub(crate) struct SignatureEntry<'a> {
    protected: &'a [u8],
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: &'a Digest,
    pub(crate) signature: &'a [u8],
}

impl<'b> Decode<'b> for SignatureEntry<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.array(3)?;
        let protected = r.bytes()?;
        let SignerHeader { algorithm, kid } = cbor::parse_exact(protected).ok()?;
        r.literal(UNPROTECTED)?;
        Some(Self { protected, algorithm, kid, signature: r.bytes()? })
    }
}

/// The protected header of a COSE_Signature: algorithm and thumbprint of the key.
struct SignerHeader<'a> {
    algorithm: Algorithm,
    kid: &'a Digest,
}

impl<'b> Decode<'b> for SignerHeader<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.literal(SIGNER_ALGORITHM)?;
        let algorithm = Algorithm::decode(r)?;
        r.literal(SIGNER_KID)?;
        Some(Self { algorithm, kid: r.raw()? })
    }
}

/// A payload with its signatures (COSE_Sign): the shape only, nothing is verified.
#[derive(Clone, Copy)]
pub(crate) struct UntrustedSigned<'a> {
    body: &'a [u8],
    pub(crate) payload: &'a [u8],
    entries: [Option<SignatureEntry<'a>>; MAX_SIGNATURES],
}

impl<'a> UntrustedSigned<'a> {
    pub(crate) fn entries(&self) -> impl Iterator<Item = &SignatureEntry<'a>> {
        self.entries.iter().flatten()
    }

    /// Returns what a signer signs: the SHA-256 of the Sig_structure (RFC 9052 section 4.4).
    pub(crate) fn digest(&self, entry: &SignatureEntry<'_>) -> Digest {
        sign_digest(self.body, entry.protected, self.payload)
    }

    /// Tells whether what was signed is said to be a manifest.
    pub(crate) fn is_manifest(&self) -> bool {
        self.body == SIGN_PROTECTED
    }

    /// Tells whether what was signed is said to be a message of this content type.
    pub(crate) fn is_message(&self, content_type: &str) -> bool {
        names(self.body, MESSAGE_PROTECTED, content_type)
    }

    /// Returns the content type that what was signed is said to be of.
    #[cfg(feature = "host")]
    pub(crate) fn content_type(&self) -> Option<&'a str> {
        let mut r = Reader::new(self.body);
        r.literal(MESSAGE_PROTECTED)?;
        r.text()
    }
}

impl<'b> Decode<'b> for UntrustedSigned<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.literal(SIGN)?;
        let body = r.bytes()?;
        r.literal(UNPROTECTED)?;
        let payload = r.bytes()?;
        let mut entries = [None; MAX_SIGNATURES];
        let count = r.array_up_to(entries.len()).filter(|count| *count > 0)?;
        for entry in entries.iter_mut().take(count) {
            *entry = Some(SignatureEntry::decode(r)?);
        }
        Some(Self { body, payload, entries })
    }
}

/// Tells whether a protected header is `head` followed by this content type, in its one encoding.
fn names(protected: &[u8], head: &[u8], content_type: &str) -> bool {
    let mut r = Reader::new(protected);
    r.literal(head).and_then(|()| r.text()) == Some(content_type) && r.end().is_some()
}

/// Hashes the Sig_structure of a COSE_Signature.
pub(crate) fn sign_digest(body: &[u8], protected: &[u8], payload: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"\x85\x69Signature");
    hash_bytes(&mut hash, body);
    hash_bytes(&mut hash, protected);
    hash.update(NO_EXTERNAL);
    hash_bytes(&mut hash, payload);
    hash.finish()
}

/// A COSE_Sign1 with a signature of ES256's length: the shape only, nothing is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UntrustedSign1<'a> {
    protected: &'a [u8],
    /// What was signed.
    pub payload: &'a [u8],
    /// r followed by s.
    pub signature: &'a [u8; 64],
}

impl UntrustedSign1<'_> {
    /// Returns what is signed: the SHA-256 of the Sig_structure (RFC 9052 section 4.4).
    pub fn digest(&self) -> Digest {
        sign1_digest(self.protected, self.payload)
    }

    /// Tells whether the protected header is `{1: -7, 3: content type}`, and so what was signed is said to be of
    /// this content type.
    pub fn is_message(&self, content_type: &str) -> bool {
        names(self.protected, SIGN1_MESSAGE_PROTECTED, content_type)
    }

    /// Returns the content type that what was signed is said to be of.
    #[cfg(feature = "host")]
    pub fn content_type(&self) -> Option<&str> {
        let mut r = Reader::new(self.protected);
        r.literal(SIGN1_MESSAGE_PROTECTED)?;
        r.text()
    }

    /// Verifies the signature with a public key, x followed by y.
    pub fn verify(&self, public_key: &[u8; 64]) -> Decision {
        es256_verify(public_key, &self.digest(), self.signature)
    }
}

impl<'b> Decode<'b> for UntrustedSign1<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.literal(SIGN1)?;
        let protected = r.bytes()?;
        r.literal(UNPROTECTED)?;
        Some(Self { protected, payload: r.bytes()?, signature: r.fixed()? })
    }
}

/// A delegation certificate: the shape only, nothing is verified.
#[derive(Clone, Copy)]
pub(crate) struct UntrustedCertificate<'a> {
    pub(crate) sign1: UntrustedSign1<'a>,
    pub(crate) root: &'a Digest,
}

impl<'b> Decode<'b> for UntrustedCertificate<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        let sign1 = UntrustedSign1::decode(r)?;
        let root = sign1.protected.strip_prefix(SIGN1_PROTECTED)?.try_into().ok()?;
        Some(Self { sign1, root })
    }
}

/// Hashes the Sig_structure of a COSE_Sign1 (RFC 9052 section 4.4).
pub fn sign1_digest(protected: &[u8], payload: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"\x84\x6ASignature1");
    hash_bytes(&mut hash, protected);
    hash.update(NO_EXTERNAL);
    hash_bytes(&mut hash, payload);
    hash.finish()
}
