//! Where the content key of a package goes.
//!
//! # Threats
//! *Whoever gets it* opens the package. It is the authority's alone: sealed to that, it may be carried by anybody. In the clear it is for
//! tests, and for where the authority is not there yet: never in production, and never in the folder that the factory gets.

use crate::{AuthorityKey, Error, ReleaseProfile, files};
use std::path::Path;

/// Where the content key of a package goes.
#[derive(Debug)]
pub enum ContentKeyPlace<'a> {
    /// Sealed to an authority.
    Sealed(AuthorityKey),
    /// To a file in the clear, which is not there.
    Open(&'a Path),
}

impl<'a> ContentKeyPlace<'a> {
    /// Takes what was asked for: the file of an authority's sealing key, or a file for the key in the clear, outside of the folder
    /// that the package goes to.
    ///
    /// # Errors
    /// Neither, or both; a file in production; one that is there already, or would lie in the folder; a sealing key that cannot be
    /// used.
    pub fn choose(
        profile: ReleaseProfile,
        authority: Option<&Path>,
        file: Option<&'a Path>,
        folder: &Path,
    ) -> Result<Self, Error> {
        match (authority, file) {
            (_, Some(file)) if profile == ReleaseProfile::Production => {
                Err(Error::ContentKeyInProduction { path: file.into() })
            }
            (Some(authority), None) => Ok(Self::Sealed(AuthorityKey::read(authority)?)),
            (None, Some(file)) => {
                files::refuse_existing(file)?;
                if files::inside(file, folder) {
                    return Err(Error::ContentKeyInside { path: file.into() });
                }
                Ok(Self::Open(file))
            }
            (Some(_), Some(file)) => Err(Error::ContentKeyOpen { path: file.into() }),
            (None, None) => Err(Error::ContentKeyNowhere),
        }
    }

    /// Returns the authority that the key is sealed to.
    pub fn authority(&self) -> Option<&AuthorityKey> {
        match self {
            Self::Sealed(authority) => Some(authority),
            Self::Open(_) => None,
        }
    }

    /// Returns the file for the key in the clear.
    pub fn file(&self) -> Option<&'a Path> {
        match self {
            Self::Sealed(_) => None,
            Self::Open(file) => Some(file),
        }
    }
}
