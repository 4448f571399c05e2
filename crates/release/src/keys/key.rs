//! One key: private, in a file or on a token, and public, as PEM.

use super::folder::ReleaseProfile;
use super::{KeyPlace, Passphrase, TokenKey, TokenUri};
use crate::{Error, files, pem};
use boot_crypto::Digest;
use boot_crypto::host::{
    Es256Key, Ps256Key, SigningKeyError, es256_public_from_pem, es256_public_pem, ps256_public_from_pem,
    ps256_public_pem,
};
use sealed_image::PublicKey;
use sealed_image::host::{SealError, Signer, SignerError};
use std::path::Path;
use zeroize::Zeroizing;

/// How a key signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// ECDSA over P-256 with SHA-256 (RFC 9053, 2.1).
    #[default]
    Es256,
    /// RSASSA-PSS with SHA-256 and a modulus of 3072 bits (RFC 8230, 2).
    Ps256Of3072,
    /// The same with a modulus of 4096 bits.
    Ps256Of4096,
}

impl KeyAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Es256, Self::Ps256Of3072, Self::Ps256Of4096];

    /// Returns the name in commands and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "es256",
            Self::Ps256Of3072 => "ps256-3072",
            Self::Ps256Of4096 => "ps256-4096",
        }
    }

    /// Returns the bits of the modulus; `None` for what is not RSA.
    pub(crate) const fn modulus_bits(self) -> Option<u32> {
        match self {
            Self::Es256 => None,
            Self::Ps256Of3072 => Some(3072),
            Self::Ps256Of4096 => Some(4096),
        }
    }
}

/// A public key that belongs to nobody else's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicPart {
    /// P-256: x followed by y.
    P256([u8; 64]),
    /// RSA with the public exponent 65537: the modulus, big-endian.
    Rsa(Vec<u8>),
}

impl PublicPart {
    /// Returns the key as images hold it.
    pub fn key(&self) -> PublicKey<'_> {
        match self {
            Self::P256(point) => PublicKey::P256(*point),
            Self::Rsa(modulus) => PublicKey::Rsa(modulus),
        }
    }

    /// Returns how the key signs.
    pub fn algorithm(&self) -> KeyAlgorithm {
        match self {
            Self::P256(_) => KeyAlgorithm::Es256,
            Self::Rsa(modulus) if modulus.len() == 512 => KeyAlgorithm::Ps256Of4096,
            Self::Rsa(_) => KeyAlgorithm::Ps256Of3072,
        }
    }

    /// Returns the key of a root, x followed by y: it is P-256.
    ///
    /// # Errors
    /// An RSA key.
    pub fn as_root(&self) -> Result<[u8; 64], Error> {
        match self {
            Self::P256(point) => Ok(*point),
            Self::Rsa(_) => Err(SealError::RootAlgorithm.into()),
        }
    }

    /// Reads a public key from PEM (SubjectPublicKeyInfo), as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no such key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = files::read_text(path)?;
        Self::from_pem(&text).map_err(|error| Error::KeyFile { path: path.into(), error })
    }

    /// Reads a public key from the text of its file.
    pub(crate) fn from_pem(text: &str) -> Result<Self, SigningKeyError> {
        match es256_public_from_pem(text) {
            Ok(point) => Ok(Self::P256(point)),
            Err(none) => match ps256_public_from_pem(text) {
                Ok(modulus) => Ok(Self::Rsa(modulus)),
                Err(SigningKeyError::NotRsaPublicPem) => Err(none),
                Err(refused) => Err(refused),
            },
        }
    }

    /// Writes the key as PEM.
    pub(crate) fn to_pem(&self) -> Result<String, SigningKeyError> {
        match self {
            Self::P256(point) => es256_public_pem(point),
            Self::Rsa(modulus) => ps256_public_pem(modulus),
        }
    }
}

impl From<PublicKey<'_>> for PublicPart {
    fn from(key: PublicKey<'_>) -> Self {
        match key {
            PublicKey::P256(point) => Self::P256(point),
            PublicKey::Rsa(modulus) => Self::Rsa(modulus.into()),
        }
    }
}

/// A private key in memory.
enum FileKey {
    Es256(Es256Key),
    Ps256(Box<Ps256Key>),
}

impl FileKey {
    fn generate(algorithm: KeyAlgorithm) -> Self {
        match algorithm.modulus_bits() {
            None => Self::Es256(Es256Key::generate()),
            Some(bits) => Self::Ps256(Box::new(
                Ps256Key::generate(bits).expect("each algorithm has a length that is taken"),
            )),
        }
    }

