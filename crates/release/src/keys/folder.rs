//! An owner's keys in a folder, as a release takes them.

use super::create::{FreshKeys, public_pem, refuse_known};
use super::revocation::Revocations;
use super::{
    Delegation, DelegationFault, KeyAlgorithm, KeyName, KeyPlace, Limits, OwnerKey, PublicPart, ROOT_PUBLIC,
};
use crate::files::{self, Readers, Together};
use crate::{Error, Owner, Profile, RoleKey, TokenUri};
use sealed_image::Role;
use sealed_image::host::Signer as _;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The roles that sign what is released.
const SIGNERS: [Role; 3] = [Role::Boot, Role::Provision, Role::Os];

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

/// The keys of roles, by their names on a token (RFC 7512): `pkcs11:token=LABEL;object=NAME?module-path=PATH`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RoleKeys {
    /// The key that signs the production stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// The key that signs the provisioning stage, the package, secrets and the release itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provision: Option<String>,
    /// The key that signs the operating system and updates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
}

impl RoleKeys {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn of(&self, role: Role) -> Option<&str> {
        let named = match role {
            Role::Boot => &self.boot,
            Role::Provision => &self.provision,
            Role::Os => &self.os,
            Role::Authority | Role::Debug | Role::Transfer => &None,
        };
        named.as_deref()
    }

    /// Says which of them is none, and why.
    pub(crate) fn check(&self) -> Result<(), String> {
        for role in SIGNERS {
            let parsed = self.of(role).map_or(Ok(()), |uri| TokenUri::parse(uri).map(|_| ()));
            parsed.map_err(|why| format!("`{}`: {why}", role.name()))?;
        }
        Ok(())
    }
}

/// Reads the root's private key from an owner's folder.
///
/// # Errors
/// A key that is not there, or cannot be used; [`Error::OtherRoot`].
pub fn open_root_key(folder: &Path) -> Result<OwnerKey, Error> {
    let key = OwnerKey::read(&KeyName::Root.key_file(folder))?;
    // A token may be another one of the same name.
    let path = folder.join(ROOT_PUBLIC);
    if path.exists() && PublicPart::read(&path)? != key.public() {
        return Err(Error::OtherRoot { path });
    }
    Ok(key)
}

/// What an owner releases with: the root's public key, and for each role that signs releases a key with its delegation.
pub struct OwnerKeys {
    root: [u8; 64],
    roles: Vec<(Delegation, OwnerKey)>,
}

impl OwnerKeys {
    fn names() -> [KeyName; 1 + SIGNERS.len()] {
        let [boot, provision, os] = SIGNERS.map(KeyName::Role);
        [KeyName::Root, boot, provision, os]
    }

    /// Founds an owner with fresh keys for a board, which are in no file.
    pub fn found(board: &str) -> Self {
        let keys = FreshKeys::make(&Self::names(), KeyAlgorithm::Es256, &KeyPlace::OpenFiles);
        keys.and_then(|keys| Ok(Self::of(keys.delegate(board)?, keys)))
            .expect("keys in memory are made, and sign")
    }

    /// Founds an owner in a folder where there is none: a root, a key for each role that signs releases, and the root's
    /// delegations to them, for one board and every version. Whatever stops it leaves no key, in the folder or on the token.
    ///
    /// # Errors
    /// As [`create_keys`](super::create_keys).
    pub fn found_in(folder: &Path, place: KeyPlace<'_>, board: &str) -> Result<Self, Error> {
        refuse_known(folder, &Self::names())?;
        let keys = FreshKeys::make(&Self::names(), KeyAlgorithm::Es256, &place)?;
        let founded = keys.delegate(board).map_err(|why| keys.unmake(why))?;
        keys.write(folder, &place, &founded.1)?;
        Ok(Self::of(founded, keys))
    }

    fn of((root, delegations): ([u8; 64], Vec<Delegation>), keys: FreshKeys) -> Self {
        let keys = keys.0.into_iter().skip(1).map(|(_, key)| key);
        Self { root, roles: delegations.into_iter().zip(keys).collect() }
    }

    /// Reads the keys that lie in a folder, or on the token that it names, with what the root delegates to each. The root's
    /// private key is not needed. The passphrase of encrypted files, which is one for all, comes from the environment or the terminal.
    ///
    /// # Errors
    /// Files that are not there or hold no such key, [`Error::Passphrase`] and [`Error::Token`]; a delegation that is missing, or
    /// is not this root's for this key, and a key that was revoked: [`Error::Delegation`]; in production [`Error::KeyInFile`].
    pub fn read(folder: &Path, profile: ReleaseProfile) -> Result<Self, Error> {
        Self::read_with(folder, profile, &RoleKeys::default())
    }

