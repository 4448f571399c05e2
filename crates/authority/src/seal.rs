//! Sealing of secrets at rest under a key-encryption key.
//!
//! ```text
//! 0   version, 1
//! 1   id of the key-encryption key, 8 bytes
//! 9   salt, 32 random bytes
//! 41  AES-256-GCM ciphertext under HKDF(key-encryption key, salt, label ‖ context)
//! -16 its tag; the context is the associated data
//! ```
//! Every sealing has a key of its own, from a fresh salt, so the nonce is zero. The context names the place of
//! the secret: a sealed key that is moved to another row does not open.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use boot_crypto::host::random;
use boot_crypto::{AES_GCM_TAG_BYTES, GcmKey, Key, hkdf_sha256, labels};
use zeroize::Zeroizing;

use crate::hex;

const VERSION: u8 = 1;
const ID_BYTES: usize = 8;
const SALT_BYTES: usize = 32;

/// Why a secret cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be used.
    #[error("the key-encryption key {}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others than its owner may read the key file.
    #[error("the key-encryption key {} has mode {mode:03o}: others can read it", path.display())]
    Readable {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The environment variable is not set.
    #[error("the environment variable {0} with the key-encryption key is not set")]
    NoVariable(String),
    /// The key is not 64 hexadecimal digits.
    #[error("the key-encryption key in {0} is not 64 hexadecimal digits")]
    NotAKey(String),
    /// The secret was sealed under another key.
    #[error("a secret was sealed under the key {sealed}, and the one given is {given}")]
    OtherKey {
        /// Id of the key that sealed it.
        sealed: String,
        /// Id of the key that was given.
        given: String,
    },
    /// The sealed bytes were altered, or belong to another place.
    #[error("a sealed secret was altered, or moved from another place")]
    Altered,
    /// The sealed bytes are of a format that this release does not know.
    #[error("a sealed secret has a format that this release does not know")]
    Format,
    /// A hardware module, or whatever else holds the key, fails.
    #[error("the holder of the key-encryption key fails: {0}")]
    Holder(String),
}

impl SealError {
    /// Returns what a person does next.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::File { .. } => "Name the file with --kek-file; `init` makes one.",
            Self::Readable { .. } => "chmod 600 it, and think about who has read it.",
            Self::NoVariable(_) | Self::NotAKey(_) => "Give 64 hexadecimal digits: `openssl rand -hex 32`.",
            Self::OtherKey { .. } => "Give the key that this authority was made with.",
            Self::Altered => "Restore the database from a copy; find out first who altered it.",
            Self::Format => "Use the release that wrote the database, or a newer one.",
            Self::Holder(_) => "Look at the hardware module.",
        }
    }
}

/// Holds a key-encryption key: in memory now, in a hardware module later.
pub trait KeyEncryption: Send + Sync {
    /// Seals a secret for the place that `context` names.
    ///
    /// # Errors
    /// The holder's own.
    fn seal(&self, context: &str, secret: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Opens what was sealed for the place that `context` names.
    ///
    /// # Errors
    /// Anything else than that.
    fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError>;
}

/// A key-encryption key in memory.
pub struct LocalKey {
    key: Key,
    id: [u8; ID_BYTES],
}

impl LocalKey {
    /// Takes over a key.
    pub fn new(key: Key) -> Self {
        let mut id = [0; ID_BYTES];
        hkdf_sha256(&[], key.expose(), &[labels::AUTHORITY_KEK_ID], &mut id);
        Self { key, id }
    }

