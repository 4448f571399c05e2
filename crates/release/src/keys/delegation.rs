//! What the root delegates to a key: a role, within limits. It lies next to the key, so that the root is not needed again.
//!
//! The certificate is the one that images carry: a COSE_Sign1 by the root over [`Grant`], as the README of `sealed-image`
//! draws it. A device refuses what a delegation does not cover; here it is refused before anything is signed.

use super::{KeyName, PublicPart};
use crate::files::{self, Readers};
use crate::{Error, hex};
use boot_crypto::Digest;
use sealed_image::host::{Signer, certify, encode_grant, verify_certificate};
use sealed_image::{Grant, Kind, KindSet, MAX_BOARDS, PublicKey, Role, Root, Version};
use std::fmt;
use std::path::Path;

/// Within which limits a key may act in its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What it may sign, of what the role signs.
    pub kinds: KindSet,
    /// For which boards: 1 to 8.
    pub boards: Vec<String>,
    /// The lowest version.
    pub min_version: Version,
    /// The highest version.
    pub max_version: Version,
}

impl Limits {
    /// All that a role signs, for one board and every version.
    pub fn of_role(role: Role, board: &str) -> Self {
        let kinds: Vec<Kind> = kinds_of(role).collect();
        Self {
            kinds: KindSet::new(&kinds),
            boards: vec![board.into()],
            min_version: Version::MIN,
            max_version: Version::MAX,
        }
    }

    /// The limits that a root signed.
    fn of(grant: &Grant<'_>) -> Self {
        let Grant { kinds, min_version, max_version, .. } = *grant;
        Self { kinds, boards: grant.boards().map(String::from).collect(), min_version, max_version }
    }

    /// Tells whether every version is within the limits.
    pub fn every_version(&self) -> bool {
        (self.min_version, self.max_version) == (Version::MIN, Version::MAX)
    }

    /// Checks the limits of a role: those that no device could ever use are refused.
    fn check(&self, role: Role, key: &PublicKey<'_>) -> Result<(), String> {
        let name = role.name();
        if KeyName::Role(role).es256_only() && !matches!(key, PublicKey::P256(_)) {
            return Err(es256_only(name));
        }
        if let Some(kind) = self.kinds.iter().find(|kind| kind.role() != Some(role)) {
            return Err(format!("the role {name} does not sign {}", kind.name()));
        }
        if self.kinds.iter().next().is_none() && kinds_of(role).next().is_some() {
            return Err(format!("a key of the role {name} that may sign nothing is of no use"));
        }
        if !(1..=MAX_BOARDS).contains(&self.boards.len()) {
            return Err(format!(
                "a delegation names 1 to {MAX_BOARDS} boards, and not {}",
                self.boards.len()
            ));
        }
        self.check_versions()?;
        if kinds_of(role).next().is_none() { self.check_messages(role) } else { Ok(()) }
    }

    fn check_messages(&self, role: Role) -> Result<(), String> {
        if self.every_version() {
            return Ok(());
        }
        Err(format!("the role {} signs messages, which have no version to limit it to", role.name()))
    }

    fn check_versions(&self) -> Result<(), String> {
        let (min, max) = (self.min_version, self.max_version);
        if min <= max {
            return Ok(());
        }
        Err(format!("the lowest version, {min}, is higher than the highest, {max}"))
    }

    /// Checks what a key is to sign.
    ///
    /// # Errors
    /// [`Error::NotDelegated`].
    pub(crate) fn cover(
        &self,
        role: Role,
        kind: Option<Kind>,
        board: &str,
        version: Version,
    ) -> Result<(), Error> {
        let beyond = if let Some(kind) = kind.filter(|kind| !self.kinds.contains(*kind)) {
            Beyond::Kind(kind)
        } else if !self.boards.iter().any(|one| one == board) {
            Beyond::Board(board.into())
        } else if !(self.min_version..=self.max_version).contains(&version) {
            Beyond::Version(version)
        } else {
            return Ok(());
        };
        Err(Error::NotDelegated { role, beyond, limits: Box::new(self.clone()) })
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.kinds.iter().map(Kind::name).collect();
        let kinds = if kinds.is_empty() { "messages".into() } else { kinds.join(", ") };
        write!(f, "{kinds} for {}, ", self.boards.join(", "))?;
        match (self.min_version, self.max_version) {
            (Version::MIN, Version::MAX) => f.write_str("every version"),
            (Version::MIN, max) => write!(f, "versions up to {max}"),
            (min, Version::MAX) => write!(f, "versions from {min} on"),
            (min, max) => write!(f, "versions {min} to {max}"),
        }
    }
}

