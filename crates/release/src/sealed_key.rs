//! The content key of a package, sealed to the authority.
//!
//! ```text
//! content-key.sealed = { 1: 1,                   form
//!                        2: recipient,           thumbprint of the authority's sealing key
//!                        3: package,             SHA-256 of the `info` below: which package it opens
//!                        4: encapsulated key,    65 bytes
//!                        5: ciphertext and tag } 48 bytes
//! HPKE (RFC 9180), base mode, DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM
//! info = "kiln v1 sealed content key" ‖ [board, version, name of the release, package id, SHA-256 of package.img,
//!        measurements of stage1 and stage2, owner root, provisioning key tag, floors in Secured and in Production,
//!        closing measurement]
//! ```
//!
//! It is strict CBOR, one encoding each.
//!
//! # Threats
//! *Whoever carries it*, or reads it wherever it lies, gets no key: only the authority's private sealing key opens it.
//!
//! *Whoever passes it off as that of another package*, or alters `release.json` on the way to the authority, so that a lot is
//! made with other fuses or measurements than the owner released: it opens for all that is known of its own package, and
//! for nothing else. What stands in the clear is only there to say what is wrong; it decides nothing.
//!
//! *Whoever seals another key* can, as base mode proves no sender: such a key opens no package. That the file is the
//! owner's is said by the release manifest, which lists it.
//!
//! *Whoever hands the owner a key of their own* in place of the authority's gets all keys sealed to it. So its file says what
//! it is for, and its thumbprint is printed wherever it is made, exported and used: compare it.

use crate::files;
use crate::{ContentKey, Error, PackageFacts, Profile, hex};
use boot_crypto::host::{
    ENCAPSULATED_KEY_BYTES, SealingKey, es256_public_from_pem, es256_public_pem, seal_to,
};
use boot_crypto::{AES_GCM_TAG_BYTES, Digest, Key, labels, sha256};
use sealed_image::PublicKey;
use sealed_image::cbor::{self, Decode, Reader};
use serde_json::{Value, json};
use std::path::Path;

/// The form that this release writes and reads.
const FORM: u8 = 1;
/// A sealed key in bytes: 32, and the tag.
const SEALED_BYTES: usize = 32 + AES_GCM_TAG_BYTES;
/// What the file of a sealing key begins with, before its thumbprint: so that no other public key is taken for one.
const PURPOSE: &str = "Kiln authority, sealing key ";

/// The public key that content keys are sealed to: an authority's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityKey([u8; 64]);

impl AuthorityKey {
    /// Takes over a public key: x followed by y.
    pub fn new(public: [u8; 64]) -> Self {
        Self(public)
    }

    /// Returns the thumbprint, which people compare.
    pub fn thumbprint(&self) -> Digest {
        PublicKey::P256(self.0).thumbprint()
    }

    /// Writes the key as a file: a line that says what it is for, with its thumbprint, and the key in PEM.
    ///
    /// # Errors
    /// A point that is not on the curve.
    pub fn to_text(&self) -> Result<String, Error> {
        let pem = es256_public_pem(&self.0)
            .map_err(|error| Error::KeyFile { path: "the sealing key".into(), error })?;
        Ok(format!("{PURPOSE}{}\n{pem}", hex(&self.thumbprint())))
    }

    /// Reads a key from its file.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what [`to_text`](Self::to_text) writes; a published test key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = files::read_text(path)?;
        let key = Self::parse(&text).ok_or_else(|| Error::AuthorityKeyFile { path: path.into() })?;
        Profile::Production.admit(&key.thumbprint(), "the authority's sealing key")?;
        Ok(key)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (thumbprint, pem) = text.strip_prefix(PURPOSE)?.split_once('\n')?;
        let key = Self(es256_public_from_pem(pem).ok()?);
        (thumbprint == hex(&key.thumbprint())).then_some(key)
    }
}

/// Why a sealed content key cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedKeyFault {
    /// It is none, or of a form that this release does not know.
    #[error("it is no sealed content key of a form that this release reads")]
    Form,
    /// It is sealed to another authority.
    #[error("it is sealed to the authority with the sealing key {}, and this one has {}", hex(&.sealed[..]), hex(&.ours[..]))]
    OtherAuthority {
        /// The thumbprint of the key that it is sealed to.
        sealed: Digest,
        /// The thumbprint of the key that was to open it.
        ours: Digest,
    },
    /// It is the key of another package, or of this one with other facts.
    #[error("it is not the key of the package that release.json describes")]
    OtherPackage,
    /// It was altered.
    #[error("it was altered: it does not open")]
    Altered,
}

impl SealedKeyFault {
    /// Returns what a person does next.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Form => "Give content-key.sealed of the release's folder, with a matching release of Kiln.",
            Self::OtherAuthority { .. } => {
                "Take it to that authority, or make the release anew with this one's key: `kiln authority key export` writes it."
            }
            Self::OtherPackage => "Give key and package of one release folder, as `kiln release` wrote it.",
            Self::Altered => "Take the release from its source again, and ask who altered it.",
        }
    }
}

