//! Whether a device takes an update: first from its index alone, then object by object.

use super::{RoleIndices, Update, UpdateError};
use crate::{Bundle, Kind, Manifest, Role, VerifiedImage, Version};
use boot_crypto::equal;

impl<'a> Update<'a> {
    /// Decides whether a device takes this update, of which `index` is the verified image. Nothing of the objects
    /// behind it was read for that.
    ///
    /// # Errors
    /// The first reason to refuse.
    pub fn admit<'u>(
        &'u self,
        index: &VerifiedImage<'_>,
        installed: &Installed<'_>,
    ) -> Result<Admission<'u, 'a>, UpdateError> {
        let Manifest { kind, version, .. } = *index.manifest();
        if kind != Kind::Update {
            return Err(UpdateError::Order { place: 0, kind });
        }
        if self.product != installed.product {
            return Err(UpdateError::Product);
        }
        if version <= installed.version {
            return Err(UpdateError::NotNewer { found: version, installed: installed.version });
        }
        // The production stage may be there already, where the operating system fell back.
        let brings_stage2 = self.objects().any(|object| object.kind == Kind::Stage2);
        if brings_stage2 && version < installed.stage2 {
            return Err(UpdateError::NotNewer { found: version, installed: installed.stage2 });
        }
        if installed.version < self.minimum_version {
            let (installed, minimum) = (installed.version, self.minimum_version);
            return Err(UpdateError::InstalledTooOld { installed, minimum });
        }
        for (role, index) in self.indices.iter() {
            let floor = installed.floor(role);
            if index < floor {
                return Err(UpdateError::RolledBack { role, index, floor });
            }
        }
        let admission = Admission { update: self, version, taken: 0, bundle: false };
        admission.check_index(index)?;
        Ok(admission)
    }
}

/// What a device knows of itself when an update arrives. Which board it is, and whom it trusts, is in the
/// [`Policy`](crate::Policy) that the images are verified against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed<'a> {
    /// The product, which came with the update key: [`UpdateKey::product`](super::UpdateKey::product).
    pub product: &'a str,
    /// Version of the release that is installed: that of its bundle.
    pub version: Version,
    /// Version of the production stage that is installed.
    pub stage2: Version,
    /// Fused rollback floor of each role, at the index of its number less 1.
    pub floors: [u32; Role::ALL.len()],
}

impl Installed<'_> {
    fn floor(&self, role: Role) -> u32 {
        // Every role has a place. One that had none would be at a floor that nothing reaches.
        self.floors.get(usize::from(role.number()).wrapping_sub(1)).copied().unwrap_or(u32::MAX)
    }
}

/// An update that this device takes, if its objects are those that the index names: each is given to
/// [`take`](Self::take) as it lies there, the bundle to [`take_bundle`](Self::take_bundle) as well once it was opened.
#[derive(Clone, Debug)]
pub struct Admission<'u, 'a> {
    update: &'u Update<'a>,
    version: Version,
    taken: u32,
    bundle: bool,
}

impl Admission<'_, '_> {
    /// Returns the kind of the next object; `None` once all are taken.
    pub fn next_kind(&self) -> Option<Kind> {
        self.update.objects().nth(self.taken as usize).map(|object| object.kind)
    }

    /// Judges the next object, whose signatures hold.
    ///
    /// # Errors
    /// It is not the one that the index names, of another version, or with another rollback index than that of its role.
    pub fn take(&mut self, image: &VerifiedImage<'_>) -> Result<(), UpdateError> {
        let (place, manifest) = (self.taken, image.manifest());
        let named = self.update.objects().nth(place as usize);
        let named = named.filter(|object| object.kind == manifest.kind);
        let same = named.is_some_and(|it| equal(it.manifest_digest, image.manifest_digest()).accepts());
        if !same {
            return Err(UpdateError::Mixed { place });
        }
        if manifest.version != self.version {
            return Err(UpdateError::OtherVersion { place, found: manifest.version });
        }
        self.check_index(image)?;
        self.taken = place.saturating_add(1);
        Ok(())
    }

    /// Judges the payload of the bundle.
    ///
    /// # Errors
    /// It names other objects than the index, or another rollback index.
    pub fn take_bundle(&mut self, bundle: &Bundle<'_>) -> Result<(), UpdateError> {
        let mut theirs = bundle.objects();
        let ours = (0_u32..).zip(self.update.objects());
        let ours = ours.filter(|(_, object)| !matches!(object.kind, Kind::Stage2 | Kind::Bundle));
        let mut behind = 0;
        for (place, object) in ours {
            let same = theirs.next().is_some_and(|named| {
                named.kind == object.kind && equal(named.manifest_digest, object.manifest_digest).accepts()
            });
            if !same {
                return Err(UpdateError::Bundle { place });
            }
            behind = place.saturating_add(1);
        }
        if theirs.next().is_some() {
            return Err(UpdateError::Bundle { place: behind });
        }
        self.check_role(Kind::Bundle, bundle.rollback_index)?;
        self.bundle = true;
        Ok(())
    }

    /// Says that all objects were there, and returns what the floors may rise to once the update was confirmed.
    ///
    /// # Errors
    /// [`UpdateError::Incomplete`].
    pub fn finish(self) -> Result<RoleIndices, UpdateError> {
        let expected = self.update.objects().count() as u32;
        if self.taken != expected || !self.bundle {
            return Err(UpdateError::Incomplete { taken: self.taken, expected });
        }
        Ok(self.update.indices)
    }

    /// Checks the rollback index in a manifest against the one that the update names for the role of its kind.
    fn check_index(&self, image: &VerifiedImage<'_>) -> Result<(), UpdateError> {
        self.check_role(image.manifest().kind, image.manifest().rollback_index)
    }

    fn check_role(&self, kind: Kind, signed: u32) -> Result<(), UpdateError> {
        let role = kind.role().ok_or(UpdateError::Reserved { kind })?;
        let named = self.update.indices.of(role).ok_or(UpdateError::Roles { role })?;
        if signed == named { Ok(()) } else { Err(UpdateError::RoleIndex { role, signed, named }) }
    }
}