/// Lists the kinds that a role signs.
fn kinds_of(role: Role) -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(move |kind| kind.role() == Some(role))
}

/// What a delegation does not cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// This kind.
    Kind(Kind),
    /// This board.
    Board(String),
    /// This version.
    Version(Version),
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "a {}", kind.name()),
            Self::Board(board) => write!(f, "something for {board}"),
            Self::Version(version) => write!(f, "version {version}"),
        }
    }
}

/// Why a delegation is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DelegationFault {
    /// It cannot be made with such limits.
    #[error("{0}")]
    Limits(String),
    /// The root has not delegated yet.
    #[error("there is none: the root has not delegated the role to the key yet")]
    Missing,
    /// It is no delegation, or none of this root.
    #[error("{cause} ({0:?})", cause = .0.code().cause())]
    Untrusted(sealed_image::Error),
    /// It is for another role.
    #[error("it delegates the role {}", found.name())]
    Role {
        /// The role.
        found: Role,
    },
    /// It is for another key.
    #[error("it is for the key {}, and the one next to it is {}", hex(delegated), hex(found))]
    Key {
        /// The thumbprint of the key that the root means.
        delegated: Digest,
        /// That of the key that is there.
        found: Digest,
    },
    /// The key acts in another role too.
    #[error("it is for a key that acts in the role {} too", other.name())]
    Shared {
        /// The other role.
        other: Role,
    },
    /// The root took the key back.
    #[error("the root has revoked its key {}", hex(.0))]
    Revoked(Digest),
}

/// A delegation, which the root signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    role: Role,
    key: Digest,
    limits: Limits,
    certificate: Vec<u8>,
}

impl Delegation {
    /// Has the root delegate a role to a key.
    ///
    /// # Errors
    /// [`DelegationFault::Limits`]; a root that is not P-256, or does not sign.
    pub fn sign(root: &dyn Signer, role: Role, key: &PublicKey<'_>, limits: &Limits) -> Result<Self, Error> {
        let refused = |reason: String| Error::Delegation {
            path: format!("the delegation of {}", role.name()).into(),
            fault: DelegationFault::Limits(reason),
        };
        limits.check(role, key).map_err(refused)?;
        if key.thumbprint() == root.public_key().thumbprint() {
            return Err(refused(
                "the root delegates, and acts in no role itself: this is its own key".into(),
            ));
        }
        let certificate = certificate(root, role, key, limits)?;
        let point = PublicPart::from(root.public_key()).as_root()?;
        // A device reads what was signed: names of boards have a form.
        Self::parse(certificate, &point).map_err(|fault| refused(fault.to_string()))
    }

    /// Verifies a delegation with the root's public key, x followed by y.
    fn parse(certificate: Vec<u8>, root: &[u8; 64]) -> Result<Self, DelegationFault> {
        let roots = [Root { digest: PublicKey::P256(*root).thumbprint(), revoked: false }];
        // Published test keys are refused where an owner is put together, whatever delegates to them.
        let grant =
            verify_certificate(&certificate, root, &roots, false).map_err(DelegationFault::Untrusted)?;
        Ok(Self { role: grant.role, key: grant.key.thumbprint(), limits: Limits::of(&grant), certificate })
    }

    /// Reads the delegation of a role from the owner's folder.
    ///
    /// # Errors
    /// [`Error::Delegation`].
    pub(super) fn read(folder: &Path, role: Role, root: &[u8; 64]) -> Result<Self, Error> {
        let path = KeyName::Role(role).delegation_file(folder);
        let refused = |fault| Error::Delegation { path: path.clone(), fault };
        if !path.exists() {
            return Err(refused(DelegationFault::Missing));
        }
        let delegation = Self::parse(files::read(&path)?, root).map_err(refused)?;
        if delegation.role != role {
            return Err(refused(DelegationFault::Role { found: delegation.role }));
        }
        Ok(delegation)
    }

    /// Checks that this is the delegation of a key.
    pub(super) fn is_for(&self, key: &PublicKey<'_>) -> Result<(), DelegationFault> {
        let (delegated, found) = (self.key, key.thumbprint());
        if delegated == found { Ok(()) } else { Err(DelegationFault::Key { delegated, found }) }
    }

