//! A provisioning package: everything that a blank die becomes a product with.
//!
//! ```text
//!  owner ── sign ──▶ stage1 ── seal under the provisioning key ──▶ boot slots                    ┐
//!                    index, stage2, bundle, OS objects, secrets                                  ├ PackageRelease
//!                          └── seal under the package's content key, one after the other ──▶ disk┘
//!                    content key ──▶ ContentKey, for the authority alone
//! ```
//!
//! # Threats
//! The factory holds the package, and stage1 with the key that opens it: stage1 holds no secret, and everything else
//! opens under the content key alone, which the authority gives to a die that proved itself. Objects of two packages
//! cannot be mixed: the signed index names each by its manifest. The index names the package: its manifest digest is
//! the package id, which a ticket carries.

use crate::owner::STAGE_CHUNK;
use crate::verify::{boot_stage, check_places};
use crate::{
    Error, FlatImage, Identity, ImageInfo, OsParts, OsRelease, Owner, Profile, RollbackIndices, Trusted,
    check,
};
use boot_crypto::host::random;
use boot_crypto::{Digest, Key, sha256};
use lifecycle::{FusePolicy, MAX_LEVEL, ROLES, Row, fuse_tag};
use memory_map::qemu_virt::{BOOT_SLOT_A, PACKAGE};
use sealed_image::host::{Facts, SignedPayload};
use sealed_image::{Compression, Kind, PAYLOAD_ALIGN, Package, PackageObject, Role, Version};

/// What a package is made of.
pub struct PackageParts {
    /// What people call the release: up to 64 printable ASCII characters, possibly none.
    pub release: String,
    /// The provisioning stage.
    pub stage1: FlatImage,
    /// The production stage.
    pub stage2: FlatImage,
    /// The operating system.
    pub os: OsParts,
    /// Keys and certificates of the customer's, which every device of the lot gets.
    pub secrets: Vec<Vec<u8>>,
    /// The key that stage1 is sealed under, and that pre-provisioning burns.
    pub provisioning_key: Key,
}

/// What is known of a package without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageFacts {
    /// The board.
    pub board: String,
    /// The release's version.
    pub version: Version,
    /// What people call the release.
    pub release: String,
    /// The package id: the digest of the index's manifest.
    pub package_id: Digest,
    /// SHA-256 of the whole package as it is encrypted. The package id does not change when the same objects are
    /// sealed again, this does.
    pub package_digest: Digest,
    /// The measurement of stage1: the digest of its manifest.
    pub stage1_measurement: Digest,
    /// The measurement of stage2, which boots once the device is closed.
    pub stage2_measurement: Digest,
    /// The fuses that every die of the lot must have.
    pub policy: FusePolicy,
}

/// A package as the factory gets it: without its content key.
#[derive(Debug)]
pub struct PackageRelease {
    /// What is known of it.
    pub facts: PackageFacts,
    /// stage1, sealed under the provisioning key: for both boot slots.
    pub stage1: Vec<u8>,
    /// Index and objects, sealed under the content key: for the disk.
    pub package: Vec<u8>,
    /// The key that pre-provisioning burns.
    pub provisioning_key: Key,
}

/// The key that opens a package: fresh for each one, and for the authority alone.
#[derive(Debug)]
pub struct ContentKey(pub Key);

impl PackageRelease {
    /// Signs and seals a package under a fresh content key.
    ///
    /// The floors of the lot follow from the release: `Secured` has the rollback index as the floor of the role
    /// `provision`, `Production` as that of each role whose objects the package holds.
    ///
    /// # Errors
    /// A published test key or provisioning key; a role without a key; a rollback index that no floor reaches;
    /// objects that a device would refuse, or that have no room.
    pub fn make(
        owner: &Owner,
        identity: &Identity,
        parts: PackageParts,
    ) -> Result<(Self, ContentKey), Error> {
        Self::seal(owner, identity, SignedParts::sign(owner, identity, parts)?)
    }

    /// Seals what is signed already, under a fresh content key.
    pub(crate) fn seal(
        owner: &Owner,
        identity: &Identity,
        signed: SignedParts,
    ) -> Result<(Self, ContentKey), Error> {
        let SignedParts { release, stage1, stage2, os, secrets, provisioning_key } = signed;
        let mut objects = vec![(Kind::Stage2, &stage2), (Kind::Bundle, &os.bundle)];
        objects.extend(os.objects.iter().map(|(kind, object)| (*kind, object)));
        objects.extend(secrets.iter().map(|secret| (Kind::Secret, secret)));
        let index = sign_index(owner, identity, &objects, &release)?;

        let content_key = ContentKey(Key::new(random()));
        let package = seal_all(&index, &objects, &content_key.0, os.compression)?;
        crate::flash::fits("the package", &package, PACKAGE.size)?;
        let sealed = stage1.seal(&provisioning_key, Compression::None)?;
        crate::flash::fits("stage1", &sealed, BOOT_SLOT_A.size)?;

        let facts = PackageFacts {
            board: identity.board.clone(),
            version: identity.version,
            release,
            package_id: index.manifest_digest,
            package_digest: sha256(&package),
            stage1_measurement: stage1.manifest_digest,
            stage2_measurement: stage2.manifest_digest,
            policy: policy(owner, identity, &provisioning_key, stage1.manifest_digest)?,
        };
        Ok((Self { facts, stage1: sealed, package, provisioning_key }, content_key))
    }

