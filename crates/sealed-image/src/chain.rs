//! From a fused root through its delegations to what a role signed: the same for images and messages.

use crate::cose::{PublicKey, SignatureEntry, UntrustedCertificate, UntrustedSigned};
use crate::delegation::UntrustedDelegation;
use crate::{Error, Grant, Part, cbor};
use boot_crypto::{Decision, Digest, equal, es256_verify, test_keys};

/// The signature algorithms that a stage links.
pub trait Verifier {
    /// Verifies a signature on a SHA-256 digest; `None` if the key's algorithm is not supported.
    fn verify(key: &PublicKey<'_>, digest: &Digest, signature: &[u8]) -> Option<Decision>;
}

/// ES256 only: no heap.
pub enum Es256 {}

impl Verifier for Es256 {
    fn verify(key: &PublicKey<'_>, digest: &Digest, signature: &[u8]) -> Option<Decision> {
        match (key, signature.try_into()) {
            (PublicKey::P256(key), Ok(signature)) => Some(es256_verify(key, digest, signature)),
            (PublicKey::P256(_), Err(_)) => Some(Decision::REFUSE),
            (PublicKey::Rsa(_), _) => None,
        }
    }
}

/// ES256 and PS256.
#[cfg(feature = "rsa")]
pub enum Es256AndPs256 {}

#[cfg(feature = "rsa")]
impl Verifier for Es256AndPs256 {
    fn verify(key: &PublicKey<'_>, digest: &Digest, signature: &[u8]) -> Option<Decision> {
        match key {
            PublicKey::Rsa(modulus) => Some(boot_crypto::ps256_verify(modulus, digest, signature)),
            PublicKey::P256(_) => Es256::verify(key, digest, signature),
        }
    }
}

/// An owner root that the fuses hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// Thumbprint of the root key.
    pub digest: Digest,
    /// Whether it was revoked since.
    pub revoked: bool,
}

/// Whom to trust: none of this comes from what is verified.
#[derive(Clone, Copy)]
pub(crate) struct Trust<'a> {
    pub(crate) roots: &'a [Root],
    pub(crate) refuse_test_keys: bool,
}

impl Trust<'_> {
    /// Verifies that every delegation certificate is the root's and has its signature on the payload, in the same
    /// order. `V` says which algorithms are linked. What a delegation says is decoded only once its signature holds;
    /// whether it covers the payload is the caller's to check.
    #[inline]
    pub(crate) fn verify<V: Verifier>(
        &self,
        delegation: &UntrustedDelegation<'_>,
        signed: &UntrustedSigned<'_>,
    ) -> Result<Decision, Error> {
        let root = self.root(&delegation.root_key)?;
        let delegations = delegation.certificates().count() as u32;
        let signatures = signed.entries().count() as u32;
        if delegations != signatures {
            return Err(Error::SignatureCount { delegations, signatures });
        }
        let mut trusted = root.known;
        for (index, (certificate, entry)) in (0_u32..).zip(delegation.certificates().zip(signed.entries())) {
            let signed_before = |other: &SignatureEntry<'_>| equal(other.kid, entry.kid).accepts();
            if signed.entries().take(index as usize).any(signed_before) {
                return Err(Error::SignerTwice { index });
            }
            let by_root = root.verify(certificate);
            if !by_root.accepts() {
                return Err(Error::DelegationSignature { index });
            }
            let grant = parse_grant(certificate)?;
            let by_role = self.signer::<V>(&grant.key, signed, entry, index)?;
            if !by_role.accepts() {
                return Err(Error::Signature { index });
            }
            trusted = trusted.and(by_root).and(by_role);
        }
        Ok(trusted)
    }

    /// Verifies a delegation certificate that lies by itself, and returns what it says.
    #[cfg(feature = "host")]
    pub(crate) fn verify_certificate<'a>(
        &self,
        root: &PublicKey<'_>,
        certificate: &UntrustedCertificate<'a>,
    ) -> Result<Grant<'a>, Error> {
        let root = self.root(root)?;
        if !root.verify(certificate).accepts() {
            return Err(Error::DelegationSignature { index: 0 });
        }
        let grant = parse_grant(certificate)?;
        self.refuse_test_key(&grant.key.thumbprint())?;
        Ok(grant)
    }

    fn root(&self, key: &PublicKey<'_>) -> Result<KnownRoot, Error> {
        let PublicKey::P256(point) = key else {
            return Err(Error::Algorithm { algorithm: key.algorithm() });
        };
        let thumbprint = key.thumbprint();
        let mut known = Decision::REFUSE;
        for root in self.roots {
            let same = equal(&root.digest, &thumbprint);
            if same.accepts() {
                if root.revoked {
                    return Err(Error::RootRevoked);
                }
                known = same;
            }
        }
        if !known.accepts() {
            return Err(Error::RootUnknown);
        }
        self.refuse_test_key(&thumbprint)?;
        Ok(KnownRoot { key: *point, thumbprint, known })
    }

    fn refuse_test_key(&self, thumbprint: &Digest) -> Result<(), Error> {
        if self.refuse_test_keys && test_keys::contains(thumbprint) {
            return Err(Error::TestKey);
        }
        Ok(())
    }

    fn signer<V: Verifier>(
        &self,
        key: &PublicKey<'_>,
        signed: &UntrustedSigned<'_>,
        entry: &SignatureEntry<'_>,
        index: u32,
    ) -> Result<Decision, Error> {
        let thumbprint = key.thumbprint();
        self.refuse_test_key(&thumbprint)?;
        let named = equal(entry.kid, &thumbprint);
        if !named.accepts() || entry.algorithm != key.algorithm() {
            return Err(Error::Signature { index });
        }
        let verified = V::verify(key, &signed.digest(entry), entry.signature)
            .ok_or(Error::Algorithm { algorithm: entry.algorithm })?;
        Ok(named.and(verified))
    }
}

/// An owner root, known to be fused and not revoked.
struct KnownRoot {
    key: [u8; 64],
    thumbprint: Digest,
    known: Decision,
}

impl KnownRoot {
    /// Verifies the root's signature on a delegation certificate that names this root.
    fn verify(&self, certificate: &UntrustedCertificate<'_>) -> Decision {
        equal(certificate.root, &self.thumbprint).and(certificate.sign1.verify(&self.key))
    }
}

pub(crate) fn parse_grant<'a>(certificate: &UntrustedCertificate<'a>) -> Result<Grant<'a>, Error> {
    cbor::parse_exact(certificate.sign1.payload)
        .map_err(|offset| Error::Malformed { part: Part::Delegation, offset })
}