    /// Writes the delegation into a file that is not there.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        files::write_new(path, &self.certificate, Readers::Anyone)
    }

    /// Returns the role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the thumbprint of the key.
    pub fn key(&self) -> &Digest {
        &self.key
    }

    /// Returns the limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the certificate (COSE_Sign1).
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }
}

/// Has a root sign a certificate, whether or not it makes sense to a device.
pub(crate) fn certificate(
    root: &dyn Signer,
    role: Role,
    key: &PublicKey<'_>,
    limits: &Limits,
) -> Result<Vec<u8>, Error> {
    let mut boards = [""; MAX_BOARDS];
    boards.iter_mut().zip(&limits.boards).for_each(|(to, from)| *to = from);
    let Limits { kinds, min_version, max_version, .. } = *limits;
    Ok(certify(root, &encode_grant(&Grant { role, key: *key, kinds, boards, min_version, max_version }))?)
}

/// What devices take that a key signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Images of these kinds.
    Images(Vec<Kind>),
    /// The authority's answers, whatever kinds the delegation names: they have none.
    Messages,
    /// Nothing: the role is one that devices do not read yet.
    Reserved,
}

/// Tells what devices take that the key of a delegation signs. That is more than [`Limits::check`] lets anybody make: devices
/// pass over kinds that the role does not sign.
///
/// # Errors
/// Why devices would refuse whatever it signs.
pub(crate) fn check_use(grant: &Grant<'_>) -> Result<Use, DelegationFault> {
    let limits = Limits::of(grant);
    match grant.role {
        // They have no version either, so a device takes them from a key of every version only.
        Role::Authority => {
            if !matches!(grant.key, PublicKey::P256(_)) {
                return Err(DelegationFault::Limits(es256_only(grant.role.name())));
            }
            let checked = limits.check_messages(grant.role);
            return checked.map(|()| Use::Messages).map_err(DelegationFault::Limits);
        }
        Role::Debug | Role::Transfer => return Ok(Use::Reserved),
        Role::Boot | Role::Provision | Role::Os => {}
    }
    limits.check_versions().map_err(DelegationFault::Limits)?;
    let ec = matches!(grant.key, PublicKey::P256(_));
    let taken = |kind: &Kind| kind.role() == Some(grant.role) && (ec || !kind.stage());
    let kinds: Vec<_> = limits.kinds.iter().filter(taken).collect();
    if !kinds.is_empty() {
        return Ok(Use::Images(kinds));
    }
    let why = match limits.check(grant.role, &grant.key) {
        Err(why) => why,
        Ok(()) => es256_only(grant.role.name()),
    };
    Err(DelegationFault::Limits(why))
}

/// Says why a key cannot be RSA.
pub(super) fn es256_only(name: &str) -> String {
    format!("devices take ES256 only from the key {name}: RSA is for the role os")
}

#[cfg(test)]
mod tests {
    use super::*;
    use boot_crypto::host::Es256Key;
    use fail_code::FailCode;

    fn limits() -> Limits {
        Limits { min_version: Version::new(1, 0, 0), max_version: Version::new(1, 9, 0), ..all() }
    }

    fn all() -> Limits {
        Limits::of_role(Role::Os, "qemu-virt")
    }

    fn sign(role: Role, limits: &Limits) -> Result<Delegation, Error> {
        let key = Es256Key::generate().public();
        Delegation::sign(&Es256Key::generate(), role, &PublicKey::P256(key), limits)
    }

    #[test]
    fn a_delegation_says_what_it_covers() {
        let delegation = sign(Role::Os, &limits()).unwrap();
        assert_eq!(delegation.limits(), &limits());
        let said = delegation.limits().to_string();
        assert!(
            said.contains("kernel, ") && said.ends_with("for qemu-virt, versions 1.0.0 to 1.9.0"),
            "{said}"
        );
        let one = Version::new(1, 5, 0);
        let cover = |kind, board, version| {
            let error = delegation.limits().cover(Role::Os, Some(kind), board, version).err()?;
            assert!(error.to_string().contains("versions 1.0.0 to 1.9.0"), "{error}");
            error.code()
        };
        assert_eq!(cover(Kind::Kernel, "qemu-virt", one), None);
        assert_eq!(cover(Kind::Kernel, "qemu-virt", Version::new(1, 0, 0)), None);
        assert_eq!(cover(Kind::Kernel, "qemu-virt", Version::new(1, 9, 0)), None);
        assert_eq!(cover(Kind::Stage2, "qemu-virt", one), Some(FailCode::KindNotDelegated));
        assert_eq!(cover(Kind::Kernel, "other", one), Some(FailCode::BoardNotDelegated));
        for version in [Version::new(0, 9, 9), Version::new(1, 9, 1), Version::MAX] {
            assert_eq!(cover(Kind::Kernel, "qemu-virt", version), Some(FailCode::VersionNotDelegated));
        }
    }