    fn from_pem(text: &str) -> Result<Self, SigningKeyError> {
        match Es256Key::from_pem(text) {
            Ok(key) => Ok(Self::Es256(key)),
            Err(none) => match Ps256Key::from_pem(text) {
                Ok(key) => Ok(Self::Ps256(Box::new(key))),
                Err(SigningKeyError::NotRsaPem) => Err(none),
                Err(refused) => Err(refused),
            },
        }
    }

    fn from_encrypted_pem(text: &str, passphrase: &str) -> Result<Self, SigningKeyError> {
        match Es256Key::from_encrypted_pem(text, passphrase) {
            Err(SigningKeyError::OtherKind) => {
                Ps256Key::from_encrypted_pem(text, passphrase).map(|key| Self::Ps256(Box::new(key)))
            }
            key => key.map(Self::Es256),
        }
    }

    fn to_pem(&self, passphrase: Option<&Passphrase>) -> Zeroizing<String> {
        match (self, passphrase) {
            (Self::Es256(key), None) => key.to_pem(),
            (Self::Es256(key), Some(passphrase)) => key.to_encrypted_pem(passphrase.expose()),
            (Self::Ps256(key), None) => key.to_pem(),
            (Self::Ps256(key), Some(passphrase)) => key.to_encrypted_pem(passphrase.expose()),
        }
    }

    fn signer(&self) -> &dyn Signer {
        match self {
            Self::Es256(key) => key,
            Self::Ps256(key) => &**key,
        }
    }
}

/// An owner's private key: in a file, or on a token.
pub struct OwnerKey(Kept);

enum Kept {
    File(FileKey),
    Token(TokenKey),
}

impl OwnerKey {
    /// Makes a fresh key, which is in no file yet.
    pub(super) fn generate(algorithm: KeyAlgorithm) -> Self {
        Self(Kept::File(FileKey::generate(algorithm)))
    }

    /// Makes a fresh key on a token.
    pub(super) fn generate_on(uri: &TokenUri, algorithm: KeyAlgorithm) -> Result<Self, Error> {
        TokenKey::generate(uri, algorithm).map(|key| Self(Kept::Token(key)))
    }

    /// Opens a key on a token.
    pub(super) fn open_on(uri: &TokenUri) -> Result<Self, Error> {
        TokenKey::open(uri).map(|key| Self(Kept::Token(key)))
    }

    /// Reads a key from its file, PKCS#8 in PEM, or opens the one that the URI in the file names.
    ///
    /// # Errors
    /// A file that is not there or holds neither, [`Error::Passphrase`] and [`Error::Token`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::read_for(ReleaseProfile::Development, path, &mut None)
    }

    pub(super) fn read_for(
        profile: ReleaseProfile,
        path: &Path,
        asked: &mut Option<Passphrase>,
    ) -> Result<Self, Error> {
        let text = files::read_text(path)?;
        if text.starts_with("pkcs11:") || path.extension().is_some_and(|extension| extension == "uri") {
            let uri = TokenUri::parse(text.trim_end()).map_err(|error| match error {
                Error::Token { fault, .. } => Error::Token { uri: path.display().to_string(), fault },
                error => error,
            })?;
            return Self::open_on(&uri);
        }
        match profile {
            ReleaseProfile::Development => {
                pem::open(&text, path, asked, FileKey::from_pem, FileKey::from_encrypted_pem)
                    .map(|key| Self(Kept::File(key)))
            }
            ReleaseProfile::Production => Err(Error::KeyInFile { path: path.into() }),
        }
    }

    /// Returns what goes into the file of the key, or of its name.
    pub(super) fn to_text(&self, place: &KeyPlace<'_>) -> Zeroizing<String> {
        match (&self.0, place) {
            (Kept::File(key), KeyPlace::Files(passphrase)) => key.to_pem(Some(passphrase)),
            (Kept::File(key), _) => key.to_pem(None),
            (Kept::Token(key), _) => format!("{}\n", key.uri()).into(),
        }
    }

    /// Returns the key on its token; `None` for one in a file.
    pub(super) fn on_token(&self) -> Option<&TokenKey> {
        match &self.0 {
            Kept::Token(key) => Some(key),
            Kept::File(_) => None,
        }
    }

    /// Returns the public half.
    pub fn public(&self) -> PublicPart {
        self.public_key().into()
    }

    fn signer(&self) -> &dyn Signer {
        match &self.0 {
            Kept::File(key) => key.signer(),
            Kept::Token(key) => key,
        }
    }
}

impl Signer for OwnerKey {
    fn public_key(&self) -> PublicKey<'_> {
        self.signer().public_key()
    }

    fn sign(&self, digest: &Digest) -> Result<Vec<u8>, SignerError> {
        self.signer().sign(digest)
    }
}
