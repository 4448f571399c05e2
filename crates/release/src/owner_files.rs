//! An owner's keys in a folder: as files, or as the names of keys on a token.

use crate::files::{self, Readers};
use crate::{Error, Owner, Passphrase, Profile, RoleKey, TokenKey, TokenUri, pem, token};
use boot_crypto::Digest;
use boot_crypto::host::{Es256Key, es256_public_pem};
use sealed_image::host::{Signer, SignerError};
use sealed_image::{PublicKey, Role};
use serde::{Deserialize, Serialize};
use std::iter;
use std::path::Path;

/// The roles that sign what is released.
const SIGNERS: [Role; 3] = [Role::Boot, Role::Provision, Role::Os];

/// The file of the root's public key, next to the private keys.
pub const ROOT_PUBLIC: &str = "owner-root.pub.pem";

/// What a release is for, which decides where its keys may lie.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseProfile {
    /// Anything but a product: keys may be files.
    #[default]
    Development,
    /// A product: every key is on a token.
    Production,
}

/// Where the keys of a new owner are kept.
#[derive(Clone, Copy, Debug)]
pub enum KeyPlace<'a> {
    /// In files, encrypted.
    Files(&'a Passphrase),
    /// On a token.
    Token(&'a TokenUri),
}

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
    /// A file that is not there or holds neither, [`Error::Passphrase`] and [`Error::Token`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::read_for(ReleaseProfile::Development, path, &mut None)
    }

    fn read_for(profile: ReleaseProfile, path: &Path, asked: &mut Option<Passphrase>) -> Result<Self, Error> {
        let text = files::read_text(path)?;
        if text.starts_with("pkcs11:") || path.extension().is_some_and(|extension| extension == "uri") {
            return TokenKey::open(&TokenUri::parse(text.trim_end())?).map(Self::Token);
        }
        match profile {
            ReleaseProfile::Development => pem::key_in(&text, path, asked).map(Self::File),
            ReleaseProfile::Production => Err(Error::KeyInFile { path: path.into() }),
        }
    }

    fn write(&self, folder: &Path, name: &str, passphrase: Option<&Passphrase>) -> Result<(), Error> {
        match self {
            Self::File(key) => {
                let pem = passphrase
                    .map_or_else(|| key.to_pem(), |passphrase| key.to_encrypted_pem(passphrase.expose()));
                files::write_new(&folder.join(file(name)), pem.as_bytes(), Readers::Owner)
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
/// In a folder they are `owner-root.key.pem`, `owner-boot.key.pem` and so on, each encrypted PKCS#8 PEM of mode 0600; where a key
/// is on a token, `owner-boot.key.uri` names it there. Next to them `owner-root.pub.pem` is for everybody who verifies what the
/// owner releases. The authority makes its own key, which the root delegates to.
pub struct OwnerKeys {
    root: OwnerKey,
    roles: [OwnerKey; SIGNERS.len()],
}

impl OwnerKeys {
    /// Founds an owner with fresh keys.
    pub fn found() -> Self {
        let fresh = || OwnerKey::File(Es256Key::generate());
        Self { root: fresh(), roles: SIGNERS.map(|_| fresh()) }
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
        Ok(Self { root, roles })
    }

    /// Founds an owner in a folder where there is none. Whatever stops it leaves no key on the token.
    ///
    /// # Errors
    /// Files that cannot be written, or are there already, and [`Error::Token`]; [`Error::KeysLeft`] if a key had to stay
    /// on the token.
    pub fn found_in(folder: &Path, place: KeyPlace<'_>) -> Result<Self, Error> {
        // Before keys are made on a token, where nobody would know of them.
        let there = folder.join(ROOT_PUBLIC);
        if there.exists() {
            return Err(Error::OutputThere { path: there });
        }
        let (keys, passphrase) = match place {
            KeyPlace::Files(passphrase) => (Self::found(), Some(passphrase)),
            KeyPlace::Token(token) => (Self::found_on(token)?, None),
        };
        match keys.write(folder, passphrase) {
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

    /// Reads the keys that lie in a folder, or on the token that it names. The passphrase of encrypted files, which is one for
    /// all, comes from the environment or the terminal.
    ///
    /// # Errors
    /// Files that are not there or hold no such key, [`Error::Passphrase`] and [`Error::Token`]; in production
    /// [`Error::KeyInFile`].
    pub fn read(folder: &Path, profile: ReleaseProfile) -> Result<Self, Error> {
        let mut asked = None;
        let mut key = |name: &str| {
            let named = folder.join(uri_file(name));
            let path = if named.exists() { named } else { folder.join(file(name)) };
            OwnerKey::read_for(profile, &path, &mut asked)
        };
        let root = key("root")?;
        let [boot, provision, os] = SIGNERS.map(|role| key(role.name()));
        let keys = Self { root, roles: [boot?, provision?, os?] };
        // A token may be another one of the same name.
        let path = folder.join(ROOT_PUBLIC);
        if path.exists() && crate::read_root(&path)? != PublicKey::P256(keys.root.public()).thumbprint() {
            return Err(Error::OtherRoot { path });
        }
        Ok(keys)
    }

    /// Writes the keys into a folder in which there are none; of those on a token, where they are.
    fn write(&self, folder: &Path, passphrase: Option<&Passphrase>) -> Result<(), Error> {
        files::make_folder(folder)?;
        let roles = SIGNERS.iter().map(|role| role.name()).zip(&self.roles);
        for (name, key) in roles.chain([("root", &self.root)]) {
            key.write(folder, name, passphrase)?;
        }
        self.write_public(folder)
    }

    fn write_public(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(ROOT_PUBLIC);
        let pem = es256_public_pem(&self.root.public())
            .map_err(|error| Error::KeyFile { path: path.clone(), error })?;
        files::write_new(&path, pem.as_bytes(), Readers::Anyone)
    }

    /// Reads the keys of a folder, or founds an owner for a demonstration there: nobody is asked for a passphrase, and its files
    /// are not encrypted.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`found_in`](Self::found_in).
    pub fn read_or_found(folder: &Path) -> Result<Self, Error> {
        if [file("root"), uri_file("root")].iter().any(|root| folder.join(root).exists()) {
            let keys = Self::read(folder, ReleaseProfile::Development)?;
            if !folder.join(ROOT_PUBLIC).exists() {
                keys.write_public(folder)?;
            }
            return Ok(keys);
        }
        let keys = Self::found();
        keys.write(folder, None)?;
        Ok(keys)
    }

    /// Has the root delegate each role to its key, for one board.
    ///
    /// # Errors
    /// A published test key, whatever file it lies in, and a token that does not sign.
    pub fn owner(self, board: &str) -> Result<Owner, Error> {
        let keys = SIGNERS.into_iter().zip(self.roles);
        let delegate = |(role, key)| RoleKey::delegated_by(&self.root, role, board, Box::new(key));
        let roles = keys.map(delegate).collect::<Result<_, _>>()?;
        Owner::new(Profile::Production, self.root.public(), roles)
    }

    /// Returns the root key, which delegates.
    pub fn root(&self) -> &OwnerKey {
        &self.root
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
        assert_eq!(files.len(), 2 + SIGNERS.len());
        assert_eq!(crate::read_root(&folder.path().join(ROOT_PUBLIC)).unwrap(), digest);
        #[cfg(unix)]
        for file in files.iter().filter(|file| file.file_name() != ROOT_PUBLIC) {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        }
    }

    fn read(folder: &Path) -> Result<OwnerKeys, Error> {
        OwnerKeys::read(folder, ReleaseProfile::Development)
    }

    /// A folder with the keys of a new owner, not encrypted.
    fn founded() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        OwnerKeys::found().write(folder.path(), None).unwrap();
        folder
    }

    #[test]
    fn keys_are_never_written_over() {
        let folder = founded();
        assert!(matches!(OwnerKeys::found().write(folder.path(), None), Err(Error::Write { .. })));
    }

    #[test]
    fn a_published_test_key_in_any_of_the_files_is_refused() {
        let labels = [test_keys::ROOT, test_keys::BOOT, test_keys::PROVISION, test_keys::OS];
        for name in ["root", "boot", "provision", "os"] {
            for label in labels {
                let folder = founded();
                std::fs::write(folder.path().join(file(name)), &*test_keys::es256(label).to_pem()).unwrap();
                std::fs::remove_file(folder.path().join(ROOT_PUBLIC)).unwrap();
                let refused = read(folder.path()).unwrap().owner(BOARD).err();
                assert_eq!(
                    refused.and_then(|error| error.code()),
                    Some(FailCode::TestKey),
                    "{name}: {label}"
                );
            }
        }
    }

    #[test]
    fn production_takes_no_key_from_a_file_whatever_else_is_wrong_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let passphrase = Passphrase::new("a passphrase".to_owned().into(), folder.path()).unwrap();
        OwnerKeys::found_in(folder.path(), KeyPlace::Files(&passphrase)).unwrap();
        let root = folder.path().join(file("root"));
        let test_key = test_keys::es256(test_keys::ROOT).to_pem();
        for text in [std::fs::read_to_string(&root).unwrap(), test_key.to_string(), "no key".into()] {
            std::fs::write(&root, text).unwrap();
            let error = OwnerKeys::read(folder.path(), ReleaseProfile::Production).err().unwrap();
            assert!(matches!(&error, Error::KeyInFile { path } if *path == root), "{error}");
        }
    }

    #[test]
    fn files_of_a_new_owner_are_encrypted_and_the_passphrase_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let passphrase = Passphrase::new("a passphrase".to_owned().into(), folder.path()).unwrap();
        assert!(!format!("{passphrase:?}").contains("a passphrase"));
        let keys = OwnerKeys::found_in(folder.path(), KeyPlace::Files(&passphrase)).unwrap();
        let mut looked_at = 0;
        for (name, key) in
            iter::once("root").chain(SIGNERS.map(Role::name)).zip(iter::once(&keys.root).chain(&keys.roles))
        {
            let path = folder.path().join(file(name));
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{name}: {text}");
            let read = pem::key_in(
                &text,
                &path,
                &mut Some(Passphrase::new("a passphrase".to_owned().into(), &path).unwrap()),
            );
            assert_eq!(read.unwrap().public(), key.public());
            let wrong = Passphrase::new("another".to_owned().into(), &path).unwrap();
            let error = pem::key_in(&text, &path, &mut Some(wrong)).err().unwrap();
            assert!(
                error.to_string().contains(&file(name)) && !error.to_string().contains("another\""),
                "{error}"
            );
            looked_at += 1;
        }
        assert_eq!(looked_at, 4);
        let empty = Passphrase::new(String::new().into(), folder.path()).unwrap_err();
        assert!(matches!(empty, Error::Passphrase { fault: crate::PassphraseFault::Empty, .. }), "{empty}");
    }

    #[test]
    fn a_root_that_is_another_than_its_public_part_is_refused() {
        let folder = founded();
        std::fs::write(folder.path().join(file("root")), &*Es256Key::generate().to_pem()).unwrap();
        let error = read(folder.path()).err().unwrap();
        assert!(matches!(error, Error::OtherRoot { .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_no_key_is_named() {
        let folder = founded();
        std::fs::write(folder.path().join(file("os")), "not a key").unwrap();
        let error = read(folder.path()).err().unwrap();
        assert!(matches!(error, Error::KeyFile { .. }), "{error}");
        assert!(error.to_string().contains("owner-os.key.pem"), "{error}");
    }
}
