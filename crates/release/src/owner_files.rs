//! An owner's keys in a folder: as files, or as the names of keys on a token.

use crate::files::{self, Readers};
use crate::{Error, Owner, Profile, RoleKey, TokenKey, TokenUri, token};
use boot_crypto::Digest;
use boot_crypto::host::{Es256Key, es256_public_pem};
use sealed_image::host::{Signer, SignerError};
use sealed_image::{PublicKey, Role};
use std::iter;
use std::path::Path;

/// The roles that sign what is released.
const SIGNERS: [Role; 3] = [Role::Boot, Role::Provision, Role::Os];

/// The file of the root's public key, next to the private keys.
pub const ROOT_PUBLIC: &str = "owner-root.pub.pem";

/// An owner's private key: in a file, or on a token.
pub enum OwnerKey {
    /// From a file.
    File(Es256Key),
    /// On a token.
    Token(TokenKey),
}

impl OwnerKey {
    /// Reads a key from its file, PKCS#8 in PEM, or opens the one that the URI in the file names.
    ///
    /// # Errors
    /// A file that is not there or holds neither, and [`Error::Token`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = files::read_text(path)?;
        if text.starts_with("pkcs11:") || path.extension().is_some_and(|extension| extension == "uri") {
            return TokenKey::open(&TokenUri::parse(text.trim_end())?).map(Self::Token);
        }
        crate::read_key(path).map(Self::File)
    }

    /// Reads the key that a folder holds or names.
    fn in_folder(folder: &Path, name: &str) -> Result<Self, Error> {
        let named = folder.join(uri_file(name));
        Self::read(&if named.exists() { named } else { folder.join(file(name)) })
    }

    fn write(&self, folder: &Path, name: &str) -> Result<(), Error> {
        match self {
            Self::File(key) => {
                files::write_new(&folder.join(file(name)), key.to_pem().as_bytes(), Readers::Owner)
            }
            Self::Token(key) => {
                let line = format!("{}\n", key.uri());
                files::write_new(&folder.join(uri_file(name)), line.as_bytes(), Readers::Anyone)
            }
        }
    }

    fn public(&self) -> [u8; 64] {
        match self {
            Self::File(key) => key.public(),
            Self::Token(key) => key.public(),
        }
    }
}

impl Signer for OwnerKey {
    fn public_key(&self) -> PublicKey<'_> {
        PublicKey::P256(self.public())
    }

    fn sign(&self, digest: &Digest) -> Result<Vec<u8>, SignerError> {
        match self {
            Self::File(key) => Signer::sign(key, digest),
            Self::Token(key) => Signer::sign(key, digest),
        }
    }
}

/// An owner's private keys, all ES256, fresh for everyone who founds one.
///
/// In a folder they are `owner-root.key.pem`, `owner-boot.key.pem` and so on, each PKCS#8 PEM of mode 0600; where a key is on a
/// token, `owner-boot.key.uri` names it there. Next to them `owner-root.pub.pem` is for everybody who verifies what the
/// owner releases. The authority's key is a file always: the authority keeps it itself, sealed.
pub struct OwnerKeys {
    root: OwnerKey,
    roles: [OwnerKey; SIGNERS.len()],
    authority: Es256Key,
}

impl OwnerKeys {
    /// Founds an owner with fresh keys.
    pub fn found() -> Self {
        let fresh = || OwnerKey::File(Es256Key::generate());
        Self { root: fresh(), roles: SIGNERS.map(|_| fresh()), authority: Es256Key::generate() }
    }

    /// Founds an owner with fresh keys on a token. Where one cannot be made, those before it are removed again.
    fn found_on(token: &TokenUri) -> Result<Self, Error> {
        let mut made = Vec::new();
        for name in iter::once("root").chain(SIGNERS.map(Role::name)) {
            match TokenKey::generate(&token.key(name)) {
                Ok(key) => made.push(key),
                Err(why) => return Err(token::unmake(&made, why)),
            }
        }
        let made: [TokenKey; 1 + SIGNERS.len()] = made.try_into().expect("there is a key for each name");
        let [root, roles @ ..] = made.map(OwnerKey::Token);
        Ok(Self { root, roles, authority: Es256Key::generate() })
    }

    /// Founds an owner in a folder where there is none: with keys in files, or on a token. Whatever stops it leaves no key
    /// on the token.
    ///
    /// # Errors
    /// Files that cannot be written, or are there already, and [`Error::Token`]; [`Error::KeysLeft`] if a key had to stay
    /// on the token.
    pub fn found_in(folder: &Path, token: Option<&TokenUri>) -> Result<Self, Error> {
        // Before keys are made on a token, where nobody would know of them.
        let there = folder.join(ROOT_PUBLIC);
        if there.exists() {
            return Err(Error::OutputThere { path: there });
        }
        let keys = token.map_or_else(|| Ok(Self::found()), Self::found_on)?;
        match keys.write(folder) {
            Ok(()) => Ok(keys),
            Err(why) => Err(token::unmake(keys.on_token(), why)),
        }
    }

    fn on_token(&self) -> impl Iterator<Item = &TokenKey> {
        iter::once(&self.root).chain(&self.roles).filter_map(|key| match key {
            OwnerKey::Token(key) => Some(key),
            OwnerKey::File(_) => None,
        })
    }