    /// Checks, without the content key, that what the release says of itself holds together and that a die which is
    /// burned as its policy says boots its stage1.
    ///
    /// # Errors
    /// [`Error::ReleaseMixed`], a published test key, or why stage0 would refuse stage1.
    pub fn check(&self) -> Result<(), Error> {
        self.check_for(&Trusted::root(self.facts.policy.root_digest))?;
        self.check_index(crate::inspect_slot(&self.package)?.first())
    }

    /// Checks the same for a die that trusts this root, wherever that comes from, but for the index, which
    /// [`verify_signatures`](Self::verify_signatures) and [`open_for`](Self::open_for) look at.
    pub(crate) fn check_for(&self, trusted: &Trusted) -> Result<(), Error> {
        let mixed = |what| Err(Error::ReleaseMixed { what });
        let policy = &self.facts.policy;
        if policy.root_digest != trusted.root {
            return mixed("the package is for dies of another owner root");
        }
        Profile::Production.admit(&policy.root_digest, "the owner root key")?;
        Profile::Production.admit(&sha256(self.provisioning_key.expose()), "the provisioning key")?;
        if fuse_tag(Row::ProvisioningKey, &self.provisioning_key) != policy.provisioning_key_tag {
            return mixed("the provisioning key is not that of the fuse policy");
        }
        if self.facts.stage1_measurement != policy.closing_measurement {
            return mixed("the closing measurement of the fuse policy is not that of stage1");
        }
        let judge = trusted.judge(&self.facts.board, policy.secured_floors);
        let stage1 = check::open_first(&self.stage1, Kind::Stage1, &judge, &self.provisioning_key)?;
        boot_stage(&self.stage1, Kind::Stage1, &judge, Some(&self.provisioning_key))?;
        if stage1.info.digest != self.facts.stage1_measurement {
            return mixed("stage1 is not the one that the release names");
        }
        if sha256(&self.package) != self.facts.package_digest {
            return mixed("the package is not the one that the release names");
        }
        Ok(())
    }

    fn check_index(&self, index: Option<&ImageInfo>) -> Result<(), Error> {
        match index {
            Some(index) if index.kind == Kind::Package && index.digest == self.facts.package_id => Ok(()),
            _ => {
                Err(Error::ReleaseMixed { what: "the package's index is not the one that the release names" })
            }
        }
    }

    /// Verifies and opens all of the package as stage1 of a die of the lot would, with the floors that closing burns.
    /// The first image returned is the index.
    ///
    /// # Errors
    /// Why the device would refuse the package; [`Error::ReleaseMixed`] if it is not the one that the release names.
    pub fn open(&self, content_key: &ContentKey) -> Result<Vec<crate::OpenedImage>, Error> {
        self.open_for(&Trusted::root(self.facts.policy.root_digest), &content_key.0)
    }

    /// Opens the same for a die that trusts this root.
    pub(crate) fn open_for(
        &self,
        trusted: &Trusted,
        content_key: &Key,
    ) -> Result<Vec<crate::OpenedImage>, Error> {
        let judge = trusted.judge(&self.facts.board, self.facts.policy.production_floors);
        let images = check::open_package(&self.package, &judge, content_key)?;
        self.check_index(images.first().map(|image| &image.info))?;
        let found = |kind| images.iter().find(|image| image.info.kind == kind).map(|image| image.info.digest);
        if found(Kind::Stage2) != Some(self.facts.stage2_measurement) {
            return Err(Error::ReleaseMixed { what: "stage2 is not the one that the release names" });
        }
        Ok(images)
    }

    /// Judges what a die of the lot has once it is provisioned: whether it has its places in the slots and in memory.
    /// [`open_for`](Self::open_for) returned `images`.
    pub(crate) fn check_places(
        &self,
        images: &[ImageInfo],
        trusted: &Trusted,
        content_key: &Key,
    ) -> Result<(), Error> {
        let judge = trusted.judge(&self.facts.board, self.facts.policy.production_floors);
        check_places(&self.package, images, &judge, content_key)
    }

