//! What keys are called, and their files.

use sealed_image::Role;
use std::path::{Path, PathBuf};

/// The file of the root's public key.
pub const ROOT_PUBLIC: &str = "owner-root.pub.pem";

/// A key of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyName {
    /// The root, which delegates.
    Root,
    /// The key of a role.
    Role(Role),
}

impl KeyName {
    /// Every key that an owner may have, but for the authority's, which the authority makes.
    pub const ALL: [Self; 6] = [
        Self::Root,
        Self::Role(Role::Boot),
        Self::Role(Role::Provision),
        Self::Role(Role::Os),
        Self::Role(Role::Debug),
        Self::Role(Role::Transfer),
    ];

    /// Returns the name, as in the names of files and the labels of keys on a token.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Role(role) => role.name(),
        }
    }

    /// Tells whether devices take signatures of this key in ES256 only: the root's, those on stages, and the authority's.
    pub const fn es256_only(self) -> bool {
        matches!(self, Self::Root | Self::Role(Role::Boot | Role::Provision | Role::Authority))
    }

    /// Returns the file of the private key.
    pub(crate) fn private_file(self, folder: &Path) -> PathBuf {
        folder.join(format!("owner-{}.key.pem", self.name()))
    }

    /// Returns the file with the name of the private key on a token.
    pub(crate) fn uri_file(self, folder: &Path) -> PathBuf {
        folder.join(format!("owner-{}.key.uri", self.name()))
    }

    /// Returns the file of the private key that is there: with its name on a token, or the key itself.
    pub(crate) fn key_file(self, folder: &Path) -> PathBuf {
        let named = self.uri_file(folder);
        if named.exists() { named } else { self.private_file(folder) }
    }

    /// Returns the file of the public key.
    pub(crate) fn public_file(self, folder: &Path) -> PathBuf {
        folder.join(format!("owner-{}.pub.pem", self.name()))
    }

    /// Returns the file of the delegation.
    pub(crate) fn delegation_file(self, folder: &Path) -> PathBuf {
        folder.join(format!("owner-{}.delegation", self.name()))
    }
}

/// Returns the file of the keys that the root took back, in an owner's folder.
pub fn revoked_file(folder: &Path) -> PathBuf {
    folder.join("owner-revoked")
}