    /// Reads the keys that lie in a folder, or on the token that it names.
    ///
    /// # Errors
    /// Files that are not there or hold no such key, and [`Error::Token`].
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let key = |name: &str| OwnerKey::in_folder(folder, name);
        let [boot, provision, os] = SIGNERS.map(|role| key(role.name()));
        let authority = crate::read_key(&folder.join(file(Role::Authority.name())));
        let keys = Self { root: key("root")?, roles: [boot?, provision?, os?], authority: authority? };
        // A token may be another one of the same name.
        let path = folder.join(ROOT_PUBLIC);
        if path.exists() && crate::read_root(&path)? != PublicKey::P256(keys.root.public()).thumbprint() {
            return Err(Error::OtherRoot { path });
        }
        Ok(keys)
    }

    /// Writes the keys into a folder in which there are none; of those on a token, where they are.
    ///
    /// # Errors
    /// Files that cannot be written, or are there already.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        files::make_folder(folder)?;
        let roles = SIGNERS.iter().map(|role| role.name()).zip(&self.roles);
        for (name, key) in roles.chain([("root", &self.root)]) {
            key.write(folder, name)?;
        }
        let authority = folder.join(file(Role::Authority.name()));
        files::write_new(&authority, self.authority.to_pem().as_bytes(), Readers::Owner)?;
        self.write_public(folder)
    }

    fn write_public(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(ROOT_PUBLIC);
        let pem = es256_public_pem(&self.root.public())
            .map_err(|error| Error::KeyFile { path: path.clone(), error })?;
        files::write_new(&path, pem.as_bytes(), Readers::Anyone)
    }

    /// Reads the keys of a folder, or founds an owner there.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`write`](Self::write).
    pub fn read_or_found(folder: &Path) -> Result<Self, Error> {
        if [file("root"), uri_file("root")].iter().any(|root| folder.join(root).exists()) {
            let keys = Self::read(folder)?;
            if !folder.join(ROOT_PUBLIC).exists() {
                keys.write_public(folder)?;
            }
            return Ok(keys);
        }
        let keys = Self::found();
        keys.write(folder)?;
        Ok(keys)
    }

    /// Has the root delegate each role to its key, for one board.
    ///
    /// # Errors
    /// A published test key, whatever file it lies in, and a token that does not sign.
    pub fn owner(self, board: &str) -> Result<Owner, Error> {
        let authority = (Role::Authority, OwnerKey::File(self.authority));
        let keys = SIGNERS.into_iter().zip(self.roles).chain([authority]);
        let delegate = |(role, key)| RoleKey::delegated_by(&self.root, role, board, Box::new(key));
        let roles = keys.map(delegate).collect::<Result<_, _>>()?;
        Owner::new(Profile::Production, self.root.public(), roles)
    }

    /// Returns the root key, which delegates.
    pub fn root(&self) -> &OwnerKey {
        &self.root
    }

    /// Returns the key with which the authority signs its answers.
    pub fn authority(&self) -> &Es256Key {
        &self.authority
    }
}

fn file(name: &str) -> String {
    format!("owner-{name}.key.pem")
}

fn uri_file(name: &str) -> String {
    format!("owner-{name}.key.uri")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_keys;
    use fail_code::FailCode;
    use memory_map::qemu_virt::BOARD;

    #[test]
    fn an_owner_survives_its_files_which_nobody_else_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let keys = OwnerKeys::read_or_found(folder.path()).unwrap();
        let digest = keys.owner(BOARD).unwrap().root_digest();
        let again = OwnerKeys::read_or_found(folder.path()).unwrap();
        assert_eq!(again.owner(BOARD).unwrap().root_digest(), digest);
        assert_ne!(OwnerKeys::found().owner(BOARD).unwrap().root_digest(), digest);

        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(files.len(), 3 + SIGNERS.len());
        assert_eq!(crate::read_root(&folder.path().join(ROOT_PUBLIC)).unwrap(), digest);
        #[cfg(unix)]
        for file in files.iter().filter(|file| file.file_name() != ROOT_PUBLIC) {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        }
    }

    #[test]
    fn keys_are_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        OwnerKeys::found().write(folder.path()).unwrap();
        assert!(matches!(OwnerKeys::found().write(folder.path()), Err(Error::Write { .. })));
    }

    #[test]
    fn a_published_test_key_in_any_of_the_files_is_refused() {
        let labels = [test_keys::ROOT, test_keys::BOOT, test_keys::PROVISION, test_keys::OS];
        for name in ["root", "boot", "provision", "os", "authority"] {
            for label in labels {
                let folder = tempfile::tempdir().unwrap();
                OwnerKeys::found().write(folder.path()).unwrap();
                std::fs::write(folder.path().join(file(name)), &*test_keys::es256(label).to_pem()).unwrap();
                std::fs::remove_file(folder.path().join(ROOT_PUBLIC)).unwrap();
                let refused = OwnerKeys::read(folder.path()).unwrap().owner(BOARD).err();
                assert_eq!(
                    refused.and_then(|error| error.code()),
                    Some(FailCode::TestKey),
                    "{name}: {label}"
                );
            }
        }
    }

    #[test]
    fn a_root_that_is_another_than_its_public_part_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        OwnerKeys::found().write(folder.path()).unwrap();
        std::fs::write(folder.path().join(file("root")), &*Es256Key::generate().to_pem()).unwrap();
        let error = OwnerKeys::read(folder.path()).err().unwrap();
        assert!(matches!(error, Error::OtherRoot { .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        OwnerKeys::found().write(folder.path()).unwrap();
        std::fs::write(folder.path().join(file("os")), "not a key").unwrap();
        let error = OwnerKeys::read(folder.path()).err().unwrap();
        assert!(matches!(error, Error::KeyFile { .. }), "{error}");
        assert!(error.to_string().contains("owner-os.key.pem"), "{error}");
    }
}