    /// Reads them with keys that are named here in place of those that the folder names or holds. What the root delegates to them
    /// lies in the folder.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_with(folder: &Path, profile: ReleaseProfile, named: &RoleKeys) -> Result<Self, Error> {
        let root = PublicPart::read(&folder.join(ROOT_PUBLIC))?.as_root()?;
        let mut private = Self::names().map(|name| name.private_file(folder)).into_iter();
        if profile == ReleaseProfile::Production
            && let Some(path) = private.find(|path| files::is_there(path))
        {
            return Err(Error::KeyInFile { path });
        }
        let revoked = Revocations::read_in(folder, &root)?;
        let mut asked = None;
        let mut roles: Vec<(Delegation, OwnerKey)> = Vec::new();
        for role in SIGNERS {
            let name = KeyName::Role(role);
            let delegation = Delegation::read(folder, role, &root)?;
            let refused = |fault| Error::Delegation { path: name.delegation_file(folder), fault };
            if revoked.contains(delegation.key()) {
                return Err(refused(DelegationFault::Revoked(*delegation.key())));
            }
            if let Some((other, _)) = roles.iter().find(|(other, _)| other.key() == delegation.key()) {
                return Err(refused(DelegationFault::Shared { other: other.role() }));
            }
            let key = match named.of(role) {
                Some(uri) => OwnerKey::open_on(&TokenUri::parse(uri)?)?,
                None => OwnerKey::read_for(profile, &name.key_file(folder), &mut asked)?,
            };
            delegation.is_for(&key.public_key()).map_err(refused)?;
            roles.push((delegation, key));
        }
        Ok(Self { root, roles })
    }

    /// Reads the keys of a folder, or founds an owner for a demonstration there: nobody is asked for a passphrase, and its files
    /// are not encrypted.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`found_in`](Self::found_in).
    pub fn read_or_found(folder: &Path, board: &str) -> Result<Self, Error> {
        let root = [folder.join(ROOT_PUBLIC), KeyName::Root.key_file(folder)];
        if !root.iter().any(|path| path.exists()) {
            return Self::found_in(folder, KeyPlace::OpenFiles, board);
        }
        complete(folder, board)?;
        Self::read(folder, ReleaseProfile::Development)
    }

    /// Returns the owner who signs with these keys.
    ///
    /// # Errors
    /// A published test key, whatever file it lies in.
    pub fn owner(self) -> Result<Owner, Error> {
        let roles =
            self.roles.into_iter().map(|(delegation, key)| RoleKey::limited(delegation, Box::new(key)));
        Owner::new(Profile::Production, self.root, roles.collect())
    }
}