/// A content key, sealed to an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedContentKey {
    recipient: Digest,
    package: Digest,
    encapsulated: [u8; ENCAPSULATED_KEY_BYTES],
    sealed: [u8; SEALED_BYTES],
}

impl SealedContentKey {
    /// Returns the thumbprint of the sealing key that opens it.
    pub fn recipient(&self) -> Digest {
        self.recipient
    }

    /// Tells whether it says that it is the key of this package; only the authority can tell whether that is so.
    pub fn is_of(&self, facts: &PackageFacts) -> bool {
        self.package == sha256(&info(facts))
    }

    /// Reads it from its file.
    ///
    /// # Errors
    /// [`Error::SealedKey`], and a file that cannot be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let untrusted = files::read(path)?;
        Self::decode_exact(&untrusted).map_err(|fault| Error::SealedKey { path: path.into(), fault })
    }

    /// Reads it from bytes.
    ///
    /// # Errors
    /// [`SealedKeyFault::Form`].
    pub fn decode_exact(untrusted: &[u8]) -> Result<Self, SealedKeyFault> {
        cbor::parse_exact(untrusted).map_err(|_| SealedKeyFault::Form)
    }

    /// Writes it to a file of its own.
    ///
    /// # Errors
    /// A file that cannot be written, or is there already.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        files::write_new(path, &self.encode(), files::Readers::Anyone)
    }

    /// Writes it as bytes.
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(|e| {
            e.map(5)?.u8(1)?.u8(FORM)?.u8(2)?.bytes(&self.recipient)?.u8(3)?.bytes(&self.package)?;
            e.u8(4)?.bytes(&self.encapsulated)?.u8(5)?.bytes(&self.sealed)?;
            Ok(())
        })
    }

    /// Opens it, for the package that it belongs to.
    ///
    /// # Errors
    /// Whatever it is instead.
    pub fn open(&self, key: &SealingKey, facts: &PackageFacts) -> Result<ContentKey, SealedKeyFault> {
        let ours = AuthorityKey::new(key.public()).thumbprint();
        if self.recipient != ours {
            return Err(SealedKeyFault::OtherAuthority { sealed: self.recipient, ours });
        }
        if !self.is_of(facts) {
            return Err(SealedKeyFault::OtherPackage);
        }
        let opened = key.open(&self.encapsulated, &info(facts), &self.sealed);
        opened.and_then(|key| Key::from_slice(&key)).map(ContentKey).ok_or(SealedKeyFault::Altered)
    }

    /// Describes it.
    pub(crate) fn inspect(&self) -> Value {
        json!({
            "artefact": "sealed content key",
            "sealed to": hex(&self.recipient),
            "package digest": hex(&self.package),
            "algorithm": "HPKE base, DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM",
        })
    }
}

impl Decode<'_> for SealedContentKey {
    fn decode(r: &mut Reader<'_>) -> Option<Self> {
        r.map(5)?;
        r.key(1)?;
        r.key(FORM)?;
        r.key(2)?;
        let recipient = *r.fixed()?;
        r.key(3)?;
        let package = *r.fixed()?;
        r.key(4)?;
        let encapsulated = *r.fixed()?;
        r.key(5)?;
        Some(Self { recipient, package, encapsulated, sealed: *r.fixed()? })
    }
}

impl ContentKey {
    /// Seals the key to an authority, for its package.
    ///
    /// # Errors
    /// A public key that is not on the curve.
    pub fn seal(&self, to: &AuthorityKey, facts: &PackageFacts) -> Result<SealedContentKey, Error> {
        let info = info(facts);
        let sealed = seal_to(&to.0, &info, self.0.expose());
        let sealed = sealed.and_then(|(encapsulated, sealed)| {
            Some(SealedContentKey {
                recipient: to.thumbprint(),
                package: sha256(&info),
                encapsulated,
                sealed: sealed.try_into().ok()?,
            })
        });
        sealed.ok_or_else(|| Error::AuthorityKeyFile { path: "the sealing key".into() })
    }
}

/// What a key is sealed for: all that is known of its package.
fn info(facts: &PackageFacts) -> Vec<u8> {
    let policy = &facts.policy;
    let facts = cbor::encode(|e| {
        e.array(12)?.str(&facts.board)?.u64(facts.version.0)?.str(&facts.release)?;
        e.bytes(&facts.package_id)?.bytes(&facts.package_digest)?;
        e.bytes(&facts.stage1_measurement)?.bytes(&facts.stage2_measurement)?;
        e.bytes(&policy.root_digest)?.bytes(&policy.provisioning_key_tag)?;
        e.bytes(&policy.secured_floors)?
            .bytes(&policy.production_floors)?
            .bytes(&policy.closing_measurement)?;
        Ok(())
    });
    [labels::SEALED_CONTENT_KEY, &facts].concat()
}