    /// Reads a key from a file of 64 hexadecimal digits that only its owner may read.
    ///
    /// # Errors
    /// [`SealError::File`], [`SealError::Readable`], [`SealError::NotAKey`].
    pub fn from_file(path: &Path) -> Result<Self, SealError> {
        let file = |error| SealError::File { path: path.into(), error };
        let mode = fs::metadata(path).map_err(file)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SealError::Readable { path: path.into(), mode });
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(file)?);
        Self::from_hex(&text).ok_or_else(|| SealError::NotAKey(path.display().to_string()))
    }

    /// Reads a key from an environment variable of 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`SealError::NoVariable`], [`SealError::NotAKey`].
    pub fn from_variable(name: &str) -> Result<Self, SealError> {
        let text = Zeroizing::new(env::var(name).map_err(|_| SealError::NoVariable(name.into()))?);
        Self::from_hex(&text).ok_or_else(|| SealError::NotAKey(name.into()))
    }

    /// Makes a fresh key in a new file.
    ///
    /// # Errors
    /// [`SealError::File`]; an existing file is never overwritten.
    pub fn create(path: &Path) -> Result<Self, SealError> {
        let bytes = Zeroizing::new(random::<32>());
        let text = Zeroizing::new(hex::encode(&*bytes) + "\n");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| SealError::File { path: path.into(), error })?;
        Ok(Self::new(Key::new(*bytes)))
    }

    fn from_hex(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(hex::decode(text.trim_end())?);
        Key::from_slice(&bytes).map(Self::new)
    }

    /// Derives the key of one sealing.
    fn sealing_key(&self, salt: &[u8], context: &str) -> GcmKey {
        let mut key = Zeroizing::new([0; 32]);
        let info: [&[u8]; 2] = [labels::AUTHORITY_SEAL, context.as_bytes()];
        hkdf_sha256(salt, self.key.expose(), &info, &mut key);
        GcmKey::new(&Key::new(*key))
    }
}

impl KeyEncryption for LocalKey {
    fn seal(&self, context: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let salt = random::<SALT_BYTES>();
        let mut data = Zeroizing::new(secret.to_vec());
        let tag = self
            .sealing_key(&salt, context)
            .seal(&[0; 12], context.as_bytes(), &mut data)
            .ok_or(SealError::Format)?;
        Ok([&[VERSION], &self.id[..], &salt, &data, &tag].concat())
    }

    fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let ([version], rest) = sealed.split_first_chunk().ok_or(SealError::Format)?;
        let (id, rest) = rest.split_first_chunk::<ID_BYTES>().ok_or(SealError::Format)?;
        let (salt, rest) = rest.split_first_chunk::<SALT_BYTES>().ok_or(SealError::Format)?;
        let (data, tag) = rest.split_last_chunk::<AES_GCM_TAG_BYTES>().ok_or(SealError::Format)?;
        if *version != VERSION {
            return Err(SealError::Format);
        }
        if *id != self.id {
            return Err(SealError::OtherKey { sealed: hex::encode(id), given: hex::encode(&self.id) });
        }
        let mut secret = Zeroizing::new(data.to_vec());
        self.sealing_key(salt, context)
            .open(&[0; 12], context.as_bytes(), &mut secret, tag)
            .map_err(|_| SealError::Altered)?;
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_in_its_own_place_and_under_its_own_key_only() {
        let key = LocalKey::new(Key::new([7; 32]));
        let sealed = key.seal("a place", b"the secret").unwrap();
        assert_eq!(key.open("a place", &sealed).unwrap().as_slice(), b"the secret");
        assert_ne!(key.seal("a place", b"the secret").unwrap(), sealed, "each sealing has a key of its own");
        assert!(matches!(key.open("another place", &sealed), Err(SealError::Altered)));
        let other = LocalKey::new(Key::new([8; 32]));
        assert!(matches!(other.open("a place", &sealed), Err(SealError::OtherKey { .. })));
    }

    #[test]
    fn every_altered_bit_and_every_cut_is_noticed() {
        let key = LocalKey::new(Key::new([7; 32]));
        let sealed = key.seal("a place", b"the secret").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open("a place", &altered).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(key.open("a place", &sealed[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        let made = LocalKey::create(&path).unwrap();
        let sealed = made.seal("x", b"y").unwrap();
        assert_eq!(LocalKey::from_file(&path).unwrap().open("x", &sealed).unwrap().as_slice(), b"y");
        assert!(matches!(LocalKey::create(&path), Err(SealError::File { .. })), "never overwritten");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(LocalKey::from_file(&path), Err(SealError::Readable { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for text in ["", "00", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64)] {
            fs::write(&path, text).unwrap();
            assert!(matches!(LocalKey::from_file(&path), Err(SealError::NotAKey(_))), "{text}");
        }
    }
}