/// Adds what releases before there were delegations did not write, where nothing of it is there: public keys, and delegations,
/// which the root signs. A delegation that is missing by itself is none of that: somebody took it away.
fn complete(folder: &Path, board: &str) -> Result<(), Error> {
    let roles = SIGNERS.map(KeyName::Role);
    let known = |name: &KeyName| {
        [name.public_file(folder), name.delegation_file(folder)].iter().any(|path| files::is_there(path))
    };
    if roles.iter().any(known) {
        return Ok(());
    }
    let root = open_root_key(folder)?;
    let mut files = Together::in_folder(folder)?;
    let completed = (|| {
        let path = KeyName::Root.public_file(folder);
        if !files::is_there(&path) {
            files.put(path.clone(), public_pem(&path, &root.public())?.as_bytes(), Readers::Anyone)?;
        }
        for (name, role) in roles.into_iter().zip(SIGNERS) {
            let key = OwnerKey::read(&name.key_file(folder))?;
            let path = name.public_file(folder);
            files.put(path.clone(), public_pem(&path, &key.public())?.as_bytes(), Readers::Anyone)?;
            let made = Delegation::sign(&root, role, &key.public_key(), &Limits::of_role(role, board))?;
            files.put(name.delegation_file(folder), made.certificate(), Readers::Anyone)?;
        }
        Ok(())
    })();
    if completed.is_err() {
        files.undo();
    }
    completed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_keys;
    use crate::{Passphrase, create_keys};
    use boot_crypto::host::Es256Key;
    use fail_code::FailCode;
    use memory_map::qemu_virt::BOARD;
    use std::fs;

    const ROLES: [KeyName; 3] =
        [KeyName::Role(Role::Boot), KeyName::Role(Role::Provision), KeyName::Role(Role::Os)];

    fn digest(keys: OwnerKeys) -> boot_crypto::Digest {
        keys.owner().unwrap().root_digest()
    }

    #[test]
    fn an_owner_survives_its_files_and_private_ones_nobody_else_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let first = digest(OwnerKeys::read_or_found(folder.path(), BOARD).unwrap());
        assert_eq!(digest(OwnerKeys::read_or_found(folder.path(), BOARD).unwrap()), first);
        assert_ne!(digest(OwnerKeys::found(BOARD)), first);
        assert_eq!(crate::read_root(&folder.path().join(ROOT_PUBLIC)).unwrap(), first);

        let mut private = 0;
        for file in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            use std::os::unix::fs::PermissionsExt as _;
            let holds = fs::read(file.path()).unwrap();
            if String::from_utf8_lossy(&holds).contains("PRIVATE KEY") {
                assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
                private += 1;
            }
        }
        assert_eq!(private, 4);
    }

    #[test]
    fn a_folder_of_before_there_were_delegations_is_completed() {
        let folder = founded();
        let first = digest(read(folder.path()).unwrap());
        for name in ROLES {
            fs::remove_file(name.public_file(folder.path())).unwrap();
            fs::remove_file(name.delegation_file(folder.path())).unwrap();
        }
        fs::remove_file(folder.path().join(ROOT_PUBLIC)).unwrap();
        assert_eq!(digest(OwnerKeys::read_or_found(folder.path(), BOARD).unwrap()), first);
        assert_eq!(digest(read(folder.path()).unwrap()), first);
    }

    fn read(folder: &Path) -> Result<OwnerKeys, Error> {
        OwnerKeys::read(folder, ReleaseProfile::Development)
    }

    /// A folder with the keys of a new owner, not encrypted.
    fn founded() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        OwnerKeys::found_in(folder.path(), KeyPlace::OpenFiles, BOARD).unwrap();
        folder
    }

    fn passphrase(folder: &Path) -> Passphrase {
        Passphrase::new("a passphrase".to_owned().into(), folder).unwrap()
    }

    #[test]
    fn keys_are_never_written_over() {
        let folder = founded();
        let before = digest(read(folder.path()).unwrap());
        let again = OwnerKeys::found_in(folder.path(), KeyPlace::OpenFiles, BOARD).err().unwrap();
        assert!(matches!(again, Error::OutputThere { .. }), "{again}");
        for name in KeyName::ALL {
            let made = create_keys(folder.path(), &[name], KeyAlgorithm::Es256, KeyPlace::OpenFiles);
            let new = matches!(name, KeyName::Role(Role::Debug | Role::Transfer));
            assert_eq!(made.is_ok(), new, "{}", name.name());
        }
        assert_eq!(digest(read(folder.path()).unwrap()), before);
    }

    #[test]
    fn one_key_acts_in_one_role_and_the_root_in_none() {
        let folder = founded();
        let root = open_root_key(folder.path()).unwrap();
        let own = Delegation::sign(&root, Role::Os, &root.public_key(), &Limits::of_role(Role::Os, BOARD));
        assert!(own.unwrap_err().to_string().contains("the root delegates"));
        let (boot, os) = (ROLES[0], ROLES[2]);
        fs::copy(boot.private_file(folder.path()), os.private_file(folder.path())).unwrap();
        let key = OwnerKey::read(&boot.private_file(folder.path())).unwrap();
        let path = os.delegation_file(folder.path());
        fs::remove_file(&path).unwrap();
        let limits = Limits::of_role(Role::Os, BOARD);
        Delegation::sign(&root, Role::Os, &key.public_key(), &limits).unwrap().write(&path).unwrap();
        let refused = read(folder.path()).err().unwrap();
        let shared = DelegationFault::Shared { other: Role::Boot };
        assert!(matches!(&refused, Error::Delegation { fault, .. } if *fault == shared), "{refused}");
    }

    #[test]
    fn a_delegation_that_somebody_took_away_is_not_made_again() {
        let folder = founded();
        fs::remove_file(ROLES[2].delegation_file(folder.path())).unwrap();
        let refused = OwnerKeys::read_or_found(folder.path(), BOARD).err().unwrap();
        let missing = DelegationFault::Missing;
        assert!(matches!(&refused, Error::Delegation { fault, .. } if *fault == missing), "{refused}");
    }

    #[test]
    fn who_releases_needs_no_root() {
        let folder = founded();
        let before = digest(read(folder.path()).unwrap());
        fs::remove_file(KeyName::Root.private_file(folder.path())).unwrap();
        assert_eq!(digest(read(folder.path()).unwrap()), before);
        let refused = open_root_key(folder.path()).err().unwrap();
        assert!(matches!(refused, Error::Read { .. }), "{refused}");
    }

    #[test]
    fn a_key_without_its_delegation_or_with_that_of_another_signs_nothing() {
        let fault = |folder: &Path| match read(folder).err() {
            Some(Error::Delegation { path, fault }) => {
                (path.file_name().unwrap().to_str().unwrap().to_owned(), fault)
            }
            other => panic!("{other:?}"),
        };
        for name in ROLES {
            let folder = founded();
            let path = name.delegation_file(folder.path());
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            let good = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            assert_eq!(fault(folder.path()), (file.clone(), DelegationFault::Missing));

            // Of another owner, of another role, altered.
            let other = founded();
            fs::copy(name.delegation_file(other.path()), &path).unwrap();
            let untrusted = |error| DelegationFault::Untrusted(error);
            assert_eq!(
                fault(folder.path()),
                (file.clone(), untrusted(sealed_image::Error::DelegationSignature { index: 0 }))
            );
            let next = if name == ROLES[0] { ROLES[1] } else { ROLES[0] };
            fs::write(
                &path,
                if name == ROLES[0] {
                    fs::read(next.delegation_file(folder.path())).unwrap()
                } else {
                    fs::read(ROLES[0].delegation_file(folder.path())).unwrap()
                },
            )
            .unwrap();
            assert!(matches!(fault(folder.path()).1, DelegationFault::Role { .. }));
            let mut altered = good.clone();
            *altered.last_mut().unwrap() ^= 1;
            fs::write(&path, &altered).unwrap();
            let (named, why) = fault(folder.path());
            assert_eq!(named, file);
            assert!(matches!(why, DelegationFault::Untrusted(_)), "{why}");
            fs::write(&path, &good).unwrap();

            // Another key in the place of the one that the root means.
            fs::write(name.private_file(folder.path()), &*Es256Key::generate().to_pem()).unwrap();
            assert!(matches!(fault(folder.path()).1, DelegationFault::Key { .. }));
        }
    }

    #[test]
    fn a_revoked_key_signs_nothing() {
        for name in ROLES {
            let folder = founded();
            let key = PublicPart::read(&name.public_file(folder.path())).unwrap().key().thumbprint();
            let root = open_root_key(folder.path()).unwrap();
            Revocations::add(&super::super::revoked_file(folder.path()), &root, key).unwrap();
            let refused = read(folder.path()).err().unwrap();
            let revoked = |fault: &DelegationFault| *fault == DelegationFault::Revoked(key);
            assert!(matches!(&refused, Error::Delegation { fault, .. } if revoked(fault)), "{refused}");
        }
        // A list that somebody shortened or wrote is refused, and so is one that cannot be read: neither counts as none.
        let folder = founded();
        let path = super::super::revoked_file(folder.path());
        fs::write(&path, b"").unwrap();
        assert!(matches!(read(folder.path()), Err(Error::Revocations { .. })));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/nowhere/owner-revoked", &path).unwrap();
        assert!(matches!(read(folder.path()), Err(Error::Read { .. })));
        let root = open_root_key(folder.path()).unwrap();
        assert!(matches!(Revocations::add(&path, &root, [1; 32]), Err(Error::Read { .. })));
    }

    #[test]
    fn a_published_test_key_in_any_of_the_files_is_refused() {
        let labels = [test_keys::ROOT, test_keys::BOOT, test_keys::PROVISION, test_keys::OS];
        let mut refused = 0;
        for label in labels {
            let key = test_keys::es256(label);
            for role in SIGNERS {
                let root = Es256Key::generate();
                let limits = Limits::of_role(role, BOARD);
                let delegation = Delegation::sign(&root, role, &key.public_key(), &limits).unwrap();
                let pem = test_keys::es256(label).to_pem();
                let folder = tempfile::tempdir().unwrap();
                fs::write(folder.path().join("key.pem"), &*pem).unwrap();
                let key = OwnerKey::read(&folder.path().join("key.pem")).unwrap();
                let keys = OwnerKeys { root: root.public(), roles: vec![(delegation, key)] };
                assert_eq!(keys.owner().err().and_then(|error| error.code()), Some(FailCode::TestKey));
                refused += 1;
            }
            let keys = OwnerKeys { root: key.public(), roles: Vec::new() };
            assert_eq!(keys.owner().err().and_then(|error| error.code()), Some(FailCode::TestKey));
        }
        assert_eq!(refused, 12);
    }

    #[test]
    fn production_takes_no_key_from_a_file_whatever_else_is_wrong_with_it() {
        for name in [KeyName::Root].into_iter().chain(ROLES) {
            let folder = tempfile::tempdir().unwrap();
            let passphrase = passphrase(folder.path());
            OwnerKeys::found_in(folder.path(), KeyPlace::Files(&passphrase), BOARD).unwrap();
            let path = name.private_file(folder.path());
            let sealed = fs::read_to_string(&path).unwrap();
            let test_key = test_keys::es256(test_keys::ROOT).to_pem().to_string();
            for other in [KeyName::Root].into_iter().chain(ROLES).filter(|one| *one != name) {
                fs::remove_file(other.private_file(folder.path())).unwrap();
            }
            for text in [sealed, test_key, "no key".into()] {
                fs::write(&path, text).unwrap();
                // Also where the name of a key on a token lies next to it.
                for _ in 0..2 {
                    let error = OwnerKeys::read(folder.path(), ReleaseProfile::Production).err().unwrap();
                    assert!(matches!(&error, Error::KeyInFile { path: named } if *named == path), "{error}");
                    fs::write(name.uri_file(folder.path()), "pkcs11:token=t;object=o?module-path=/m.so")
                        .unwrap();
                }
            }
        }
    }

    #[test]
    fn files_of_a_new_owner_are_encrypted_and_the_passphrase_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let given = passphrase(folder.path());
        assert!(!format!("{given:?}").contains("a passphrase"));
        OwnerKeys::found_in(folder.path(), KeyPlace::Files(&given), BOARD).unwrap();
        let mut looked_at = 0;
        for name in OwnerKeys::names() {
            let path = name.private_file(folder.path());
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{}: {text}", name.name());
            let open =
                |passphrase| OwnerKey::read_for(ReleaseProfile::Development, &path, &mut Some(passphrase));
            let read = open(self::passphrase(&path)).unwrap();
            assert_eq!(read.public(), PublicPart::read(&name.public_file(folder.path())).unwrap());
            let wrong = Passphrase::new("another".to_owned().into(), &path).unwrap();
            let error = open(wrong).err().unwrap().to_string();
            assert!(error.contains(path.to_str().unwrap()) && !error.contains("another\""), "{error}");
            looked_at += 1;
        }
        assert_eq!(looked_at, 4);
        let empty = Passphrase::new(String::new().into(), folder.path()).unwrap_err();
        assert!(matches!(empty, Error::Passphrase { fault: crate::PassphraseFault::Empty, .. }), "{empty}");
    }

    #[test]
    fn a_root_that_is_another_than_its_public_part_is_refused() {
        let folder = founded();
        fs::write(KeyName::Root.private_file(folder.path()), &*Es256Key::generate().to_pem()).unwrap();
        let error = open_root_key(folder.path()).err().unwrap();
        assert!(matches!(error, Error::OtherRoot { .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_no_key_is_named() {
        let folder = founded();
        fs::write(KeyName::Role(Role::Os).private_file(folder.path()), "not a key").unwrap();
        let error = read(folder.path()).err().unwrap();
        assert!(matches!(error, Error::KeyFile { .. }), "{error}");
        assert!(error.to_string().contains("owner-os.key.pem"), "{error}");
    }

    #[test]
    fn rsa_is_for_the_role_os_and_survives_its_file() {
        let folder = founded();
        let os = KeyName::Role(Role::Os);
        for name in [KeyName::Root, ROLES[0], ROLES[1]] {
            let elsewhere = tempfile::tempdir().unwrap();
            let made = create_keys(elsewhere.path(), &[name], KeyAlgorithm::Ps256Of3072, KeyPlace::OpenFiles);
            let error = made.err().unwrap().to_string();
            assert!(error.contains("devices take ES256 only"), "{error}");
            assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        }
        let path = folder.path();
        for file in [os.private_file(path), os.public_file(path), os.delegation_file(path)] {
            fs::remove_file(file).unwrap();
        }
        let passphrase = passphrase(folder.path());
        let place = KeyPlace::Files(&passphrase);
        let made = create_keys(folder.path(), &[os], KeyAlgorithm::Ps256Of3072, place).unwrap();
        let public = &made[0].1;
        assert_eq!(public.algorithm(), KeyAlgorithm::Ps256Of3072);
        let path = os.private_file(folder.path());
        let key = OwnerKey::read_for(ReleaseProfile::Development, &path, &mut Some(passphrase)).unwrap();
        assert_eq!(key.public(), *public);
        assert_eq!(PublicPart::read(&os.public_file(folder.path())).unwrap(), *public);
    }
}
