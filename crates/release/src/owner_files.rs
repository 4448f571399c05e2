//! The owner keys of a demonstration factory, as files.

use crate::files::{self, Readers};
use crate::{Error, Owner, Profile, RoleKey};
use boot_crypto::host::{Es256Key, es256_public_pem};
use sealed_image::Role;
use std::path::Path;

/// The roles that have a key.
const ROLES: [Role; 4] = [Role::Boot, Role::Provision, Role::Os, Role::Authority];

/// The file of the root's public key, next to the private keys.
pub const ROOT_PUBLIC: &str = "owner-root.pub.pem";

/// An owner's private keys, all ES256, fresh for everyone who founds one.
///
/// In a folder they are `owner-root.key.pem`, `owner-boot.key.pem` and so on, each PKCS#8 PEM of mode 0600; next to them
/// `owner-root.pub.pem` is for everybody who verifies what the owner releases. A product keeps its root offline and its role keys in hardware modules; what it signs is the same.
pub struct OwnerKeys {
    root: Es256Key,
    roles: [Es256Key; ROLES.len()],
}

impl OwnerKeys {
    /// Founds an owner with fresh keys.
    pub fn found() -> Self {
        Self { root: Es256Key::generate(), roles: ROLES.map(|_| Es256Key::generate()) }
    }

    /// Reads the keys that lie in a folder.
    ///
    /// # Errors
    /// Files that are not there or hold no such key.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let key = |name: &str| crate::read_key(&folder.join(file(name)));
        let [boot, provision, os, authority] = ROLES.map(|role| key(role.name()));
        Ok(Self { root: key("root")?, roles: [boot?, provision?, os?, authority?] })
    }

    /// Writes the keys into a folder in which there are none.
    ///
    /// # Errors
    /// Files that cannot be written, or are there already.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        files::make_folder(folder)?;
        let roles = ROLES.iter().map(|role| role.name()).zip(&self.roles);
        for (name, key) in roles.chain([("root", &self.root)]) {
            files::write_new(&folder.join(file(name)), key.to_pem().as_bytes(), Readers::Owner)?;
        }
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
        if folder.join(file("root")).exists() {
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
    /// A published test key, whatever file it lies in.
    pub fn owner(self, board: &str) -> Result<Owner, Error> {
        let delegate = |(role, key)| RoleKey::delegated_by(&self.root, role, board, Box::new(key));
        let roles = ROLES.into_iter().zip(self.roles).map(delegate).collect::<Result<_, _>>()?;
        Owner::new(Profile::Production, self.root.public(), roles)
    }

    /// Returns the key with which the authority signs its answers.
    pub fn authority(&self) -> &Es256Key {
        let [.., authority] = &self.roles;
        authority
    }
}

fn file(name: &str) -> String {
    format!("owner-{name}.key.pem")
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
        assert_eq!(files.len(), 2 + ROLES.len());
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
    fn a_file_that_is_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        OwnerKeys::found().write(folder.path()).unwrap();
        std::fs::write(folder.path().join(file("os")), "not a key").unwrap();
        let error = OwnerKeys::read(folder.path()).err().unwrap();
        assert!(matches!(error, Error::KeyFile { .. }), "{error}");
        assert!(error.to_string().contains("owner-os.key.pem"), "{error}");
    }
}
