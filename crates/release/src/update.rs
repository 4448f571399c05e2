//! An update image: what a device in the field installs over an older release.
//!
//! ```text
//!  SignedParts ── the images of the package, with the same manifests ─┐
//!  index: product, minimum version, rollback index of each role ──────┴─ seal under the product's update key ──▶ UpdateRelease
//! ```
//!
//! # Threats
//! *Whoever carries an update image*, or serves it to devices, gets nothing in the clear and no key: each image in it is sealed
//! under a key that follows from the update key. What is said about it in the clear is held against the signed index, whose
//! manifest has the digest of what it encrypts: nobody needs the key to know for which devices an update is.
//!
//! *Whoever makes one* could make what devices refuse. So it is judged by the device's own code, for a device of the minimum
//! version, before it goes anywhere.

mod facts;
mod key;

pub(crate) use facts::FACTS_FILE;
pub use facts::UpdateFacts;
pub use key::{UpdateKey, UpdateKeyFault};

use crate::check::{self, Judge, OpenedImage, Trusted};
use crate::package::{facts as facts_of, level, seal_all};
use crate::verify::check_places;
use crate::{Error, Identity, ImageInfo, OsRelease, Owner, Profile, inspect_slot};
use boot_crypto::{Digest, sha256};
use lifecycle::ROLES;
use memory_map::qemu_virt::FLASH1;
use sealed_image::host::SignedPayload;
use sealed_image::{
    Admission, Bundle, Installed, Kind, PackageObject, Role, RoleIndices, Update, UpdateError, Version,
    plain_digest,
};

/// The file of the image, in the folder of an update.
pub(crate) const UPDATE_FILE: &str = "update.img";

/// The name of the image in errors.
const WHAT: &str = "the update image";

/// What an update is made of: images that are signed already, as a package holds them.
#[derive(Clone, Copy, Debug)]
pub struct UpdateParts<'a> {
    /// The lowest version that it can be installed over.
    pub minimum_version: Version,
    /// The production stage; without one the device keeps its own.
    pub stage2: Option<&'a SignedPayload>,
    /// The operating system.
    pub os: &'a OsRelease,
}

/// An update as everybody may have it.
#[derive(Clone, Debug)]
pub struct UpdateRelease {
    /// What is known of it without a key.
    pub facts: UpdateFacts,
    /// Index and objects, sealed under the product's update key.
    pub image: Vec<u8>,
}

impl UpdateRelease {
    /// Signs the index and seals all of it, for the product that the key belongs to.
    ///
    /// # Errors
    /// A published test key; a rollback index that no floor reaches; a minimum version that no device can have; objects
    /// that a device would refuse, or that have no room where updates arrive.
    pub fn make(
        owner: &Owner,
        identity: &Identity,
        parts: &UpdateParts<'_>,
        key: &UpdateKey,
    ) -> Result<Self, Error> {
        owner.admit(Profile::Production)?;
        key.admit(Profile::Production)?;
        if parts.minimum_version >= identity.version {
            let (minimum, version) = (parts.minimum_version, identity.version);
            return Err(Error::MinimumVersion { minimum, version });
        }
        let level = |role| level(identity.rollback_index.of(role)).map(u32::from);
        let mut indices = RoleIndices::default();
        indices.set(Role::Os, level(Role::Os)?);
        let mut objects = Vec::new();
        if let Some(stage2) = parts.stage2 {
            indices.set(Role::Boot, level(Role::Boot)?);
            objects.push((Kind::Stage2, stage2));
        }
        objects.push((Kind::Bundle, &parts.os.bundle));
        objects.extend(parts.os.objects.iter().map(|(kind, object)| (*kind, object)));
        let named: Vec<_> = objects
            .iter()
            .map(|(kind, object)| PackageObject { kind: *kind, manifest_digest: &object.manifest_digest })
            .collect();
        let index = Update::new(key.product(), parts.minimum_version, indices, &named).map_err(refused)?;
        let index = owner.sign(&facts_of(identity, Kind::Update), index.encode())?;
        let image = seal_all(&index, &objects, &key.sealing_key(), parts.os.compression)?;
        crate::flash::fits(WHAT, &image, FLASH1.size)?;
        let facts = UpdateFacts {
            product: key.product().into(),
            board: identity.board.clone(),
            version: identity.version,
            minimum_version: parts.minimum_version,
            indices,
            update_id: index.manifest_digest,
            update_digest: sha256(&image),
        };
        Ok(Self { facts, image })
    }

    /// Judges the update as a device of the minimum version would whose fuses hold this root, with the floors that it brings.
    /// Without the key: that each image is signed as a device wants it, and what the index says and names. With it: also
    /// every image, to the last byte. Returns the images, the index first.
    ///
    /// # Errors
    /// Why the device would refuse it; [`Error::ReleaseMixed`] if it is not what its facts say.
    pub fn check(&self, root: Digest, key: Option<&UpdateKey>) -> Result<Vec<ImageInfo>, Error> {
        self.check_for(&Trusted::root(root), key)
    }