    #[test]
    fn limits_that_no_device_can_use_are_refused() {
        let kinds = |kinds: &[Kind]| Limits { kinds: KindSet::new(kinds), ..all() };
        let boards = |boards: &[&str]| Limits {
            boards: boards.iter().map(|board| (*board).into()).collect(),
            ..all()
        };
        let versions = |min, max| Limits { min_version: min, max_version: max, ..all() };
        let unlimited = |role| Limits { kinds: KindSet::default(), ..Limits::of_role(role, "qemu-virt") };
        let one = Version::new(1, 0, 0);
        for (role, limits, why) in [
            (Role::Os, kinds(&[Kind::Kernel, Kind::Stage2]), "does not sign stage2"),
            (Role::Boot, all(), "the role boot does not sign kernel"),
            (Role::Os, kinds(&[]), "may sign nothing"),
            (Role::Os, boards(&[]), "names 1 to 8 boards, and not 0"),
            (Role::Os, boards(&["b"; 9]), "and not 9"),
            (Role::Os, boards(&["No Board"]), "Malformed"),
            (Role::Os, boards(&[&"b".repeat(33)]), "Malformed"),
            (Role::Os, versions(one, Version::MIN), "is higher than the highest"),
            (Role::Debug, versions(one, Version::MAX), "have no version"),
            (Role::Debug, Limits { max_version: one, ..unlimited(Role::Debug) }, "have no version"),
        ] {
            let role_kinds = if role == Role::Debug { unlimited(role).kinds } else { limits.kinds };
            let error = sign(role, &Limits { kinds: role_kinds, ..limits }).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
        sign(Role::Debug, &unlimited(Role::Debug)).unwrap();
        let root = Es256Key::generate();
        let modulus = [&[0xC1; 383][..], &[1]].concat();
        for (role, taken) in [(Role::Boot, false), (Role::Provision, false), (Role::Os, true)] {
            let limits = Limits::of_role(role, "qemu-virt");
            let made = Delegation::sign(&root, role, &PublicKey::Rsa(&modulus), &limits);
            assert_eq!(made.is_ok(), taken, "{}", role.name());
        }
    }

    #[test]
    fn a_delegation_of_another_root_role_or_key_and_an_altered_one_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (root, key) = (Es256Key::generate(), Es256Key::generate());
        let made = Delegation::sign(&root, Role::Os, &key.public_key(), &all()).unwrap();
        let path = KeyName::Role(Role::Os).delegation_file(folder.path());
        let read = |role, root: &Es256Key| match Delegation::read(folder.path(), role, &root.public()) {
            Err(Error::Delegation { fault, .. }) => Err(fault),
            other => Ok(other.unwrap()),
        };
        assert_eq!(read(Role::Os, &root), Err(DelegationFault::Missing));
        made.write(&path).unwrap();
        assert_eq!(read(Role::Os, &root), Ok(made.clone()));
        assert!(matches!(made.write(&path), Err(Error::Write { .. })), "it is never written over");
        assert_eq!(made.is_for(&key.public_key()), Ok(()));
        let other = Es256Key::generate();
        assert!(matches!(made.is_for(&other.public_key()), Err(DelegationFault::Key { .. })));
        let untrusted = |result: Result<Delegation, DelegationFault>| match result {
            Err(DelegationFault::Untrusted(error)) => error.code(),
            other => panic!("{other:?}"),
        };
        assert_eq!(untrusted(read(Role::Os, &other)), FailCode::DelegationSignature);
        std::fs::rename(&path, KeyName::Role(Role::Boot).delegation_file(folder.path())).unwrap();
        assert_eq!(read(Role::Boot, &root), Err(DelegationFault::Role { found: Role::Os }));
        let mut looked_at = 0;
        for bit in 0..made.certificate.len() * 8 {
            let mut altered = made.certificate.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(Delegation::parse(altered, &root.public()).is_err(), "bit {bit}");
            looked_at += 1;
        }
        for length in 0..made.certificate.len() {
            assert!(Delegation::parse(made.certificate[..length].into(), &root.public()).is_err());
        }
        assert!(looked_at > 1000);
    }
}
