//! Making an owner's keys: all together, or none.

use super::delegation::es256_only;
use super::{
    Delegation, DelegationFault, KeyAlgorithm, KeyName, Limits, OwnerKey, Passphrase, PublicPart, TokenUri,
    token,
};
use crate::Error;
use crate::files::{self, Readers, Together};
use sealed_image::host::Signer as _;
use std::path::Path;

/// Where new keys are kept.
#[derive(Clone, Copy, Debug)]
pub enum KeyPlace<'a> {
    /// In files, encrypted.
    Files(&'a Passphrase),
    /// In files that are not encrypted: for demonstrations.
    OpenFiles,
    /// On a token.
    Token(&'a TokenUri),
}

/// Keys that were just made, and are in no folder yet.
pub(super) struct FreshKeys(pub(super) Vec<(KeyName, OwnerKey)>);

impl FreshKeys {
    /// Makes keys. Where one cannot be made, those before it are removed from the token again.
    pub(super) fn make(
        names: &[KeyName],
        algorithm: KeyAlgorithm,
        place: &KeyPlace<'_>,
    ) -> Result<Self, Error> {
        let mut made = Self(Vec::new());
        for name in names {
            let key = match place {
                KeyPlace::Files(_) | KeyPlace::OpenFiles => Ok(OwnerKey::generate(algorithm)),
                KeyPlace::Token(token) => OwnerKey::generate_on(&token.key(name.name()), algorithm),
            };
            match key {
                Ok(key) => made.0.push((*name, key)),
                Err(why) => return Err(made.unmake(why)),
            }
        }
        Ok(made)
    }

    pub(super) fn unmake(&self, why: Error) -> Error {
        token::unmake(self.0.iter().filter_map(|(_, key)| key.on_token()), why)
    }

    /// Has the root, which is the first of the keys, delegate all of each role to its key; returns its public half too.
    pub(super) fn delegate(&self, board: &str) -> Result<([u8; 64], Vec<Delegation>), Error> {
        let root = &self.0[0].1;
        let mut delegations = Vec::new();
        for (name, key) in &self.0 {
            if let KeyName::Role(role) = *name {
                let limits = Limits::of_role(role, board);
                delegations.push(Delegation::sign(root, role, &key.public_key(), &limits)?);
            }
        }
        Ok((root.public().as_root()?, delegations))
    }

    /// Writes each key into a folder in which there is none of its name: private, or where it is, and public; and what the root
    /// delegates to them. Where something cannot be written, nothing is left of it, in the folder and on the token.
    pub(super) fn write(
        &self,
        folder: &Path,
        place: &KeyPlace<'_>,
        delegations: &[Delegation],
    ) -> Result<(), Error> {
        let mut files = Together::in_folder(folder).map_err(|why| self.unmake(why))?;
        match self.put(&mut files, folder, place, delegations) {
            Ok(()) => Ok(()),
            Err(why) => {
                files.undo();
                Err(self.unmake(why))
            }
        }
    }

    fn put(
        &self,
        files: &mut Together,
        folder: &Path,
        place: &KeyPlace<'_>,
        delegations: &[Delegation],
    ) -> Result<(), Error> {
        for (name, key) in &self.0 {
            let text = key.to_text(place);
            match place {
                KeyPlace::Token(_) => files.put(name.uri_file(folder), text.as_bytes(), Readers::Anyone)?,
                _ => files.put(name.private_file(folder), text.as_bytes(), Readers::Owner)?,
            }
            let path = name.public_file(folder);
            files.put(path.clone(), public_pem(&path, &key.public())?.as_bytes(), Readers::Anyone)?;
        }
        for delegation in delegations {
            let path = KeyName::Role(delegation.role()).delegation_file(folder);
            files.put(path, delegation.certificate(), Readers::Anyone)?;
        }
        Ok(())
    }
}

pub(super) fn public_pem(path: &Path, public: &PublicPart) -> Result<String, Error> {
    public.to_pem().map_err(|error| Error::KeyFile { path: path.into(), error })
}

/// Makes keys in a folder that has none of these names; the root has still to delegate to those of roles. Returns each once, with its
/// public half. Whatever stops it leaves no key, in the folder or on the token.
///
/// # Errors
/// RSA for a key that devices take ES256 from; files that cannot be written, or are there already; [`Error::Token`], and
/// [`Error::KeysLeft`] if a key had to stay on the token.
pub fn create_keys(
    folder: &Path,
    names: &[KeyName],
    algorithm: KeyAlgorithm,
    place: KeyPlace<'_>,
) -> Result<Vec<(KeyName, PublicPart)>, Error> {
    let names: Vec<_> = KeyName::ALL.into_iter().filter(|name| names.contains(name)).collect();
    if let Some(name) = names.iter().find(|name| name.es256_only() && algorithm != KeyAlgorithm::Es256) {
        let fault = DelegationFault::Limits(es256_only(name.name()));
        return Err(Error::Delegation { path: name.public_file(folder), fault });
    }
    // Before keys are made on a token, where nobody would know of them.
    refuse_known(folder, &names)?;
    let keys = FreshKeys::make(&names, algorithm, &place)?;
    keys.write(folder, &place, &[])?;
    Ok(keys.0.iter().map(|(name, key)| (*name, key.public())).collect())
}

/// Refuses names that a folder has a key of.
pub(super) fn refuse_known(folder: &Path, names: &[KeyName]) -> Result<(), Error> {
    let there = names
        .iter()
        .flat_map(|name| {
            [
                name.public_file(folder),
                name.private_file(folder),
                name.uri_file(folder),
                name.delegation_file(folder),
            ]
        })
        .find(|path| files::is_there(path));
    there.map_or(Ok(()), |path| Err(Error::OutputThere { path }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OwnerKeys;
    use memory_map::qemu_virt::BOARD;
    use sealed_image::Role;
    use std::fs;

    #[test]
    fn keys_are_there_all_together_or_not_at_all() {
        // The last file of all cannot be written; the folder was there, with something in it.
        for name in KeyName::ALL {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("keys");
            fs::create_dir(&path).unwrap();
            fs::write(path.join("notes"), "").unwrap();
            let mut files = Together::in_folder(&path).unwrap();
            let keys = FreshKeys::make(&[name], KeyAlgorithm::Es256, &KeyPlace::OpenFiles).unwrap();
            fs::create_dir(name.public_file(&path)).unwrap();
            keys.put(&mut files, &path, &KeyPlace::OpenFiles, &[]).unwrap_err();
            files.undo();
            assert!(!name.private_file(&path).exists() && path.join("notes").exists());
        }
        // A link that leads nowhere stands in the way, and is seen before a key is made.
        let folder = tempfile::tempdir().unwrap();
        let link = KeyName::Role(Role::Os).delegation_file(folder.path());
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        let refused = OwnerKeys::found_in(folder.path(), KeyPlace::OpenFiles, BOARD).err().unwrap();
        assert!(matches!(&refused, Error::OutputThere { path } if *path == link), "{refused}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // A folder that was made for them goes with them.
        let path = folder.path().join("new");
        let mut files = Together::in_folder(&path).unwrap();
        files.put(path.join("a"), b"", Readers::Owner).unwrap();
        files.undo();
        assert!(!path.exists());
    }

    #[test]
    fn a_role_given_twice_is_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let os = KeyName::Role(Role::Os);
        let made = create_keys(folder.path(), &[os, os], KeyAlgorithm::Es256, KeyPlace::OpenFiles).unwrap();
        assert_eq!(made.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [os]);
    }
}