    /// Judges the same for a device that trusts this root, and whose floors may be higher.
    pub(crate) fn check_for(
        &self,
        trusted: &Trusted,
        key: Option<&UpdateKey>,
    ) -> Result<Vec<ImageInfo>, Error> {
        let mixed = |what| Err(Error::ReleaseMixed { what });
        let facts = &self.facts;
        if sha256(&self.image) != facts.update_digest {
            return mixed("the update image is not the one that update.json names");
        }
        crate::flash::fits(WHAT, &self.image, FLASH1.size)?;
        let images = inspect_slot(&self.image)?;
        refuse_rest(&self.image, &images)?;
        let device = Device::of(facts, trusted);
        let [first, objects @ ..] = images.as_slice() else { return Err(Error::SlotEmpty) };
        let named: Vec<_> = objects
            .iter()
            .map(|image| PackageObject { kind: image.kind, manifest_digest: &image.digest })
            .collect();
        let said = Update::new(&facts.product, facts.minimum_version, facts.indices, &named);
        let said = said.map_err(refused)?.encode();
        let update = Update::parse(&said).map_err(refused)?;

        let index = device.judge.verify(&self.image, first, Kind::Update)?;
        let manifest = index.manifest();
        let same = *index.manifest_digest() == facts.update_id
            && (manifest.version, manifest.board) == (facts.version, facts.board.as_str());
        if !same {
            return mixed("the index of the update is not the one that update.json names");
        }
        if *manifest.plain_digest != plain_digest(&said, manifest.chunk_size) {
            return mixed("update.json says something else than the signed index of the update");
        }
        let mut admission = update.admit(&index, &device.installed).map_err(refused)?;
        for image in objects {
            let verified = device.judge.verify(&self.image, image, image.kind)?;
            admission.take(&verified).map_err(at(image))?;
        }
        if let Some(key) = key {
            device.open_all(&self.image, &images, key, admission, &said)?;
        }
        Ok(images)
    }

    /// Judges what the update brings as such a device has it once it is installed: whether it has its places in the slots
    /// and in memory. [`check_for`](Self::check_for) returned `images`.
    pub(crate) fn check_places(
        &self,
        images: &[ImageInfo],
        trusted: &Trusted,
        key: &UpdateKey,
    ) -> Result<(), Error> {
        let device = Device::of(&self.facts, trusted);
        check_places(&self.image, images, &device.judge, &key.sealing_key())
    }
}

/// A device that an update is judged by: the oldest that takes it, with the highest floors that it passes.
struct Device<'a> {
    judge: Judge<'a>,
    installed: Installed<'a>,
}

impl<'a> Device<'a> {
    fn of(facts: &'a UpdateFacts, trusted: &Trusted) -> Self {
        let floor = |role| facts.indices.of(role).unwrap_or_default().max(u32::from(trusted.floors.of(role)));
        let floors = Role::ALL.map(floor);
        let mut levels = [0; ROLES as usize];
        levels
            .iter_mut()
            .zip(floors)
            .for_each(|(level, floor)| *level = u8::try_from(floor).unwrap_or(u8::MAX));
        let (product, version) = (facts.product.as_str(), facts.minimum_version);
        Self {
            judge: trusted.judge(&facts.board, levels),
            installed: Installed { product, version, stage2: version, floors },
        }
    }

    /// Opens every image to its last byte; the index must hold what was said of it.
    fn open_all(
        &self,
        slot: &[u8],
        images: &[ImageInfo],
        key: &UpdateKey,
        mut admission: Admission<'_, '_>,
        said: &[u8],
    ) -> Result<(), Error> {
        let key = key.sealing_key();
        for info in images {
            let offset = info.offset;
            let rest = slot.get(offset as usize..).ok_or(Error::SlotTruncated { offset })?;
            let opened =
                check::open_first(rest, info.kind, &self.judge, &key).map_err(|error| match error {
                    Error::Image { offset: within, error } => Error::Image { offset: offset + within, error },
                    other => other,
                })?;
            let OpenedImage { plain, .. } = opened;
            match info.kind {
                Kind::Update if plain.as_slice() != said => {
                    return Err(Error::ReleaseMixed {
                        what: "the index of the update is not what was signed",
                    });
                }
                Kind::Bundle => {
                    let bundle = Bundle::parse(&plain).map_err(|error| Error::Image { offset, error })?;
                    admission.take_bundle(&bundle).map_err(at(info))?;
                }
                _ => {}
            }
        }
        admission.finish().map(|_| ()).map_err(refused)
    }
}

/// Refuses what lies between the images, or behind the last of them.
fn refuse_rest(slot: &[u8], images: &[ImageInfo]) -> Result<(), Error> {
    let mut end = 0;
    for image in images {
        let between = slot.get(end..image.offset as usize).unwrap_or_default();
        if between.iter().any(|byte| *byte != 0) {
            let error = sealed_image::Error::Padding;
            return Err(Error::Image { offset: image.offset, error });
        }
        end = (image.offset + image.stored_bytes) as usize;
    }
    if slot.len() == end {
        Ok(())
    } else {
        Err(Error::ReleaseMixed { what: "something lies behind the update" })
    }
}

fn refused(error: UpdateError) -> Error {
    Error::Update { offset: 0, error }
}

fn at(image: &ImageInfo) -> impl Fn(UpdateError) -> Error + use<> {
    let offset = image.offset;
    move |error| Error::Update { offset, error }
}
