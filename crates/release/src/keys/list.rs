//! What an owner's folder holds, without a private key being opened, and so without a PIN.

use super::revocation::Revocations;
use super::{Delegation, KeyName, PublicPart, ROOT_PUBLIC, TokenUri};
use crate::{Error, files};
use boot_crypto::host::is_encrypted;
use std::path::Path;

/// Where a private key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptIn {
    /// In an encrypted file.
    EncryptedFile,
    /// In a file that is not encrypted.
    OpenFile,
    /// On the token that this URI names.
    Token(TokenUri),
    /// Nowhere that could be told: the file with its name holds no URI of a key on a token.
    Unnamed,
    /// Somewhere else.
    Elsewhere,
}

/// A key of an owner's folder.
#[derive(Debug)]
pub struct KeyState {
    /// Its name.
    pub name: KeyName,
    /// Its public half.
    pub public: PublicPart,
    /// Where its private half is.
    pub kept: KeptIn,
    /// What the root delegates to it, or why that does not hold; the root has none.
    pub delegation: Option<Result<Delegation, Error>>,
    /// Whether the root took it back.
    pub revoked: bool,
}

/// Lists the keys of a folder. Where the root's public key is not there, no delegation can hold.
///
/// # Errors
/// A file that cannot be read, or is none of what its name says.
pub fn list_keys(folder: &Path) -> Result<Vec<KeyState>, Error> {
    let path = folder.join(ROOT_PUBLIC);
    let root = if path.exists() { Some(PublicPart::read(&path)?.as_root()?) } else { None };
    let revoked = root.map(|root| Revocations::read_in(folder, &root)).transpose()?.unwrap_or_default();
    let mut keys = Vec::new();
    for name in KeyName::ALL {
        let path = name.public_file(folder);
        let others = [name.private_file(folder), name.uri_file(folder), name.delegation_file(folder)];
        if !path.exists() && !others.iter().any(|other| files::is_there(other)) {
            continue;
        }
        let public = PublicPart::read(&path)?;
        let delegation = match (name, root) {
            (KeyName::Root, _) => None,
            (KeyName::Role(_), None) => {
                let error = std::io::ErrorKind::NotFound.into();
                Some(Err(Error::Read { path: folder.join(ROOT_PUBLIC), error }))
            }
            (KeyName::Role(role), Some(root)) => {
                let refused = |fault| Error::Delegation { path: name.delegation_file(folder), fault };
                let checked = |one: Delegation| match one.is_for(&public.key()) {
                    Ok(()) => Ok(one),
                    Err(fault) => Err(refused(fault)),
                };
                Some(Delegation::read(folder, role, &root).and_then(checked))
            }
        };
        let revoked = revoked.contains(&public.key().thumbprint());
        keys.push(KeyState { name, kept: kept_in(name, folder)?, public, delegation, revoked });
    }
    if keys.is_empty() {
        let error = std::io::ErrorKind::NotFound.into();
        return Err(Error::Read { path: folder.join(ROOT_PUBLIC), error });
    }
    Ok(keys)
}

fn kept_in(name: KeyName, folder: &Path) -> Result<KeptIn, Error> {
    let (uri, private) = (name.uri_file(folder), name.private_file(folder));
    if uri.exists() {
        // The text itself is not shown: it may hold what does not belong there.
        return Ok(TokenUri::parse(files::read_text(&uri)?.trim_end()).map_or(KeptIn::Unnamed, KeptIn::Token));
    }
    if !private.exists() {
        return Ok(KeptIn::Elsewhere);
    }
    let encrypted = is_encrypted(&files::read_text(&private)?);
    Ok(if encrypted { KeptIn::EncryptedFile } else { KeptIn::OpenFile })
}
