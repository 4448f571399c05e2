//! COSE (RFC 9052): keys, COSE_Sign1 and COSE_Sign, in the one shape that Kiln writes.

use crate::cbor::{self, Canonical, Writer, digest_of};
use boot_crypto::Digest;
use minicbor::Decoder;

/// Most delegation certificates, and so most signatures, of an image.
pub const MAX_SIGNATURES: usize = 4;

const TAG_SIGN: u64 = 98;
const TAG_SIGN1: u64 = 18;
const HEADER_ALG: i8 = 1;
const HEADER_CONTENT_TYPE: i8 = 3;
const HEADER_KID: i8 = 4;
const DELEGATION_TYPE: &str = "application/kiln-delegation+cbor";
/// The protected header of every COSE_Sign: the content type `application/kiln-manifest+cbor`.
pub(crate) const MANIFEST_PROTECTED: &[u8] = b"\xA1\x03\x78\x1Eapplication/kiln-manifest+cbor";
/// RSA public exponent 65537.
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// A signature algorithm, by its number in the COSE registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Algorithm {
    /// ECDSA over P-256 with SHA-256.
    Es256 = -7,
    /// RSASSA-PSS with SHA-256, MGF1-SHA-256 and a salt of 32 bytes.
    Ps256 = -37,
}

impl Algorithm {
    fn decode(d: &mut Decoder<'_>) -> Option<Self> {
        match cbor::uint::<i8>(d)? {
            -7 => Some(Self::Es256),
            -37 => Some(Self::Ps256),
            _ => None,
        }
    }
}

/// A public key: the required members of a COSE_Key and no others, so that the hash of its encoding is its RFC 9679
/// thumbprint.
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
        digest_of(|e| self.encode(e))
    }

    /// Returns the one algorithm that the key is used with.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::P256(_) => Algorithm::Es256,
            Self::Rsa(_) => Algorithm::Ps256,
        }
    }
}

impl<'b> Canonical<'b> for PublicKey<'b> {
    fn decode(d: &mut Decoder<'b>) -> Option<Self> {
        let pairs = cbor::map_len(d)?;
        cbor::int(d, 1)?;
        match (pairs, cbor::uint::<u8>(d)?) {
            (4, 2) => {
                cbor::int(d, -1)?;
                cbor::int(d, 1)?;
                cbor::int(d, -2)?;
                let x = cbor::fixed::<32>(d)?;
                cbor::int(d, -3)?;
                let y = cbor::fixed::<32>(d)?;
                let mut key = [0; 64];
                key.iter_mut().zip(x.iter().chain(y)).for_each(|(to, from)| *to = *from);
                Some(Self::P256(key))
            }
            (3, 3) => {
                cbor::int(d, -1)?;
                let modulus = cbor::bytes(d)?;
                cbor::int(d, -2)?;
                let exponent = cbor::bytes(d)?;
                let full_length = modulus.first().is_some_and(|byte| byte & 0x80 != 0);
                let known = matches!(modulus.len(), 384 | 512) && full_length && *exponent == RSA_EXPONENT;
                known.then_some(Self::Rsa(modulus))
            }
            _ => None,
        }
    }

    fn encode(&self, e: &mut Writer<'_>) {
        match self {
            Self::P256(key) => {
                let (x, y) = key.split_at(32);
                e.map(4).int(1).int(2).int(-1).int(1).int(-2).bytes(x).int(-3).bytes(y);
            }
            Self::Rsa(modulus) => {
                e.map(3).int(1).int(3).int(-1).bytes(modulus).int(-2).bytes(&RSA_EXPONENT);
            }
        }
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

/// The protected header of a COSE_Signature: algorithm and thumbprint of the key.
pub(crate) struct SignerHeader<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: &'a Digest,
}

impl<'b> Canonical<'b> for SignerHeader<'b> {
    fn decode(d: &mut Decoder<'b>) -> Option<Self> {
        cbor::map(d, 2)?;
        cbor::int(d, HEADER_ALG)?;
        let algorithm = Algorithm::decode(d)?;
        cbor::int(d, HEADER_KID)?;
        Some(Self { algorithm, kid: cbor::fixed(d)? })
    }

    fn encode(&self, e: &mut Writer<'_>) {
        e.map(2).int(HEADER_ALG).int(self.algorithm as i8).int(HEADER_KID).bytes(self.kid);
    }
}

/// The protected header of a delegation's COSE_Sign1: algorithm (ES256), content type, thumbprint of the root.
pub(crate) struct RootHeader<'a> {
    pub(crate) kid: &'a Digest,
}