    /// Verifies who signed stage1 and each image of the package, as a die that trusts this root does before it has a key.
    pub(crate) fn verify_signatures(&self, trusted: &Trusted) -> Result<SignedImages, Error> {
        let (facts, policy) = (&self.facts, &self.facts.policy);
        let signed = |slot: &[u8], first, floors| {
            check::verify_signatures(slot, first, &trusted.judge(&facts.board, floors))
        };
        let images = SignedImages {
            stage1: signed(&self.stage1, Kind::Stage1, policy.secured_floors)?,
            objects: signed(&self.package, Kind::Package, policy.production_floors)?,
        };
        self.check_index(images.objects.first())?;
        let mut all = images.stage1.iter().chain(&images.objects);
        if all.any(|image| image.version != facts.version || image.board != facts.board) {
            return Err(Error::ReleaseMixed { what: "an image is of another version or board" });
        }
        let stage2 = images.objects.iter().find(|image| image.kind == Kind::Stage2).map(|image| image.digest);
        if stage2 != Some(facts.stage2_measurement) {
            return Err(Error::ReleaseMixed { what: "stage2 is not the one that the release names" });
        }
        Ok(images)
    }
}

/// The images of a package whose signatures hold.
pub(crate) struct SignedImages {
    /// Those that lie in the place of stage1: it, at least.
    pub(crate) stage1: Vec<ImageInfo>,
    /// The index, and what lies behind it.
    pub(crate) objects: Vec<ImageInfo>,
}

/// The parts of a package, each signed once: the package and an update of the same release seal the same ones.
pub(crate) struct SignedParts {
    release: String,
    stage1: SignedPayload,
    pub(crate) stage2: SignedPayload,
    pub(crate) os: OsRelease,
    secrets: Vec<SignedPayload>,
    provisioning_key: Key,
}

impl SignedParts {
    /// Signs the parts.
    ///
    /// # Errors
    /// As [`PackageRelease::make`].
    pub(crate) fn sign(owner: &Owner, identity: &Identity, parts: PackageParts) -> Result<Self, Error> {
        owner.admit(Profile::Production)?;
        let PackageParts { release, stage1, stage2, os, secrets, provisioning_key } = parts;
        Profile::Production.admit(&sha256(provisioning_key.expose()), "the provisioning key")?;
        let secret = |secret| owner.sign(&facts(identity, Kind::Secret), secret);
        Ok(Self {
            release,
            stage1: owner.sign_stage1(identity, stage1)?,
            stage2: owner.sign_stage2(identity, stage2)?,
            os: OsRelease::sign(owner, identity, os)?,
            secrets: secrets.into_iter().map(secret).collect::<Result<_, _>>()?,
            provisioning_key,
        })
    }
}

/// Seals an index, and behind it the objects that it names, each on a 4096-byte boundary; kernel and initramfs in the way
/// that is asked for.
pub(crate) fn seal_all(
    index: &SignedPayload,
    objects: &[(Kind, &SignedPayload)],
    key: &Key,
    compression: Compression,
) -> Result<Vec<u8>, Error> {
    let mut sealed = index.seal(key, Compression::None)?;
    for (kind, object) in objects {
        let compression =
            if matches!(kind, Kind::Kernel | Kind::Initramfs) { compression } else { Compression::None };
        sealed.resize(sealed.len().next_multiple_of(PAYLOAD_ALIGN as usize), 0);
        sealed.extend(object.seal(key, compression)?);
    }
    Ok(sealed)
}

fn sign_index(
    owner: &Owner,
    identity: &Identity,
    objects: &[(Kind, &SignedPayload)],
    release: &str,
) -> Result<SignedPayload, Error> {
    let named: Vec<_> = objects
        .iter()
        .map(|(kind, object)| PackageObject { kind: *kind, manifest_digest: &object.manifest_digest })
        .collect();
    let index = Package::new(&named, release).map_err(|error| Error::Image { offset: 0, error })?;
    owner.sign(&facts(identity, Kind::Package), index.encode())
}

/// Facts of what is neither code nor bound to an address.
pub(crate) fn facts(identity: &Identity, kind: Kind) -> Facts {
    Facts {
        kind,
        board: identity.board.clone(),
        version: identity.version,
        rollback_index: identity.rollback_index_of(kind),
        load_address: 0,
        entry: 0,
        chunk_size: STAGE_CHUNK,
    }
}

/// Returns the rollback index as fuses count it.
pub(crate) fn level(found: u32) -> Result<u8, Error> {
    let level = u8::try_from(found).ok().filter(|level| *level <= MAX_LEVEL);
    level.ok_or(Error::RollbackIndexTooHigh { found })
}

/// Returns the floors that a release brings for these roles.
pub(crate) fn floors(indices: &RollbackIndices, roles: &[Role]) -> Result<[u8; ROLES as usize], Error> {
    let mut floors = [0; ROLES as usize];
    for role in roles {
        floors[usize::from(role.number()) - 1] = level(indices.of(*role))?;
    }
    Ok(floors)
}

fn policy(
    owner: &Owner,
    identity: &Identity,
    provisioning_key: &Key,
    stage1: Digest,
) -> Result<FusePolicy, Error> {
    Ok(FusePolicy {
        root_digest: owner.root_digest(),
        provisioning_key_tag: fuse_tag(Row::ProvisioningKey, provisioning_key),
        secured_floors: floors(&identity.rollback_index, &[Role::Provision])?,
        production_floors: floors(&identity.rollback_index, &[Role::Boot, Role::Provision, Role::Os])?,
        closing_measurement: stage1,
    })
}