impl<'b> Canonical<'b> for RootHeader<'b> {
    fn decode(d: &mut Decoder<'b>) -> Option<Self> {
        cbor::map(d, 3)?;
        cbor::int(d, HEADER_ALG)?;
        cbor::int(d, Algorithm::Es256 as i8)?;
        cbor::int(d, HEADER_CONTENT_TYPE)?;
        if cbor::text(d)? != DELEGATION_TYPE {
            return None;
        }
        cbor::int(d, HEADER_KID)?;
        Some(Self { kid: cbor::fixed(d)? })
    }

    fn encode(&self, e: &mut Writer<'_>) {
        e.map(3).int(HEADER_ALG).int(Algorithm::Es256 as i8);
        e.int(HEADER_CONTENT_TYPE).text(DELEGATION_TYPE).int(HEADER_KID).bytes(self.kid);
    }
}

/// A manifest with its signatures (COSE_Sign): the shape only, nothing is verified.
#[derive(Clone, Copy)]
pub(crate) struct UntrustedSigned<'a> {
    pub(crate) payload: &'a [u8],
    entries: [Option<SignatureEntry<'a>>; MAX_SIGNATURES],
}

impl<'a> UntrustedSigned<'a> {
    pub(crate) fn entries(&self) -> impl Iterator<Item = &SignatureEntry<'a>> {
        self.entries.iter().flatten()
    }

    /// Returns what a signer signs: the SHA-256 of the Sig_structure (RFC 9052 section 4.4).
    pub(crate) fn digest(&self, entry: &SignatureEntry<'_>) -> Digest {
        sign_digest(entry.protected, self.payload)
    }
}

/// Hashes the Sig_structure of a COSE_Signature over a manifest.
pub(crate) fn sign_digest(protected: &[u8], payload: &[u8]) -> Digest {
    digest_of(|e| {
        e.array(5).text("Signature").bytes(MANIFEST_PROTECTED).bytes(protected);
        e.bytes(&[]).bytes(payload);
    })
}

impl<'b> Canonical<'b> for UntrustedSigned<'b> {
    fn decode(d: &mut Decoder<'b>) -> Option<Self> {
        cbor::tag(d, TAG_SIGN)?;
        cbor::array(d, 4)?;
        if cbor::bytes(d)? != MANIFEST_PROTECTED {
            return None;
        }
        cbor::map(d, 0)?;
        let payload = cbor::bytes(d)?;
        let count = usize::try_from(cbor::array_len(d)?).ok()?;
        let mut entries = [None; MAX_SIGNATURES];
        if count == 0 || count > entries.len() {
            return None;
        }
        for entry in entries.iter_mut().take(count) {
            cbor::array(d, 3)?;
            let protected = cbor::bytes(d)?;
            let header: SignerHeader<'_> = cbor::parse_exact(protected).ok()?;
            cbor::map(d, 0)?;
            let signature = cbor::bytes(d)?;
            *entry =
                Some(SignatureEntry { protected, algorithm: header.algorithm, kid: header.kid, signature });
        }
        Some(Self { payload, entries })
    }

    fn encode(&self, e: &mut Writer<'_>) {
        e.tag(TAG_SIGN).array(4).bytes(MANIFEST_PROTECTED).map(0);
        e.bytes(self.payload).array(self.entries().count() as u64);
        for entry in self.entries() {
            e.array(3).bytes(entry.protected).map(0).bytes(entry.signature);
        }
    }
}

/// A delegation certificate (COSE_Sign1): the shape only, nothing is verified.
#[derive(Clone, Copy)]
pub(crate) struct UntrustedCertificate<'a> {
    protected: &'a [u8],
    pub(crate) root: &'a Digest,
    pub(crate) payload: &'a [u8],
    pub(crate) signature: &'a [u8; 64],
}

impl UntrustedCertificate<'_> {
    /// Returns what the root signs: the SHA-256 of the Sig_structure (RFC 9052 section 4.4).
    pub(crate) fn digest(&self) -> Digest {
        sign1_digest(self.protected, self.payload)
    }
}

/// Hashes the Sig_structure of a delegation's COSE_Sign1.
pub(crate) fn sign1_digest(protected: &[u8], payload: &[u8]) -> Digest {
    digest_of(|e| {
        e.array(4).text("Signature1").bytes(protected).bytes(&[]).bytes(payload);
    })
}

impl<'b> Canonical<'b> for UntrustedCertificate<'b> {
    fn decode(d: &mut Decoder<'b>) -> Option<Self> {
        cbor::tag(d, TAG_SIGN1)?;
        cbor::array(d, 4)?;
        let protected = cbor::bytes(d)?;
        let header: RootHeader<'_> = cbor::parse_exact(protected).ok()?;
        cbor::map(d, 0)?;
        let payload = cbor::bytes(d)?;
        Some(Self { protected, root: header.kid, payload, signature: cbor::fixed(d)? })
    }

    fn encode(&self, e: &mut Writer<'_>) {
        e.tag(TAG_SIGN1).array(4).bytes(self.protected).map(0);
        e.bytes(self.payload).bytes(self.signature);
    }
}
